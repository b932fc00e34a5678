"""Better diffusion models further improve adversarial training (Wang et al. 2023): Swish WRN-28-10.

    python -m war_jax.main --config=configs/recipes/dm_improves.py --workdir=runs/dm \\
        --config.data.extra_path=1m.npz

Published (RobustBench, epsilon 8/255, with 20 million generated images and a longer plan): 92.44 %
natural, 67.31 % AutoAttack. Not run by us. This is the plan that their README gives for one million
images: TRADES with lambda 5, batch 512, 400 passes of 50,000 images of either kind, 70 % of each
batch generated, label smoothing 0.1, rate 0.2 in one cycle, weights averaged with 0.995.
Source: github.com/wzekai99/DM-Improves-AT, train-wa.py. Different here: an epoch is a pass over our
own images, of which each batch has 154, so that 123 of ours are their 400; the rate goes step by
step, theirs epoch by epoch; the head's bias is not decayed, nor are norms, as theirs are not.
"""

from war_jax.config_argument import Tree, apply
from war_jax.configs import wrn
from war_jax.configs.recipes import trades


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or 'smoke', which has no extra images."""
    config = trades.get_config()
    config.model.depth, config.model.widen_factor = 28, 10.0
    config.model.activation = 'swish'
    config.data.extra_fraction = 0.7
    config.data.num_validation = 1024
    config.batch_norm.momentum = 0.01
    config.threat.epsilon = 8 / 255
    config.attack.step_size = 2 / 255
    config.objective.lam = 5.0
    config.objective.label_smoothing = 0.1
    config.optimizer.batch_size = 512
    config.optimizer.epochs = 123
    config.optimizer.learning_rate = 0.2
    config.optimizer.schedule = 'one_cycle'
    config.optimizer.rise = 0.025
    config.optimizer.cycle_momentum = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.decay_norm_and_bias = False
    config.optimizer.nesterov = True
    config.ema_decay = 0.995
    config.ema_start = 0.025 * config.optimizer.epochs
    config.ema_ramp = True
    config.ema_batch_norm = 'copied'
    return apply(argument, config, wrn.RECIPE)
