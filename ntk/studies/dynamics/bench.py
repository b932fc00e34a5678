"""Measures all probes that were not measured before, keeps each result at once, draws the page.

    report = run_dynamics(settings, Path('runs/study'), Path('runs/study/ntk'), 'python -m ...')

Each measured probe is a line of workdir/measured.jsonl, known by run, step and a digest of the run
and of the settings on which its numbers depend. What is interrupted goes on where it stopped, and
other settings stand beside those that are there. Of several processes, each measures a share of
the probes on devices of its own, into measured-1.jsonl and so on. The probes that this call asked
for are in rows.csv, which with study.json is all that the page rests on.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import jax

from ntk.studies.dynamics import findings
from ntk.studies.dynamics.findings import Probe
from ntk.studies.dynamics.measure import NetworkMeasures, Start
from ntk.studies.dynamics.settings import Settings
from war_jax.config import ConfigError, DataConfig, to_dict
from war_jax.data.sources import Splits, checksum, load
from war_jax.lab.experiment import Row, rows_text
from war_jax.lab.probes import HOW_TO, Found, ProbedRun, find
from war_jax.mesh import make_mesh
from war_jax.processes import on_first, wait_for_all
from war_jax.records import files
from war_jax.records.console import progress_bar
from war_jax.records.interrupt import Stop, signals
from war_jax.records.probes import read_probe
from war_jax.records.provenance import commit, lock_workdir
from war_jax.training.build import extra_per_batch, precision

Key = tuple[str, int, str]  # run, step, digest
T = TypeVar('T')


def run_dynamics(settings: Settings, run_dir: Path, workdir: Path, command: str) -> Path:
    """Measures the probes in a run's or a study's folder and writes the report; returns its path.

    workdir: made if it is not there. command: what the user typed.

    Raises ConfigError for a folder that cannot serve, for a workdir in use and for a run whose
    images are not those that it was trained on, DataError for images that cannot be had,
    ReportError for files that cannot be read, and SystemExit(128 + signal number) after SIGINT or
    SIGTERM; then the same call goes on.
    """
    found = find_runs(run_dir, settings.max_probes)
    with lock_workdir(workdir), signals() as stop:
        rows = measure_runs(found, settings, workdir, stop)
        first = found.runs[0]
        study = {
            'experiment': findings.__name__,
            'config': asdict(settings),
            'provenance': {
                'commit': ', '.join(sorted({row['commit'] for row in rows})),
                'data': first.data,
                'checksum': first.checksum,
                'command': command,
            },
            'about': {
                'folder': str(run_dir),
                'is_study': (run_dir / 'runs').is_dir(),
                'training': to_dict(first.config),  # of the thinnest network
                'missing': found.missing,
            },
        }

        def write() -> str:
            files.write_json(workdir / 'study.json', study)
            probes = {Probe(row['run'], f'step-{row["step"]:08d}'): row for row in rows}
            files.write_text(workdir / 'rows.csv', rows_text(probes))
            return str(findings.write_report(workdir))

        return Path(on_first(write))


def find_runs(run_dir: Path, max_probes: int = 0) -> Found:
    """The runs in a folder of war_jax.main, or in runs/ of one of war_jax.studies.width.

    max_probes: of each run, see `thinned`.

    Raises ConfigError, one line, for a folder that is neither, where no run has probes and for
    another activation than ReLU, and ReportError for a config.json that cannot be read.
    """
    workdirs = [run_dir]
    if (run_dir / 'runs').is_dir():
        workdirs = sorted(path.parent for path in (run_dir / 'runs').glob('*/config.json'))
    if not workdirs or not (workdirs[0] / 'config.json').is_file():
        raise ConfigError(
            f'--run={run_dir}: must be the folder of a run of war_jax.main, with config.json, or '
            'of a study of war_jax.studies.width, with runs/*/config.json'
        )
    found = find(workdirs)
    if not found.runs:
        raise ConfigError(f'--run={run_dir}: there are no probes; {HOW_TO}')
    others = {run.config.model.activation for run in found.runs} - {'relu'}
    if others:
        raise ConfigError(
            f"--run={run_dir}: has model.activation = {min(others)!r}: must be 'relu', the only "
            'one whose Lipschitz bound is known'
        )
    runs = [replace(run, probes=thinned(run.probes, max_probes)) for run in found.runs]
    return replace(found, runs=runs)


def thinned(probes: Mapping[int, Path], at_most: int) -> dict[int, Path]:
    """At most so many of them (0: all; else at least 2), evenly, the first and the last kept."""
    steps = list(probes)
    if at_most and len(steps) > at_most:
        last = len(steps) - 1
        steps = [steps[round(last * i / (at_most - 1))] for i in range(at_most)]
    return {step: probes[step] for step in steps}


def measure_runs(found: Found, settings: Settings, workdir: Path, stop: Stop) -> list[Row]:
    """The rows of all probes, in the order of the runs and steps."""
    probes = {
        (run.name, step, row_digest(run, settings)): (run, step)
        for run in found.runs
        for step in run.probes
    }
    done = measured(workdir)
    missing = [probe for key, probe in probes.items() if key not in done]
    missing = missing[jax.process_index() :: jax.process_count()]
    bench = Bench(settings)
    number = jax.process_index()
    path = workdir / (f'measured-{number}.jsonl' if number else 'measured.jsonl')
    wait_for_all()  # before one of them adds what another one still looks for
    with progress_bar('probes', len(probes), sum(key in done for key in probes)) as bar:
        for run, step in missing:
            bar.set_postfix_str(f'{run.name}, step {step}')
            files.append_json_line(path, bench.make(run, step, stop))
            bar.update()
            stop.leave_if_told()
    wait_for_all()
    done = measured(workdir)
    return [done[key] for key in probes]


def row_digest(run: ProbedRun, settings: Settings) -> str:
    return hashlib.sha256(f'{run.digest} {settings.digest}'.encode()).hexdigest()[:16]


def measured(workdir: Path) -> dict[Key, Row]:
    paths = sorted(workdir.glob('measured*.jsonl'))
    rows = [row for path in paths for row in files.read_file(path, files.read_json_lines)]
    return {(row['run'], row['step'], row['digest']): row for row in rows}


class Bench:
    """Makes rows, and keeps what the next probe may need again."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.mesh = make_mesh(jax.local_devices())
        self.commit = commit()
        self.kept: dict[str, tuple[Any, Any]] = {}  # what -> of what, it

    def make(self, run: ProbedRun, step: int, stop: Stop) -> Row:
        """The row of a probe.

        Raises ConfigError for images that are not the run's, and SystemExit, between two parts,
        once there was a signal.
        """
        since, config = time.perf_counter(), run.config

        def first() -> Start:
            return measures.start(files.read_file(run.probes[0], read_probe), stop.leave_if_told)

        with precision(config):
            splits, digest = self.keep('images', config.data, lambda: _load(config.data))
            if digest != run.checksum:
                raise ConfigError(
                    f'--run={run.workdir}: was trained on other images or labels than '
                    f'{splits.provenance.rstrip(".")}: the data have changed since; restore them'
                )
            measures = self.keep(
                'programs', (config.data, config.model, config.threat, config.evaluation),
                lambda: NetworkMeasures(config, splits, self.settings, self.mesh),
            )  # fmt: skip
            start = self.keep('start', run.name, first)
            variables = files.read_file(run.probes[step], read_probe) if step else start.variables
            key = jax.random.key(config.seed)
            found = measures.measure(variables, start, key, stop.leave_if_told)
        return {
            **self.about(run, step, len(splits.train.labels)),
            **found,
            'num_train': measures.num_examples['train'],  # images measured on
            'num_test': measures.num_examples['test'],
            'seconds': time.perf_counter() - since,  # with compilation, if the first of its kind
        }

    def keep(self, what: str, of: Any, make: Callable[[], T]) -> T:
        """The one that was made for the same, if that was the last; only one is in memory."""
        if what not in self.kept or self.kept[what][0] != of:
            self.kept.pop(what, None)
            self.kept[what] = (of, make())
        return self.kept[what][1]

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
            'lambda': run.lam,  # at the start of training
            'step': step,
            'epoch': step / steps_per_epoch,
            # Of the whole training: the probe at it is of the trained network.
            'last_step': steps_per_epoch * config.optimizer.epochs,
            'epsilon': config.threat.epsilon,
            'norm': config.threat.norm,
            'digest': row_digest(run, self.settings),
            'device': f'{self.mesh.size} × {self.mesh.devices.flat[0].device_kind}',
            'commit': self.commit,
        }


def _load(config: DataConfig) -> tuple[Splits, str]:
    splits = load(config)
    return splits, checksum(splits)
