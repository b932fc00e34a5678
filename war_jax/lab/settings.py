"""What the settings of experiments have in common. Free of JAX, so that a typo is told at once.

    settings = read(Settings, config)                     # from a ConfigDict or mapping
    distinct('grid.phases', settings.grid.phases)         # raises ConfigError if one is named twice
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from war_jax.config import NOT_EMPTY, ThreatConfig
from war_jax.config_rules import at_least, at_most, build, increasing, refusal

# Of the key `smoke` of an experiment: key(False, SMOKE, absent=False), as old studies lack it.
SMOKE = (
    'Whether the experiment only shows that every part works, so that its numbers mean nothing. '
    'Set by the word smoke of a config file.'
)
S = TypeVar('S')
Seed = Annotated[int, at_least(0), at_most(2**32 - 1)]
Seeds = Annotated[tuple[Seed, ...], NOT_EMPTY, increasing()]


def read(kind: type[S], config: Any) -> S:
    """The settings of a ConfigDict or mapping with exactly their keys, and `experiment`.

    A settings class may have a method `check`, which raises ConfigError for values that do not go
    together. Raises ConfigError, one line, for a key or value that cannot be.
    """
    values = dict(config if isinstance(config, Mapping) else config.to_dict())
    values.pop('experiment', None)
    settings = build(kind, values)
    check = getattr(settings, 'check', None)
    if check is not None:
        check()
    return settings


def distinct(key: str, values: Sequence[Any]) -> None:
    """Raises ConfigError if one stands there twice."""
    if len(set(values)) < len(values):
        rule = 'must not name one twice'
        raise refusal(key, values, rule, repr(tuple(dict.fromkeys(values))))


def among(key: str, value: float, where: str, known: Sequence[float]) -> None:
    """Raises ConfigError unless the number is one of those known; where: the key they stand at."""
    if value not in known:
        nearest = min(known, key=lambda other: abs(other - value))
        raise refusal(key, value, f'must be in {where}, {tuple(known)}', f'{nearest:g}')


def distinct_names(key: str, values: Sequence[Any], names: Sequence[str]) -> None:
    """Raises ConfigError if two cells would share a file, whose name has six digits of a number."""
    if len(set(names)) < len(names):
        raise refusal(key, values, 'must differ in their first six digits')


def check_ball(threat: ThreatConfig) -> None:
    """Raises ConfigError for a radius that no image has room for."""
    if threat.norm == 'linf' and threat.epsilon > 1:
        rule = "must be at most 1 with threat.norm = 'linf', as pixels are in [0, 1]"
        raise refusal('threat.epsilon', threat.epsilon, rule, '1')
