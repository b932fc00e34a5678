"""TRADES with adversarial weight perturbation (Wu, Xia and Wang 2020): WRN-34-10.

    python -m war_jax.main --config=configs/recipes/awp.py --workdir=runs/awp

Published (RobustBench, epsilon 8/255): 85.36 % natural, 56.17 % AutoAttack. Not run by us.
Source: github.com/csdongxian/AWP, trades_AWP/train_trades_cifar.py.
"""

from war_jax.config_argument import Tree, apply
from war_jax.configs import wrn
from war_jax.configs.recipes import trades


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or '28-10'."""
    config = trades.get_config()
    config.threat.epsilon = 8 / 255
    config.attack.step_size = 2 / 255
    config.optimizer.weight_decay = 5e-4
    config.optimizer.epochs = 200
    config.optimizer.boundaries = (100, 150)
    config.awp.gamma = 0.005
    config.awp.warmup_epochs = 9  # theirs begins with the tenth
    return apply(argument, config, wrn.RECIPE)
