"""The argument of a config file, `configs/wrn.py:34-5,lambda=12`: tokens that change the config.

    def get_config(argument: str = '') -> Tree:
        return apply(argument, default.get_config(), {**COMMON, 'smoke': smoke})

Tokens are separated by commas: words ('smoke'), names with a value ('lambda=12') and the network's
size ('34-5': depth and widening). Words are applied first, from left to right, then the values:
what is said in numbers wins over what a word implies, in whatever order they are typed.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from war_jax.config_rules import ConfigError, nearest, number

SIZE = 'DEPTH-WIDTH'

# A ConfigDict, whose keys are attributes that no type checker can know.
Tree = Any

# What a token does: change(config) for a word; change(config, text) for SIZE and names with '='.
Tokens = Mapping[str, Callable[..., None]]


def apply(argument: str, config: Tree, tokens: Tokens) -> Tree:
    """Returns `config`, changed by each token of `argument` (may be empty) in turn.

    Raises:
      ConfigError: for a token not in `tokens` or a value that is not a number.
    """
    values = []
    for token in filter(None, argument.split(',')):
        name, equals, value = token.partition('=')
        if equals and f'{name}=' in tokens:
            values.append((token, tokens[f'{name}='], value))
        elif re.fullmatch(r'\d+-[\d.]+', token) and SIZE in tokens:
            values.append((token, tokens[SIZE], token))
        elif token in tokens and token != SIZE and not equals:
            tokens[token](config)
        else:
            raise _unknown(token, argument, tokens)
    for token, change, value in values:
        try:
            change(config, value)
        except ValueError as error:
            guess = token.partition('=')[0] + '=1' if '=' in token else '34-10'
            raise ConfigError(
                f'config argument {token!r} in {argument!r}: {error}; nearest: {guess}'
            ) from None
    return config


def _unknown(token: str, argument: str, tokens: Tokens) -> ConfigError:
    # '34x5', 'wrn-34-10': two numbers are a size, however they are written.
    size = re.fullmatch(r'\D*(\d+)\D+(\d+(?:\.\d+)?)', token)
    if size and SIZE in tokens:
        guess = f'{size[1]}-{size[2]}'
    else:
        guess = nearest(token.partition('=')[0], [name.rstrip('=') for name in tokens])
        guess = f'{guess}=NUMBER' if f'{guess}=' in tokens else guess
    known = ', '.join(f'{name}NUMBER' if name.endswith('=') else name for name in tokens)
    return ConfigError(
        f'config argument {token!r} in {argument!r}: must be one of {known}; nearest: {guess}'
    )


def _read_float(text: str) -> float:
    try:
        return number(text)
    except ValueError:
        raise ValueError('the value must be a number') from None


def _read_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError('the value must be a whole number') from None


def _size(config: Tree, text: str) -> None:
    depth, _, width = text.partition('-')
    config.model.depth = _read_int(depth)
    config.model.widen_factor = _read_float(width)


def _lambda(config: Tree, text: str) -> None:
    config.objective.lam = _read_float(text)


def _seed(config: Tree, text: str) -> None:
    config.seed = _read_int(text)


def _natural(config: Tree) -> None:
    config.objective.name = 'natural'
    config.objective.lam = 0.0


def _madry(config: Tree) -> None:
    config.objective.name = 'madry'
    config.objective.lam = 1.0  # natural + 1 * (adversarial - natural) is Madry's own objective


def _trades(config: Tree) -> None:
    config.objective.name = 'trades'


def _mart(config: Tree) -> None:
    config.objective.name = 'mart'


COMMON: dict[str, Callable[..., Any]] = {
    SIZE: _size,
    'lambda=': _lambda,
    'seed=': _seed,
    'natural': _natural,
    'madry': _madry,
    'trades': _trades,
    'mart': _mart,
}
