"""What a study of Adv-NTK finds: its claims, its table, its figure and its page.

    report = run(EXPERIMENT, settings, Path('runs/adv-ntk'), command)    # war_jax.lab.experiment
    accuracy(results, INFINITE, 'adversarial', 'robust_accuracy')        # seed -> points
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ntk.studies.adversarial.bench import Bench
from ntk.studies.adversarial.settings import (
    INFINITE,
    METHODS,
    OF_NETWORKS,
    PLAIN,
    Method,
    Settings,
)
from war_jax.lab import page, plots
from war_jax.lab.estimates import BySeed, change, paired
from war_jax.lab.experiment import Experiment, Results
from war_jax.lab.page import Picture, Section
from war_jax.lab.plots import BLUE, GREEN, GREY, STYLE, VERMILION
from war_jax.lab.quantities import RATE, RATES, Interval, centre, quantity
from war_jax.lab.tables import Column, rate_mean, write_table
from war_jax.lab.verdicts import (
    ABOVE,
    BELOW,
    MARGIN,
    WHY_MARGIN,
    Claim,
    Range,
    claim,
    no_worse,
)
from war_jax.report import conditions

Found = Results[Settings]
ACCURACIES = RATES[:2]  # natural, robust
NAMES: dict[Method, str] = {
    'natural': 'natural',
    'natural_stopped': 'natural, stopped on validation images',
    'attacked_stopped': 'natural, stopped on attacked validation images',
    'adversarial': 'adversarial',
}
_LOOKS = {
    'natural': (BLUE, 'o'), 'natural_stopped': (GREY, '^'), 'attacked_stopped': (GREEN, 'D'),
    'adversarial': (VERMILION, 's'),
}  # fmt: skip


def accuracy(results: Found, width: int, method: Method, key: str) -> BySeed:
    """seed -> accuracy in points."""
    found = results.samples(
        lambda cell: 100.0 * results.rows[cell][key], over='width', width=width, method=method
    )
    return found.get(width, {})


def claims(results: Found) -> Iterator[Claim]:
    """What the adversary changes at infinite width, beside networks, and what their width does."""
    widths = results.settings.grid.widths

    def infinite(method: Method, key: str) -> BySeed:
        return accuracy(results, INFINITE, method, key)

    how = 'Accuracies on test images, paired by seed.'
    best = best_plain(results)
    against = (
        'Of the kernel without an adversary fully learned, stopped at one common time on '
        'validation images and so stopped on attacked ones, the one that is the most robust in '
        f'the mean: {NAMES[best]}. {how}'
    )
    comparisons: tuple[tuple[str, str, Method, Method, str, Range, str], ...] = (
        ('adv_ntk_is_more_robust',
         'Adv-NTK is more robust than the best of the same kernel without an adversary',
         'adversarial', best, 'robust_accuracy', ABOVE, against),
        ('adv_ntk_costs_accuracy', 'It costs natural accuracy against the same',
         'adversarial', best, 'natural_accuracy', BELOW, against),
        ('adv_ntk_is_more_robust_than_fully_learned',
         'Adv-NTK is more robust than the kernel without an adversary, fully learned',
         'adversarial', 'natural', 'robust_accuracy', ABOVE, how),
        ('stopping_is_more_robust',
         'Without an adversary, the kernel stopped at one common time on attacked validation '
         'images is more robust than fully learned',
         'attacked_stopped', 'natural', 'robust_accuracy', ABOVE, how),
    )  # fmt: skip
    for name, text, ours, theirs, key, wanted, source in comparisons:
        effect = paired(infinite(ours, key), infinite(theirs, key))
        yield claim(name, text, effect, wanted, 'points', source)
    networks = accuracy(results, widths[-1], 'adversarial', 'robust_accuracy')
    yield claim(
        'adv_ntk_reaches_finite_width',
        f'Adv-NTK is as robust as the adversarially trained network of width {widths[-1]}, within '
        f'{MARGIN:g} points',
        paired(infinite('adversarial', 'robust_accuracy'), networks),
        no_worse(MARGIN),
        'points',
        f'{how} {WHY_MARGIN}',
    )
    for key in reversed(ACCURACIES) if len(widths) > 1 else ():
        samples = {float(m): accuracy(results, m, 'adversarial', key) for m in widths}
        yield claim(
            f'{key}_grows_with_width_lazy',
            f'In the NTK parametrization, {quantity(key).title.lower()} of adversarially trained '
            'networks grows with width',
            change(samples),
            ABOVE,
            'points per doubling of the width',
            f'Slope against log2 of the width, m = {", ".join(map(str, widths))}.',
        )


def best_plain(results: Found) -> Method:
    """The kernel without an adversary that is the most robust on test images, mean over seeds.

    Chosen on what it is measured on, in favour of what Adv-NTK is held against.
    """

    def mean(method: Method) -> float:
        values = accuracy(results, INFINITE, method, 'robust_accuracy').values()
        return float(np.mean(list(values))) if values else -1.0

    return max(PLAIN, key=mean)


def sections(results: Found, found: Sequence[Claim], workdir: Path) -> Iterator[Section]:
    yield page.opening(_ASKED, answer(results), found)
    yield page.claims_section(found, workdir / 'tables')
    draw(results, workdir / 'figures' / 'accuracy.png')
    yield from page.picture_sections([
        Picture(
            'accuracy.png', 'Accuracy against width',
            'Test images. Lines: means over seeds; bars: their 95 % intervals (Student’s t). On '
            'the right, infinite width: the NTK without an adversary, fully learned and stopped '
            'early, and Adv-NTK.',
        )
    ])  # fmt: skip
    yield Section('Accuracies', [
        write_table(workdir / 'tables', 'accuracy', *accuracies_table(results)),
        'In percent, with the 95 % interval over seeds. Times: how long the kernel learns its '
        'training examples, median over examples and seeds, in units of 1 / (mean diagonal of the '
        'NTK).',
    ])  # fmt: skip
    yield page.how_section(how(results))


_ASKED = (
    'Is the infinitely wide network, trained adversarially, more robust than the same kernel '
    'without an adversary, stopped as well as can be? (Fu and Wang 2024)'
)


def answer(results: Found) -> str:
    """What came out."""
    robust = {method: interval(results, INFINITE, method, 'robust_accuracy') for method in METHODS}
    if any(value is None for value in robust.values()):
        return 'The predictors of infinite width are not finished.'
    percent = {method: f'{100.0 * value[0]:.1f} %' for method, value in robust.items() if value}
    return (
        'Robust accuracy at infinite width: the kernel without an adversary, fully learned, '
        f'{percent["natural"]}; stopped at one common time on validation images '
        f'{percent["natural_stopped"]}, on attacked ones {percent["attacked_stopped"]}; trained '
        f'adversarially (Adv-NTK) {percent["adversarial"]}.'
    )


def interval(results: Found, width: int, method: Method, key: str) -> Interval | None:
    """Mean over seeds and its interval, in [0, 1]."""
    values = [value / 100.0 for value in accuracy(results, width, method, key).values()]
    return centre(values, quantity(key))


def draw(results: Found, path: Path) -> None:
    widths = list(results.settings.grid.widths)
    beyond = widths[-1] * 4.0  # where infinite width is drawn
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 4.0), layout='constrained')
        for axes, key in zip(figure.subplots(1, 2, sharey=True), ACCURACIES, strict=True):
            for number, method in enumerate(METHODS):
                colour, marker = _LOOKS[method]
                # Side by side at infinite width, where there are four of them.
                aside = beyond * 2.0 ** (0.3 * (number - 1.5))
                for group in (widths, [INFINITE]):
                    shown = {
                        width or aside: value
                        for width in group
                        if (value := interval(results, width, method, key))
                    }
                    if not shown:
                        continue
                    mean, lower, upper = map(np.array, zip(*shown.values(), strict=True))
                    reach = np.where(np.isfinite([mean - lower, upper - mean]),
                                     [mean - lower, upper - mean], 0)  # fmt: skip
                    axes.errorbar(
                        list(shown), mean, reach, color=colour, marker=marker, capsize=2,
                        label=NAMES[method] if group is not widths else None,
                    )  # fmt: skip
            axes.set_title(quantity(key).title)
            axes.set_xscale('log', base=2)
            axes.set_xticks([*widths, beyond], [*map(str, widths), '∞'])
            axes.minorticks_off()
            axes.set(xlabel='width (units)', ylim=(-0.02, 1.02))
            plots.percent_axis(axes)
        figure.axes[0].set_ylabel(RATE)
        handles, names = figure.axes[0].get_legend_handles_labels()
        handles, names = [*handles, plots.bar_key()], [*names, plots.INTERVAL]
        figure.legend(handles, names, loc='outside lower center', ncols=2)
        plots.save(figure, path)


def accuracies_table(results: Found) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('width', 'Width', align='l'),
        Column('method', 'Training', align='l'),
        Column('natural_accuracy', 'Natural', rate_mean),
        Column('robust_accuracy', 'Robust', rate_mean),
        Column('times', 'Times', '{:.3g}'.format),
    ]
    lines = []
    for width in (*results.settings.grid.widths, INFINITE):
        for method in OF_NETWORKS if width else METHODS:
            rows = [
                row for cell, row in results.rows.items()
                if (cell.width, cell.method) == (width, method)
            ]  # fmt: skip
            if not rows:
                continue
            times = [row['times'][1] for row in rows if row['times']]
            lines.append({
                'width': width or '∞', 'method': NAMES[method],
                **{key: interval(results, width, method, key) for key in ACCURACIES},
                'times': float(np.median(times)) if times else None,
            })  # fmt: skip
    return columns, lines


def how(results: Found) -> list[tuple[str, object]]:
    """What the numbers depend on."""
    settings, about = results.settings, results.provenance
    data, network, training = settings.data, settings.network, settings.training
    budget = settings.budget(settings.attack.num_steps)
    return [
        ('Data', about['data']),
        ('Images', f'{data.num_train} to train on and {data.num_validation} to validate on, which '
                   f'is which by seed; {data.num_test} test images'),
        ('Networks', f'fully connected, {network.num_layers} layers, {network.activation}, NTK '
                     'parametrization, f − f₀; squared loss, centred one-hot targets'),
        ('Finite width', f'{training.num_steps} steps of gradient descent, learning rate '
                         f'{training.speed:g} × n / (largest eigenvalue of the NTK), momentum '
                         f'{training.momentum:g}; the best of every {training.every} steps on '
                         'validation images'),
        ('Infinite width', 'natural: fully learned, or stopped at the best of '
                           f'{len(settings.kernel.common_times)} common times from '
                           f'{settings.kernel.common_times[0]:.3g} to '
                           f'{settings.kernel.common_times[-1]:.3g}; adversarial: Adv-NTK '
                           f'(Fu & Wang 2024), {settings.kernel.num_steps} steps of Adam '
                           f'({settings.kernel.learning_rate:g}) on log rates, from '
                           f'{settings.kernel.initial_time:g}, on attacked validation images'),
        ('Attack', f'{conditions.ball(vars(settings.threat))}, PGD-{settings.attack.num_steps} on '
                   f'the margin in training, step {budget.step_size:.3g}; PGD-'
                   f'{settings.attack.measure_steps} for the numbers here: upper bounds'),
        ('Seeds', ', '.join(map(str, settings.grid.seeds))),
        ('Precision', 'float32; the kernel on training images in float64'),
        *page.provenance_cells(about),
    ]  # fmt: skip


def title(results: Found) -> str:
    return f'Adv-NTK: adversarial training at infinite width, on {results.settings.data.name}'


EXPERIMENT = Experiment(
    name=__name__,
    settings=Settings,
    cells=lambda settings: settings.cells,
    bench=Bench,
    claims=claims,
    title=title,
    sections=sections,
    folders={'cells': 'predictors'},
)
