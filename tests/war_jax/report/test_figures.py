"""Figures: what is drawn is what was given. Oracles: the arguments, Pillow's reading of the PNG."""

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from war_jax.lab import plots
from war_jax.report import figures

TRAIN = [
    {'epoch': 0.5, 'natural_risk': 2.0, 'robust_regularization': 0.0, 'lambda': 6.0},
    {'epoch': 1.0, 'natural_risk': None, 'robust_regularization': 0.1, 'lambda': 6.0},
    {'epoch': 1.5, 'natural_risk': 0.5, 'robust_regularization': 0.2, 'lambda': 7.0},
]
VALIDATION = [
    {
        'epoch': epoch,
        'natural_accuracy': 0.5 + 0.2 * epoch,
        'robust_accuracy': 0.3 + 0.1 * epoch,
        'perturbation_stability': 0.4 + 0.1 * epoch,
        'local_lipschitz': 30.0 + epoch,
        'local_lipschitz_kl_gradient': None,
    }
    for epoch in (1.0, 2.0)
]
NAMES = ('natural_accuracy', 'robust_accuracy', 'perturbation_stability')


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


def lines(figure: Figure, panel: int) -> dict[str, list[tuple[float, float | None]]]:
    """name -> points, of one panel, to 9 decimals; NaN as None."""
    return {
        str(line.get_label()): [
            (float(x), None if np.isnan(y) else round(float(y), 9))
            for x, y in zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True)
        ]
        for line in figure.axes[panel].get_lines()
    }


def test_training_curves_show_every_row(tmp_path: Path, drawn: list[Figure]) -> None:
    path = tmp_path / 'curves.png'
    figures.training_curves(path, TRAIN, VALIDATION, selected_epoch=1.0, split='validation')
    with Image.open(path) as image:
        assert (image.format, image.size) == ('PNG', (1760, 544))
    accuracies = lines(drawn[0], 0)
    assert accuracies['natural'] == [(1.0, 0.7), (2.0, 0.9)]
    assert accuracies['robust'] == [(1.0, 0.4), (2.0, 0.5)]
    assert accuracies['stability'] == [(1.0, 0.5), (2.0, 0.6)]
    risks = lines(drawn[0], 1)
    assert risks['natural risk'] == [(0.5, 2.0), (1.0, None), (1.5, 0.5)]
    assert risks['robust regularization'] == [(0.5, None), (1.0, 0.1), (1.5, 0.2)]
    assert risks[plots.LAMBDA] == [(0.5, 6.0), (1.0, 6.0), (1.5, 7.0)]
    assert drawn[0].axes[1].get_yscale() == 'log'
    lipschitz = lines(drawn[0], 2)
    assert lipschitz['output ratio'] == [(1.0, 31.0), (2.0, 32.0)]
    assert 'KL gradient' not in lipschitz  # never measured: no entry in the legend either
    assert lipschitz['checkpoint'] == [(1.0, 0.0), (1.0, 1.0)]  # height in axes coordinates


