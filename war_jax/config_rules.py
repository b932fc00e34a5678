"""Rules that a configuration's values keep, and the one-line error that says which one was broken.

    convert('threat.epsilon', '8/255', Annotated[float, at_least(0)])   # 0.03137...
    convert('threat.epsilon', -1, Annotated[float, at_least(0)])        # ConfigError:
    # threat.epsilon = -1: must be at least 0; nearest: 0
    nearest('trade', ('madry', 'trades'))                               # 'trades'

A rule is written where the field is declared, as `Annotated` metadata, beside the key's default and
meaning: reading a dataclass tells what a key may hold.

    @dataclass(frozen=True, kw_only=True)
    class ThreatConfig:
        epsilon: Annotated[float, at_least(0)] = key(0.031, 'Radius of the ball.')
"""

import dataclasses
import difflib
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

# What is often typed, and the last part of the key that it means here.
_ALIKE = 2.6  # of 3, by `_nearness`
SYNONYMS = {
    'alpha': 'step_size',
    'beta': 'lam',
    'bs': 'batch_size',
    'eps': 'epsilon',
    'lambda': 'lam',
    'lr': 'learning_rate',
    'wd': 'weight_decay',
    'width': 'widen_factor',
}


class ConfigError(ValueError):
    """A refused configuration; the message is one line naming key, value, rule, nearest choice."""

    exit_code = 2


@dataclasses.dataclass(frozen=True)
class Rule:
    """`holds(value)`, or else `text` says what must hold and `nearest(value)` what would."""

    text: str
    holds: Callable[[Any], bool]
    nearest: Callable[[Any], str]


def refusal(key: str, value: object, rule: str, nearest: str | None = None) -> ConfigError:
    """Returns the error to raise; `nearest` is shown as it would be typed."""
    line = f'{key} = {value!r}: {rule}'
    return ConfigError(line if nearest is None else f'{line}; nearest: {nearest}')


def key(default: Any, meaning: str, absent: Any = dataclasses.MISSING) -> Any:
    """Returns the field of a configuration's dataclass that stands for one key.

    Args:
      default: its value, unless a config file or the command line says otherwise.
      meaning: one sentence or more, for --help and for whoever reads the dataclass.
      absent: its value where the key is not there at all; by default that is refused by `build`.
    """
    return dataclasses.field(default=default, metadata={'meaning': meaning, 'absent': absent})


def check_is_local(workdir: str | os.PathLike[str]) -> None:
    """Raises ConfigError for a folder to write to that is an address, as gs://bucket/run.

    A pathlib.Path keeps one of the two slashes. Taken for a name, an address would be a folder
    `gs:` on the machine's own disk, and on a cluster be lost with it.
    """
    folder = os.fspath(workdir)
    if match := re.match(r'([A-Za-z][A-Za-z0-9+.-]+):/', folder):
        raise ConfigError(
            f'--workdir={folder}: must be a folder of a file system, which {match[1]}:// is not; '
            'nearest: a disk that is mounted, as /shared/runs/x'
        )


def at_least(low: float) -> Rule:
    return Rule(f'must be at least {low}', lambda v: v >= low, lambda v: f'{low}')


def above(low: float) -> Rule:
    return Rule(f'must be above {low}', lambda v: v > low, lambda v: f'any number above {low}')


def at_most(high: float) -> Rule:
    return Rule(f'must be at most {high}', lambda v: v <= high, lambda v: f'{high}')


def below(high: float) -> Rule:
    return Rule(f'must be below {high}', lambda v: v < high, lambda v: f'any number below {high}')


def increasing() -> Rule:
    """For tuples: each element is larger than the one before."""
    return Rule(
        'must be strictly increasing',
        lambda v: all(a < b for a, b in itertools.pairwise(v)),
        lambda v: f'{tuple(sorted(set(v)))}',
    )


def nearest(word: str, choices: Iterable[str]) -> str:
    """Returns the choice that looks most like `word` (there is always one)."""
    return max(choices, key=lambda choice: _likeness(word.lower(), choice.lower()))


def nearest_key(key: str, known: Sequence[str]) -> str:
    """Like `nearest` for dotted keys, whose last part alone may be what was meant.

    'stepsize' is then near 'attack.step_size', and 'model.epsilon' near 'threat.epsilon'; for
    `SYNONYMS`, 'lr' is near 'optimizer.learning_rate'. Below a key, where nothing can be, that key.
    """
    for parent in known:
        if key.startswith(f'{parent}.'):
            return parent
    groups, dot, last = key.rpartition('.')
    # A misspelt key of its own group is nearer than a synonym: study.width is study.widths.
    misspelt = any(_nearness(key, k) > _ALIKE for k in known if k.rpartition('.')[0] == groups)
    if not misspelt:
        key = f'{groups}{dot}{SYNONYMS.get(last.lower(), last)}'
    return max(known, key=lambda k: (_nearness(key, k), -len(k)))


def _nearness(key: str, known: str) -> float:
    return _likeness(key, known) + 2 * _likeness(key.rpartition('.')[2], known.rpartition('.')[2])


