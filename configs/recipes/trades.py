"""TRADES (Zhang et al. 2019), as in their public code: WRN-34-10, 76 epochs.

    python -m war_jax.main --config=configs/recipes/trades.py --workdir=runs/trades

Published (RobustBench, epsilon 0.031): 84.92 % natural, 53.08 % AutoAttack. Not run by us.
Source: github.com/yaodongyu/TRADES, train_trades_cifar10.py. Different here: 1,000 images are held
out to choose the best checkpoint on; theirs is that of epoch 76.
"""

from war_jax.config_argument import Tree, apply
from war_jax.configs import default, wrn


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or 'smoke'."""
    config = default.get_config()  # made of this recipe
    config.batch_norm.updates = 'natural,adversarial,natural'
    return apply(argument, config, wrn.RECIPE)
