"""Figures of a study: what is drawn is what was given. Oracles: the arguments, Pillow."""

import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from war_jax.lab import plots
from war_jax.studies.width import figures
from war_jax.studies.width.figures import Band, Marker

RATES = ('natural_accuracy', 'robust_accuracy', 'perturbation_stability')
X = [1.0, 2.0, 4.0]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure on its way to a file."""
    caught: list[Figure] = []
    save = plots.save

    def catch(figure: Figure, path: Path) -> None:
        caught.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, 'save', catch)
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
    path = tmp_path / 'width.png'
    figures.against_width(path, bands)
    with Image.open(path) as image:
        assert (image.format, image.size) == ('PNG', (1760, 576))
    [figure] = drawn
    assert [axes.get_title(loc='left') for axes in figure.axes] == [
        'Natural accuracy', 'Robust accuracy', 'Perturbation stability',
    ]  # fmt: skip
    assert names(figure) == ['λ = 1', 'λ = 9']
    for axes in figure.axes:
        assert axes.get_xscale() == 'log' and axes.get_yscale() == 'linear'
        assert [label.get_text() for label in axes.get_xticklabels()] == ['1', '2', '4']
        for found, given in zip(points(axes), bands['natural_accuracy'].values(), strict=True):
            x, y = np.array(found).T
            # Side by side, but nearer to their own width than a tenth of the way to the next.
            assert np.abs(np.log2(x / np.array(X))).max() < 0.1
            np.testing.assert_allclose(y, given.mean)
        assert intervals(axes) == [
            [pytest.approx(pair) for pair in zip(given.lower, given.upper, strict=True)]
            for given in bands['natural_accuracy'].values()
        ]


def test_lipschitzness_and_ratios_are_logarithmic(tmp_path: Path, drawn: list[Figure]) -> None:
    keys = ('local_lipschitz', 'local_lipschitz_kl_gradient', 'risk_ratio')
    bands = {key: {3.0: band(20.0, 5.0, 1.0)} for key in keys}
    figures.against_width(tmp_path / 'a.png', bands)
    assert [axes.get_yscale() for axes in drawn[0].axes] == ['log'] * 3


def test_one_seed_has_a_line_without_intervals(tmp_path: Path, drawn: list[Figure]) -> None:
    single = Band([1.0, 2.0], [0.5, 0.6], [-math.inf] * 2, [math.inf] * 2)
    figures.against_width(tmp_path / 'a.png', {'robust_accuracy': {3.0: single}})
    [axes] = drawn[0].axes
    assert [y for _, y in points(axes)[0]] == [0.5, 0.6]
    assert intervals(axes) == [[]]
    lower, upper = axes.get_ylim()
    assert 0.4 < lower < 0.5 and 0.6 < upper < 0.7


def test_a_single_point_and_no_point_at_all(tmp_path: Path, drawn: list[Figure]) -> None:
    bands = {'robust_accuracy': {3.0: band(0.5, x=[2.0])}, 'risk_ratio': {}}
    figures.against_width(tmp_path / 'a.png', bands)
    assert len(drawn[0].axes[0].containers) == 1 and not drawn[0].axes[1].containers


@pytest.mark.parametrize(('start', 'step'), [(0.5, 0.001), (0.5, 0.07), (0.0, 0.4), (0.985, 0.005)])
def test_percent_labels_are_not_rounded(
    tmp_path: Path, drawn: list[Figure], start: float, step: float
) -> None:
    figures.against_width(tmp_path / 'a.png', {'robust_accuracy': {3.0: band(start, step)}})
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
    rates = {'natural_accuracy': 0.9, 'robust_accuracy': 0.66, 'perturbation_stability': 0.7}
    markers = [Marker('trajectory', 2.0, 4.5, rates)]
    figures.against_lambda(tmp_path / 'a.png', bands, {1.0: 3.0, 2.0: 9.0}, markers)
    [figure] = drawn
    assert names(figure) == ['width k = 1', 'width k = 2', 'best on validation', 'WAR (trajectory)']
    for axes, key in zip(figure.axes, RATES, strict=True):
        curves = points(axes)
        rings = [line for line in axes.get_lines() if str(line.get_markerfacecolor()) == 'none']
        found = [tuple(np.asarray(ring.get_xydata())[0]) for ring in rings]
        assert found == [curves[0][1], curves[1][2]]
        [star] = [line for line in axes.get_lines() if line.get_marker() == '*']
        assert tuple(np.asarray(star.get_xydata())[0]) == (4.5, rates[key])
        colour = errorbars(axes)[1].lines[0].get_color()
        assert to_hex(star.get_markerfacecolor()) == to_hex(colour)


def test_war_at_a_width_without_a_line_is_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    bands = {'robust_accuracy': {1.0: band(0.5)}}
    markers = [Marker('constant', 4.0, 4.5, {'robust_accuracy': 0.7})]
    figures.against_lambda(tmp_path / 'a.png', bands, {1.0: 2.0}, markers)
    [figure] = drawn
    assert names(figure)[:2] == ['width k = 1', 'width k = 4']
    [axes] = figure.axes
    assert len(errorbars(axes)) == 1
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
    figures.against_epoch(tmp_path / 'a.png', bands)
    [figure] = drawn
    titles = [axes.get_title(loc='left') for axes in figure.axes]
    assert titles[0] == 'Natural accuracy, λ = 1' and titles[4] == 'Robust accuracy, λ = 9'
    line = figure.axes[4].get_lines()[1]
    given = bands[9.0]['robust_accuracy'][2.0]
    assert np.asarray(line.get_xydata()).tolist() == [
        list(p) for p in zip(epochs, given.mean, strict=True)
    ]
    outline = np.asarray(figure.axes[4].collections[1].get_paths()[0].vertices).round(9).tolist()
    for x, lower, upper in zip(epochs, given.lower, given.upper, strict=True):
        assert [x, round(lower, 9)] in outline and [x, round(upper, 9)] in outline
    assert names(figure) == ['width k = 1', 'width k = 2']


def test_lambda_under_war_shows_start_and_target(tmp_path: Path, drawn: list[Figure]) -> None:
    lams = {'constant': {2.0: band(3.0, 0.5, 0.1, [0.0, 1.0, 2.0])}}
    ratios = {'constant': {2.0: band(8.0, -1.0, 0.1, [1.0, 2.0])}}
    figures.lambda_under_war(
        tmp_path / 'a.png', lams, ratios, {'constant': ([0.0, 2.0], [6.0, 6.0])}
    )
    [figure] = drawn
    above, below = figure.axes
    assert above.get_yscale() == below.get_yscale() == 'log'
    line, start = above.get_lines()
    assert np.asarray(line.get_ydata()).tolist() == [3.0, 3.5, 4.0]
    assert np.asarray(start.get_ydata()).tolist() == [3.0, 3.0]
    ratio, target = below.get_lines()
    assert np.asarray(ratio.get_ydata()).tolist() == [8.0, 7.0]
    assert np.asarray(target.get_xydata()).tolist() == [[0.0, 6.0], [2.0, 6.0]]
    assert names(figure) == ['width k = 2', 'λ of the thin network', 'target']


def test_costs_are_stacked_to_scale(tmp_path: Path, drawn: list[Figure]) -> None:
    bars = {'sweep': {'sweep': 7200.0}, 'WAR (constant)': {'thin_sweep': 900.0, 'war': 1800.0}}
    figures.tuning_costs(tmp_path / 'a.png', bars)
    [axes] = drawn[0].axes
    found = [(bar.get_x(), bar.get_width()) for bar in rectangles(axes)]
    assert found == [(0.0, 2.0), (0.0, 0.25), (0.25, 0.5)]
    assert axes.get_xlabel() == 'device-hours'
    assert [label.get_text() for label in axes.get_yticklabels()] == list(bars)
    assert [text.get_text() for text in axes.texts] == ['2 h 0 min', '45 min 0 s']
    figures.tuning_costs(tmp_path / 'b.png', {'sweep': {'sweep': 90.0}})
    assert drawn[1].axes[0].get_xlabel() == 'device-minutes'
    assert rectangles(drawn[1].axes[0])[0].get_width() == 1.5


def test_equal_data_give_equal_bytes_and_settings_stay(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    for name in ('a.png', 'b.png'):
        figures.against_width(tmp_path / name, {'risk_ratio': {3.0: band(2.0)}})
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()
    assert dict(matplotlib.rcParams) == before
