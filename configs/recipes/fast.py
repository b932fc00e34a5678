"""Fast is better than free (Wong et al. 2020): one FGSM step from a random start, 15 epochs.

    python -m war_jax.main --config=configs/recipes/fast.py --workdir=runs/fast

Published (RobustBench, epsilon 8/255, PreActResNet-18): 83.34 % natural, 43.21 % AutoAttack.
Not run by us. Source: github.com/locuslab/fast_adversarial, CIFAR10/train_fgsm.py; theirs computes
in half precision, here --config.model.compute_dtype=bfloat16 does. A validation at which the robust
accuracy has collapsed is told (catastrophic overfitting), and the best checkpoint is from before.
"""

from war_jax.config_argument import COMMON, Tree, apply
from war_jax.configs import default, wrn


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or 'n_fgsm'."""
    config = default.get_config()
    config.model.name = 'preact_resnet'
    config.model.depth, config.model.widen_factor = 18, 1.0
    config.model.stem_channels, config.model.strides = 64, (1, 2, 2, 2)
    config.model.normalization = 'cifar10'
    config.threat.epsilon = 8 / 255
    config.optimizer.epochs = 15
    config.optimizer.learning_rate = 0.2
    config.optimizer.schedule = 'cyclic'
    config.optimizer.rise = 0.5
    config.optimizer.weight_decay = 5e-4
    COMMON['fgsm_rs'](config)
    return apply(argument, config, {**wrn.RECIPE, 'n_fgsm': COMMON['n_fgsm']})
