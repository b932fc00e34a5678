"""Measures all probes that were not measured before, and keeps each result at once.

    rows = measure_runs(found, settings, Path('runs/study/ntk'), stop)

Each measured probe is a line of workdir/measured.jsonl, known by run, step and a digest of the run
and of the settings on which its numbers depend. What is interrupted goes on where it stopped, and
other settings stand beside those that are there. Of several processes, each measures a share of
the probes on devices of its own, into measured-1.jsonl and so on.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from ntk.studies.dynamics.findings import COLUMNS
from ntk.studies.dynamics.measure import Gauge
from ntk.studies.dynamics.runs import Found, ProbedRun
from ntk.studies.dynamics.settings import Settings
from war_jax.config import Config, ConfigError
from war_jax.data.sources import Splits, checksum, load
from war_jax.mesh import make_mesh
from war_jax.processes import wait_for_all
from war_jax.records.console import progress_bar
from war_jax.records.files import append_json_line, read_file, read_json_lines
from war_jax.records.interrupt import Interrupted, Stop
from war_jax.records.probes import read_probe
from war_jax.records.provenance import commit
from war_jax.training.build import extra_per_batch, precision

Row = dict[str, Any]
Key = tuple[str, int, str]  # run, step, digest


def measure_runs(found: Found, settings: Settings, workdir: Path, stop: Stop) -> list[Row]:
    """The rows of all probes, in the order of the runs and steps, with the keys of COLUMNS.

    Raises ConfigError if a run's images are not those it was trained on, DataError if they cannot
    be had, ReportError for a file that cannot be read, and SystemExit(128 + signal number) after
    SIGINT or SIGTERM.
    """
    wanted = [key for run in found.runs for key in keys(run, settings)]
    done = measured(workdir)
    worker = Worker(settings, workdir, stop)
    initial = sum(key in done for key in wanted)
    wait_for_all()  # before one of them adds what another one still looks for
    with progress_bar('probes', len(wanted), initial) as bar:

        def on_probe(run: ProbedRun, step: int) -> None:
            bar.set_postfix_str(f'{run.name}, step {step}')
            bar.update()

        for run in found.runs:
            absent = [step for key, step in keys(run, settings).items() if key not in done]
            absent = absent[jax.process_index() :: jax.process_count()]
            try:
                worker.measure(run, absent, on_probe)
            except Interrupted:
                print('Stopped; run the same command again to go on.')
                raise SystemExit(128 + stop.signum) from None
    wait_for_all()
    done = measured(workdir)
    return [done[key] for key in wanted]


def keys(run: ProbedRun, settings: Settings) -> dict[Key, int]:
    """How the rows of its probes are known -> step."""
    digest = row_digest(run, settings)
    return {(run.name, step, digest): step for step in run.probes}


def row_digest(run: ProbedRun, settings: Settings) -> str:
    return hashlib.sha256(f'{run.digest} {settings.digest}'.encode()).hexdigest()[:16]


def measured(workdir: Path) -> dict[Key, Row]:
    files = sorted(workdir.glob('measured*.jsonl'))
    rows = [row for path in files for row in read_file(path, read_json_lines)]
    return {(row['run'], row['step'], row['digest']): row for row in rows}


class Worker:
    """Keeps what runs have in common: images, and the programs of one shape of networks."""

    def __init__(self, settings: Settings, workdir: Path, stop: Stop):
        self.settings, self.workdir, self.stop = settings, workdir, stop
        number = jax.process_index()
        self.path = workdir / (f'measured-{number}.jsonl' if number else 'measured.jsonl')
        self.mesh: Mesh = make_mesh(jax.local_devices())
        self.commit = commit()
        self.splits: tuple[Any, Splits, str] | None = None
        self.gauge: tuple[Any, Gauge] | None = None

    def measure(
        self, run: ProbedRun, steps: list[int], on_probe: Callable[[ProbedRun, int], object]
    ) -> None:
        """Measures these probes. Raises Interrupted, between two parts, once there was a signal."""
        if not steps:
            return
        with precision(run.config):
            splits = self.images(run)
            gauge = self.gauge_of(run.config, splits)
            key = jax.random.key(run.config.seed)
            start = gauge.start(read_file(run.probes[0], read_probe), self.leave_if_told)
            for step in steps:
                since = time.perf_counter()
                variables = read_file(run.probes[step], read_probe) if step else start.variables
                found = gauge.measure(variables, start, key, self.leave_if_told)
                row = {
                    **found,
                    **self.about(run, step, len(splits.train.labels)),
                    'num_train': gauge.num_examples['train'],
                    'num_test': gauge.num_examples['test'],
                    'seconds': time.perf_counter() - since,
                }
                append_json_line(self.path, {name: row[name] for name in COLUMNS})
                on_probe(run, step)

    def leave_if_told(self) -> None:
        if self.stop.signum:
            raise Interrupted

    def images(self, run: ProbedRun) -> Splits:
        if self.splits is None or self.splits[0] != run.config.data:
            splits = load(run.config.data)
            self.splits = (run.config.data, splits, checksum(splits))
        _, splits, digest = self.splits
        if digest != run.checksum:
            raise ConfigError(
                f'--run={run.workdir}: was trained on other images or labels than '
                f'{splits.provenance.rstrip(".")}: the data have changed since; restore them'
            )
        return splits

    def gauge_of(self, config: Config, splits: Splits) -> Gauge:
        shape = (config.data, config.model, config.threat, config.evaluation)
        if self.gauge is None or self.gauge[0] != shape:
            self.gauge = None  # before the next one takes memory
            self.gauge = (shape, Gauge(config, splits, self.settings, self.mesh))
        return self.gauge[1]

    def about(self, run: ProbedRun, step: int, num_train: int) -> Row:
        config = run.config
        batch_size = config.optimizer.batch_size - extra_per_batch(config)
        steps_per_epoch = -(-num_train // batch_size)
        return {
            'run': run.name,
            'method': run.method,
            'depth': config.model.depth,
            'widen_factor': config.model.widen_factor,
            'seed': config.seed,
            'lambda': run.lam,
            'step': step,
            'epoch': step / steps_per_epoch,
            'last_step': steps_per_epoch * config.optimizer.epochs,
            'epsilon': config.threat.epsilon,
            'norm': config.threat.norm,
            'digest': row_digest(run, self.settings),
            'device': f'{self.mesh.size} × {self.mesh.devices.flat[0].device_kind}',
            'commit': self.commit,
        }
