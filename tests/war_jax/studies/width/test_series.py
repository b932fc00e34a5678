"""Lines of the figures. Oracles: planted values, means and t intervals written out by hand."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.war_jax.studies.width.planted import make_study
from war_jax.studies.width import series
from war_jax.studies.width.results import collect

T2 = 4.3026527297  # two-sided 95 % quantile of Student's t with two degrees of freedom


def found(tmp_path: Path, **changes: Any) -> tuple[Any, Any]:
    return collect(make_study(tmp_path, **changes) / 'runs')


def test_lines_over_widths_and_lambdas(tmp_path: Path) -> None:
    rows, _ = found(
        tmp_path, robust_accuracy=lambda k, lam, seed: 0.1 * k + 0.01 * lam + 0.02 * (seed - 1)
    )
    half = 0.02 * T2 / math.sqrt(3)
    by_width = series.by_width(rows, 'robust_accuracy')
    assert list(by_width) == [1.0, 3.0, 9.0]
    band = by_width[3.0]
    assert band.x == [1.0, 2.0, 4.0]
    assert band.mean == pytest.approx([0.13, 0.23, 0.43])
    assert band.lower == pytest.approx([0.13 - half, 0.23 - half, 0.43 - half])
    assert band.upper == pytest.approx([0.13 + half, 0.23 + half, 0.43 + half])
    by_lambda = series.by_lambda(rows, 'robust_accuracy')
    assert by_lambda[2.0].x == [1.0, 3.0, 9.0]
    assert by_lambda[2.0].mean == pytest.approx([0.21, 0.23, 0.29])


def test_what_differs_by_factors_is_averaged_in_logarithms(tmp_path: Path) -> None:
    """2, 4, 8 have the geometric mean 4; a ratio that is None is no run."""
    rows, _ = found(
        tmp_path, widths=(1.0, 2.0), lams=(3.0,),
        local_lipschitz=lambda k, lam, seed: 2.0 ** (seed + 1),
        risk_ratio=lambda k, lam, seed: None if k == 2.0 else 5.0,
    )  # fmt: skip
    band = series.by_width(rows, 'local_lipschitz')[3.0]
    factor = 2 ** (T2 / math.sqrt(3))
    assert band.mean == pytest.approx([4.0, 4.0])
    assert band.upper == pytest.approx([4.0 * factor] * 2)
    assert band.lower == pytest.approx([4.0 / factor] * 2)
    assert series.by_width(rows, 'risk_ratio')[3.0].x == [1.0]


def test_war_runs_are_on_no_line_but_are_markers(tmp_path: Path) -> None:
    rows, _ = found(
        tmp_path, widths=(1.0, 2.0), lams=(3.0,), targets=('constant',),
        robust_accuracy=lambda *_: 0.5, war_robust_accuracy=lambda k, lam, seed: 0.6 + 0.01 * seed,
        final_lambda=lambda k, lam, seed: 2.0 ** (seed + 1),
    )  # fmt: skip
    assert series.by_width(rows, 'robust_accuracy')[3.0].mean == [0.5, 0.5]
    [marker] = series.markers(rows)
    assert (marker.target, marker.widen_factor) == ('constant', 2.0)
    assert marker.lam == pytest.approx(4.0)
    assert marker.rates['robust_accuracy'] == pytest.approx(0.61)


def test_lines_over_epochs_reach_from_the_lowest_to_the_highest_seed(tmp_path: Path) -> None:
    rows, curves = found(
        tmp_path, validation_robust_accuracy=lambda k, lam, seed: (0.5, 0.6, 0.52)[seed] + k / 100
    )
    bands = series.by_epoch(rows, curves, 3.0, 'robust_accuracy')
    assert list(bands) == [1.0, 2.0, 4.0]
    band = bands[2.0]
    assert band.x == [1.0, 2.0]
    assert band.mean == pytest.approx([0.46, 0.56])
    assert band.lower == pytest.approx([0.42, 0.52])
    assert band.upper == pytest.approx([0.52, 0.62])


def test_lambda_under_war_begins_at_its_start(tmp_path: Path) -> None:
    """Half way after the first of two epochs: 3 to 3 + (final - 3) / 2, final = 5, 13, 5."""
    rows, curves = found(
        tmp_path, widths=(1.0, 2.0), lams=(3.0,), targets=('constant',),
        final_lambda=lambda k, lam, seed: 13.0 if seed == 1 else 5.0,
    )  # fmt: skip
    band = series.under_war(rows, curves, 'constant', 'lambda')[2.0]
    assert band.x == [0.0, 1.0, 2.0]
    assert band.mean == pytest.approx([3.0, (4 * 8 * 4) ** (1 / 3), (5 * 13 * 5) ** (1 / 3)])
    assert band.lower == pytest.approx([3.0, 4.0, 5.0])
    assert band.upper == pytest.approx([3.0, 8.0, 13.0])
    assert series.under_war(rows, curves, 'trajectory', 'lambda') == {}


def test_targets_stand_at_the_ends_of_the_epochs(tmp_path: Path) -> None:
    rows, curves = found(tmp_path, targets=('trajectory', 'constant'))
    for name in curves:
        if 'seed1' in name:  # 8 -> 1: geometric mean of 8, 1, 8 is 4
            curves[name]['target'] = [v / 8 for v in curves[name]['target']]
    assert series.target_ratios(rows, curves, 'trajectory') == (
        [1.0, 2.0],
        pytest.approx([4.0, 2.5]),
    )
    assert series.target_ratios(rows, curves, 'constant') == ([0.0, 2.0], pytest.approx([2.5, 2.5]))
    assert series.target_ratios([], curves, 'constant') == ([], [])


def test_envelope_takes_the_epochs_of_all_runs_and_keeps_gaps() -> None:
    runs = [
        [{'epoch': 1.0, 'x': 0.2}, {'epoch': 2.0, 'x': None}, {'epoch': 3.0, 'x': 0.4}],
        [{'epoch': 1.0, 'x': 0.4}, {'epoch': 2.0, 'x': 0.5}],
    ]
    band = series.envelope(runs, 'x')
    assert band.x == [1.0, 2.0]
    assert band.mean[0] == pytest.approx(0.3) and math.isnan(band.mean[1])
