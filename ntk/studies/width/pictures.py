"""The figures of a study of width.

    for picture in draw(study, Path('runs/ntk-width/figures')):
        print(picture.file, picture.caption)

Panels share one logarithmic axis of the width m; each parametrization has its colour and marker.
Lines go through geometric means over seeds, bands are 95 % intervals for them (Student's t of the
logarithms; of rates, the plain mean's).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ntk.studies.width.claims import RATES, Study
from ntk.studies.width.theory import INITIALISATION
from war_jax.lab import plots
from war_jax.lab.plots import BLUE, GREEN, INK, PURPLE, STYLE, VERMILION
from war_jax.measures.statistics import geometric_interval, mean_interval
from war_jax.studies.width.pictures import Picture

NAMES = {
    'standard': 'standard',
    'ntk': 'NTK',
    'sqrt_m': '√m, W_L ~ N(0, 1/m)',
    'sqrt_m_unit': '√m, W_L ~ N(0, 1)',
    'mup': 'µP',
}
_LOOKS = {
    'standard': (INK, 'o'),
    'ntk': (BLUE, 's'),
    'sqrt_m': (GREEN, '^'),
    'sqrt_m_unit': (VERMILION, 'D'),
    'mup': (PURPLE, 'v'),
}
_LIMIT = 'infinite width'
_BAND = 'Lines: {} over seeds; bands: their 95 % intervals (Student’s t).'
Panel = tuple[str, str, str]  # title, quantity, phase


def draw(study: Study, folder: Path) -> list[Picture]:
    """Writes what the rows allow, in the order of the report."""
    phases = {phase: describe(phase) for phase in study.phases}
    gradients = [(f'Gradient, {text}', 'gradient_rms_test', p) for p, text in phases.items()]
    ratios = [(f'Lipschitz, {text}', 'local_lipschitz_test', p) for p, text in phases.items()]
    trained = [phase for phase in study.phases if phase != INITIALISATION]
    lazy = [phase for phase in trained if phase.startswith(('natural_lazy', 'trades_lazy'))]
    rich = [phase for phase in trained if phase not in lazy]
    kernels: list[list[Panel]] = [
        [('Θ against Θ_∞, start', 'kernel_error', INITIALISATION)]
        + [(f'Drift of Θ, {describe(p)}', 'kernel_drift', p) for p in rich],
        [('Spectral product, start', 'spectral_product', INITIALISATION)]
        + [(f'Linearisation, {describe(p)}', 'linearisation_error', p) for p in rich],
    ]
    if rich:
        kernels.append(
            [('Spectral product, ' + describe(rich[-1]), 'spectral_product', rich[-1])]
            + [(f'Movement, {describe(p)}', 'movement', p) for p in rich]
        )
    pictures = []

    def add(file: str, title: str, caption: str, rows: Sequence[Sequence[Panel]]) -> None:
        if rows and rows[0]:
            grid(study, folder / file, rows)
            mean = 'means' if file == 'accuracies.png' else 'geometric means'
            pictures.append(Picture(file, title, f'{caption} {_BAND.format(mean)}'))

    add(
        'lipschitz.png',
        'Input gradients and local Lipschitzness against width',
        'Test images. Above: RMS over images and outputs of ‖∇ₓf_c‖₂; dashed: infinite width, '
        'where it is known in closed form. Below: mean of the largest ‖f(x) − f(x′)‖₁ / ‖x − x′‖ '
        'met in the ball.',
        [gradients, ratios],
    )
    add(
        'train_test.png',
        'Local Lipschitzness on training and on test images',
        'Mean over images of the largest ‖∇KL‖₁ met in the ball, after training.',
        [
            [(f'{side.capitalize()}, {describe(p)}', f'local_lipschitz_kl_gradient_{side}', p)
             for p in trained]
            for side in ('train', 'test')
        ],
    )  # fmt: skip
    add(
        'kernels.png',
        'How far networks are from their kernels',
        'Relative Frobenius distance of the NTK to that of infinite width at the start, and to its '
        'own start after training; product of the layers’ spectral norms; relative error of the '
        'linearisation; relative movement of the weights.',
        kernels,
    )
    add(
        'accuracies.png',
        'Accuracy and stability against width',
        'Test images; the adversary climbs KL.',
        [
            [(f'{rate.replace("_", " ").capitalize()}, {describe(p)}', f'{rate}_test', p)
             for p in trained]
            for rate in RATES
        ],
    )  # fmt: skip
    return pictures


def describe(phase: str) -> str:
    """'trades_lazy-lam3' -> 'lazy TRADES, λ = 3'."""
    name, _, lam = phase.partition('-lam')
    text = {
        INITIALISATION: 'start',
        'natural': 'natural',
        'natural_lazy': 'lazy, squared loss',
        'trades': 'TRADES',
        'trades_lazy': 'lazy TRADES',
    }[name]
    return f'{text}, λ = {lam}' if lam else text


def grid(study: Study, path: Path, rows: Sequence[Sequence[Panel]]) -> None:
    """A panel per entry; the columns of a row share nothing but the width."""
    names = study.settings.grid.parametrizations
    columns = max(map(len, rows))
    limits = False
    with matplotlib.rc_context(STYLE):
        size = (max(5.0, 2.75 * columns), 0.7 + 2.45 * len(rows))
        figure = Figure(figsize=size, layout='constrained')
        for line, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
            for axes, panel in zip(line, row, strict=False):
                limits |= _panel(axes, study, *panel)
            for axes in line[len(row) :]:
                axes.set_visible(False)
            for axes in line[: len(row)] if row is rows[-1] else []:
                axes.set_xlabel('width m')
        handles = [
            Line2D([], [], color=_LOOKS[n][0], marker=_LOOKS[n][1], label=NAMES[n]) for n in names
        ]
        if limits:
            handles.append(Line2D([], [], color=plots.GREY, ls='--', label=_LIMIT))
        per_row = min(len(handles), max(2, int(size[0] / 1.9)))
        figure.legend(handles=handles, loc='outside lower center', ncols=per_row, labelcolor=INK)
        plots.save(figure, path)


def _panel(axes: Axes, study: Study, title: str, key: str, phase: str) -> bool:
    """Returns whether the line of infinite width is in it."""
    rate = key.rpartition('_')[0] in RATES
    interval: Callable[..., Any] = mean_interval if rate else geometric_interval
    widths: set[int] = set()
    limits = False
    for name in study.settings.grid.parametrizations:
        samples = study.samples(key, phase, name)
        if not rate:
            samples = {m: [v for v in values if v > 0] for m, values in samples.items()}
        bands = {m: interval(values) for m, values in samples.items() if values}
        if not bands:
            continue
        colour, marker = _LOOKS[name]
        mean, lower, upper = (np.array(column) for column in zip(*bands.values(), strict=True))
        x = np.array(list(bands))
        widths |= set(bands)
        if np.isfinite(upper).all():
            axes.fill_between(x, lower, upper, color=colour, alpha=0.15, lw=0)
        axes.plot(x, mean, color=colour, marker=marker)
        line = _limit_line(study, key, phase, name)
        if line:
            limits = True
            axes.plot(*zip(*line.items(), strict=True), color=colour, ls='--', lw=1.0)
    axes.set_title(title, fontsize=8.5)
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(widths)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    if rate:
        plots.percent_axis(axes)
    elif widths:
        plots.log_axis(axes)
    return limits


def _limit_line(study: Study, key: str, phase: str, name: str) -> Mapping[int, float]:
    """m -> RMS gradient at infinite width."""
    which = {INITIALISATION: 'initial', 'natural_lazy': 'trained'}.get(phase)
    if key != 'gradient_rms_test' or which is None:
        return {}
    features = {
        row['width']: row['features'] for row in study.rows if row['parametrization'] == name
    }
    line = {
        m: study.limits.get((name, width), {}).get(which) for width, m in sorted(features.items())
    }
    return {m: value for m, value in line.items() if value is not None}


