"""Measures all networks at the end of training, and where all had the same training loss.

    networks = measure_all(found, settings.measure, splits, workdir, stop)
    networks[0].final['margin'], networks[0].matched['layers']['stem']['std']

What is measured of a network is a file, measured/RUN/step-00000120.json, and stays: an interruption
loses seconds. The common loss is the largest of the smallest losses, so that every training comes
down to it, and it can change when networks are added; then a few more probes are measured.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from war_jax.data.sources import Splits
from war_jax.measures.regularization.matched import Place, bracket, common_loss
from war_jax.records.console import progress_bar
from war_jax.records.files import read_file, read_json, write_json
from war_jax.records.interrupt import Stop
from war_jax.records.probes import read_probe
from war_jax.studies.regularization.measure import SCALARS, Gauge, Row
from war_jax.studies.regularization.networks import Conditions, Trained
from war_jax.studies.regularization.settings import MeasureConfig
from war_jax.training.build import precision

LOSSES = 'losses.json'


@dataclass(frozen=True)
class Network:
    """What was measured of one run."""

    conditions: Conditions
    final: Row
    matched: Row  # scalars and layers only, interpolated
    matched_loss: float


def measure_all(
    found: Sequence[Trained], measure: MeasureConfig, splits: Splits, workdir: Path, stop: Stop
) -> list[Network]:
    """Raises ReportError for files that cannot be read, SystemExit(128 + signal number)."""
    worker = Worker(measure, splits, workdir / 'measured', stop)
    with progress_bar('losses', len(found)) as bar:
        curves = []
        for run in found:
            curves.append(worker.losses(run))
            bar.update()
    target = common_loss(curves)
    chosen = [bracket(curve, target) for curve in curves]
    cells = [
        (run, step) for run, place in zip(found, chosen, strict=True) for step in _steps(run, place)
    ]
    done = sum(worker.path(run, step).exists() for run, step in cells)
    with progress_bar('networks', len(cells), done) as bar:
        for run, step in cells:
            if not worker.path(run, step).exists():
                bar.set_postfix_str(f'{run.name}, step {step}')
                worker.measure(run, step)
                bar.update()
    return [_network(worker, run, place, target) for run, place in zip(found, chosen, strict=True)]


def _steps(run: Trained, place: Place) -> Iterator[int]:
    """Of the probes that are needed: around the common loss, and the last one."""
    steps = list(run.probes)
    yield from dict.fromkeys((steps[place.before], steps[place.after], steps[-1]))


class Worker:
    """Keeps the programs of one shape of networks."""

    def __init__(self, measure: MeasureConfig, splits: Splits, folder: Path, stop: Stop):
        self.settings, self.splits, self.folder, self.stop = measure, splits, folder, stop
        self.gauge: tuple[Any, Gauge] | None = None

    def path(self, run: Trained, step: int) -> Path:
        return self.folder / run.name / f'step-{step:08d}.json'

    def losses(self, run: Trained) -> list[float]:
        """On training images, at each probe."""
        path = self.folder / run.name / LOSSES
        if not path.exists():
            with precision(run.config):
                gauge = self.gauge_of(run)
                values = [
                    gauge.training_loss(read_file(p, read_probe)) for p in run.probes.values()
                ]
            write_json(path, values)
        self.leave_if_told()
        return read_file(path, read_json)

    def measure(self, run: Trained, step: int) -> None:
        with precision(run.config):
            variables = read_file(run.probes[step], read_probe)
            row = self.gauge_of(run).measure(variables, jax.random.key(run.conditions.seed))
        write_json(self.path(run, step), {**run.conditions._asdict(), 'step': step, **row})
        self.leave_if_told()

    def gauge_of(self, run: Trained) -> Gauge:
        shape = (run.config.model, run.config.threat.norm)
        if self.gauge is None or self.gauge[0] != shape:
            self.gauge = (shape, Gauge(run.config, self.splits, self.settings))
        return self.gauge[1]

    def leave_if_told(self) -> None:
        if self.stop.signum:
            print('Stopped; the same command again goes on from the last network measured.')
            raise SystemExit(128 + self.stop.signum)


def _network(worker: Worker, run: Trained, place: Place, target: float) -> Network:
    steps = list(run.probes)
    before, after, final = (
        read_file(worker.path(run, steps[number]), read_json)
        for number in (place.before, place.after, -1)
    )

    def between(old: Any, new: Any) -> Any:
        if isinstance(old, dict):
            return {name: between(old[name], new[name]) for name in old}
        return None if old is None or new is None else place.between(old, new)

    matched = {name: between(before[name], after[name]) for name in (*SCALARS, 'layers')}
    return Network(run.conditions, final, matched, target)
