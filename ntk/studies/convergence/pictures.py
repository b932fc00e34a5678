"""The rows of a study of convergence by design, quantity and what it is drawn against; figures.

    samples(results, 'softplus', 'gap', radius=8.0)                # m -> seed -> value
    gaps_over_time(results, 'softplus', radius=8.0)                # steps -> seed -> gap
    for picture in draw(results, Path('runs/convergence/figures')): print(picture.file)

`gap` is min over the steps of L_A, minus the best robust loss of the linearised network in the
same ball (its certified lower bound). Training without projection is compared with the best in the
largest ball of the grid.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ntk.studies.convergence.settings import Cell, DesignName, Settings
from war_jax.lab import plots
from war_jax.lab.estimates import BySeed, Samples
from war_jax.lab.experiment import Results
from war_jax.lab.page import Picture
from war_jax.lab.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, STYLE, VERMILION
from war_jax.lab.quantities import NATS, NORM, RATIO, Quantity, band

Found = Results[Settings]
NAMES = {
    'softplus': 'two-layer softplus',
    'relu': 'two-layer ReLU',
    'deep': 'deep ReLU',
}
MEASURED = {
    listed.key: listed
    for listed in (
        Quantity('least', 'min L_A', NATS, False, 'least loss under the attack A so far'),
        Quantity('late_fall', 'Late fall', NATS, False, 'of min L_A in the last half of the steps'),
        Quantity('best', 'Best in the ball', NATS, False, 'of the linearised network'),
        Quantity('gap', 'Gap', NATS, False, 'least minus best'),
        Quantity('robust_loss', 'L_* at the end', NATS, False, 'loss under the strong attack'),
        Quantity('movement', '‖U‖', NORM, True, 'over all layers'),
        Quantity('row_movement', 'Row movement', NORM, True, 'largest ‖w_r − w_r(0)‖'),
        Quantity('linearisation_error', 'Linearisation error', RATIO, True,
                 '‖f − f_lin‖ / ‖f_lin‖ on adversarial points'),
    )
}  # fmt: skip
_WIDTH = 'width $m$ (units)'
_STYLES: list[dict[str, Any]] = [
    {'color': colour, 'marker': marker}
    for colour, marker in zip((INK, BLUE, GREEN, VERMILION, PURPLE, ORANGE), 'osD^vP', strict=True)
]


def titled(design: DesignName) -> str:
    return NAMES[design][0].upper() + NAMES[design][1:]


def ball(radius: float) -> str:
    return f'B({radius:g})' if radius else 'no projection'


def value(results: Found, cell: Cell, key: str) -> float | None:
    """Of a training that is there; key: one of MEASURED.

    None if what it is compared with is not there yet, NaN if the training diverged.
    """
    row = results.rows[cell]
    if key in ('best', 'gap'):
        best = results.rows.get(results.settings.optimum_of(cell))
        if best is None:
            return None
        least = row['least_attacked_loss'][-1]
        return best['lower'] if key == 'best' else _number(least) - best['lower']
    if key in ('least', 'late_fall'):
        before, least = map(_number, row['least_attacked_loss'][-2:])
        return least if key == 'least' else before - least
    if key in ('movement', 'row_movement'):
        layers = [_number(layer) for layer in row[key]]
        whole = math.hypot(*layers)
        return whole if key == 'movement' or math.isnan(whole) else max(layers)
    return _number(row[key])


def has_diverged(results: Found, cell: Cell) -> bool:
    found = [value(results, cell, key) for key in MEASURED]
    return any(number is not None and math.isnan(number) for number in found)


def _number(found: float | None) -> float:
    return math.nan if found is None else found


def samples(
    results: Found, design: DesignName, key: str, over: str = 'width', **where: Any
) -> Samples:
    """x -> seed -> value, in the order of x; what is neither x nor in `where` is the base's.

    Empty if a training diverged, as those that did not would speak for it.
    """
    base = results.settings.base
    fixed = {'radius': base.radius, 'epsilon': base.epsilon, 'attack': base.attack, **where}
    if over not in where:
        fixed.pop(over, None)
    found = results.samples(
        lambda cell: value(results, cell, key), over, Cell, design=design, **fixed
    )
    if any(math.isnan(number) for by_seed in found.values() for number in by_seed.values()):
        return {}
    return dict(sorted(found.items()))


def gaps_over_time(results: Found, design: DesignName, radius: float) -> Samples:
    """Steps -> seed -> gap by then, at the widest; as long as all gaps exceed the tolerance.

    The best loss itself is known within that tolerance only.
    """
    settings = results.settings
    at_end = samples(results, design, 'gap', width=settings.widths(design)[-1], radius=radius)
    found: dict[float, dict[int, float]] = {}
    for width, by_seed in at_end.items():
        for seed in by_seed:
            base = settings.base
            cell = Cell(design, int(width), radius, base.epsilon, base.attack, seed)
            best = results.rows[settings.optimum_of(cell)]['lower']
            row = results.rows[cell]
            for steps, loss in zip(row['steps'], row['least_attacked_loss'], strict=True):
                found.setdefault(steps, {})[seed] = loss - best
    tolerance = settings.strong.tolerance
    return {steps: gaps for steps, gaps in found.items() if min(gaps.values()) > tolerance}


def draw(results: Found, folder: Path) -> list[Picture]:
    """Writes what the rows allow, in the order of the report."""
    if not any(isinstance(cell, Cell) for cell in results.rows):
        return []
    pictures = []
    for file, title, caption, panels in (
        (
            'losses.png',
            'Robust loss reached and the best in the ball',
            'Points: min over the steps of L_A, mean over seeds and its 95 % interval; dashed: the '
            'best robust loss of the linearised network in the same ball (certified lower bound). '
            'Dotted: log 2, the loss at the start. B(R): projected into balls of radius R.',
            _losses,
        ),
        (
            'movement.png',
            'Movement and linearisation against width',
            'Above: ‖U‖, which B(R) bounds by R for each layer. Below: ‖f − f_lin‖ / ‖f_lin‖ on '
            'adversarial points at the end of training. Geometric means over seeds and their 95 % '
            'intervals.',
            _movements,
        ),
        (
            'sweeps.png',
            'Attacks, caps and time',
            'Left and middle: the base network under other attacks A and caps of other radii; L_* '
            'under the strong attack at the end. Right: excess of min L_A over the best in the '
            'ball, at the widest network of the base design.',
            _sweeps,
        ),
    ):
        with matplotlib.rc_context(STYLE):
            plots.save(panels(results), folder / file)
        pictures.append(Picture(file, title, caption))
    return pictures


def _losses(results: Found) -> Figure:
    designs = results.settings.grid.designs
    figure = Figure(figsize=(3.1 * len(designs), 3.6), layout='constrained')
    panels = figure.subplots(1, len(designs), squeeze=False, sharey=True)[0]
    for axes, design in zip(panels, designs, strict=True):
        for index, radius in enumerate(results.settings.grid.radii):
            _line(axes, samples(results, design, 'least', radius=radius), 'least', index)
            best = band(samples(results, design, 'best', radius=radius), MEASURED['best'])
            if radius and best is not None:
                axes.plot(best.x, best.mean, ls='--', lw=1.0, color=_STYLES[index % 6]['color'])
        axes.axhline(math.log(2.0), color=GREY, ls=':', lw=1.2)
        axes.set(title=titled(design), xlabel=_WIDTH, ylim=(0.0, None))
        plots.ticks(axes, results.settings.widths(design), base=2)
    figure.axes[0].set_ylabel(r'$\min\ L_A$ (nats)')
    best = plots.line_key('best in the ball', '--')
    _radius_legend(figure, results, [best, plots.line_key(r'start, $\log\,2$', ':')])
    return figure


def _movements(results: Found) -> Figure:
    designs = results.settings.grid.designs
    figure = Figure(figsize=(3.1 * len(designs), 5.6), layout='constrained')
    grid = figure.subplots(2, len(designs), squeeze=False)
    for column, design in enumerate(designs):
        for row, (key, title) in enumerate(
            (('movement', 'movement'), ('linearisation_error', 'linearisation'))
        ):
            axes = grid[row][column]
            for index, radius in enumerate(results.settings.grid.radii):
                _line(axes, samples(results, design, key, radius=radius), key, index)
            plots.log_axis(axes)
            plots.ticks(axes, results.settings.widths(design), base=2)
            axes.set_title(f'{titled(design)}: {title}', fontsize=8.5)
        grid[1][column].set_xlabel(_WIDTH)
    grid[0][0].set_ylabel(r'$\|U\|_F$ (units of the weights)')
    grid[1][0].set_ylabel(r'$\|f - f_{\mathrm{lin}}\|\ /\ \|f_{\mathrm{lin}}\|$ (ratio)')
    _radius_legend(figure, results)
    return figure


def _sweeps(results: Found) -> Figure:
    base, grid = results.settings.base, results.settings.grid
    figure = Figure(figsize=(9.3, 3.8), layout='constrained')
    attacks, caps, time = figure.subplots(1, 3)
    keys = {
        'least': r'$\min\ L_A$', 'robust_loss': r'$L_*$ at the end', 'best': 'best in the ball'
    }  # fmt: skip
    for index, (key, name) in enumerate(keys.items()):
        by_attack: dict[float, BySeed] = {}
        for place, attack in enumerate(grid.attacks):
            found = samples(results, base.design, key, 'attack', width=base.width, attack=attack)
            for by_seed in found.values():
                by_attack[place] = by_seed
        _line(attacks, by_attack, key, index, name)
        by_cap = samples(results, base.design, key, 'epsilon', width=base.width)
        _line(caps, by_cap, key, index, name)
    attacks.set_xticks(range(len(grid.attacks)), list(grid.attacks), fontsize=8)
    attacks.set(title='Attack $A$', xlabel='attack in training', ylabel='logistic loss (nats)')
    caps.set(title='Radius of the cap', xlabel=f'{plots.EPSILON} (inputs of length 1)')
    caps.set_ylabel('logistic loss (nats)')
    for index, radius in enumerate(grid.radii):
        gaps = gaps_over_time(results, base.design, radius)
        drawn = band(gaps, MEASURED['gap']._replace(by_factors=True))  # they shrink by factors
        if drawn is not None:
            plots.area(time, drawn, {**_STYLES[index % 6], 'label': ball(radius)})
    time.set_xscale('log', base=2)
    plots.log_axis(time)
    time.set(title='Excess over the best', xlabel='steps', ylabel=r'$\min\ L_A$ − best (nats)')
    for axes in (attacks, caps, time):
        if axes.lines:
            axes.legend(
                loc='upper center', bbox_to_anchor=(0.5, -0.2), fontsize=7.5, ncols=2
            )
    figure.legend(handles=[plots.area_key()], loc='outside lower center', labelcolor=INK)
    return figure


def _line(axes: Axes, found: Samples, key: str, index: int, name: str | None = None) -> None:
    """Means over seeds and their 95 % intervals."""
    drawn = band(found, MEASURED[key])
    if drawn is not None:
        plots.area(axes, drawn, {**_STYLES[index % 6], 'label': name})


def _radius_legend(figure: Figure, results: Found, more: Sequence[Line2D] = ()) -> None:
    handles: list[Any] = [
        Line2D([], [], label=ball(radius), **_STYLES[index % 6])
        for index, radius in enumerate(results.settings.grid.radii)
    ]
    handles += [*more, plots.area_key()]
    columns = len(handles) if len(handles) < 6 else 4
    figure.legend(handles=handles, loc='outside lower center', ncols=columns, labelcolor=INK)
