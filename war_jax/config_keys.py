"""Every key of the configuration of a run: its type, its rule, its default and what it means.

    Config().threat.epsilon                    # 0.031, the default
    ThreatConfig(norm='l2', epsilon=0.5)

A key is one field: `name: type and rules = key(default, meaning)`. configs/default.py, --help and
the errors are made from it. The defaults are those of TRADES' own CIFAR-10 training of a WRN-34-10
(Zhang et al. 2019); configs/digits.py and configs/wrn.py start from them and change what differs.
On the command line any key can be set: `--config.attack.step_size=2/255` (numbers may be
fractions). The keys of the data stand in war_jax/config_data.py, those of the network in
war_jax/config_model.py; rules that tie several keys together: there and in war_jax/config.py.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from war_jax.config_data import AugmentConfig, DataConfig
from war_jax.config_model import ModelConfig
from war_jax.config_rules import above, at_least, at_most, increasing, key
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
        'natural,adversarial', 'adversarial,natural', 'natural,adversarial,natural'
    ] = key(
        'natural,adversarial',
        'Which training passes update the running statistics, in order. The WAR authors have the '
        "first in their TRADES code and the second in their Madry code, TRADES' own the third.",
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
class AttackConfig:
    """The attack inside the training step: projected gradient ascent."""

    num_steps: Positive = key(10, 'Gradient evaluations per example and step.')
    step_size: AboveZero = key(0.007, 'Length of each, in the norm of the threat.')
    init: Literal['gaussian', 'uniform', 'none'] = key(
        'gaussian', 'Start: x + init_scale * N(0, 1), uniform in init_scale * the ball, or x.'
    )
    init_scale: AboveZero = key(0.001, 'Standard deviation, or fraction of the ball.')


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is minimised: natural risk + lam * robust regularization."""

    name: Literal['natural', 'madry', 'madry_per_example', 'trades', 'mart'] = key(
        'trades',
        'Which robust regularization, and how it is attacked; natural has neither. madry takes the '
        'positive part of the difference of the batch means (lambda 1 is then the training of '
        "Madry et al.), madry_per_example of each example's difference, as the WAR authors do.",
    )
    lam: NonNegative = key(
        6.0, "lambda, the weight of the robust regularization (beta in TRADES' code)."
    )
    label_smoothing: Fraction = key(
        0.0,
        'Mass moved from the label to all classes alike, in every cross-entropy of the loss: that '
        'of the clean images (natural, trades), of both (madry, madry_per_example), of the '
        'adversarial ones (mart). Not in the attack.',
    )


@dataclass(frozen=True, kw_only=True)
class WarConfig:
    """Width adjusted regularization: lambda moves during training until the risk ratio (natural
    risk / robust regularization) is that of a tuned thin network."""

    reference: str = key(
        '',
        "The folder of the thin network's finished run, or its war.json. lambda then moves by the "
        'rule, and objective.lam is not used. Empty: lambda stays objective.lam.',
    )
    rule: Literal['integral', 'fixed_step'] = key(
        'integral',
        "integral: ours, an integral controller; lambda starts at the thin network's and never "
        'falls below it. fixed_step: our understanding of Algorithm 1 of the paper, whose text we '
        'could not read; lambda moves by a fixed step after every mini-batch, up where its ratio '
        "is below the thin network's at its end, else down. What is said to be of one rule is not "
        'used by the other.',
        absent='integral',  # in a config.json from before there was a choice
    )
    step: AboveZero = key(
        0.1, 'Of the fixed_step rule: what lambda changes by after a mini-batch.', absent=0.1
    )
    start: NonNegative = key(
        0.0, 'Of the fixed_step rule: lambda at the start of the training.', absent=0.0
    )
    target: Literal['trajectory', 'constant'] = key(
        'trajectory',
        "Of the integral rule: what the ratio is held to, the thin network's at the same share of "
        'training, or its end value throughout.',
    )
    gain: NonNegative = key(
        6.0,
        'Of the integral rule: over a whole training, log lambda grows by gain * the mean of (log '
        'target - log ratio). On digits the ratio follows its target at 6 and swings around it at '
        '30 (docs/results.md). 0: lambda is constant.',
    )
    averaging_epochs: AboveZero = key(
        1.0,
        'The ratio that is logged, and that the integral rule holds, is that of moving averages '
        'over this many epochs. What a reference was recorded with, a run that uses it must have '
        'too.',
    )
    max_factor: Annotated[float, at_least(1)] = key(
        10.0, "Of the integral rule: lambda is at most this many times the thin network's."
    )

    @property
    def variant(self) -> str:
        """The rule in one word: that of the fixed step, or else the integral one by its target."""
        return self.target if self.rule == 'integral' else self.rule


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Stochastic gradient descent."""

    epochs: Positive = key(76, 'Passes over the training examples.')
    batch_size: Positive = key(128, 'Examples per step, over all devices together.')
    accumulation: Positive = key(
        1,
        'Parts of a batch that each device works on one after the other, to save memory. The '
        'gradient is that of the whole batch, but BatchNorm sees one part at a time, as it sees '
        "one device's with batch_norm.statistics = 'per_device'.",
    )
    learning_rate: AboveZero = key(0.1, 'At its peak; see the schedule.')
    momentum: Fraction = key(0.9, 'Of the gradients.')
    nesterov: bool = key(False, "Nesterov's momentum instead of Polyak's.")
    weight_decay: NonNegative = key(
        2e-4, "Added to the gradient, times the weights (coupled, as in PyTorch's SGD)."
    )
    decay_norm_and_bias: bool = key(
        True, "Decay BatchNorm's scales and all biases too, as the papers' code does."
    )
    schedule: Literal['piecewise', 'halving', 'cosine'] = key(
        'piecewise',
        'piecewise: times factor from each epoch of boundaries on (epochs count from 1). halving: '
        'from the one epoch in boundaries on, halved every epoch. cosine: to 0.',
    )
    boundaries: Annotated[tuple[Positive, ...], increasing()] = key(
        (75, 90, 100), 'Epochs of the schedule; may lie behind the last one.'
    )
    factor: Annotated[float, above(0), at_most(1)] = key(0.1, 'Of the piecewise schedule.')
    warmup_epochs: NonNegative = key(
        0.0, 'Linear warm-up over this many epochs, which need not be whole. 0: none.'
    )


@dataclass(frozen=True, kw_only=True)
class AwpConfig:
    """Adversarial weight perturbation (Wu et al. 2020)."""

    gamma: NonNegative = key(
        0.0,
        'Size of the perturbation, relative to the weights (theirs for TRADES: 0.005). 0: off.',
    )
    warmup_epochs: Count = key(10, 'Epochs trained without it first.')


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
