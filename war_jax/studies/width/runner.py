"""Runs what is not yet finished of a study, one run per device (or group of devices) at a time.

    exit_code = run_study(settings, Path('runs/study'), shard=(0, 1), command='python -m ...')

A thin network's batch is too small to be worth splitting; side by side, each on a device of its
own, runs need no communication (benchmarks/side_by_side.py compares both, and vmap). On one device,
the networks of one width share their compiled programs: lambda, seed and reference are data.

Each run is an ordinary one, in a folder of its own, with its own lock and checkpoints: an
interruption loses what lies behind its last checkpoint, another process in the same study takes
other runs, and a finished run is looked at, to see that it belongs here, but not repeated.
"""

import signal
import sys
import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax

from war_jax.config import to_dict
from war_jax.config_rules import ConfigError, refusal
from war_jax.data.sources import Splits, checksum, load
from war_jax.lab.probes import FIXED
from war_jax.mesh import check_divisible, make_mesh
from war_jax.processes import check_same, is_first, on_first
from war_jax.records.console import SMOKE_SENTENCE
from war_jax.records.files import write_json
from war_jax.records.interrupt import Stop, signals
from war_jax.records.provenance import WorkdirInUse, claim_workdir
from war_jax.run import finish, read_checked
from war_jax.studies.width import findings
from war_jax.studies.width.progress import Overview
from war_jax.studies.width.results import collect
from war_jax.studies.width.settings import Settings, Task
from war_jax.studies.width.tuning import best_lambdas
from war_jax.training.build import Parts, build, precision
from war_jax.training.loop import TrainingError


def run_study(settings: Settings, workdir: Path, shard: tuple[int, int], command: str) -> int:
    """Runs this shard and draws the report; returns the exit code, 1 if a run failed.

    Raises ConfigError for a workdir of another study and for devices that do not fit, DataError,
    ReportError, and SystemExit(128 + signal number) after SIGINT or SIGTERM.
    """
    base = settings.base
    splits = load(base.data)
    groups = device_groups(settings.study.devices_per_run)
    mesh = make_mesh(groups[0])
    optimizer = base.optimizer
    check_divisible(mesh, 'optimizer.batch_size', optimizer.batch_size, optimizer.accumulation)
    check_divisible(mesh, 'evaluation.batch_size', base.evaluation.batch_size)
    config = to_dict(base)
    devices = [device for group in groups for device in group]
    about = claim_workdir(workdir, config, splits.provenance, checksum(splits), command, devices)
    # Of the grid, unlike the configuration of its runs, a study may grow from call to call: the
    # command that makes what is planned now is the last one.
    about = {**about, 'command': command}
    study = {
        'experiment': findings.__name__, 'config': config, 'study': asdict(settings.study),
        'provenance': about,
    }  # fmt: skip
    check_same('--shard and the study', [shard, asdict(settings.study)])
    if is_first():
        write_json(workdir / 'study.json', study)
    with precision(base), signals() as stop:
        outcome = Runner(settings, splits, workdir, stop, groups, command, shard)()
    for task, reason in outcome.failed.items():
        print(f'{task.name} failed: {reason}', file=sys.stderr)
    if outcome.elsewhere:
        print(f'{len(outcome.elsewhere)} runs are being made by another process.')
    if outcome.waiting and any(task in settings.thin for task in outcome.failed):
        print(
            f'{outcome.waiting} runs with WAR need all runs of the thin network, and some failed: '
            'take their lambda out of study.lams, and run the command again.',
            file=sys.stderr,
        )
    elif outcome.waiting:
        print(
            f'{outcome.waiting} runs with WAR wait for the thin network’s; when these are finished '
            'in all shards, run the command again without --shard.'
        )
    print(f'report: {on_first(lambda: str(findings.write_report(workdir)))}')
    if base.smoke:
        print(SMOKE_SENTENCE)
    return 1 if outcome.failed else 0


@dataclass
class Outcome:
    failed: dict[Task, str] = field(default_factory=dict)  # and why
    elsewhere: list[Task] = field(default_factory=list)  # another process is at it
    waiting: int = 0  # runs for which the thin network's are not all there yet


