"""The three figures of a run, from plain rows and arrays to one PNG each.

    training_curves(Path('curves.png'), train_rows, validation_rows, selected_epoch=24)
    examples(Path('examples.png'), clean, adversarial, labels, clean_predictions, adv_predictions)
    stability_curve(Path('stability.png'), epsilons, rates, bands, epsilon=0.031, norm='linf')

Line style and marker differ like the colours do, for print in grey.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from war_jax.lab import plots
from war_jax.lab.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, STYLE, VERMILION
from war_jax.lab.quantities import RATE

NORMS = {'linf': 'L∞', 'l2': 'L2'}
_SYMBOLS = {'linf': r'$L_\infty$', 'l2': '$L_2$'}
MAX_EXAMPLES = 10

# key in the rows -> (name, colour, line style, marker)
_RATES = {
    'natural_accuracy': ('natural', BLUE, '-', 'o'),
    'perturbation_stability': ('stability', GREEN, '--', '^'),
    'robust_accuracy': ('robust', VERMILION, '-', 's'),
}
_RISKS = {
    'natural_risk': ('natural risk', BLUE, '-'),
    'robust_regularization': ('robust regularization', VERMILION, '-'),
    'lambda': (plots.LAMBDA, INK, '--'),
}
_LIPSCHITZ = {
    'local_lipschitz': ('output ratio', PURPLE, '-', 'o'),
    'local_lipschitz_kl_gradient': ('KL gradient', ORANGE, '--', '^'),
}

_MARK = {'color': GREY, 'linestyle': ':', 'linewidth': 1.4, 'zorder': 0.5}


def training_curves(
    path: Path,
    train: Sequence[Mapping[str, Any]],
    validation: Sequence[Mapping[str, Any]],
    *,
    selected_epoch: float,
    split: str,
) -> None:
    """Accuracies, risks and local Lipschitzness against the epoch, side by side.

    `train` and `validation` are the rows of those kinds in metrics.jsonl, where a null is a gap;
    `split` names the images of the validation rows, `selected_epoch` is marked in every panel.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 3.4), layout='constrained')
        accuracies, risks, lipschitz = figure.subplots(1, 3)
        last = max((float(row['epoch']) for row in (*train, *validation)), default=1.0)

        for key, (name, colour, style, marker) in _RATES.items():
            x, y = _series(validation, key)
            options = {'color': colour, 'marker': marker, 'label': name}
            accuracies.plot(x, y, style, markevery=plots.every(x), **options)
        title = f'{split.capitalize()} accuracy'
        accuracies.set(title=title, ylabel=RATE, ylim=(-0.02, 1.02))
        plots.percent_axis(accuracies)

        regularized = any(row.get('robust_regularization') for row in train)
        for key, (name, colour, style) in _RISKS.items():
            if key == 'lambda' and not regularized:
                continue  # natural training: the weight of nothing
            x, y = _series(train, key)
            plots.plot_positive(risks, x, y, style, color=colour, linewidth=1.2, label=name)
        weight = f', {plots.LAMBDA} (ratio)' if regularized else ''
        risks.set(title='Training risks', ylabel=f'risk (nats){weight}')
        plots.log_axis(risks)

        for key, (name, colour, style, marker) in _LIPSCHITZ.items():
            x, y = _series(validation, key)
            options = {'color': colour, 'marker': marker, 'label': name}
            plots.plot_positive(lipschitz, x, y, style, markevery=plots.every(x), **options)
        lipschitz.set_title(f'Local Lipschitzness ({split})')
        lipschitz.set_ylabel('logits or nats per unit of input')
        plots.log_axis(lipschitz)

        for axes in (accuracies, risks, lipschitz):
            # Named once, in the panel whose legend has room.
            name = 'checkpoint' if axes is lipschitz else None
            axes.axvline(selected_epoch, label=name, **_MARK)
            axes.set(xlabel='epoch', xlim=(0.0, 1.02 * last))
            axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=last >= 2))
            plots.legend(axes)
        plots.save(figure, path)


