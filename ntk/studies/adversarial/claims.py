"""The cells of a study of Adv-NTK, and what they say.

    rows = read_rows(workdir, settings)
    for claim in evaluate(rows): print(claim.verdict, claim.statement, claim.effect, claim.interval)

Effects are differences of accuracies of one seed, in points, or slopes over widths; intervals are
Student's t over seeds, at 95 %, and decide as in `war_jax.studies.width.claims`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntk.studies.adversarial.settings import INFINITE, Settings
from war_jax.measures.statistics import mean_interval, slope
from war_jax.records.files import read_file, read_json
from war_jax.studies.width.claims import CONTRADICTED, MARGIN, SUPPORTED, UNDECIDED, decide

Row = dict[str, Any]
POINTS, PER_DOUBLING = 'points', 'points per doubling of the width'


@dataclass(frozen=True)
class Claim:
    name: str
    statement: str
    effect: float | None
    interval: tuple[float, float] | None
    unit: str
    num_seeds: int
    verdict: str


def read_rows(workdir: Path, settings: Settings) -> list[Row]:
    """Of the cells in the grid that are finished. Raises ReportError."""
    paths = [workdir / 'cells' / f'{cell.name}.json' for cell in settings.cells]
    return [read_file(path, read_json) for path in paths if path.exists()]


def by_seed(rows: Sequence[Row], width: int, method: str, key: str) -> dict[int, float]:
    """seed -> accuracy in points."""
    return {
        row['seed']: 100.0 * row[key]
        for row in rows
        if (row['width'], row['method']) == (width, method)
    }


def evaluate(rows: Sequence[Row]) -> list[Claim]:
    widths = sorted({row['width'] for row in rows} - {INFINITE})
    robust, natural = 'robust_accuracy', 'natural_accuracy'

    def infinite(method: str, key: str) -> dict[int, float]:
        return by_seed(rows, INFINITE, method, key)

    claims = [
        _claim(
            'adv_ntk_is_more_robust', 'Adv-NTK is more robust than the NTK without an adversary',
            POINTS, _minus(infinite('adversarial', robust), infinite('natural', robust)), 1,
        ),
        _claim(
            'adv_ntk_costs_accuracy', 'It costs natural accuracy', POINTS,
            _minus(infinite('adversarial', natural), infinite('natural', natural)), -1,
        ),
    ]  # fmt: skip
    if widths:
        widest = by_seed(rows, widths[-1], 'adversarial', robust)
        claims.append(
            _comparable(
                'adv_ntk_reaches_finite_width',
                f'Adv-NTK is as robust as the adversarially trained network of width {widths[-1]}, '
                f'within {MARGIN:g} points',
                _minus(infinite('adversarial', robust), widest),
            )
        )
    if len(widths) > 1:
        for key, text in ((robust, 'robust'), (natural, 'natural')):
            claims.append(
                _claim(
                    f'{key}_grows_with_width_lazy',
                    f'In the NTK parametrization, {text} accuracy of adversarially trained '
                    'networks grows with width',
                    PER_DOUBLING, _slopes(rows, widths, key), 1,
                )
            )  # fmt: skip
    return claims


def _slopes(rows: Sequence[Row], widths: Sequence[int], key: str) -> dict[int, float]:
    values = [by_seed(rows, width, 'adversarial', key) for width in widths]
    seeds = set.intersection(*map(set, values))
    x = [math.log2(width) for width in widths]
    return {seed: slope(x, [of_width[seed] for of_width in values]) for seed in sorted(seeds)}


def _minus(ours: Mapping[int, float], theirs: Mapping[int, float]) -> dict[int, float]:
    return {seed: ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())}


def _claim(name: str, text: str, unit: str, effects: Mapping[int, float], sign: int) -> Claim:
    if not effects:
        return Claim(name, text, None, None, unit, 0, UNDECIDED)
    mean, *interval = mean_interval(list(effects.values()))
    bounds = interval[0], interval[1]
    return Claim(name, text, mean, bounds, unit, len(effects), decide(bounds, sign))


def _comparable(name: str, text: str, effects: Mapping[int, float]) -> Claim:
    """Of no difference: supported if the interval excludes a loss of MARGIN or more."""
    claim = _claim(name, text, POINTS, effects, 1)
    if claim.interval is None:
        return claim
    lower, upper = claim.interval
    verdict = SUPPORTED if lower > -MARGIN else CONTRADICTED if upper < 0 else UNDECIDED
    return Claim(name, text, claim.effect, claim.interval, POINTS, claim.num_seeds, verdict)