def test_the_split_that_selects_is_named(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.training_curves(tmp_path / 'a.png', TRAIN, VALIDATION, selected_epoch=1.0, split='test')
    assert drawn[0].axes[0].get_title(loc='left') == 'Test accuracy'


def test_natural_training_shows_no_weight_of_nothing(tmp_path: Path, drawn: list[Figure]) -> None:
    train = [{**row, 'robust_regularization': 0.0} for row in TRAIN]
    path = tmp_path / 'a.png'
    figures.training_curves(path, train, VALIDATION, selected_epoch=1.0, split='test')
    names = {'natural risk', 'robust regularization', plots.LAMBDA}
    assert set(lines(drawn[0], 1)) & names == {'natural risk'}


def test_a_run_without_rows_says_so(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.training_curves(tmp_path / 'a.png', [], [], selected_epoch=0.0, split='validation')
    assert 'nothing recorded' in [text.get_text() for text in drawn[0].axes[1].texts]


@pytest.mark.parametrize('values', [(0.011, 0.012), (0.4, 0.9), (3.0, 45.0), (1e-6, 1e3)])
def test_logarithmic_axes_name_at_least_two_values(
    tmp_path: Path, drawn: list[Figure], values: tuple[float, float]
) -> None:
    rows = [
        {**row, 'local_lipschitz': value} for row, value in zip(VALIDATION, values, strict=True)
    ]
    figures.training_curves(tmp_path / 'a.png', [], rows, selected_epoch=1.0, split='test')
    axes = drawn[0].axes[2]
    lower, upper = axes.get_ylim()
    ticks = [label for label in axes.get_yticklabels() if label.get_text()]
    assert len({t.get_text() for t in ticks if lower <= t.get_position()[1] <= upper}) >= 2


def test_stability_curve_draws_rates_bands_and_training_radius(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    epsilons = [0.0, 0.1, 0.2]
    rates: dict[str, list[float]] = dict(
        zip(NAMES, ([0.9, 0.9, 0.9], [0.9, 0.5, 0.1], [1.0, 0.6, 0.2]), strict=True)
    )
    bands = {name: [(rate - 0.05, rate + 0.03) for rate in rates[name]] for name in NAMES}
    path = tmp_path / 'stability.png'
    figures.stability_curve(path, epsilons, rates, bands, epsilon=0.1, norm='l2')
    with Image.open(path) as image:
        assert (image.format, image.size) == ('PNG', (896, 672))
    found = lines(drawn[0], 0)
    for name, key in zip(('natural', 'robust', 'stability'), NAMES, strict=True):
        assert found[name] == list(zip(epsilons, rates[key], strict=True))
    assert [x for x, _ in found[f'training {plots.EPSILON} = 0.1']] == [0.1, 0.1]
    axes = drawn[0].axes[0]
    assert axes.get_xlabel().startswith('$L_2$ radius')
    assert axes.get_ylabel() == 'share of the images'
    for line, band in zip(axes.get_lines(), axes.collections, strict=False):
        assert to_hex(np.asarray(band.get_facecolor())[0]) == str(line.get_color()).lower()
    drawn_bands = {
        (round(x, 9), round(y, 9))
        for collection in axes.collections
        for x, y in np.asarray(collection.get_paths()[0].vertices).tolist()
    }
    for name in NAMES:
        for epsilon, (lower, upper) in zip(epsilons, bands[name], strict=True):
            assert {(epsilon, round(lower, 9)), (epsilon, round(upper, 9))} <= drawn_bands


def test_stability_curve_of_a_ball_that_is_a_point(tmp_path: Path, drawn: list[Figure]) -> None:
    rates = {name: [0.5] for name in NAMES}
    bands = {name: [(0.4, 0.6)] for name in NAMES}
    figures.stability_curve(tmp_path / 'a.png', [0.0], rates, bands, epsilon=0.0, norm='linf')
    assert lines(drawn[0], 0)['robust'] == [(0.0, 0.5)]


def levels(path: Path, at_least: int) -> set[tuple[int, ...]]:
    """The colours that fill at least so many pixels of a PNG, except its white page."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert('RGB')).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    return {tuple(colour) for colour in colours[counts >= at_least].tolist()} - {(255, 255, 255)}


def test_examples_in_grey_show_the_pixels_and_the_amplified_difference(tmp_path: Path) -> None:
    """Flat images: 0.2 (51/255) clean, 0.4 (102) adversarial; 0.2 * 2.5 + 0.5 is white."""
    clean = np.full((2, 8, 8, 1), 0.2, np.float32)
    adversarial = np.full((2, 8, 8, 1), 0.4, np.float32)
    adversarial[1] = 0.1  # 26 of 255; its difference 0.5 - 2.5 * 0.1 = 64
    labels = np.array([3, 4])
    path = tmp_path / 'examples.png'
    figures.examples(path, clean, adversarial, labels, labels, np.array([3, 9]))
    with Image.open(path) as image:
        assert (image.format, image.size) == ('PNG', (440, 600))
    found = {red for red, green, blue in levels(path, 5000) if red == green == blue}
    assert {51, 102} <= found
    assert any(abs(level - 25.5) <= 1 for level in found)
    assert any(abs(level - 63.75) <= 1 for level in found)


def test_examples_in_colour_keep_their_channels(tmp_path: Path) -> None:
    clean = np.zeros((1, 32, 32, 3), np.float32)
    clean[..., 0], clean[..., 2] = 0.8, 0.2
    adversarial = clean + np.array([0, 0.1, 0], np.float32)
    figures.examples(tmp_path / 'a.png', clean, adversarial, *[np.array([1])] * 3)
    assert {(204, 0, 51), (204, 25, 51)} <= levels(tmp_path / 'a.png', 5000)


def test_examples_name_label_and_prediction(tmp_path: Path, drawn: list[Figure]) -> None:
    images = np.zeros((12, 8, 8, 4), np.float32)  # four channels: shown as their mean
    labels = np.arange(12)
    path = tmp_path / 'a.png'
    figures.examples(path, images, images, labels, labels, labels[::-1])
    titles = [axes.get_title() for axes in drawn[0].axes]
    shown = figures.MAX_EXAMPLES
    assert titles[:shown] == [f'{i} → {i}' for i in range(shown)]
    assert titles[shown : 2 * shown] == [f'{i} → {11 - i}' for i in range(shown)]


@pytest.mark.parametrize('largest', [0.031, 8 / 255, 0.2, 0.5, 1.0, 1e-4])
def test_amplification_fills_the_grey_scale_and_never_leaves_it(largest: float) -> None:
    factor = figures._amplification(largest)
    assert 0.6 * 0.5 < factor * largest <= 0.5 * (1 + 1e-5)


def test_equal_data_give_equal_bytes_and_settings_stay(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    for name in ('a.png', 'b.png'):
        path = tmp_path / name
        figures.training_curves(path, TRAIN, VALIDATION, selected_epoch=1.0, split='test')
    for kind in ('png', 'pdf'):
        assert (tmp_path / f'a.{kind}').read_bytes() == (tmp_path / f'b.{kind}').read_bytes()
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_imported() -> None:
    code = 'import sys, war_jax.report.run_report; print("matplotlib.pyplot" in sys.modules)'
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == 'False'
