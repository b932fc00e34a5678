"""What --help says of keys. Oracles: lines written by hand, and the command line's own parser."""

import re
import shlex
from typing import Annotated, Literal

import pytest

from configs import default
from war_jax import command_line, main
from war_jax.config import Config, resolve
from war_jax.config_help import describe, permitted
from war_jax.config_rules import above, at_most, increasing


def test_every_key_can_be_typed_as_shown():
    """On top of another config file, all that is shown makes the defaults again."""
    lines = [line.strip() for line in describe(Config)]
    shown = [re.split(' {2,}', line)[0] for line in lines if line.startswith('--')]
    groups = default.get_config().values()
    assert len(shown) == sum(len(each) if hasattr(each, 'items') else 1 for each in groups)
    # A pair of quotes is the shell's way to write an empty string.
    typed = [argument for line in shown for argument in shlex.split(line)]
    argv = ['prog', '--config=configs/digits.py:smoke', '--workdir=x', *typed]
    assert resolve(command_line.parse(argv, main.define_flags).config) == Config()


def test_every_key_and_group_is_explained():
    lines = describe(Config)
    starts = [i for i, line in enumerate(lines) if line.startswith('  --config.')]
    assert len(starts) > 60
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        meaning = [line for line in lines[start:end] if re.match(' {6}\\S', line)]
        assert meaning and meaning[-1].endswith('.'), lines[start]
    assert '  optimizer: Stochastic gradient descent.' in lines
    assert not [line for line in lines if len(line) > 100]
    assert not [line for line in lines if 'Config(' in line], 'a group without a docstring'


def test_a_key_as_it_is_shown():
    lines = describe(Config)
    start = lines.index('  --config.threat.norm=linf   linf | l2')
    assert lines[start - 2 :][:6] == [
        '',
        '  threat: The perturbations that count, in training and in evaluation: a ball around the '
        'image.',
        '  --config.threat.norm=linf   linf | l2',
        '      Of the ball.',
        '  --config.threat.epsilon=0.031   a number, at least 0',
        "      Its radius, for pixels in [0, 1]. The papers' code has 0.031, RobustBench 8/255 = "
        '0.03137.',
    ]


@pytest.mark.parametrize(
    ('hint', 'words'),
    [
        (bool, 'True or False'),
        (Annotated[float, above(0), at_most(1)], 'a number, above 0, at most 1'),
        (Literal['a', 'b'], 'a | b'),
        (tuple[int, int, int], '3 values with commas between (a whole number)'),
        (
            Annotated[tuple[str, ...], increasing()],
            'any number of values with commas between (a string), strictly increasing',
        ),
    ],
)
def test_what_a_key_may_hold(hint: object, words: str):
    assert permitted(hint) == words


def test_help_of_the_program_ends_with_the_keys(capsys):
    assert main.main(['prog', '--help']) == 0
    text = capsys.readouterr().out
    assert text.endswith('\n'.join(describe(Config)) + '\n')
    assert '<|' not in text
