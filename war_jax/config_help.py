"""What --help says of the keys of a configuration, read off their dataclass.

'\\n'.join(describe(Config))
#   threat: The perturbations that count, in training and in evaluation: a ball ...
#   --config.threat.epsilon=0.031   a number, at least 0
#       Its radius, for pixels in [0, 1]. ...
"""

import dataclasses
import textwrap
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

_WIDTH = 100
_TYPES = {bool: 'True or False', int: 'a whole number', float: 'a number', str: 'a string'}


def describe(kind: type, path: str = '') -> list[str]:
    """Lines on each key of dataclass `kind`, groups included: default, rules and meaning."""
    hints = get_type_hints(kind, include_extras=True)
    lines = []
    for field in dataclasses.fields(kind):
        name, hint = f'{path}{field.name}', hints[field.name]
        if dataclasses.is_dataclass(hint):
            about = ' '.join((hint.__doc__ or '').split())
            lines += ['', *_wrapped(f'{name}: {about}', 2, 2)]
            lines += describe(hint, f'{name}.')  # pyright: ignore[reportArgumentType]
        else:
            flag = f'--config.{name}={_typed(field.default)}'
            lines += _wrapped(f'{flag}   {permitted(hint)}', 2, 8)
            lines += _wrapped(field.metadata['meaning'], 6, 6)
    return lines


def permitted(hint: Any) -> str:
    """What a key of this annotation may hold: 'a number, at least 0', 'linf | l2'."""
    if get_origin(hint) is Annotated:
        base, *rules = get_args(hint)
        return ', '.join([permitted(base), *(rule.text.removeprefix('must be ') for rule in rules)])
    if get_origin(hint) is Literal:
        return ' | '.join(get_args(hint))
    if get_origin(hint) is tuple:
        element, *rest = get_args(hint)
        count = 'any number of values' if rest == [Ellipsis] else f'{len(rest) + 1} values'
        return f'{count} with commas between ({permitted(element)})'
    return _TYPES[hint]


def _typed(value: Any) -> str:
    """As on the command line of a shell."""
    if isinstance(value, tuple):
        return ','.join(map(str, value)) or "'()'"
    return str(value) or "''"


def _wrapped(text: str, first: int, further: int) -> list[str]:
    """Lines of `text`, indented by so many spaces."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first * ' ',
        subsequent_indent=further * ' ',
        break_long_words=False,
        break_on_hyphens=False,
    )
