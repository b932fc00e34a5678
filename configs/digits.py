"""Handwritten digits (embedded, 8x8): a robust network in minutes on a laptop, without a download.

    python -m war_jax.main --config=configs/digits.py --workdir=runs/demo
    python -m war_jax.main --config=configs/digits.py:natural --workdir=runs/twin   # no adversary
    python -m war_jax.main --config=configs/digits.py:smoke --workdir=runs/smoke    # in a minute

Argument, comma-separated: DEPTH-WIDTH (10-0.5), lambda=NUMBER, seed=NUMBER, natural | adversarial |
madry | madry_per_example | trades | trades_ce | mart, fgsm | fgsm_rs | n_fgsm | grad_align
(adversarial with an attack of one step), smoke.

Two minutes on two CPU cores, 99 % natural and 73 % robust accuracy (PGD-20, 5 starts) at
epsilon 0.2; the twin 99 % and 0 %. Provenance and intervals: docs/results.md
"""

from war_jax.config_argument import COMMON, Tree, apply
from war_jax.configs import default


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or 'natural,seed=1'."""
    config = default.get_config()

    config.data.name = 'digits'
    config.data.num_validation = 150
    # A digit's strokes reach the border of its 8x8 image, and a mirrored digit is none.
    config.data.pad = 0
    config.data.flip = False

    config.model.depth = 10
    config.model.widen_factor = 2.0
    config.model.strides = (1, 2, 1)  # the last feature map is 4x4: 2x2 is slow on CPU

    config.threat.epsilon = 0.2
    config.attack.step_size = 0.05
    config.evaluation.step_size = 0.02
    config.evaluation.restarts = 5
    config.evaluation.every_epochs = 2

    config.objective.lam = 3.0
    config.optimizer.epochs = 40
    config.optimizer.schedule = 'cosine'
    config.log.every_steps = 10

    return apply(argument, config, {**COMMON, 'smoke': smoke})


def smoke(config: Tree) -> None:
    """Every part of the path, as little as possible of each; the accuracies mean nothing."""
    config.smoke = True
    config.data.num_validation = 32
    config.data.max_train_examples = 192
    config.model.widen_factor = 0.25
    config.model.stem_channels = 4
    config.attack.num_steps = min(2, config.attack.num_steps)
    config.optimizer.epochs = 2
    config.optimizer.batch_size = 64
    config.optimizer.schedule = 'piecewise'
    config.optimizer.boundaries = (2,)
    config.evaluation.batch_size = 48
    config.evaluation.every_epochs = 1
    config.evaluation.num_steps = 3
    config.evaluation.restarts = 2
    config.evaluation.curve_scales = (0.0, 1.0)
    config.evaluation.curve_examples = 32
    config.evaluation.test_examples = 48
    config.log.every_steps = 1
