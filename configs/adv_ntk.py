"""Adversarial training at infinite width (Adv-NTK; Fu & Wang 2024), beside finite networks.

    python -m ntk.main --config=configs/adv_ntk.py --workdir=runs/adv-ntk
    python -m ntk.main --config=configs/adv_ntk.py:cifar10 --workdir=runs/adv-ntk-cifar
    python -m ntk.main --config=configs/adv_ntk.py:smoke --workdir=runs/adv-ntk-smoke

Argument, comma-separated:
    (nothing)   256 + 128 digits, 3-layer ReLU networks of width 32, 128, 512
    cifar10     512 + 256 images of CIFAR-10
    smoke       every part, as little as possible of each; alone or beside cifar10

A few minutes on two cores. Robust accuracy (L-inf, epsilon 0.1) of adversarially trained networks
is 52 %, 62 % and 67 %, of Adv-NTK 71 %, of the kernel without an adversary, fully learned, 70 %. On
CIFAR-10 that kernel has 6 % fully learned and 21 % stopped at one common time that is chosen on
attacked validation images; Adv-NTK had 19 % in an earlier form with three seeds: docs/results.md.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from war_jax.config_argument import Tree, apply

DEFAULTS: dict[str, Any] = {
    # Which of ntk's programs this configures.
    'experiment': 'adv_ntk',
    'data': {
        # As in war_jax/config_keys.py: 'digits', 'cifar10', ..., 'npz:PATH'.
        'name': 'digits',
        # The TFDS data_dir that holds the set; '': environment variable TFDS_DATA_DIR.
        'data_dir': '',
        # Images to train on, full batch.
        'num_train': 256,
        # Further ones: Adv-NTK fits its rates on them, finite networks stop by them.
        'num_validation': 128,
        'num_test': 250,
    },
    # Fully connected, NTK parametrization.
    'network': {
        'num_layers': 3,
        # 'relu', 'erf' or 'gelu'.
        'activation': 'relu',
        # Fan-in times the variance of the weights, of all layers but the last.
        'weight_variance': 2.0,
        # Of the last.
        'output_variance': 1.0,
    },
    'grid': {
        # Hidden units of the finite networks.
        'widths': (32, 128, 512),
        # Of which images are for training and which for validation, of weights and of attacks.
        'seeds': (0, 1, 2, 3, 4),
    },
    # Of infinite width. The first three: of Adv-NTK.
    'kernel': {
        'num_steps': 60,
        # Of Adam, on the logarithms of the rates.
        'learning_rate': 0.1,
        # All rates at first, in units of 1 / (mean diagonal of the kernel).
        'initial_time': 1.0,
        # Of the kernel without an adversary, in the same units: at which one common time all of its
        # examples may be stopped.
        'common_times': tuple(2.0**octave for octave in range(-6, 15)),
    },
    # Of finite networks.
    'training': {
        'num_steps': 200,
        # Learning rate, in units of n / (largest eigenvalue of the NTK of infinite width).
        'speed': 0.5,
        'momentum': 0.9,
        # Steps between two looks at the validation images.
        'every': 10,
    },
    'threat': {
        'norm': 'linf',
        'epsilon': 0.1,
    },
    # PGD from a uniform start; its steps are 2.5 epsilon long together.
    'attack': {
        # In training.
        'num_steps': 7,
        # Of validation and test.
        'measure_steps': 20,
    },
}


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or 'cifar10,smoke'."""
    tokens = {'cifar10': _cifar10, 'smoke': _smoke}
    return apply(argument, ConfigDict(DEFAULTS), tokens).lock()


def _cifar10(config: Tree) -> None:
    config.data.name = 'cifar10'
    config.data.num_train = 512
    config.data.num_validation = 256
    config.grid.widths = (64, 256)
    config.threat.epsilon = 4 / 255


def _smoke(config: Tree) -> None:
    config.smoke = True
    config.data.num_train = 40
    config.data.num_validation = 20
    config.data.num_test = 30
    config.grid.widths = (8, 16)
    config.grid.seeds = (0, 1)
    config.kernel.num_steps = 3
    config.kernel.common_times = (1.0, 100.0)
    config.training.num_steps = 4
    config.training.every = 2
    config.attack.num_steps = 2
    config.attack.measure_steps = 3
