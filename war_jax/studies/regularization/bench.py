"""Measures all networks at the end of training, and where all had the same training loss.

    bench = Bench(settings.measure, splits, workdir)
    networks = measure_all(find(folders), bench, stop)
    networks[0].final['margin'], networks[0].matched['layers']['stem']['std']

What is measured of a network is a file, measured/RUN/step-00000120.json, and stays: an interruption
loses seconds. The common loss is the largest of the smallest losses, so that every training comes
down to it, and it can change when networks are added; then a few more probes are measured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from war_jax.data.sources import Splits
from war_jax.lab.probes import ProbedRun
from war_jax.measures.regularization.matched import Crossing, bracket, common_loss
from war_jax.records.console import progress_bar
from war_jax.records.files import ReportError, read_file, read_json, write_json
from war_jax.records.interrupt import Stop
from war_jax.records.probes import read_probe
from war_jax.studies.regularization.measure import SCALARS, Measures, Row
from war_jax.studies.regularization.results import Cell, Network
from war_jax.studies.regularization.settings import Measure
from war_jax.training.build import precision


class Bench:
    """Keeps the programs of one shape of networks."""

    def __init__(self, settings: Measure, splits: Splits, workdir: Path):
        self.settings, self.splits, self.workdir = settings, splits, workdir
        self.measures: tuple[Any, Measures] | None = None

    def path(self, cell: Cell, step: int) -> Path:
        return self.workdir / cell.folder / cell.name / f'step-{step:08d}.json'

    def losses(self, cell: Cell, run: ProbedRun) -> list[float]:
        """On training images, at each probe. Raises ReportError for one that is not finite."""
        path = self.workdir / cell.folder / cell.name / 'losses.json'
        if not path.exists():
            with precision(run.config):
                measures = self.measures_of(run)
                values = [
                    measures.training_loss(read_file(p, read_probe)) for p in run.probes.values()
                ]
            write_json(path, values)
        losses = read_file(path, read_json)
        if None in losses:
            raise ReportError(f'{path}: training diverged; take its λ or ε out of the study')
        return losses

    def make(self, cell: Cell, run: ProbedRun, step: int) -> Row:
        """What is measured of one probe: the contents of its file."""
        with precision(run.config):
            variables = read_file(run.probes[step], read_probe)
            row = self.measures_of(run).of(variables, jax.random.key(cell.seed))
        return {**cell.conditions, 'step': step, **row}

    def measures_of(self, run: ProbedRun) -> Measures:
        shape = (run.config.model, run.config.threat.norm)
        if self.measures is None or self.measures[0] != shape:
            self.measures = (shape, Measures(run.config, self.splits, self.settings))
        return self.measures[1]


def measure_all(runs: Mapping[Cell, ProbedRun], bench: Bench, stop: Stop) -> list[Network]:
    """Raises ReportError for files that cannot be read, SystemExit(128 + signal number)."""
    curves = {}
    with progress_bar('losses', len(runs)) as bar:
        for cell, run in runs.items():
            curves[cell] = bench.losses(cell, run)
            stop.leave_if_told()
            bar.update()
    target = common_loss(list(curves.values()))
    crossings = {cell: bracket(curve, target) for cell, curve in curves.items()}
    needed = [
        (cell, step)
        for cell, crossing in crossings.items()
        for step in dict.fromkeys(_steps(runs[cell], crossing))
    ]
    missing = [(cell, step) for cell, step in needed if not bench.path(cell, step).exists()]
    with progress_bar('networks', len(needed), len(needed) - len(missing)) as bar:
        for cell, step in missing:
            bar.set_postfix_str(f'{cell.name}, step {step}')
            write_json(bench.path(cell, step), bench.make(cell, runs[cell], step))
            stop.leave_if_told()
            bar.update()
    networks = []
    for cell, crossing in crossings.items():
        before, after, final = (
            read_file(bench.path(cell, step), read_json) for step in _steps(runs[cell], crossing)
        )
        matched = {
            name: _between(crossing, before[name], after[name]) for name in (*SCALARS, 'layers')
        }
        networks.append(Network(cell, final, matched, target))
    return networks


def _steps(run: ProbedRun, crossing: Crossing) -> tuple[int, int, int]:
    """Of the probes that are needed: around the common loss, and the last one."""
    steps = list(run.probes)
    return steps[crossing.before], steps[crossing.after], steps[-1]


def _between(crossing: Crossing, before: Any, after: Any) -> Any:
    """Number by number, in nested mappings; None where either is."""
    if isinstance(before, dict):
        return {name: _between(crossing, before[name], after[name]) for name in before}
    return None if before is None or after is None else crossing.between(before, after)
