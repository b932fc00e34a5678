"""Every key of the configuration of a run: its type, its rule, its default and what it means.

    Config().threat.epsilon                    # 0.031, the default
    ThreatConfig(norm='l2', epsilon=0.5)

A key is one field: `name: type and rules = key(default, meaning)`. configs/default.py, --help and
the errors are made from it. The defaults are those of TRADES' own CIFAR-10 training of a WRN-34-10
(Zhang et al. 2019); configs/digits.py and configs/wrn.py start from them and change what differs.
On the command line any key can be set: `--config.attack.step_size=2/255` (numbers may be
fractions). The keys of the data stand in war_jax/config_data.py, those of the network in
war_jax/config_model.py, those of training in war_jax/config_training.py; rules that tie several
keys together: there and in war_jax/config.py.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from war_jax.config_data import AugmentConfig, DataConfig
from war_jax.config_model import ModelConfig
from war_jax.config_rules import above, at_least, at_most, increasing, key
from war_jax.config_training import (
    AttackConfig,
    AwpConfig,
    ObjectiveConfig,
    OptimizerConfig,
    WarConfig,
)
from war_jax.config_types import (
    NOT_EMPTY,
    AboveZero,
    Count,
    Fraction,
    NonNegative,
    Positive,
)


@dataclass(frozen=True, kw_only=True)
class BatchNormConfig:
    """Batch normalisation."""

    momentum: Annotated[float, above(0), at_most(1)] = key(
        0.1, "Weight of the new batch in the running statistics (PyTorch's sense of momentum)."
    )
    statistics: Literal['global', 'per_device'] = key(
        'global',
        'Over the global batch (the result does not depend on the number of devices), or per '
        "device as under pmap or PyTorch's DataParallel.",
    )
    updates: Literal[
        'natural,adversarial',
        'adversarial,natural',
        'natural,adversarial,natural',
        'adversarial',
        'natural,adversarial,helper',
    ] = key(
        'natural,adversarial',
        'Which training passes update the running statistics, in order. The WAR authors have the '
        "first in their TRADES code and the second in their Madry code, TRADES' own the third, "
        'single-step training the fourth, HAT the last.',
    )


@dataclass(frozen=True, kw_only=True)
class ThreatConfig:
    """The perturbations that count, in training and in evaluation: a ball around the image."""

    norm: Literal['linf', 'l2'] = key('linf', 'Of the ball.')
    epsilon: NonNegative = key(
        0.031,
        "Its radius, for pixels in [0, 1]. The papers' code has 0.031, RobustBench 8/255 = "
        '0.03137.',
    )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The attack of the evaluations (PGD, and the same budget for CW), and what it is run on."""

    every_epochs: Positive = key(1, 'Epochs between two evaluations on validation examples.')
    num_examples: Count = key(
        0, "How many validation examples (or test ones, with select_on = 'test'). 0: all."
    )
    batch_size: Positive = key(128, 'Examples per step of an evaluation, over all devices.')
    num_steps: Positive = key(20, 'Gradient evaluations per example: PGD-20.')
    step_size: AboveZero = key(0.003, 'Length of each step, in the norm of the threat.')
    # No 'none': KL has no gradient at x, local Lipschitzness no value.
    init: Literal['gaussian', 'uniform'] = key('uniform', 'Start, as in attack.')
    init_scale: AboveZero = key(1.0, 'As in attack.')
    restarts: Positive = key(
        1, 'Attacks from as many starts: an example is robust only if it withstands all of them.'
    )
    curve_scales: Annotated[tuple[NonNegative, ...], NOT_EMPTY, increasing()] = key(
        (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
        'The radii of the final stability curve, as multiples of epsilon.',
    )
    curve_examples: Count = key(1000, 'How many test examples it is measured on. 0: all.')
    select_on: Literal['validation', 'test'] = key(
        'validation',
        "The split that picks the best checkpoint. test repeats the papers' code and biases the "
        'test numbers upwards; the report then says so.',
    )
    test_examples: Count = key(0, 'Test examples of the final evaluation. 0: all.')


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What a run that was stopped goes on from."""

    every_epochs: Positive = key(1, 'Epochs between two checkpoints; an evaluation makes one too.')
    every_steps: Count = key(0, 'Steps between two further ones. 0: none.')
    keep: Positive = key(2, 'How many of the latest to keep; the best is kept as well.')


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What is written along the way."""

    every_steps: Positive = key(50, 'Steps between two training lines of metrics.jsonl.')
    tensorboard: bool = key(True, 'Write TensorBoard events too.')
    wandb: str = key(
        '',
        'Project of Weights & Biases that is told the same (pip install wandb; WANDB_MODE=offline '
        'keeps it in the workdir). Empty: none.',
        absent='',
    )
    profile_steps: Count = key(
        0,
        "Trace so many steps with JAX's profiler, from the third one of each session on, into "
        "profile/ (TensorBoard's profile plugin shows it). 0: none.",
        absent=0,
    )


@dataclass(frozen=True, kw_only=True)
class NtkConfig:
    """What `python -m ntk.main --config=configs/ntk_run.py --run=WORKDIR` measures along a run."""

    every: Count = key(
        0,
        'Steps between two probes (weights and batch statistics, in probes/); the first and the '
        'last step have one too. Each is a file of the size of the weights. 0: none.',
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run of war_jax.main."""

    seed: Annotated[int, at_least(0), at_most(2**32 - 1)] = key(
        0,
        'Initial weights, order of the examples, augmentation and attack starts are functions of '
        '(seed, step): two runs with the same seed are the same run. All seeds share one '
        'validation split.',
    )
    smoke: bool = key(
        False,
        'The run only shows that every part works; its report then says that its numbers mean '
        'nothing. Set by the word smoke of a config file.',
        absent=False,  # in a config.json from before there was this key
    )
    ema_decay: Fraction = key(
        0.0,
        'Decay per step of an exponential moving average of the weights, which is then what is '
        'evaluated (Gowal et al. 2020: 0.995). 0: off.',
    )
    ema_start: NonNegative = key(
        0.0,
        'Epochs, which need not be whole, before which that average is a copy of the weights '
        '(Rebuffi et al. 2021: a fortieth of the training).',
        absent=0.0,
    )
    ema_ramp: bool = key(
        False,
        'The decay is at most (1 + t) / (10 + t), t steps behind the start: the average forgets '
        'its first weights soon (Gowal et al. 2020).',
        absent=False,
    )
    ema_batch_norm: Literal['averaged', 'copied'] = key(
        'averaged',
        "BatchNorm's running statistics beside the averaged weights: averaged like these, or those "
        'of the weights in training, as in code for Rebuffi et al. 2021 and Wang et al. 2023.',
        absent='averaged',
    )
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    batch_norm: BatchNormConfig = BatchNormConfig()
    threat: ThreatConfig = ThreatConfig()
    attack: AttackConfig = AttackConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    war: WarConfig = WarConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    awp: AwpConfig = AwpConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    ntk: NtkConfig = NtkConfig()
