"""Decisions on planted numbers. Oracle: the power or mean that was planted."""

import json
import math
from pathlib import Path

import pytest

from ntk.studies.claims import decide_range, mean_fit, power_law
from ntk.studies.width.claims import Fit
from war_jax.lab.verdicts import write_verdicts

X = (16.0, 32.0, 64.0)


def test_power_law_recovers_a_planted_power_whatever_the_seeds_differ_in_everywhere():
    samples = {x: [size * x**-0.5 for size in (1.0, 10.0, 0.3)] for x in X}
    fit = power_law(samples)
    assert fit is not None and fit.num_seeds == 3
    assert fit[:3] == pytest.approx((-0.5, -0.5, -0.5), abs=1e-9)


def test_power_law_of_seeds_that_differ_apart_at_each_x_has_an_interval():
    factors = ((1, 2), (2, 1), (1, 2))
    samples = {x: [f * x for f in row] for x, row in zip(X, factors, strict=True)}
    fit = power_law(samples)
    assert fit is not None and fit.lower < 1.0 < fit.upper and fit.upper - fit.lower > 0.1


@pytest.mark.parametrize('samples', [{16.0: [1.0]}, {16.0: [1.0], 32.0: [0.0]}, {}])
def test_no_power_of_too_little_or_of_zeros(samples: dict[float, list[float]]):
    assert power_law(samples) is None


@pytest.mark.parametrize(
    ('lower', 'upper', 'seeds', 'verdict'),
    [
        (-0.9, -0.5, 3, 'supported'),
        (-0.9, -0.3, 3, 'undecided'),
        (-0.3, -0.1, 3, 'contradicted'),
        (-2.0, -1.1, 3, 'contradicted'),
        (-0.9, -0.5, 2, 'undecided'),
    ],
)
def test_the_whole_interval_decides(lower: float, upper: float, seeds: int, verdict: str):
    fit = Fit((lower + upper) / 2, lower, upper, seeds)
    assert decide_range('a', 'b', fit, (-1.0, -0.4), 'power', 'how').verdict == verdict


def test_nothing_measured_decides_nothing():
    assert mean_fit([]) is None
    assert decide_range('a', 'b', None, (0.0, 1.0), 'loss', 'how').verdict == 'undecided'


def test_verdicts_are_read_by_other_programs(tmp_path: Path):
    claims = [
        decide_range('one', 'first', Fit(0.5, -math.inf, math.inf, 1), (0.0, 1.0), 'loss', 'how'),
        decide_range('two', 'second', None, (0.0, 1.0), 'loss', 'how'),
    ]
    about = {'command': 'python -m ntk.main', 'commit': 'abc', 'data': 'points'}
    write_verdicts(tmp_path / 'verdicts.json', claims, about, about['command'])
    first, second = json.loads((tmp_path / 'verdicts.json').read_text())
    assert first == {
        'name': 'one', 'claim': 'first', 'verdict': 'undecided', 'effect': 0.5, 'low': None,
        'high': None, 'unit': 'loss', 'seeds': 1, 'command': 'python -m ntk.main', 'commit': 'abc',
        'data': 'points',
    }  # fmt: skip
    assert second['effect'] is None and second['seeds'] == 0