def stability_curve(
    path: Path,
    epsilons: Sequence[float],
    rates: Mapping[str, Sequence[float]],
    bands: Mapping[str, Sequence[tuple[float, float]]],
    *,
    epsilon: float,
    norm: str,
    mark: str = f'training {plots.EPSILON}',
    points: Mapping[str, float] | None = None,
) -> None:
    """Natural accuracy, robust accuracy and stability against the radius of the attack.

    `epsilons` increase; `rates` and `bands` (lower, upper) hold, under the names of metrics.jsonl,
    a fraction for each; `epsilon` is marked by a vertical line and named `mark`; `points` are rates
    there under stronger attacks.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.2), layout='constrained')
        axes = figure.subplots()
        x = np.asarray(epsilons, float)
        span = float(x.max()) or 1.0
        for key, (name, colour, style, marker) in _RATES.items():
            lower, upper = np.asarray(bands[key], float).T
            axes.fill_between(x, lower, upper, color=colour, alpha=0.18, lw=0)
            axes.plot(x, rates[key], style, color=colour, marker=marker, label=name)
            if points is not None and key in points:
                axes.plot([epsilon], [points[key]], marker='*', markersize=11, color=colour)
        axes.axvline(epsilon, label=f'{mark} = {epsilon:.4g}', **_MARK)
        axes.set(xlim=(-0.02 * span, 1.02 * span), ylim=(-0.02, 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        axes.set_xlabel(f'{_SYMBOLS[norm]} radius {plots.EPSILON} of the attack (pixels in [0, 1])')
        axes.set_ylabel(RATE)
        plots.percent_axis(axes)
        handles, _ = axes.get_legend_handles_labels()
        handles.append(plots.area_key('95 % interval over images'))
        if points:
            style = {'color': GREY, 'marker': '*', 'ms': 11, 'label': 'under stronger attacks'}
            handles.append(Line2D([], [], ls='', **style))
        figure.legend(handles=handles, loc='outside lower center', ncols=3, labelcolor=INK)
        plots.save(figure, path)


def examples(
    path: Path,
    clean: np.ndarray,
    adversarial: np.ndarray,
    labels: np.ndarray,
    clean_predictions: np.ndarray,
    adversarial_predictions: np.ndarray,
) -> None:
    """The first images, clean, adversarial, and their difference made visible.

    Images are (m, h, w, c) in [0, 1], the rest (m,) integers. One channel is drawn in grey, three
    in colour, any other number as its mean. The difference is amplified about mid-grey by one
    factor for all images, stated in the figure; wrong predictions are orange.
    """
    shown = min(len(labels), MAX_EXAMPLES)
    difference = np.asarray(adversarial[:shown], float) - np.asarray(clean[:shown], float)
    factor = _amplification(float(np.abs(difference).max(initial=0.0)))
    rows = (
        ('clean', clean[:shown], clean_predictions),
        ('adversarial', adversarial[:shown], adversarial_predictions),
        (f'difference\n× {factor:g}', 0.5 + factor * difference, None),
    )
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.75 + 1.0 * shown, 3.75), layout='constrained')
        grid = figure.subplots(len(rows), shown, squeeze=False)
        for line, (name, images, predictions) in zip(grid, rows, strict=True):
            line[0].set_ylabel(name, rotation=0, ha='right', va='center', labelpad=8)
            for column, axes in enumerate(line):
                axes.imshow(
                    _drawable(images[column]), cmap='gray', vmin=0, vmax=1, interpolation='nearest'
                )
                axes.grid(False)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(visible=True, color=GREY, linewidth=0.4)  # white ends too
                if predictions is not None:
                    label, predicted = int(labels[column]), int(predictions[column])
                    colour = INK if label == predicted else VERMILION
                    axes.set_title(
                        f'{label} → {predicted}', color=colour, loc='center', weight='normal', pad=3
                    )
        figure.supxlabel('label → prediction, orange where wrong', color=GREY, fontsize=8)
        plots.save(figure, path)


def _drawable(image: np.ndarray) -> np.ndarray:
    """(h, w, c) -> (h, w, 3) or (h, w), within [0, 1]."""
    image = np.clip(np.asarray(image, float), 0.0, 1.0)
    return image if image.shape[-1] == 3 else image.mean(axis=-1)


def _amplification(largest: float) -> float:
    """The roundest factor that brings the largest difference to at most the whole grey scale."""
    if largest == 0.0:
        return 1.0
    limit = 0.5 / largest
    decade = 10.0 ** np.floor(np.log10(limit))
    steps = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
    return float(decade * max(step for step in steps if step * decade <= limit * (1 + 1e-6)))


def _series(rows: Iterable[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values of one key; what is null or absent is NaN, which interrupts a line."""
    values = [(row['epoch'], row.get(key)) for row in rows]
    pairs = [(epoch, np.nan if value is None else value) for epoch, value in values]
    x, y = np.asarray(pairs, float).reshape(-1, 2).T
    return x, y
