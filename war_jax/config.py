"""The configuration: ConfigDict -> frozen dataclasses, validated once; only this sees a ConfigDict.

    from configs import default
    config = resolve(default.get_config())     # Config, or ConfigError: one line, what is wrong
    config.threat.epsilon                      # 0.031
    json.dumps(to_dict(config))                # resolve(to_dict(config)) == config

Types and rules stand here, beside the fields; values and what they mean in configs/default.py.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from war_jax.config_rules import (
    ConfigError,
    Rule,
    above,
    at_least,
    at_most,
    below,
    build,
    increasing,
    nearest,
    refusal,
)

__all__ = [
    'AttackConfig',
    'AwpConfig',
    'BatchNormConfig',
    'CheckpointConfig',
    'Config',
    'ConfigError',
    'DataConfig',
    'EvaluationConfig',
    'LogConfig',
    'ModelConfig',
    'NtkConfig',
    'ObjectiveConfig',
    'OptimizerConfig',
    'ThreatConfig',
    'WarConfig',
    'resolve',
    'to_dict',
]

Count = Annotated[int, at_least(0)]
Positive = Annotated[int, at_least(1)]
NonNegative = Annotated[float, at_least(0)]
AboveZero = Annotated[float, above(0)]
Fraction = Annotated[float, at_least(0), below(1)]
# The papers stop at 20; a thousand is a slip, as of a network's name for its width.
Width = Annotated[float, above(0), at_most(1000)]

DATA_NAMES = ('digits', 'cifar10', 'cifar100', 'svhn_cropped')


def _nearest_data(name: str) -> str:
    if name.endswith('.npz'):
        return f'npz:{name}'
    return 'npz:PATH' if name.startswith('npz') else nearest(name, DATA_NAMES)


def _nearest_depth(depth: int) -> str:
    if depth <= 10:
        return '10'
    above_lower = (depth - 4) % 6
    if above_lower == 3:
        return f'{depth - 3} or {depth + 3}'
    return str(depth - above_lower if above_lower < 3 else depth - above_lower + 6)


DATA_NAME = Rule(
    f'must be one of {", ".join(DATA_NAMES)}, npz:PATH',
    lambda name: name in DATA_NAMES or (name.startswith('npz:') and len(name) > len('npz:')),
    _nearest_data,
)
DEPTH = Rule(
    'must be 6 n + 4 with n = 1, 2, ... (three stages of n blocks of two convolutions)',
    lambda depth: depth >= 10 and (depth - 4) % 6 == 0,
    _nearest_depth,
)
NOT_EMPTY = Rule('must not be empty', lambda v: len(v) > 0, lambda v: '(1.0,)')


@dataclasses.dataclass(frozen=True)
class DataConfig:
    name: Annotated[str, DATA_NAME]
    data_dir: str
    num_validation: Count
    max_train_examples: Count
    pad: Count
    flip: bool
    extra_path: str
    extra_fraction: Fraction


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    depth: Annotated[int, DEPTH]
    widen_factor: Width
    stem_channels: Positive
    strides: tuple[Positive, Positive, Positive]
    param_dtype: Literal['float32', 'float64']
    compute_dtype: Literal['float32', 'bfloat16', 'float64']
    remat: bool


@dataclasses.dataclass(frozen=True)
class BatchNormConfig:
    momentum: Annotated[float, above(0), at_most(1)]
    statistics: Literal['global', 'per_device']
    updates: Literal['natural,adversarial', 'adversarial,natural', 'natural,adversarial,natural']


@dataclasses.dataclass(frozen=True)
class ThreatConfig:
    norm: Literal['linf', 'l2']
    epsilon: NonNegative


@dataclasses.dataclass(frozen=True)
class AttackConfig:
    num_steps: Positive
    step_size: AboveZero
    init: Literal['gaussian', 'uniform', 'none']
    init_scale: AboveZero


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    name: Literal['natural', 'madry', 'trades', 'mart']
    lam: NonNegative
    label_smoothing: Fraction


@dataclasses.dataclass(frozen=True)
class WarConfig:
    reference: str
    target: Literal['trajectory', 'constant']
    gain: NonNegative
    averaging_epochs: AboveZero
    max_factor: Annotated[float, at_least(1)]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    epochs: Positive
    batch_size: Positive
    accumulation: Positive
    learning_rate: AboveZero
    momentum: Fraction
    nesterov: bool
    weight_decay: NonNegative
    decay_norm_and_bias: bool
    schedule: Literal['piecewise', 'halving', 'cosine']
    boundaries: Annotated[tuple[Positive, ...], increasing()]
    factor: Annotated[float, above(0), at_most(1)]
    warmup_epochs: NonNegative


@dataclasses.dataclass(frozen=True)
class AwpConfig:
    gamma: NonNegative
    warmup_epochs: Count


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    every_epochs: Positive
    num_examples: Count
    batch_size: Positive
    num_steps: Positive
    step_size: AboveZero
    init: Literal['gaussian', 'uniform']  # KL has no gradient at x, local Lipschitzness no value
    init_scale: AboveZero
    restarts: Positive
    curve_scales: Annotated[tuple[NonNegative, ...], NOT_EMPTY, increasing()]
    curve_examples: Count
    select_on: Literal['validation', 'test']
    test_examples: Count


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    every_epochs: Positive
    every_steps: Count
    keep: Positive


@dataclasses.dataclass(frozen=True)
class LogConfig:
    every_steps: Positive
    tensorboard: bool


@dataclasses.dataclass(frozen=True)
class NtkConfig:
    every: Count


@dataclasses.dataclass(frozen=True)
class Config:
    seed: Annotated[int, at_least(0), at_most(2**32 - 1)]
    data: DataConfig
    model: ModelConfig
    batch_norm: BatchNormConfig
    threat: ThreatConfig
    attack: AttackConfig
    objective: ObjectiveConfig
    war: WarConfig
    optimizer: OptimizerConfig
    ema_decay: Fraction
    awp: AwpConfig
    evaluation: EvaluationConfig
    checkpoint: CheckpointConfig
    log: LogConfig
    ntk: NtkConfig


def resolve(config: Any) -> Config:
    """Returns the validated Config of a ConfigDict or nested mapping with exactly its keys.

    Raises:
      ConfigError: one line naming key, value, rule and, where there is one, the nearest choice.
    """
    values = config if isinstance(config, Mapping) else config.to_dict()
    result = build(Config, values)
    _check_together(result)
    return result


def to_dict(config: Config) -> dict[str, Any]:
    """Returns nested dicts, lists and scalars for JSON; `resolve` inverts it."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(element) for key, element in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))


