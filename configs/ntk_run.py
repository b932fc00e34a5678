"""How the kernel, input gradients and Lipschitzness move along a run, or along a whole study.

    python -m war_jax.main --config=configs/digits.py --workdir=runs/demo --config.ntk.every=80
    python -m ntk.main --config=configs/ntk_run.py --run=runs/demo

    python -m war_jax.studies.width --config=configs/width_study.py --workdir=runs/study \\
        --config.ntk.every=60
    python -m ntk.main --config=configs/ntk_run.py --run=runs/study

Argument:
    (nothing)   every probe, on 64 training and 128 test images
    smoke       every part, as little as possible of each

On two CPU cores half a minute per width to compile, then a second per probe of the thinnest
networks on digits and half a minute of WRN-10-2, nearly all of it the kernel; 60 probes of 20
networks took four and a half minutes. WRN-10-0.5 on 256 digits, 160 steps at lambda 3, five seeds:
the kernel moves by 1.6 times its norm, its alignment with the labels from 0.51 to 0.74
(docs/results.md).
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from war_jax.config_argument import Tree, apply

DEFAULTS: dict[str, Any] = {
    # What ntk.main does with this file.
    'experiment': 'run',
    # How many of the run's own training images to measure on (0: all), balanced over the classes.
    # The kernel is that of these images, at the price of their number squared.
    'num_train': 64,
    # The same of its test images, for gradients and Lipschitzness.
    'num_test': 128,
    # BatchNorm's statistics. 'batch': those of the training images measured on, as in a training
    # step. 'inference': the running ones, as in an attack; at the first step these are means of 0
    # and variances of 1, and most of the kernel's drift is then that they move (on digits, over
    # 240 steps, 107 times the first kernel's norm instead of 3.3). Takes a fifth of the time.
    'batch_norm': 'batch',
    # Steps of the attacks behind the Lipschitz measures and robust accuracy, together as long as
    # those of the run's own evaluation. 0: the run's own number.
    'attack_steps': 10,
    # Images per block of the kernel, whose Jacobians are in memory at once. 0: as many as fit into
    # a gibibyte.
    'block_size': 0,
    # At most so many probes of each run, evenly spread, the first and the last among them. 0: all.
    'max_probes': 0,
}


def get_config(argument: str = '') -> Tree:
    """Returns the config for '' or 'smoke', locked: a key that is not here cannot be set."""
    return apply(argument, ConfigDict(DEFAULTS), {'smoke': _smoke}).lock()


def _smoke(config: Tree) -> None:
    config.smoke = True
    config.num_train = 10
    config.num_test = 10
    config.attack_steps = 2
    config.max_probes = 2
