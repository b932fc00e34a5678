"""Bag of Tricks for Adversarial Training (Pang et al. 2021): TRADES with more weight decay.

    python -m war_jax.main --config=configs/recipes/bag_of_tricks.py --workdir=runs/tricks
    python -m war_jax.main --config=configs/recipes/bag_of_tricks.py:34-20 --workdir=runs/tricks-20

Published (their README, epsilon 8/255): WRN-34-10 85.48 % natural, 53.80 % AutoAttack; WRN-34-20
86.43 % and 54.39 %. Not run by us. Source: github.com/P2333/Bag-of-Tricks-for-AT: weight decay 5e-4
in the place of 2e-4, and 110 epochs with the rate cut at 100 and 105; with epsilon 8/255 and steps
of 2/255, all else is as in TRADES.
"""

from war_jax.config_argument import Tree, apply
from war_jax.configs import wrn
from war_jax.configs.recipes import trades


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or '34-20'."""
    config = trades.get_config()
    config.threat.epsilon = 8 / 255
    config.attack.step_size = 2 / 255
    config.optimizer.weight_decay = 5e-4
    config.optimizer.epochs = 110
    config.optimizer.boundaries = (100, 105)
    return apply(argument, config, wrn.RECIPE)
