"""The figures of a study's report, drawn from its rows and curves.

    for picture in draw(rows, curves, targets=['trajectory'], folder=Path('runs/study/figures')):
        print(picture.file, picture.caption)

What the bars and bands of a figure are stands in its caption.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from war_jax.studies.width import figures, series, tuning
from war_jax.studies.width.results import FIXED, Row, widths

_INTERVALS = 'Bars: 95 % intervals for the mean over seeds (Student’s t).'
_RANGE = 'Bands reach from the lowest to the highest seed.'


class Picture(NamedTuple):
    file: str  # in the folder of the figures
    title: str
    caption: str


def draw(
    rows: Sequence[Row],
    curves: Mapping[str, Mapping[str, Any]],
    targets: Sequence[str],
    folder: Path,
) -> list[Picture]:
    """Writes what the runs allow, in the order of the report; at least one lambda must have run."""
    lam = reference_lambda(rows)
    lams = sorted({row['lambda'] for row in rows if row['method'] == FIXED})
    figures.against_width(
        folder / 'width.png', {key: series.by_width(rows, key) for key in series.RATES}
    )
    figures.against_lambda(
        folder / 'lambda.png',
        {key: series.by_lambda(rows, key) for key in series.RATES},
        tuning.best_lambdas(rows),
        series.markers(rows),
    )
    figures.against_width(
        folder / 'lipschitz.png', {key: series.by_width(rows, key) for key in series.FACTORS}
    )
    epochs = {
        at: {key: series.by_epoch(rows, curves, at, key) for key in series.RATES} for at in lams
    }
    figures.against_epoch(folder / 'epochs.png', {lam: epochs[lam]})
    figures.against_epoch(folder / 'epochs_all.png', epochs)
    pictures = [
        Picture(
            'width.png',
            'Test accuracies against width at equal λ',
            f'Test images, constant λ. {_INTERVALS}',
        ),
        Picture(
            'lambda.png',
            'Test accuracies against λ for each width, and WAR',
            'Test images. A ring marks the λ that is best on validation images; WAR stands at the '
            f'λ that it ended with. {_INTERVALS}',
        ),
        Picture(
            'lipschitz.png',
            'Local Lipschitzness and risk ratio against width at equal λ',
            'Local Lipschitzness on test images; natural risk / robust regularization as averaged '
            f'at the end of training. {_INTERVALS}',
        ),
        Picture(
            'epochs.png',
            'Validation accuracies over training at the thin network’s λ',
            f'Constant λ = {lam:g}. {_RANGE}',
        ),
        Picture('epochs_all.png', 'The same at every λ', _RANGE),
    ]
    return pictures + _of_war(rows, curves, targets, folder) + _of_costs(rows, folder)


def reference_lambda(rows: Sequence[Row]) -> float:
    """The thin network's best; before that is known, one in the middle of the grid."""
    thinnest = widths(rows)[0]
    lams = sorted({row['lambda'] for row in rows if row['method'] == FIXED})
    best = tuning.best_lambdas(rows)
    return best[thinnest] if thinnest in best else lams[len(lams) // 2]


def _of_war(
    rows: Sequence[Row],
    curves: Mapping[str, Mapping[str, Any]],
    targets: Sequence[str],
    folder: Path,
) -> list[Picture]:
    run = [target for target in targets if any(row['method'] == target for row in rows)]
    if not run:
        return []
    figures.lambda_under_war(
        folder / 'war.png',
        {target: series.under_war(rows, curves, target, 'lambda') for target in run},
        {target: series.under_war(rows, curves, target, 'averaged_risk_ratio') for target in run},
        {target: series.target_ratios(rows, curves, target) for target in run},
    )
    title = 'λ and the risk ratio over training under WAR'
    return [Picture('war.png', title, f'Geometric means over seeds. {_RANGE}')]


def _of_costs(rows: Sequence[Row], folder: Path) -> list[Picture]:
    cost = tuning.cost(rows)
    if cost is None:
        return []
    bars = {
        'sweep': {'sweep': cost.sweep},
        'WAR': {'thin_sweep': cost.thin_sweep, 'war': cost.war},
    }
    figures.tuning_costs(folder / 'costs.png', bars)
    caption = (
        f'Device time for one seed with {cost.num_lambdas} λ. Each run counts as the median of all '
        'finished runs of its width: wall time times devices, for training, validation and test. '
        'Compilation, once per width and device, is outside of the medians.'
    )
    return [Picture('costs.png', 'What a tuned λ for the widest network costs', caption)]
