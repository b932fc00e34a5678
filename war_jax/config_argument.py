"""The argument of a config file, `configs/wrn.py:34-5,lambda=12`: tokens that change the config.

    def get_config(argument: str = '') -> Tree:
        return apply(argument, default.get_config(), {**COMMON, 'smoke': smoke})

Tokens are separated by commas: words ('cifar100'), names with a value ('lambda=12') and the
network's size ('34-5': depth and widening). Words are applied first, from left to right, and of
them 'smoke' last, which makes small what the others choose; then the values: what is said in
numbers wins over what a word implies, in whatever order they are typed.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from war_jax.config_rules import ConfigError, nearest, number

SIZE = 'DEPTH-WIDTH'
SMOKE = 'smoke'
SINGLE_STEP = ('fgsm', 'fgsm_rs', 'n_fgsm', 'grad_align')
OBJECTIVES = (
    'natural', 'adversarial', 'madry', 'madry_per_example', 'trades', 'trades_ce', 'mart',
    *SINGLE_STEP,
)  # fmt: skip

# A ConfigDict, whose keys are attributes that no type checker can know.
Tree = Any

# What a token does: change(config) for a word; change(config, text) for SIZE and names with '='.
Tokens = Mapping[str, Callable[..., None]]


def apply(argument: str, config: Tree, tokens: Tokens, choice: Collection[str] = ()) -> Tree:
    """Returns `config`, changed by each token of `argument` (may be empty) in turn.

    Args:
      choice: words of which an argument may have one; so may it of OBJECTIVES.

    Raises:
      ConfigError: for a token not in `tokens`, a value that is not a number, and for two tokens
        that contradict each other: two of a choice, a second value for the same name.
    """
    given = list(filter(None, argument.split(',')))
    names = [_name(token, argument, tokens) for token in given]
    _check_contradictions(given, names, argument, (OBJECTIVES, choice))
    words = [name for token, name in zip(given, names, strict=True) if name == token]
    for word in sorted(words, key=SMOKE.__eq__):
        tokens[word](config)
    for token, name in zip(given, names, strict=True):
        if name == token:
            continue
        try:
            tokens[name](config, token.removeprefix(name))
        except ValueError as error:
            guess = f'{name}1' if name.endswith('=') else '34-10'
            raise ConfigError(f'{_place(token, argument)}: {error}; nearest: {guess}') from None
    return config


def _name(token: str, argument: str, tokens: Tokens) -> str:
    """The key of `tokens` that it stands for: itself if it is a word."""
    name, equals, _ = token.partition('=')
    if f'{name}=' in tokens and equals:
        return f'{name}='
    if re.fullmatch(r'\d+-[\d.]+', token) and SIZE in tokens:
        return SIZE
    if token in tokens and token != SIZE and not equals:
        return token
    raise _unknown(token, argument, tokens)


def _check_contradictions(
    given: list[str], names: list[str], argument: str, choices: tuple[Collection[str], ...]
) -> None:
    taken: dict[str, str] = {}
    for token, name in zip(given, names, strict=True):
        slot = next((min(choice) for choice in choices if name in choice), name)
        earlier = taken.setdefault(slot, token)
        if earlier != token:
            rule = f'must not stand beside {earlier!r}, which it contradicts'
            raise ConfigError(f'{_place(token, argument)}: {rule}; nearest: {earlier}')


def _place(token: str, argument: str) -> str:
    return f'config argument {token!r} in {argument!r}'


def _unknown(token: str, argument: str, tokens: Tokens) -> ConfigError:
    # '34x5', 'wrn-34-10': two numbers are a size, however they are written.
    size = re.fullmatch(r'\D*(\d+)\D+(\d+(?:\.\d+)?)', token)
    if size and SIZE in tokens:
        guess = f'{size[1]}-{size[2]}'
    else:
        guess = nearest(token.partition('=')[0], [name.rstrip('=') for name in tokens])
        guess = f'{guess}=NUMBER' if f'{guess}=' in tokens else guess
    known = ', '.join(f'{name}NUMBER' if name.endswith('=') else name for name in tokens)
    return ConfigError(f'{_place(token, argument)}: must be one of {known}; nearest: {guess}')


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


def _adversarial(config: Tree) -> None:
    config.objective.name = 'adversarial'
    config.objective.lam = 0.0


def _madry(config: Tree) -> None:
    config.objective.name = 'madry'
    config.objective.lam = 1.0  # natural + 1 * (adversarial - natural) is Madry's own objective


def _madry_per_example(config: Tree) -> None:
    config.objective.name = 'madry_per_example'
    config.objective.lam = 1.0


def _trades(config: Tree) -> None:
    config.objective.name = 'trades'


def _trades_ce(config: Tree) -> None:
    config.objective.name = 'trades_ce'


def _mart(config: Tree) -> None:
    config.objective.name = 'mart'


def _fgsm(config: Tree) -> None:
    """One step from the image (Goodfellow et al. 2015); BatchNorm as in all such training."""
    _adversarial(config)
    config.batch_norm.updates = 'adversarial'
    config.attack.num_steps = 1
    config.attack.step_size = config.threat.epsilon
    config.attack.init = 'none'
    config.attack.batch_norm = 'train'


def _fgsm_rs(config: Tree) -> None:
    """Wong et al. 2020."""
    _fgsm(config)
    config.attack.step_size = 1.25 * config.threat.epsilon
    config.attack.init = 'uniform'
    config.attack.init_scale = 1.0
    config.attack.project_start = True


def _n_fgsm(config: Tree) -> None:
    """De Jorge et al. 2022."""
    _fgsm_rs(config)
    config.attack.step_size = config.threat.epsilon
    config.attack.init_scale = 2.0
    config.attack.projection = 'box'


def _grad_align(config: Tree) -> None:
    """Andriushchenko & Flammarion 2020, with their weight for CIFAR-10 at 8/255."""
    _fgsm(config)
    config.objective.grad_align = 0.2


COMMON: dict[str, Callable[..., Any]] = {
    SIZE: _size,
    'lambda=': _lambda,
    'seed=': _seed,
    'natural': _natural,
    'adversarial': _adversarial,
    'madry': _madry,
    'madry_per_example': _madry_per_example,
    'trades': _trades,
    'trades_ce': _trades_ce,
    'mart': _mart,
    'fgsm': _fgsm,
    'fgsm_rs': _fgsm_rs,
    'n_fgsm': _n_fgsm,
    'grad_align': _grad_align,
}
