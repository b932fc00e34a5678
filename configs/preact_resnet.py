"""PreActResNet-18 on CIFAR-10: the field's other yardstick, by TRADES' plan.

    python -m war_jax.main --config=configs/preact_resnet.py --workdir=runs/preact-18
    python -m war_jax.main --config=configs/preact_resnet.py:madry --workdir=runs/preact-madry

Needs the data set on disk: --config.data.data_dir=DIR or the environment variable TFDS_DATA_DIR.

The network is that of Rice et al. 2020 (He et al. 2016b with 64 to 512 channels, a first
convolution for small images, and norm and activation before the pool), with images as they are;
theirs normalises them: --config.model.normalization=cifar10. Optimizer, attack and epochs are those
of configs/wrn.py; Rice et al. have a weight decay of 5e-4:
--config.optimizer.weight_decay=5e-4

Argument, comma-separated:
    DEPTH-WIDTH                        18-1 (default); 10, 18 or 34, and a factor of all channels
    lambda=NUMBER, seed=NUMBER         as in configs/wrn.py, as are the following
    trades | madry | madry_per_example | mart | natural
    cifar10 | cifar100 | svhn_cropped
    smoke                              tiny network, few images, one epoch: is everything there?

We have not run it beyond its smoke run.
"""

from war_jax.config_argument import COMMON, Tree, apply
from war_jax.configs import default, wrn


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or '18-0.5,lambda=12'."""
    config = default.get_config()
    config.model.name = 'preact_resnet'
    config.model.depth = 18
    config.model.widen_factor = 1.0
    config.model.stem_channels = 64
    config.model.strides = (1, 2, 2, 2)
    return apply(argument, config, {**COMMON, **wrn.DATA, 'smoke': _smoke}, wrn.DATA)


def _smoke(config: Tree) -> None:
    wrn.smoke(config)
    config.model.widen_factor = 0.0625
