"""Robust self-training (Carmon et al. 2019): WRN-28-10 and 500,000 pseudo-labelled images.

    python -m war_jax.main --config=configs/recipes/rst.py --workdir=runs/rst \\
        --config.data.extra_path=ti_500K.npz

Published (RobustBench, epsilon 8/255): 89.69 % natural, 59.53 % AutoAttack. Not run by us.
Source: github.com/yaircarmon/semisup-adv, robust_self_training.py; their file of images is a
pickle, which docs/guide.md says how to bring into an .npz. Different here: an epoch is a pass over
our own images, of which each batch has 128, so that 102 of ours are their 200 passes of 50,000
images of either kind; the cosine goes down step by step, theirs epoch by epoch.
"""

from war_jax.config_argument import Tree, apply
from war_jax.configs import wrn
from war_jax.configs.recipes import trades


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or 'smoke', which has no extra images."""
    config = trades.get_config()
    config.model.depth, config.model.widen_factor = 28, 10.0
    config.data.extra_fraction = 0.5
    config.optimizer.batch_size = 256
    config.optimizer.epochs = 102
    config.optimizer.schedule = 'cosine'
    config.optimizer.weight_decay = 5e-4
    config.optimizer.nesterov = True
    return apply(argument, config, wrn.RECIPE)
