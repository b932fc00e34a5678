"""The rows of a study of width by quantity, phase and parametrization; and its figures.

    samples(results, 'gradient_rms_test', 'initialisation', 'ntk')     # m -> seed -> value
    for picture in draw(results, Path('runs/ntk-width/figures')): print(picture.file)

Panels share one logarithmic axis of the width m; each parametrization has its colour and marker.
Lines go through geometric means over seeds, bars are 95 % intervals for them (Student's t of the
logarithms; of rates, the plain mean's).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ntk.studies.width.settings import INITIALISATION, Cell, Limit, PhaseName, Settings
from war_jax.lab import plots
from war_jax.lab.estimates import Samples
from war_jax.lab.experiment import Results, Row
from war_jax.lab.page import Picture
from war_jax.lab.plots import BLUE, GREEN, INK, PURPLE, STYLE, VERMILION
from war_jax.lab.quantities import RATES, Quantity, band, quantity

Found = Results[Settings]
Panel = tuple[str, str]  # quantity, phase
NAMES = {
    'standard': 'standard',
    'ntk': 'NTK',
    'sqrt_m': '√m, W_L ~ N(0, 1/m)',
    'sqrt_m_unit': '√m, W_L ~ N(0, 1)',
    'mup': 'µP',
}
_LOOKS: dict[str, dict[str, Any]] = {
    'standard': {'color': INK, 'marker': 'o', 'label': 'standard'},
    'ntk': {'color': BLUE, 'marker': 's', 'label': 'NTK'},
    'sqrt_m': {
        'color': GREEN, 'marker': '^', 'label': r'$\sqrt{m}$, $W_L \sim \mathcal{N}(0, 1/m)$',
    },
    'sqrt_m_unit': {
        'color': VERMILION, 'marker': 'D', 'label': r'$\sqrt{m}$, $W_L \sim \mathcal{N}(0, 1)$',
    },
    'mup': {'color': PURPLE, 'marker': 'v', 'label': r'$\mu$P'},
}  # fmt: skip
# What stands at the y axis, before the unit.
_LABELS = {
    'local_lipschitz_test': 'local Lipschitzness',
    'lipschitz_by_margin_test': 'local Lipschitzness ÷ margin',
    'local_lipschitz_kl_gradient_train': 'KL gradient, training',
    'local_lipschitz_kl_gradient_test': 'KL gradient, test',
    'natural_risk_train': 'cross-entropy, training',
    'perturbation_stability_test': 'stability, test',
    'natural_accuracy_test': 'natural accuracy, test',
    'robust_accuracy_test': 'robust accuracy, test',
    'gradient_rms_test': r'$\|\nabla_x f_c\|_2$, root mean square',
    'kernel_error': r'$\|\Theta_m - \Theta_\infty\|_F\,/\,\|\Theta_\infty\|_F$',
    'kernel_drift': r'$\|\Theta_t - \Theta_0\|_F\,/\,\|\Theta_0\|_F$',
    'spectral_product': r'$\prod_l\,\|W_l\|_2$',
    'linearisation_error': r'$\|f - f_{\mathrm{lin}}\|\,/\,\|f - f_0\|$',
}
# What the rows call otherwise than war_jax.lab.quantities.
_SYNONYMS = {'gradient_rms': 'output_gradient', 'movement': 'weight_movement'}
_ALL = get_args(PhaseName)
_BARS = (
    'Lines: {} over seeds; bars: their 95 % intervals (Student’s t), paler and broader where '
    'others are drawn over them.'
)


def quantity_of(key: str) -> Quantity:
    """Of a column of the rows. Raises KeyError for one that is not measured."""
    base, separator, side = key.rpartition('_')
    if base in _SYNONYMS:
        return quantity(f'{_SYNONYMS[base]}{separator}{side}')
    return quantity(_SYNONYMS.get(key, key))


def networks(results: Found, name: str | None = None, width: float | None = None) -> Iterator[Row]:
    """The rows of all networks, or of those of a parametrization, or of a width."""
    for cell, found in results.rows.items():
        if isinstance(cell, Cell) and name in (None, cell.parametrization):
            if width in (None, cell.width):
                # Out of rows.csv, a single row is no list.
                yield from found if isinstance(found, list) else [found]


def samples(results: Found, key: str, phase: str, name: str) -> Samples:
    """m -> seed -> value, in the order of m; of networks that diverged there is none."""
    found: dict[float, dict[int, float]] = {}
    for row in networks(results, name):
        if row['phase'] == phase and row.get(key) is not None:
            found.setdefault(row['features'], {})[row['seed']] = row[key]
    return dict(sorted(found.items()))


def infinite_width(results: Found, name: str, width: float, phase: str) -> float | None:
    """RMS gradient on test images; None where no closed form is known."""
    key = {INITIALISATION: 'initial', 'natural_lazy': 'trained'}.get(phase)
    return results.rows.get(Limit(name, width), {}).get(key)  # pyright: ignore[reportArgumentType]


def describe(phase: str) -> str:
    """'trades_lazy-lam3' -> 'lazy TRADES, λ = 3'."""
    name, _, lam = phase.partition('-lam')
    text = {
        INITIALISATION: 'start',
        'natural': 'natural',
        'natural_lazy': 'lazy, squared loss',
        'trades': 'TRADES',
        'trades_lazy': 'lazy TRADES',
        'trades_timed': 'equal-time TRADES',
        'trades_matched': 'equal-risk TRADES',
    }[name]
    return f'{text}, λ = {lam}' if lam else text


def draw(results: Found, folder: Path) -> list[Picture]:
    """Writes what the rows allow, in the order of the report."""
    if not any(networks(results)):
        return []
    start = INITIALISATION
    labels = {name: [p.label for p in results.settings.phases if p.name == name] for name in _ALL}
    plain = [*labels['natural'], *labels['trades']]
    compared = [*labels['trades'], *labels['trades_timed'], *labels['trades_matched']]
    trades = (
        'Test images, after TRADES: after as many steps at one learning rate, at equal kernel '
        'time, and at equal risk on the training images.'
    )
    listed = (
        (
            'lipschitz.png', 'Local Lipschitzness against width',
            f'{trades} Mean of the largest ‖f(x) − f(x′)‖₁ / ‖x − x′‖ met in the ball.',
            [_panels('local_lipschitz_test', compared)],
        ),
        (
            'lipschitz_margin.png', 'Local Lipschitzness beside the margin, against width',
            f'{trades} The mean of local Lipschitzness divided by the mean margin, which a factor '
            'on the outputs does not change.',
            [_panels('lipschitz_by_margin_test', compared)],
        ),
        (
            'fit.png',
            'How well networks of different widths fit, and how stable they are',
            'Above: cross-entropy of the training images. Below: share of the test images whose '
            'class the adversary, which climbs KL, did not change.',
            [
                _panels('natural_risk_train', compared),
                _panels('perturbation_stability_test', compared),
            ],
        ),
        (
            'start.png',
            'Input gradients and local Lipschitzness at the start and after natural training',
            'Test images. Above: RMS over images and outputs of ‖∇ₓf_c‖₂; dashed: infinite width, '
            'where it is known in closed form. Below: local Lipschitzness.',
            [
                _panels(key, [start, *labels['natural'], *labels['natural_lazy']])
                for key in ('gradient_rms_test', 'local_lipschitz_test')
            ],
        ),
        (
            'train_test.png',
            'Local Lipschitzness on training and on test images',
            'Mean over images of the largest ‖∇KL‖₁ met in the ball, after training.',
            [_panels(f'local_lipschitz_kl_gradient_{side}', plain) for side in ('train', 'test')],
        ),
        (
            'kernels.png',
            'How far kernels are from that of infinite width, and from their start',
            'Relative Frobenius distance of the NTK to that of infinite width at the start, and to '
            'its own start after training.',
            [_panels('kernel_error', [start]) + _panels('kernel_drift', plain)],
        ),
        (
            'linearisation.png',
            'Spectral norms, and how far networks are from their linearisation',
            'Product of the layers’ spectral norms at the start; relative error of the '
            'linearisation after training.',
            [_panels('spectral_product', [start]) + _panels('linearisation_error', plain)],
        ),
        (
            'accuracies.png',
            'Accuracy against width',
            'Test images; the adversary climbs KL.',
            [_panels(f'{rate}_test', plain) for rate in RATES[:2]],
        ),
    )  # fmt: skip
    pictures = []
    for file, title, caption, rows in listed:
        if rows[0]:
            _draw_grid(results, folder / file, rows)
            mean = 'means' if quantity_of(rows[0][0][0]).is_rate else 'geometric means'
            pictures.append(Picture(file, title, f'{caption} {_BARS.format(mean)}'))
    return pictures


def _panels(key: str, phases: Sequence[str]) -> list[Panel]:
    return [(key, phase) for phase in phases]


def _draw_grid(results: Found, path: Path, rows: Sequence[Sequence[Panel]]) -> None:
    """A panel per entry; neighbours of one quantity share its axis."""
    columns = max(map(len, rows))
    has_limit = False
    with matplotlib.rc_context(STYLE):
        size = (max(6.0, 3.1 * columns), 1.1 + 2.5 * len(rows))
        figure = Figure(figsize=size, layout='constrained')
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for line, row in zip(grid, rows, strict=True):
            first: dict[str, Axes] = {}
            for axes, (key, phase) in zip(line, row, strict=False):
                if key in first:
                    axes.sharey(first[key])
                has_limit |= _draw_panel(axes, results, key, phase)
                first.setdefault(key, axes).set_ylabel(f'{_LABELS[key]}\n({quantity_of(key).unit})')
            for axes, (key, _) in zip(line, row, strict=False):
                _scale(axes, quantity_of(key))
            for axes in line[len(row) :]:
                axes.set_visible(False)
            for axes in line[: len(row)] if row is rows[-1] else []:
                axes.set_xlabel('width $m$ (units)')
        names = results.settings.grid.parametrizations
        handles = [Line2D([], [], **_LOOKS[name]) for name in names]
        if has_limit:
            handles.append(plots.line_key('infinite width', '--'))
        handles.append(plots.bar_key())
        per_row = min(len(handles), max(2, int(size[0] / 2.2)))
        figure.legend(handles=handles, loc='outside lower center', ncols=per_row, labelcolor=INK)
        plots.save(figure, path)


def _draw_panel(axes: Axes, results: Found, key: str, phase: str) -> bool:
    """Returns whether the line of infinite width is in it."""
    of, has_limit = quantity_of(key), False
    widths: set[float] = set()
    names = results.settings.grid.parametrizations
    for number, name in enumerate(names):
        drawn = band(samples(results, key, phase, name), of)
        if drawn is None:
            continue
        widths |= set(drawn.x)
        plots.bars(axes, drawn, _LOOKS[name], len(names) - 1 - number)
        if key == 'gradient_rms_test':
            width = {row['features']: row['width'] for row in networks(results, name)}
            limits = {m: infinite_width(results, name, width[m], phase) for m in sorted(width)}
            line = {m: value for m, value in limits.items() if value is not None}
            if line:
                has_limit = True
                colour = _LOOKS[name]['color']
                axes.plot(list(line), list(line.values()), color=colour, ls='--', lw=1.0)
    title = describe(phase).replace('λ', plots.LAMBDA)
    axes.set_title(title[0].upper() + title[1:], fontsize=9)
    plots.ticks(axes, sorted(widths), base=2)
    return has_limit


def _scale(axes: Axes, of: Quantity) -> None:
    """Once all panels that share the axis are drawn."""
    if of.is_rate:
        plots.rate_axis(axes)
    elif axes.lines:
        plots.log_axis(axes)
