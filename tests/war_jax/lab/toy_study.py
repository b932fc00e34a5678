"""A toy study: sizes to a power, one claim, one figure. File two of two."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from tests.war_jax.lab.toy_settings import Cell, Settings
from war_jax.lab import page, plots
from war_jax.lab.estimates import Samples, power
from war_jax.lab.experiment import Experiment, Results, Row
from war_jax.lab.verdicts import ABOVE, Claim, claim
from war_jax.records.interrupt import Stop


class Bench:
    data, checksum, about = 'no data at all', 'none', {}

    def __init__(self, settings: Settings, workdir: Path):
        del workdir
        self.power, self.made = settings.power, []

    def work(self, cell: Cell) -> int:
        return cell.size

    def make(self, cell: Cell, stop: Stop) -> Row:
        stop.leave_if_told()
        return {'value': (1.0 + 0.01 * cell.seed) * cell.size**self.power, 'note': 'made'}


def values(results: Results[Settings]) -> Samples:
    return results.samples(lambda cell: results.rows[cell]['value'], over='size')


def claims(results: Results[Settings]) -> Iterable[Claim]:
    yield claim('value_grows', 'The value grows', power(values(results)), ABOVE, 'power of size')


def sections(
    results: Results[Settings], found: Sequence[Claim], workdir: Path
) -> Iterable[page.Section]:
    yield page.claims_section(found, workdir / 'tables')
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(4, 3), layout='constrained')
        axes = figure.subplots()
        for size, by_seed in values(results).items():
            axes.plot([size] * len(by_seed), list(by_seed.values()), 'o')
        plots.save(figure, workdir / 'figures' / 'values.png')
    yield from page.picture_sections([page.Picture('values.png', 'Values', 'Each seed.')])
    yield page.how_section(page.provenance_cells(results.provenance))


EXPERIMENT = Experiment(
    'tests.war_jax.lab.toy_study', Settings, lambda settings: settings.cells, Bench, claims,
    lambda results: 'A toy', sections,
)  # fmt: skip
