"""The configuration of a run: ConfigDict -> frozen dataclasses, validated once.

    from configs import default
    config = resolve(default.get_config())     # Config, or ConfigError: one line, what is wrong
    config.threat.epsilon                      # 0.031
    json.dumps(to_dict(config))                # resolve(to_dict(config)) == config

The keys themselves stand in war_jax/config_keys.py and beside it, with type, rule, default and
meaning; what others need of them is to be had from here. Only `resolve` sees a ConfigDict.
"""

import dataclasses
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from war_jax.config_data import AugmentConfig, DataConfig
from war_jax.config_keys import (
    Config,
    EvaluationConfig,
    OptimizerConfig,
    ThreatConfig,
)
from war_jax.config_model import check_model
from war_jax.config_rules import ConfigError, build, refusal
from war_jax.config_types import (
    DATA_NAME,
    DEPTH,
    NOT_EMPTY,
    AboveZero,
    Count,
    Fraction,
    NonNegative,
    Positive,
    Width,
)

__all__ = [
    'DATA_NAME',
    'DEPTH',
    'NOT_EMPTY',
    'AboveZero',
    'AugmentConfig',
    'Config',
    'ConfigError',
    'Count',
    'DataConfig',
    'EvaluationConfig',
    'Fraction',
    'NonNegative',
    'OptimizerConfig',
    'Positive',
    'ThreatConfig',
    'Width',
    'resolve',
    'to_dict',
]


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


# A key -> what switches on what it belongs to. (Keys of a rule or a schedule may stand beside
# another one.)
_PARTS = {
    'augment.magnitude': 'augment.randaugment',
    'augment.cutmix_alpha': 'augment.cutmix',
    'objective.helper_weight': 'objective.helper',
    'objective.helper_reach': 'objective.helper',
    'ema_start': 'ema_decay',
    'ema_ramp': 'ema_decay',
    'ema_batch_norm': 'ema_decay',
}


def _check_together(config: Config) -> None:
    """Rules that tie several keys together."""
    check_model(config.model)
    data, optimizer, evaluation = config.data, config.optimizer, config.evaluation
    if data.extra_fraction > 0 and not data.extra_path:
        rule = 'needs data.extra_path, an .npz of images and labels or a folder of them'
        raise refusal('data.extra_fraction', data.extra_fraction, rule, '0.0')
    if data.extra_path and data.extra_fraction == 0:
        rule = 'is not used while data.extra_fraction is 0; set it, or leave the path empty'
        raise refusal('data.extra_path', data.extra_path, rule, 'data.extra_fraction = 0.5')
    if data.extra_fraction > 0:
        _check_extra(data.extra_fraction, optimizer.batch_size)
    if config.augment.cutmix and optimizer.batch_size == 1:
        rule = 'needs another image in the batch: optimizer.batch_size must be at least 2'
        raise refusal('augment.cutmix', config.augment.cutmix, rule, '0.0')
    if config.threat.norm == 'linf' and config.threat.epsilon > 1:
        epsilon = config.threat.epsilon
        rule = "must be at most 1 with threat.norm = 'linf', as pixels are in [0, 1]"
        nearest_epsilon = f'{epsilon:g}/255' if epsilon <= 255 else '1'
        raise refusal('threat.epsilon', epsilon, rule, nearest_epsilon)
    if optimizer.schedule == 'halving' and len(optimizer.boundaries) != 1:
        rule = "must hold one epoch, the first halved one, for optimizer.schedule = 'halving'"
        first = optimizer.boundaries[:1] or (optimizer.epochs,)
        raise refusal('optimizer.boundaries', optimizer.boundaries, rule, str(first))
    if optimizer.cycle_momentum and optimizer.schedule != 'one_cycle':
        rule = "needs optimizer.schedule = 'one_cycle', with whose rate the momentum goes"
        raise refusal('optimizer.cycle_momentum', True, rule, 'False')
    for name, value in (
        ('optimizer.warmup_epochs', optimizer.warmup_epochs),
        ('attack.warmup_epochs', config.attack.warmup_epochs),
        ('ema_start', config.ema_start),
        ('awp.warmup_epochs', config.awp.warmup_epochs if config.awp.gamma else 0),
    ):
        if value > optimizer.epochs:
            rule = f'must be at most optimizer.epochs = {optimizer.epochs}'
            raise refusal(name, value, rule, f'{optimizer.epochs}')
    for name, needed in _PARTS.items():
        value, default = attrgetter(name)(config), attrgetter(name)(Config())
        if value != default and not (of := attrgetter(needed)(config)):
            rule = f'is not used while {needed} is {of!r}; set that, or leave this at its default'
            raise refusal(name, value, rule, f'{default!r}')
    if config.attack.early_stop >= config.attack.num_steps:
        steps = config.attack.num_steps
        rule = f'must be below attack.num_steps = {steps}, or -1 for no early stop'
        raise refusal('attack.early_stop', config.attack.early_stop, rule, f'{steps - 1}')
    if optimizer.batch_size % optimizer.accumulation:
        rule = f'must divide optimizer.batch_size = {optimizer.batch_size}'
        divisors = [n for n in range(1, optimizer.batch_size + 1) if optimizer.batch_size % n == 0]
        choice = min(divisors, key=lambda n: abs(n - optimizer.accumulation))
        raise refusal('optimizer.accumulation', optimizer.accumulation, rule, f'{choice}')
    if optimizer.accumulation > 1 and config.objective.name == 'madry':
        rule = (
            "must be 1 with objective.name = 'madry', whose positive part is of the whole batch "
            '(that of madry_per_example is not)'
        )
        raise refusal('optimizer.accumulation', optimizer.accumulation, rule, '1')
    if evaluation.select_on == 'validation' and data.num_validation == 0:
        rule = "must be at least 1 while evaluation.select_on = 'validation'"
        raise refusal('data.num_validation', 0, rule, '1')
    if config.attack.init == 'none' and config.objective.name == 'trades':
        rule = "must not be that with objective.name = 'trades', whose KL has no gradient at x"
        raise refusal('attack.init', 'none', rule, "'gaussian'")
    name = config.objective.name
    updates = config.batch_norm.updates
    if updates == 'adversarial' and name == 'natural':
        rule = "must not be that with objective.name = 'natural', which has no such pass"
        raise refusal('batch_norm.updates', updates, rule, "'natural,adversarial'")
    if 'helper' in updates and not config.objective.helper:
        rule = 'needs objective.helper, whose images make a third pass'
        raise refusal('batch_norm.updates', updates, rule, "'natural,adversarial'")
    if config.objective.helper and name == 'natural':
        rule = "must be empty with objective.name = 'natural', which has no perturbations"
        raise refusal('objective.helper', config.objective.helper, rule, "''")
    if config.war.reference and name in ('natural', 'adversarial'):
        rule = f'must be empty with objective.name = {name!r}, which has no regularization'
        raise refusal('war.reference', config.war.reference, rule, "''")
    if config.war.rule != 'integral' and not config.war.reference:
        rule = "needs war.reference, the folder of a tuned thin network's run"
        raise refusal('war.rule', config.war.rule, rule, "'integral'")
    for group, attack in (('attack', config.attack), ('evaluation', evaluation)):
        is_kept_to_ball = group == 'evaluation' or config.attack.projection == 'ball'
        if attack.init == 'uniform' and attack.init_scale > 1 and is_kept_to_ball:
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
