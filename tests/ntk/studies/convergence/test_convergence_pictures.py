"""Rows of a study of convergence along an axis. Oracle: what was planted in them."""

import math
from pathlib import Path

import pytest

from ntk.studies.convergence.pictures import draw, gaps_over_time, has_diverged, samples, value
from tests.ntk.studies.convergence.planted_convergence import SETTINGS, planted
from war_jax.lab.experiment import Results


def test_samples_run_along_one_key_all_others_being_the_base():
    results = planted()
    along_width = samples(results, 'softplus', 'best', radius=4.0)
    assert along_width == {m: {0: 0.3, 1: 0.4, 2: 0.5} for m in (16, 32)}
    assert list(samples(results, 'softplus', 'gap', over='epsilon', width=32)) == [0.1, 0.2]
    assert set(samples(results, 'softplus', 'gap', over='attack', width=32)) == {
        'none', 'fgsm', 'pgd5'
    }  # fmt: skip
    of_rows = samples(results, 'softplus', 'row_movement', radius=0.0)
    assert of_rows[32][2] == pytest.approx(32**-0.4)  # the larger one of two layers


def test_without_projection_the_best_is_that_of_the_largest_ball():
    results = planted(gap=0.07)
    cell = next(cell for cell in SETTINGS.trainings if not cell.radius and cell.seed == 2)
    assert value(results, cell, 'best') == pytest.approx(0.5)
    assert value(results, cell, 'gap') == pytest.approx(0.07)
    del results.rows[SETTINGS.optimum_of(cell)]  # pyright: ignore[reportIndexIssue]
    assert value(results, cell, 'gap') is None and not has_diverged(results, cell)


def test_a_line_on_which_a_training_diverged_is_left_out():
    results = planted()
    cell = SETTINGS.trainings[0]
    results.rows[cell]['movement'][1] = None
    assert math.isnan(value(results, cell, 'movement') or 0.0) and has_diverged(results, cell)
    assert samples(results, 'softplus', 'movement', radius=cell.radius) == {}
    assert samples(results, 'softplus', 'gap', radius=cell.radius) != {}


def test_gaps_over_time_end_where_the_best_is_not_known_as_well():
    tolerance = SETTINGS.strong.tolerance  # 0.002
    found = gaps_over_time(planted(gap=tolerance / 2), 'softplus', 4.0)
    assert list(found) == [16]  # 4 times as much; then less than the tolerance
    assert list(found[16].values()) == pytest.approx([2 * tolerance] * 3)


def test_nothing_is_drawn_of_no_training(tmp_path: Path):
    assert draw(Results(SETTINGS, {}, {}, {}, []), tmp_path) == []
    assert list(tmp_path.iterdir()) == []
