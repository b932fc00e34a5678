"""Do Wider Neural Networks Really Help Adversarial Robustness (Wu et al. 2021): WRN-34-15 with WAR.

    python -m war_jax.main --config=configs/recipes/war_2021.py:34-1 --workdir=runs/thin \\
        --config.data.extra_path=ti_500K.npz
    python -m war_jax.main --config=configs/recipes/war_2021.py --workdir=runs/wide \\
        --config.data.extra_path=ti_500K.npz --config.war.reference=runs/thin

The first command trains the thin network, to whose risk ratio the second one holds the wide one;
without war.reference lambda stays at objective.lam.
Published (RobustBench, WRN-34-15 with extra images): 87.67 % natural, 60.65 % AutoAttack, of the
first version of the paper, in which lambda was enlarged by hand; to which value is not in what we
could read. Not run by us. Source: the plan of their public code (github.com/tabrisweapon/
A-temp-project), which has no extra images; that half of a batch is extra is RST's (Carmon et al.
2019), and an epoch is a pass over our own images.
"""

from war_jax.config_argument import Tree, apply
from war_jax.configs import wrn


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or '34-1'."""
    config = wrn.get_config('34-15,authors')
    config.data.extra_fraction = 0.5
    return apply(argument, config, wrn.RECIPE)
