"""Kinds of values that several keys have, with their rules.

    epochs: Positive = key(76, ...)
    depth: Annotated[int, DEPTH] = key(34, ...)
"""

from typing import Annotated

from war_jax.config_rules import Rule, above, at_least, at_most, below, nearest

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
