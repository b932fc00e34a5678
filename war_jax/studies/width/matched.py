"""Accuracies of different widths at the same training loss.

    rows = with_matched(rows, curves)
    rows[0]['matched_loss'], rows[0]['robust_accuracy_matched']

At equal lambda and seed a wider network fits more within the same epochs, so that what differs at
the end may be the fit and not the width. Here each network is taken where its training loss
(natural risk + lambda * robust regularization, mean over the epoch before a validation) first comes
down to the smallest that all widths reach, between two validations linear in log loss. The
accuracies are those on validation images, as test images are looked at once.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from war_jax.lab.quantities import RATES
from war_jax.measures.regularization.matched import bracket, common_loss
from war_jax.studies.width.results import Row, fixed, widths

Curves = Mapping[str, Mapping[str, Any]]
Points = list[tuple[float, Mapping[str, float]]]  # training loss > 0 and rates at each validation


def with_matched(rows: Sequence[Row], curves: Curves) -> list[Row]:
    """The rows, those of the grid with the columns *_matched where all widths have the same lambda
    and seed; the others, and all without a usable loss, have None there."""
    runs, found = fixed(rows), {}
    for lam, seed in {(lam, seed) for _, lam, seed in runs}:
        group = [runs.get((width, lam, seed)) for width in widths(rows)]
        if len(group) > 1 and all(group):
            points = {row['run']: _points(curves[row['run']]) for row in group if row}
            if all(points.values()):
                found |= _at_common_loss(points)
    return [{**row, **found.get(row['run'], {})} for row in rows]


def _at_common_loss(points: Mapping[str, Points]) -> dict[str, dict[str, float]]:
    losses = {run: [loss for loss, _ in of_run] for run, of_run in points.items()}
    target = common_loss(list(losses.values()))
    found = {}
    for run, of_run in points.items():
        crossing = bracket(losses[run], target)
        before, after = of_run[crossing.before][1], of_run[crossing.after][1]
        rates = {f'{key}_matched': crossing.between(before[key], after[key]) for key in RATES}
        found[run] = {'matched_loss': target, **rates}
    return found


def _points(curves: Mapping[str, Any]) -> Points:
    """[] if a loss is missing or not positive."""
    losses = {row['step']: row.get('loss') for row in curves['train']}
    found = [(losses.get(row['step']), row) for row in curves['validation']]
    usable = all(loss is not None and 0 < loss < math.inf for loss, _ in found)
    return [(loss, row) for loss, row in found if loss is not None] if usable else []