def _likeness(word: str, choice: str) -> float:
    return difflib.SequenceMatcher(None, word, choice).ratio()


def number(text: str) -> float:
    """Reads '0.031' or '8/255'. Raises ValueError for anything else, division by 0 included."""
    numerator, slash, denominator = text.partition('/')
    if not slash:
        return float(numerator)
    if not float(denominator):
        raise ValueError(f'{text!r} divides by zero')
    return float(numerator) / float(denominator)


def convert(key: str, value: Any, kind: Any) -> Any:
    """Returns `value` as what the annotation `kind` says, rules included.

    `kind` is bool, int, float (also from the text of a fraction), str, a Literal of strings, a
    tuple of any number or of a fixed number of one of those (also from a list), or one of these
    Annotated with `Rule`s.

    Raises:
      ConfigError: if `value` is of another type or breaks a rule.
    """
    if get_origin(kind) is Annotated:
        base, *rules = get_args(kind)
        value = convert(key, value, base)
        for rule in rules:
            if not rule.holds(value):
                raise refusal(key, value, rule.text, rule.nearest(value))
        return value
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value not in choices:
            rule = f'must be one of {", ".join(map(repr, choices))}'
            raise refusal(key, value, rule, repr(nearest(str(value), choices)))
        return value
    if get_origin(kind) is tuple:
        return _convert_tuple(key, value, get_args(kind))
    if kind is float:
        return _convert_float(key, value)
    # bool is a subclass of int: True must not pass for the number 1.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise refusal(key, value, TYPE_RULES[kind], _nearest_of_type(value, kind))
    return value


TYPE_RULES = {
    bool: 'must be True or False',
    int: 'must be a whole number',
    float: 'must be a finite number or a fraction such as 8/255',
    str: 'must be a string',
}


def _convert_float(key: str, value: Any) -> float:
    result = math.nan
    if isinstance(value, str):
        try:
            result = number(value)
        except ValueError:
            pass  # stays NaN, which is refused below
    elif isinstance(value, int | float) and not isinstance(value, bool):
        result = float(value)
    if not math.isfinite(result):
        raise refusal(key, value, TYPE_RULES[float])
    return result


def _convert_tuple(key: str, value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list):
        raise refusal(key, value, 'must be a tuple', f'({value!r},)')
    size = len(value) if kinds[-1] is Ellipsis else len(kinds)
    result = tuple(convert(f'{key}[{i}]', element, kinds[0]) for i, element in enumerate(value))
    if len(result) != size:
        padded = (result + result[-1:] * size)[:size]
        raise refusal(key, result, f'must have {size} elements', str(padded) if result else None)
    return result


def _nearest_of_type(value: Any, kind: type) -> str | None:
    """What was probably meant: 10 for 10.2 or '10', True for 'yes'."""
    if kind is str:
        return repr(str(value))
    if kind is bool:
        return str(str(value).lower() in ('true', '1', '1.0', 'yes', 'on'))
    try:
        return str(round(number(str(value))))
    except (ValueError, OverflowError):  # no number, or not a finite one
        return None


def build(kind: type, values: Mapping[str, Any], path: str = '') -> Any:
    """Returns dataclass `kind` from nested mappings that hold all of its fields and nothing else.

    Raises:
      ConfigError: if a key is unknown or absent, or a value is refused by `convert`.
    """
    hints = get_type_hints(kind, include_extras=True)
    for name, value in values.items():
        if name not in hints:
            choice = nearest_key(str(name), list(hints))
            raise refusal(f'{path}{name}', value, 'no such key', f'{path}{choice}')
    fields = {field.name: field for field in dataclasses.fields(kind)}
    result = {}
    for name, hint in hints.items():
        key = f'{path}{name}'
        if name not in values and not _may_be_empty(hint):
            result[name] = _absent(key, fields[name])
        elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
            group = values.get(name, {})
            if not isinstance(group, Mapping):
                fields = ', '.join(field.name for field in dataclasses.fields(hint))
                raise refusal(key, group, f'must be a group of the keys {fields}')
            result[name] = build(hint, group, f'{key}.')
        else:
            result[name] = convert(key, values[name], hint)
    return kind(**result)


def _may_be_empty(kind: Any) -> bool:
    """Whether it is a group of which older configurations lack every key, and so the group."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return False
    return len(absent_values(kind)) == len(dataclasses.fields(kind))


def absent_values(kind: type, path: str = '') -> dict[str, Any]:
    """Returns 'group.key' -> value, for the keys of `kind` that older configurations may lack."""
    found = {}
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.default):
            found |= absent_values(type(field.default), f'{path}{field.name}.')
        elif field.metadata.get('absent', dataclasses.MISSING) is not dataclasses.MISSING:
            found[f'{path}{field.name}'] = field.metadata['absent']
    return found


def _absent(key: str, field: dataclasses.Field[Any]) -> Any:
    value = field.metadata.get('absent', dataclasses.MISSING)
    if value is not dataclasses.MISSING:
        return value
    has_default = field.default is not dataclasses.MISSING
    default = f'; nearest: {field.default!r}, the default' if has_default else ''
    raise ConfigError(f'{key}: absent; must be set{default}')
