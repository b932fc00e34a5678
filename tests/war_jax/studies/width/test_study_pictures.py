"""Figures of a study: lines hold what was planted, and what is drawn is what was given.

Oracles: planted values, means and t intervals written out by hand, the arguments, Pillow.
"""

import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from tests.war_jax.studies.width.planted import make_study
from war_jax.lab import plots
from war_jax.lab.quantities import Band
from war_jax.studies.width import panels, pictures
from war_jax.studies.width.panels import Marker
from war_jax.studies.width.results import collect

INTERVAL = plots.INTERVAL
RATES = ('natural_accuracy', 'robust_accuracy', 'perturbation_stability')
X = [1.0, 2.0, 4.0]
T2 = 4.3026527297  # two-sided 95 % quantile of Student's t with two degrees of freedom


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure, on its way to a file that takes most of the time and is not written."""
    caught: list[Figure] = []
    monkeypatch.setattr(plots, 'save', lambda figure, path: caught.append(figure))
    return caught


def band(start: float, step: float = 0.05, half: float = 0.01, x: list[float] = X) -> Band:
    mean = [start + step * index for index in range(len(x))]
    return Band(x, mean, [value - half for value in mean], [value + half for value in mean])


def names(figure: Figure) -> list[str]:
    [legend] = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def errorbars(axes: Axes) -> list[ErrorbarContainer]:
    return [found for found in axes.containers if isinstance(found, ErrorbarContainer)]


def rectangles(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def intervals(axes: Axes) -> list[list[tuple[float, float]]]:
    """(lower, upper) of all error bars that are drawn, line by line."""
    return [
        [
            tuple(np.round(np.asarray(segment)[:, 1], 9))
            for segment in container.lines[2][0].get_segments()
            if len(segment) and np.isfinite(segment).all()
        ]
        for container in errorbars(axes)
    ]


def points(axes: Axes) -> list[list[tuple[float, float]]]:
    """Of the lines with error bars."""
    return [
        [(float(x), float(y)) for x, y in np.asarray(container.lines[0].get_xydata())]
        for container in errorbars(axes)
    ]


def test_against_width_draws_means_and_intervals(tmp_path: Path, drawn: list[Figure]) -> None:
    bands = {key: {1.0: band(0.5), 9.0: band(0.4, half=0.02)} for key in RATES}
    panels.against_width(tmp_path / 'width.png', bands)
    [figure] = drawn
    assert [axes.get_title(loc='left') for axes in figure.axes] == [
        'Natural accuracy', 'Robust accuracy', 'Perturbation stability',
    ]  # fmt: skip
    assert names(figure) == [f'{panels.LAMBDA}1', f'{panels.LAMBDA}9', INTERVAL]
    assert figure.axes[0].get_xlabel() == 'width factor $k$'
    for axes in figure.axes:
        assert axes.get_xscale() == 'log' and axes.get_yscale() == 'linear'
        assert axes.get_ylabel() == 'share of the images'
        first, last = (np.ravel(found.lines[2][0].get_linewidth())[0] for found in errorbars(axes))
        assert first > last, 'what is drawn over must show behind'
        assert [label.get_text() for label in axes.get_xticklabels()] == ['1', '2', '4']
        for found, given in zip(points(axes), bands['natural_accuracy'].values(), strict=True):
            x, y = np.array(found).T
            assert x.tolist() == X
            np.testing.assert_allclose(y, given.mean)
        assert intervals(axes) == [
            [pytest.approx(pair) for pair in zip(given.lower, given.upper, strict=True)]
            for given in bands['natural_accuracy'].values()
        ]


def test_lipschitzness_and_ratios_are_logarithmic(tmp_path: Path, drawn: list[Figure]) -> None:
    keys = ('local_lipschitz', 'local_lipschitz_kl_gradient', 'risk_ratio')
    bands = {key: {3.0: band(20.0, 5.0, 1.0)} for key in keys}
    panels.against_width(tmp_path / 'a.png', bands)
    assert [axes.get_yscale() for axes in drawn[0].axes] == ['log'] * 3


def test_one_seed_has_a_line_without_intervals(tmp_path: Path, drawn: list[Figure]) -> None:
    single = Band([1.0, 2.0], [0.5, 0.6], [-math.inf] * 2, [math.inf] * 2)
    panels.against_width(tmp_path / 'a.png', {'robust_accuracy': {3.0: single}})
    [axes] = drawn[0].axes
    assert [y for _, y in points(axes)[0]] == [0.5, 0.6]
    assert intervals(axes) == [[]]
    lower, upper = axes.get_ylim()
    assert 0.4 < lower < 0.5 and 0.6 < upper < 0.7


def test_a_single_point_and_no_point_at_all(tmp_path: Path, drawn: list[Figure]) -> None:
    bands = {'robust_accuracy': {3.0: band(0.5, x=[2.0])}, 'risk_ratio': {}}
    panels.against_width(tmp_path / 'a.png', bands)
    assert len(drawn[0].axes[0].containers) == 1 and not drawn[0].axes[1].containers


@pytest.mark.parametrize(('start', 'step'), [(0.5, 0.001), (0.5, 0.07), (0.0, 0.4), (0.985, 0.005)])
def test_percent_labels_are_not_rounded(
    tmp_path: Path, drawn: list[Figure], start: float, step: float
) -> None:
    panels.against_width(tmp_path / 'a.png', {'robust_accuracy': {3.0: band(start, step)}})
    [axes] = drawn[0].axes
    lower, upper = axes.get_ylim()
    assert lower >= -0.02 and upper <= 1.02
    shown = [t for t in axes.get_yticklabels() if lower <= t.get_position()[1] <= upper]
    assert len(shown) >= 3
    for label in shown:
        number = float(label.get_text().removesuffix(' %'))
        assert number == pytest.approx(100 * label.get_position()[1], abs=1e-6)


def test_against_lambda_rings_the_best_and_places_war(tmp_path: Path, drawn: list[Figure]) -> None:
    grid = [1.0, 3.0, 9.0]
    bands = {key: {1.0: band(0.5, x=grid), 2.0: band(0.6, x=grid)} for key in RATES}
    rates = {key: (0.66 + 0.1 * place, 0.6, 0.9) for place, key in enumerate(RATES)}
    markers = [Marker('trajectory', 2.0, (4.5, 4.0, 6.0), rates)]
    panels.against_lambda(tmp_path / 'a.png', bands, {1.0: 3.0, 2.0: 9.0}, markers)
    [figure] = drawn
    assert names(figure) == [
        f'{panels.WIDTH}1', f'{panels.WIDTH}2', 'best on validation', 'WAR, trajectory', INTERVAL
    ]  # fmt: skip
    for axes, key in zip(figure.axes, RATES, strict=True):
        curves = points(axes)
        rings = [line for line in axes.get_lines() if str(line.get_markerfacecolor()) == 'none']
        found = [tuple(np.asarray(ring.get_xydata())[0]) for ring in rings]
        assert found == [curves[0][1], curves[1][2]]
        [star] = [line for line in axes.get_lines() if line.get_marker() == '*']
        assert tuple(np.asarray(star.get_xydata())[0]) == (4.5, rates[key][0])
        of_lambda, of_rate = errorbars(axes)[-1].lines[2]
        assert of_lambda.get_segments()[0][:, 0].tolist() == pytest.approx([4.0, 6.0])
        assert of_rate.get_segments()[0][:, 1].tolist() == pytest.approx([0.6, 0.9])
        colour = errorbars(axes)[1].lines[0].get_color()
        assert to_hex(star.get_markerfacecolor()) == to_hex(colour)


def test_war_at_a_width_without_a_line_is_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    bands = {'robust_accuracy': {1.0: band(0.5)}}
    alone = (-math.inf, math.inf)  # of a single seed
    markers = [Marker('constant', 4.0, (4.5, *alone), {'robust_accuracy': (0.7, *alone)})]
    panels.against_lambda(tmp_path / 'a.png', bands, {1.0: 2.0}, markers)
    [figure] = drawn
    assert names(figure)[:2] == [f'{panels.WIDTH}1', f'{panels.WIDTH}4']
    [axes] = figure.axes
    assert len(errorbars(axes)) == 2
    [plus] = [line for line in axes.get_lines() if line.get_marker() == 'P']
    assert tuple(np.asarray(plus.get_xydata())[0]) == (4.5, 0.7)


def test_against_epoch_has_a_row_per_lambda(tmp_path: Path, drawn: list[Figure]) -> None:
    epochs = [1.0, 2.0, 3.0]
    bands = {
        lam: {
            key: {1.0: band(0.5, x=epochs), 2.0: band(0.5 + lam / 100, x=epochs)} for key in RATES
        }
        for lam in (1.0, 9.0)
    }
    panels.against_epoch(tmp_path / 'a.png', bands)
    [figure] = drawn
    titles = [axes.get_title(loc='left') for axes in figure.axes]
    assert titles[0] == f'Natural accuracy, {panels.LAMBDA}1'
    assert titles[4] == f'Robust accuracy, {panels.LAMBDA}9'
    line = figure.axes[4].get_lines()[1]
    given = bands[9.0]['robust_accuracy'][2.0]
    assert np.asarray(line.get_xydata()).tolist() == [
        list(p) for p in zip(epochs, given.mean, strict=True)
    ]
    outline = np.asarray(figure.axes[4].collections[1].get_paths()[0].vertices).round(9).tolist()
    for x, lower, upper in zip(epochs, given.lower, given.upper, strict=True):
        assert [x, round(lower, 9)] in outline and [x, round(upper, 9)] in outline
    assert names(figure) == [f'{panels.WIDTH}1', f'{panels.WIDTH}2', 'lowest to highest seed']


def test_lambda_under_war_shows_start_and_target(tmp_path: Path, drawn: list[Figure]) -> None:
    lams = {'constant': {2.0: band(3.0, 0.5, 0.1, [0.0, 1.0, 2.0])}}
    ratios = {'constant': {2.0: band(8.0, -1.0, 0.1, [1.0, 2.0])}}
    panels.lambda_under_war(
        tmp_path / 'a.png', lams, ratios, {'constant': {2.0: ([0.0, 2.0], [6.0, 6.0])}},
        thin=3.0, widths=[1.0, 2.0, 4.0],
    )  # fmt: skip
    [figure] = drawn
    above, below = figure.axes
    # The colour that the width has where all are drawn.
    assert above.get_lines()[0].get_color() == pytest.approx(
        plots.ordered_styles([1.0, 2.0, 4.0], 'viridis')[2.0]['color']
    )
    assert above.get_yscale() == below.get_yscale() == 'log'
    line, start = above.get_lines()
    assert np.asarray(line.get_ydata()).tolist() == [3.0, 3.5, 4.0]
    assert np.asarray(start.get_ydata()).tolist() == [3.0, 3.0]
    ratio, target = below.get_lines()
    assert np.asarray(ratio.get_ydata()).tolist() == [8.0, 7.0]
    assert np.asarray(target.get_xydata()).tolist() == [[0.0, 6.0], [2.0, 6.0]]
    assert names(figure) == [
        f'{panels.WIDTH}2', f'{plots.LAMBDA} of the thin network', 'target',
        'lowest to highest seed',
    ]  # fmt: skip


def test_ways_are_drawn_side_by_side(tmp_path: Path, drawn: list[Figure]) -> None:
    bands = {'thin': band(-0.1, x=[2.0, 4.0]), 'fixed_step': band(0.1, x=[4.0])}
    panels.ways_against_width(tmp_path / 'a.png', bands, 0.02)
    [axes] = drawn[0].axes
    assert names(drawn[0]) == [
        f'{plots.LAMBDA} of the thin network', 'WAR, fixed step',
        f'best {plots.LAMBDA} of the sweep', '2 points below', INTERVAL,
    ]  # fmt: skip
    thin, fixed = points(axes)[:2]
    assert [x for x, _ in thin] == pytest.approx([-0.055, 0.945])
    assert [x for x, _ in fixed] == pytest.approx([1.055])
    assert [y for _, y in fixed] == pytest.approx([0.1])
    assert [label.get_text() for label in axes.get_xticklabels()] == ['2', '4']
    across = [line.get_ydata() for line in axes.get_lines() if line.get_marker() == 'None']
    assert np.asarray(across).tolist() == [[0.0, 0.0], [-0.02, -0.02]]


def test_targets_that_differ_have_their_width_s_colour(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    lams = {'extrapolated': {k: band(3.0, x=[0.0, 2.0]) for k in (2.0, 4.0)}}
    targets = {k: ([0.0, 2.0], [6.0 * k] * 2) for k in (2.0, 4.0)}
    panels.lambda_under_war(
        tmp_path / 'a.png', lams, lams, {'extrapolated': targets}, thin=3.0, widths=[2.0, 4.0]
    )
    dashed = [line for line in drawn[0].axes[1].get_lines() if line.get_linestyle() == '--']
    assert [np.asarray(line.get_ydata()).tolist() for line in dashed] == [[12.0] * 2, [24.0] * 2]
    styles = plots.ordered_styles([2.0, 4.0], 'viridis')
    for line, width in zip(dashed, (2.0, 4.0), strict=True):
        assert line.get_color() == pytest.approx(styles[width]['color'])


def test_costs_are_stacked_to_scale(tmp_path: Path, drawn: list[Figure]) -> None:
    bars = {'sweep': {'sweep': 7200.0}, 'WAR (constant)': {'thin_sweep': 900.0, 'war': 1800.0}}
    panels.tuning_costs(tmp_path / 'a.png', bars)
    [axes] = drawn[0].axes
    found = [(bar.get_x(), bar.get_width()) for bar in rectangles(axes)]
    assert found == [(0.0, 2.0), (0.0, 0.25), (0.25, 0.5)]
    assert axes.get_xlabel() == 'device-hours'
    assert [label.get_text() for label in axes.get_yticklabels()] == list(bars)
    assert [text.get_text() for text in axes.texts] == ['2 hours', '0.75 hours']
    panels.tuning_costs(tmp_path / 'b.png', {'sweep': {'sweep': 90.0}})
    assert drawn[1].axes[0].get_xlabel() == 'device-minutes'
    assert rectangles(drawn[1].axes[0])[0].get_width() == 1.5


def test_equal_data_give_equal_bytes_and_settings_stay(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    for name in ('a.png', 'b.png'):
        panels.against_width(tmp_path / name, {'risk_ratio': {3.0: band(2.0)}})
    with Image.open(tmp_path / 'a.png') as image:
        assert (image.format, image.size) == ('PNG', (1760, 576))
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()
    assert dict(matplotlib.rcParams) == before


def made(tmp_path: Path, **changes: Any) -> tuple[Any, Any]:
    return collect(make_study(tmp_path, **changes) / 'runs')


def test_lines_over_widths_and_lambdas(tmp_path: Path) -> None:
    rows, _ = made(
        tmp_path, robust_accuracy=lambda k, lam, seed: 0.1 * k + 0.01 * lam + 0.02 * (seed - 1)
    )
    half = 0.02 * T2 / math.sqrt(3)
    by_width = pictures.by_width(rows, 'robust_accuracy')
    assert list(by_width) == [1.0, 3.0, 9.0]
    band = by_width[3.0]
    assert band.x == [1.0, 2.0, 4.0]
    assert band.mean == pytest.approx([0.13, 0.23, 0.43])
    assert band.lower == pytest.approx([0.13 - half, 0.23 - half, 0.43 - half])
    assert band.upper == pytest.approx([0.13 + half, 0.23 + half, 0.43 + half])
    by_lambda = pictures.by_lambda(rows, 'robust_accuracy')
    assert by_lambda[2.0].x == [1.0, 3.0, 9.0]
    assert by_lambda[2.0].mean == pytest.approx([0.21, 0.23, 0.29])


def test_intervals_of_accuracies_end_at_0_and_100_percent(tmp_path: Path) -> None:
    rows, _ = made(
        tmp_path, widths=(1.0,), lams=(3.0, 9.0), natural_accuracy=lambda k, lam, seed: 0.5 * seed
    )
    line = pictures.by_lambda(rows, 'natural_accuracy')[1.0]
    assert (line.mean, line.lower, line.upper) == ([0.5, 0.5], [0.0, 0.0], [1.0, 1.0])


def test_what_differs_by_factors_is_averaged_in_logarithms(tmp_path: Path) -> None:
    """2, 4, 8 have the geometric mean 4; a ratio that is None is no run."""
    rows, _ = made(
        tmp_path, widths=(1.0, 2.0), lams=(3.0,),
        local_lipschitz=lambda k, lam, seed: 2.0 ** (seed + 1),
        risk_ratio=lambda k, lam, seed: None if k == 2.0 else 5.0,
    )  # fmt: skip
    band = pictures.by_width(rows, 'local_lipschitz')[3.0]
    factor = 2 ** (T2 / math.sqrt(3))
    assert band.mean == pytest.approx([4.0, 4.0])
    assert band.upper == pytest.approx([4.0 * factor] * 2)
    assert band.lower == pytest.approx([4.0 / factor] * 2)
    assert pictures.by_width(rows, 'risk_ratio')[3.0].x == [1.0]


def test_war_runs_are_on_no_line_but_are_markers(tmp_path: Path) -> None:
    rows, _ = made(
        tmp_path, widths=(1.0, 2.0), lams=(3.0,), targets=('constant',),
        robust_accuracy=lambda *_: 0.5, war_robust_accuracy=lambda k, lam, seed: 0.6 + 0.01 * seed,
        final_lambda=lambda k, lam, seed: 2.0 ** (seed + 1),
    )  # fmt: skip
    assert pictures.by_width(rows, 'robust_accuracy')[3.0].mean == [0.5, 0.5]
    [marker] = pictures.war_markers(rows)
    assert (marker.method, marker.widen_factor) == ('constant', 2.0)
    half = T2 / math.sqrt(3)  # in doublings of lambda, and in points of the accuracy
    assert marker.lam == pytest.approx((4.0, 2.0 ** (2.0 - half), 2.0 ** (2.0 + half)))
    rate = (0.61, 0.61 - 0.01 * half, 0.61 + 0.01 * half)
    assert marker.rates['robust_accuracy'] == pytest.approx(rate)


def test_lines_over_epochs_reach_from_the_lowest_to_the_highest_seed(tmp_path: Path) -> None:
    rows, curves = made(
        tmp_path, validation_robust_accuracy=lambda k, lam, seed: (0.5, 0.6, 0.52)[seed] + k / 100
    )
    bands = pictures.by_epoch(rows, curves, 3.0, 'robust_accuracy')
    assert list(bands) == [1.0, 2.0, 4.0]
    band = bands[2.0]
    assert band.x == [1.0, 2.0]
    assert band.mean == pytest.approx([0.46, 0.56])
    assert band.lower == pytest.approx([0.42, 0.52])
    assert band.upper == pytest.approx([0.52, 0.62])


def test_each_way_has_its_own_runs(tmp_path: Path) -> None:
    """The best lambda is 3, 3 and 9, that of the thin network 3; robust accuracy tells them."""
    rows, _ = made(
        tmp_path, targets=('fixed_step', 'power_law'),
        robust_accuracy=lambda k, lam, seed: 0.1 * k + 0.01 * lam,
        war_robust_accuracy=lambda k, lam, seed: 0.9,
    )  # fmt: skip
    ways = pictures.by_way(rows, ['fixed_step', 'power_law'])
    assert ways['thin'].x == [2.0, 4.0] and ways['thin'].mean == pytest.approx([0.0, -0.06])
    assert (ways['fixed_step'].x, ways['power_law'].x) == ([2.0, 4.0], [4.0])
    assert ways['power_law'].mean == pytest.approx([0.9 - 0.49])
    assert ways['power_law'].upper == pytest.approx(ways['power_law'].mean)  # the same each seed


def test_lambda_under_war_begins_at_its_start(tmp_path: Path) -> None:
    """Half way after the first of two epochs: 3 to 3 + (final - 3) / 2, final = 5, 13, 5."""
    rows, curves = made(
        tmp_path, widths=(1.0, 2.0), lams=(3.0,), targets=('constant',),
        final_lambda=lambda k, lam, seed: 13.0 if seed == 1 else 5.0,
    )  # fmt: skip
    band = pictures.under_war(rows, curves, 'constant', 'lambda')[2.0]
    assert band.x == [0.0, 1.0, 2.0]
    assert band.mean == pytest.approx([3.0, (4 * 8 * 4) ** (1 / 3), (5 * 13 * 5) ** (1 / 3)])
    assert band.lower == pytest.approx([3.0, 4.0, 5.0])
    assert band.upper == pytest.approx([3.0, 8.0, 13.0])
    assert pictures.under_war(rows, curves, 'trajectory', 'lambda') == {}


def test_targets_stand_at_the_ends_of_the_epochs(tmp_path: Path) -> None:
    rows, curves = made(tmp_path, targets=('trajectory', 'constant'))
    for name in curves:
        if 'seed1' in name:  # 8 -> 1: geometric mean of 8, 1, 8 is 4
            curves[name]['target'] = [v / 8 for v in curves[name]['target']]
    assert pictures.target_ratios(rows, curves, 'trajectory') == dict.fromkeys(
        (2.0, 4.0), ([1.0, 2.0], pytest.approx([4.0, 2.5]))
    )
    assert pictures.target_ratios(rows, curves, 'constant') == dict.fromkeys(
        (2.0, 4.0), ([0.0, 2.0], pytest.approx([2.5, 2.5]))
    )
    assert pictures.target_ratios([], curves, 'constant') == {}
