"""How large do input gradients get in a ball around the start? The theorem of Wu et al. 2021.

    python -m ntk.main --config=configs/ntk_theorem.py --workdir=runs/theorem
    python -m ntk.main --config=configs/ntk_theorem.py:smoke --workdir=runs/theorem-smoke

Argument:
    (nothing)   ReLU networks of 2, 4 and 8 layers on digits, m = 16 ... 512, five seeds
    smoke       every part, as little as possible of each

Six minutes on two idle cores. The supremum over a ball of constant radius grows
as m^0.12 (-0.04 to 0.28), no faster than sqrt(m) and not as fast: docs/results.md.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from war_jax.config_argument import Tree, apply

DEFAULTS: dict[str, Any] = {
    # Which of ntk's programs this configures.
    'experiment': 'theorem',
    'data': {
        # As in war_jax/config_keys.py; images are flattened and scaled to length 1.
        'name': 'digits',
        # The TFDS data_dir that holds the set; '': environment variable TFDS_DATA_DIR.
        'data_dir': '',
        # Images to train on, full batch, and test images; balanced over the classes.
        'num_train': 64,
        'num_test': 100,
    },
    'grid': {
        # Beside that of the theorem, sqrt(m) behind W_L ~ N(0, 1/m): 'standard', 'ntk'. At the
        # depth of the base, at the start; see ntk/networks/parametrization.py.
        'parametrizations': ('standard', 'ntk'),
        # L, the number of weight matrices, and m, the units of each hidden layer.
        'depths': (2, 4, 8),
        'widths': (16, 48, 160, 512),
        # Of training, in the parametrization of the theorem; (): none.
        'objectives': ('natural', 'adversarial'),
        # Each draws weights.
        'seeds': (0, 1, 2, 3, 4),
    },
    # Where claims are made that do not speak of all depths, widths or radii.
    'base': {
        'depth': 4,
        'width': 160,
        'omega': 0.3,
    },
    'balls': {
        # omega_0: each layer's weights move by omega_0 m^(-1/2) and by omega_0 at most, in the
        # Frobenius and in the spectral norm.
        'omegas': (0.1, 0.3, 1.0),
        # Of the L2 ball of inputs, in units of their length; also the attack's.
        'epsilon': 0.1,
    },
    'ascent': {
        'num_steps': 16,
        # From so many of the largest gradients at the start.
        'restarts': 3,
    },
    'training': {
        # Of full-batch gradient descent, in units of 1 / (m L) of the trained weights.
        'num_steps': 256,
        'learning_rate': 2.0,
        'momentum': 0.9,
        # Of the attack in training, and of that which measures stability.
        'attack_steps': 4,
        'measure_steps': 10,
    },
}


def get_config(argument: str = '') -> Tree:
    """Returns the config for '' or 'smoke'."""
    return apply(argument, ConfigDict(DEFAULTS), {'smoke': _smoke}).lock()


def _smoke(config: Tree) -> None:
    config.smoke = True
    config.data.num_train = 20
    config.data.num_test = 20
    config.grid.parametrizations = ('standard',)
    config.grid.depths = (2,)
    config.grid.widths = (8, 16)
    config.grid.seeds = (0, 1, 2)
    config.base.depth = 2
    config.base.width = 16
    config.base.omega = 1.0
    config.balls.omegas = (0.1, 1.0)
    config.ascent.num_steps = 3
    config.ascent.restarts = 2
    config.training.num_steps = 8
    config.training.attack_steps = 2
    config.training.measure_steps = 2
