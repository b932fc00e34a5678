"""Does wider help? A grid of widths and lambdas on few images, and WAR beside it.

    python -m war_jax.studies.width --config=configs/width_study.py --workdir=runs/study
    python -m war_jax.studies.width --config=configs/width_study.py:smoke --workdir=runs/study-smoke

Argument, comma-separated:
    (nothing)   256 handwritten digits, WRN-10-{0.25 ... 2}: 80 grid and 65 WAR runs, 62 minutes on
                two idle CPU cores
    cifar10     1,536 images of CIFAR-10, WRN-10-{0.25, 0.5, 1}
    paper       Wu et al. 2021: CIFAR-10, WRN-34-{1, 5, 10}, lambda 6 ... 21, 100 epochs each
    smoke       every part, as little as possible of each; alone or beside one of the others

The digits are made so that all of it fits into 90 minutes: 80 epochs, validated at every 16th. A
run then takes 25, 24, 30 and 96 s of one core from the thinnest to the widest network. The fixed
step of WAR, 0.1 per mini-batch, can still reach lambda = 16 in its 160 steps. The best lambda is 3
at the thinnest network and 9 elsewhere, inside the grid. Verdicts, intervals and the CIFAR-10
study: docs/results.md.

Every key of a single run is explained in war_jax/config_keys.py; the width, lambda, the seed and
the reference are set by the study, whatever they are here.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from war_jax.config_argument import Tree, apply
from war_jax.configs import digits, wrn

STUDY: dict[str, Any] = {
    # The first is the thin network: lambda is tuned on it, its runs are WAR's references.
    'widths': (0.25, 0.5, 1.0, 2.0),
    # Each is tried at each width.
    'lams': (1.0, 3.0, 9.0, 27.0),
    'seeds': (0, 1, 2, 3, 4),
    # Ways to a lambda beside the sweep, each at all widths but the first (the last two: but the
    # first two); war_jax/studies/width/tasks.py says what each is.
    'war': ('trajectory', 'constant', 'fixed_step', 'power_law', 'extrapolated'),
    # A run takes so many devices, and as many runs as find room go side by side.
    'devices_per_run': 1,
    # Test images on which the networks at each width's best lambda meet AutoAttack. 0: none.
    'autoattack_examples': 0,
}


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or 'cifar10,smoke'."""
    tokens = {'cifar10': _cifar10, 'paper': _paper, 'smoke': _smoke}
    return apply(argument, _digits(), tokens, ('cifar10', 'paper')).lock()


def _digits() -> Tree:
    config: Tree = ConfigDict({**digits.get_config().to_dict(), 'study': STUDY})
    _trim(config)
    # Few images and many passes: the widest network comes to fit them, the thinnest does not.
    config.data.num_validation = 297
    config.data.max_train_examples = 256
    config.model.strides = (2, 1, 1)
    config.optimizer.epochs = 80
    config.evaluation.every_epochs = 16
    config.evaluation.restarts = 1
    config.evaluation.curve_scales = (1.0, 2.0)
    config.evaluation.curve_examples = 100
    config.checkpoint.every_epochs = 16  # an epoch is two steps
    config.log.every_steps = 20
    return config


def _trim(config: Tree) -> None:
    """A study has many runs."""
    config.log.tensorboard = False
    config.checkpoint.keep = 1


def _cifar10(config: Tree) -> None:
    config.update(wrn.get_config('10-1'))
    _trim(config)
    config.study.update(widths=(0.25, 0.5, 1.0), lams=(2.0, 6.0, 18.0), seeds=(0, 1, 2))
    config.study.war = ('trajectory', 'fixed_step')  # for the time's sake
    config.data.max_train_examples = 1536
    # For the time's sake: half of the attack's steps, smaller feature maps.
    config.attack.num_steps = 5
    config.attack.step_size = 0.0124
    config.model.strides = (2, 2, 2)
    config.optimizer.epochs = 16
    config.optimizer.batch_size = 64
    config.optimizer.schedule = 'cosine'
    config.evaluation.every_epochs = 4
    config.evaluation.num_examples = 300
    config.evaluation.batch_size = 100
    config.evaluation.test_examples = 500
    config.evaluation.curve_scales = (1.0, 2.0)
    config.evaluation.curve_examples = 100
    config.checkpoint.every_epochs = 4  # an epoch is 24 steps
    config.log.every_steps = 24


def _paper(config: Tree) -> None:
    config.update(wrn.get_config('34-1,authors'))
    _trim(config)
    config.study.update(
        widths=(1.0, 5.0, 10.0), lams=(6.0, 9.0, 12.0, 15.0, 18.0, 21.0), seeds=(0, 1, 2)
    )


def _smoke(config: Tree) -> None:
    digits.smoke(config)
    config.model.depth = 10
    config.evaluation.num_examples = 0
    config.checkpoint.every_epochs = 1
    # Two widths, as compiling takes the time: what looks at two thinner networks has no room.
    config.study.update(widths=(0.125, 0.25), lams=(1.0, 3.0, 9.0), seeds=(0, 1))
    config.study.war = ('trajectory', 'constant', 'fixed_step')