class Runner:
    """Calling it works through one shard of the study."""

    def __init__(
        self,
        settings: Settings,
        splits: Splits,
        workdir: Path,
        stop: Stop,
        groups: list[list[Any]],
        command: str,
        shard: tuple[int, int],
    ):
        """groups: devices, one worker each. shard (i, n): every n-th run, from the i-th on."""
        self.settings, self.splits, self.stop, self.command = settings, splits, stop, command
        self.runs, self.groups, self.shard = workdir / 'runs', groups, shard
        self.outcome = Outcome()
        self.error: BaseException | None = None
        self.changed = threading.Condition()  # guards everything below and `outcome`
        self.queue = self.mine(settings.grid)
        self.running: set[Task] = set()
        self.adjusted_queued = not settings.study.war or len(settings.study.widths) == 1

    def __call__(self) -> Outcome:
        """Raises SystemExit(128 + signal number) after a signal, and what ended a worker."""
        lam = self.tuned_lambda() or self.settings.study.lams[0]  # else a name for what is to come
        adjusted = self.mine(self.settings.adjusted(lam))
        expected = self.mine(self.settings.grid) + adjusted
        with Overview(self.settings, expected, self.runs) as self.overview:
            workers = [
                threading.Thread(target=self.work, args=(group,), daemon=True)
                for group in self.groups
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        if self.error is not None:
            raise self.error
        if signum := self.stop.poll():
            raise SystemExit(128 + signum)
        if not self.adjusted_queued:
            self.outcome.waiting = len(adjusted)
        return self.outcome

    def mine(self, tasks: list[Task]) -> list[Task]:
        i, n = self.shard
        return tasks[i::n]

    def work(self, group: list[Any]) -> None:
        """One worker: runs, one after the other, on its devices."""
        parts: Parts | None = None
        try:
            with closing(self.tasks()) as tasks:
                for task in tasks:
                    parts = self.run(task, group, parts)
        except SystemExit:
            pass  # told to stop; the checkpoint is written
        except BaseException as error:  # handed to the main thread, which raises it
            with self.changed:
                self.error = self.error or error
            self.stop.signum = signal.SIGTERM  # the others need not finish what they are at

    def tasks(self) -> Generator[Task]:
        """What a worker is to do next, until there is nothing left for it."""
        while True:
            with self.changed:
                task = self.next_task()
                while task is None and self.running:
                    self.changed.wait()  # those that run may be the last ones others wait for
                    task = self.next_task()
                if self.stop.poll() or task is None:
                    return
                self.running.add(task)
            try:
                yield task
            finally:
                with self.changed:
                    self.running.discard(task)
                    self.changed.notify_all()

    def next_task(self) -> Task | None:
        if not self.adjusted_queued and (lam := self.tuned_lambda()) is not None:
            self.adjusted_queued = True
            self.queue += self.mine(self.settings.adjusted(lam))
            # Widest first, as in the grid; runs of one width stay together.
            self.queue.sort(key=lambda task: -task.width)
        return self.queue.pop(0) if self.queue else None

    def tuned_lambda(self) -> float | None:
        """The thin network's best lambda, once all its runs are finished, in whichever shard."""
        names = {task.name for task in self.settings.thin}
        if any(not (self.runs / name / 'summary.json').exists() for name in names):
            return None
        rows = [row for row in collect(self.runs)[0] if row['run'] in names]
        return best_lambdas(rows)[self.settings.study.widths[0]]

    def run(self, task: Task, group: list[Any], parts: Parts | None) -> Parts | None:
        """Finish one run; returns its parts, for the next one of the same width."""
        reference_path = ''
        if task.method != FIXED:
            thin = Task(task.thin, task.lam, FIXED, task.seed)
            reference_path = str(self.runs / thin.name)
        config = self.settings.config(task, reference_path)
        display = self.overview.display(task)
        try:
            reference = read_checked(config, self.splits)
            if parts is not None and parts.config.model == config.model:
                parts = parts.rerun(config, reference)
            else:
                parts = build(config, self.splits, make_mesh(group), reference)
            workdir = self.runs / task.name
            finish(parts, self.splits, workdir, self.stop, display, self.command)
        except WorkdirInUse:
            with self.changed:
                self.outcome.elsewhere.append(task)
        except (TrainingError, ConfigError) as error:  # of this run; the others go on
            with self.changed:
                self.outcome.failed[task] = str(error)
        else:
            self.overview.done(task)
        return parts


def device_groups(devices_per_run: int) -> list[list[Any]]:
    """All devices, in groups of so many. Raises ConfigError if there are fewer.

    Several processes work on one run after the other, with all their devices.
    """
    if jax.process_count() > 1:
        return [jax.devices()]
    devices = jax.local_devices()
    if devices_per_run > len(devices):
        rule = f'must be at most the number of devices here, {len(devices)}'
        raise refusal('study.devices_per_run', devices_per_run, rule, f'{len(devices)}')
    usable = len(devices) // devices_per_run * devices_per_run
    return [devices[i : i + devices_per_run] for i in range(0, usable, devices_per_run)]
