"""What makes a network more robust: width, depth, images, compute, or a switch? And by which law?

    python -m war_jax.studies.scaling --config=configs/scaling.py --workdir=runs/scaling
    python -m war_jax.studies.scaling --config=configs/scaling.py:smoke --workdir=runs/scaling-smoke

Argument, comma-separated:
    (nothing)   256 handwritten digits, WRN-10-{0.25 ... 2} times 10 ... 80 epochs
    depth       depths 10, 16 and 22 at two widths
    data        64 ... 512 images at three widths
    last_stage  the last stage alone, a quarter to twice as wide
    switches    WRN-10-1: Swish, averaged weights and weight perturbation, each with and without
    smoke       every part, as little as possible of each; alone or beside one of the others

Each cell is a training of its own, from five seeds; lambda is 3 unless grid.lam has values, of
which each size then takes its best one on validation images. Axes that can be given values in
`grid` are listed in war_jax/studies/scaling/settings.py; every key of a run is explained in
war_jax/config_keys.py.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from war_jax.config_argument import Tree, apply
from war_jax.configs import digits

GRID: dict[str, Any] = {
    'seeds': (0, 1, 2, 3, 4),
    # Values of an axis; () leaves it at the run's own key.
    'width': (0.25, 0.5, 1.0, 2.0),
    'depth': (),
    'last_stage': (),
    'images': (),
    'epochs': (10, 20, 40, 80),
    'lam': (),
    'objective': (),
    'activation': (),
    'cutmix': (),
    'generated': (),
    'awp': (),
    'ema': (),
}
MEASURE: dict[str, Any] = {
    # What claims are about: robust_accuracy (PGD), robust_accuracy_all or autoattack_accuracy.
    'rank_by': 'robust_accuracy',
    # Test images on which AutoAttack is run as well. 0: none.
    'autoattack_examples': 0,
}


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or 'depth,smoke'."""
    chosen = {'depth': _depth, 'data': _data, 'last_stage': _last_stage, 'switches': _switches}
    return apply(argument, _digits(), {**chosen, 'smoke': _smoke}, chosen).lock()


def _digits() -> Tree:
    config: Tree = digits.get_config().unlock()
    config.grid, config.measure = ConfigDict(GRID), ConfigDict(MEASURE)
    config.data.num_validation = 297
    config.data.max_train_examples = 256
    config.model.strides = (2, 1, 1)
    config.log.tensorboard = False
    config.log.every_steps = 20
    config.checkpoint.keep = 1
    config.checkpoint.every_epochs = 16
    config.evaluation.every_epochs = 5
    config.evaluation.restarts = 1
    config.evaluation.curve_scales = (1.0,)
    config.evaluation.curve_examples = 100
    return config


def _depth(config: Tree) -> None:
    config.grid.update(width=(0.25, 1.0), depth=(10, 16, 22), epochs=())


def _data(config: Tree) -> None:
    config.grid.update(width=(0.25, 0.5, 1.0), images=(64, 128, 256, 512), epochs=())


def _last_stage(config: Tree) -> None:
    config.grid.update(width=(0.5, 1.0), last_stage=(0.25, 0.5, 1.0, 2.0), epochs=())


def _switches(config: Tree) -> None:
    config.model.widen_factor = 1.0
    config.grid.update(width=(), epochs=())
    config.grid.update(activation=('relu', 'swish'), ema=(0.0, 0.99), awp=(0.0, 0.005))
    config.awp.warmup_epochs = 4  # a tenth of the training
    config.ema_decay, config.ema_ramp = 0.99, True


def _smoke(config: Tree) -> None:
    config.smoke = True
    config.grid.seeds = (0,)
    config.model.widen_factor = 0.125
    config.awp.warmup_epochs = 1
    if config.grid.width:
        config.grid.width = (0.125, 0.25)
    if config.grid.last_stage:
        config.grid.last_stage = (0.5, 1.0)
    if config.grid.epochs:
        config.grid.epochs = (1, 2)
    if config.grid.depth:
        config.grid.depth = (10, 16)
    if config.grid.images:
        config.grid.images = (64, 128)
    config.data.max_train_examples = 128
    config.data.num_validation = 32
    config.model.stem_channels = 4
    config.attack.num_steps = 2
    config.optimizer.epochs = 2
    config.optimizer.batch_size = 64
    config.evaluation.every_epochs = 1
    config.evaluation.batch_size = 32
    config.evaluation.num_steps = 2
    config.evaluation.test_examples = 32
    config.evaluation.curve_examples = 32