def _check_together(config: Config) -> None:
    """Rules that tie several keys together."""
    data, optimizer, evaluation = config.data, config.optimizer, config.evaluation
    if data.extra_fraction > 0 and not data.extra_path:
        rule = 'needs data.extra_path, an .npz of images and labels'
        raise refusal('data.extra_fraction', data.extra_fraction, rule, '0.0')
    if data.extra_path and data.extra_fraction == 0:
        rule = 'is not used while data.extra_fraction is 0; set it, or leave the path empty'
        raise refusal('data.extra_path', data.extra_path, rule, 'data.extra_fraction = 0.5')
    if data.extra_fraction > 0:
        _check_extra(data.extra_fraction, optimizer.batch_size)
    if config.threat.norm == 'linf' and config.threat.epsilon > 1:
        epsilon = config.threat.epsilon
        rule = "must be at most 1 with threat.norm = 'linf', as pixels are in [0, 1]"
        nearest_epsilon = f'{epsilon:g}/255' if epsilon <= 255 else '1'
        raise refusal('threat.epsilon', epsilon, rule, nearest_epsilon)
    if optimizer.schedule == 'halving' and len(optimizer.boundaries) != 1:
        rule = "must hold one epoch, the first halved one, for optimizer.schedule = 'halving'"
        first = optimizer.boundaries[:1] or (optimizer.epochs,)
        raise refusal('optimizer.boundaries', optimizer.boundaries, rule, str(first))
    if optimizer.warmup_epochs > optimizer.epochs:
        rule = f'must be at most optimizer.epochs = {optimizer.epochs}'
        value = optimizer.warmup_epochs
        raise refusal('optimizer.warmup_epochs', value, rule, f'{optimizer.epochs}')
    if optimizer.batch_size % optimizer.accumulation:
        rule = f'must divide optimizer.batch_size = {optimizer.batch_size}'
        divisors = [n for n in range(1, optimizer.batch_size + 1) if optimizer.batch_size % n == 0]
        choice = min(divisors, key=lambda n: abs(n - optimizer.accumulation))
        raise refusal('optimizer.accumulation', optimizer.accumulation, rule, f'{choice}')
    if optimizer.accumulation > 1 and config.objective.name == 'madry':
        rule = "must be 1 with objective.name = 'madry', whose positive part is of the whole batch"
        raise refusal('optimizer.accumulation', optimizer.accumulation, rule, '1')
    if evaluation.select_on == 'validation' and data.num_validation == 0:
        rule = "must be at least 1 while evaluation.select_on = 'validation'"
        raise refusal('data.num_validation', 0, rule, '1')
    if config.attack.init == 'none' and config.objective.name == 'trades':
        rule = "must not be that with objective.name = 'trades', whose KL has no gradient at x"
        raise refusal('attack.init', 'none', rule, "'gaussian'")
    if config.war.reference and config.objective.name == 'natural':
        rule = "must be empty with objective.name = 'natural', which has no regularization"
        raise refusal('war.reference', config.war.reference, rule, "''")
    for group, attack in (('attack', config.attack), ('evaluation', evaluation)):
        if attack.init == 'uniform' and attack.init_scale > 1:
            rule = f"is a fraction of the ball with {group}.init = 'uniform': must be at most 1"
            raise refusal(f'{group}.init_scale', attack.init_scale, rule, '1')


def _check_extra(fraction: float, batch_size: int) -> None:
    """Every batch holds an image of its own and, if there are extra data, one of those."""
    if 1 <= round(fraction * batch_size) < batch_size:
        return
    if batch_size == 1:
        rule = 'must be at least 2 with data.extra_fraction > 0: an own and an extra image'
        raise refusal('optimizer.batch_size', 1, rule, '2')
    count = min(max(round(fraction * batch_size), 1), batch_size - 1)
    rule = f'must be 1 to {batch_size - 1} images of a batch of {batch_size}, when rounded'
    raise refusal('data.extra_fraction', fraction, rule, f'{count}/{batch_size}')
