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
from dataclasses import dataclass, field, replace
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
from war_jax.records.reference import read_reference, write_reference
from war_jax.run import finish, read_checked
from war_jax.studies.width import findings
from war_jax.studies.width.autoattack import attack_best
from war_jax.studies.width.progress import Overview
from war_jax.studies.width.results import collect
from war_jax.studies.width.settings import Settings
from war_jax.studies.width.tasks import Task, variants, waits_for
from war_jax.studies.width.variants import extrapolated, tasks_of
from war_jax.training.build import Parts, build, precision
from war_jax.training.loop import TrainingError


def run_study(settings: Settings, workdir: Path, shard: tuple[int, int], command: str) -> int:
    """Runs this shard and draws the report; returns the exit code, 1 if a run failed.

    Raises ConfigError for a workdir of another study and for devices that do not fit, DataError,
    ReportError, and SystemExit(128 + signal number) after SIGINT or SIGTERM.
    """
    base = settings.base
    splits = load(base.data)
    attacked, there = settings.study.autoattack_examples, len(splits.test.labels)
    if attacked > there:
        rule = f'must be at most {there}, the test images'
        raise refusal('study.autoattack_examples', attacked, rule, f'{there}')
    groups = device_groups(settings)
    config = to_dict(base)
    devices = [device for group in groups for device in group]
    about = claim_workdir(workdir, config, splits.provenance, checksum(splits), command, devices)
    # Of the grid, unlike the configuration of its runs, a study may grow from call to call: the
    # command that makes what is planned now is the last one.
    about = {**about, 'command': command}
    study = {
        'experiment': findings.__name__, 'config': config, 'study': settings.plan,
        'provenance': about,
    }  # fmt: skip
    check_same('--shard and the study', [shard, settings.plan])
    if is_first():
        write_json(workdir / 'study.json', study)
    with precision(base):
        with signals() as stop:
            outcome = Runner(settings, splits, workdir, stop, groups, command, shard)()
        not_attacked = attack_best(settings, workdir / 'runs', command)
    failed = {**{task.name: reason for task, reason in outcome.failed.items()}, **not_attacked}
    for name, reason in failed.items():
        print(f'{name} failed: {reason}', file=sys.stderr)
    if outcome.elsewhere:
        print(f'{len(outcome.elsewhere)} runs are being made by another process.')
    if outcome.waiting and outcome.in_vain:
        print(
            f'{outcome.waiting} runs of study.war need all runs of thinner networks, and some '
            'failed: take their lambda out of study.lams, and run the command again.',
            file=sys.stderr,
        )
    elif outcome.waiting:
        print(
            f'{outcome.waiting} runs of study.war wait for those of thinner networks; when these '
            'are finished in all shards, run the command again without --shard.'
        )
    print(f'report: {on_first(lambda: str(findings.write_report(workdir)))}')
    if base.smoke:
        print(SMOKE_SENTENCE)
    return 1 if failed else 0


@dataclass
class Outcome:
    failed: dict[Task, str] = field(default_factory=dict)  # and why
    elsewhere: list[Task] = field(default_factory=list)  # another process is at it
    waiting: int = 0  # runs for which those of thinner networks are not all there yet
    in_vain: bool = False  # some of these failed


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
        self.workdir, self.runs, self.groups, self.shard = workdir, workdir / 'runs', groups, shard
        self.plan = settings.plan
        self.outcome = Outcome()
        self.error: BaseException | None = None
        self.changed = threading.Condition()  # guards everything below and `outcome`
        self.queue = self.mine(settings.grid)
        self.running: set[Task] = set()
        self.awaited = variants(self.plan)  # those whose lambda is not known yet

    def __call__(self) -> Outcome:
        """Raises SystemExit(128 + signal number) after a signal, and what ended a worker."""
        expected = self.mine(self.settings.grid)
        expected += [task for cell in variants(self.plan) for task in self.expected(*cell)]
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
        self.outcome.waiting = sum(len(self.expected(*cell)) for cell in self.awaited)
        needed = {width for cell in self.awaited for width in waits_for(*cell, self.plan)}
        self.outcome.in_vain = any(
            task.method == FIXED and task.width in needed for task in self.outcome.failed
        )
        return self.outcome

    def mine(self, tasks: list[Task], first: int = 0) -> list[Task]:
        """Those of this shard; first: the number of the first one."""
        i, n = self.shard
        return [task for number, task in enumerate(tasks, first) if number % n == i]

    def work(self, group: list[Any]) -> None:
        """One worker: runs, one after the other, on its devices."""
        parts: dict[float, Parts] = {}  # by width, for the next run of the same programs
        try:
            with closing(self.tasks()) as tasks:
                for task in tasks:
                    self.run(task, group, parts)
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
        for cell in list(self.awaited):
            tasks = self.known(*cell)
            if tasks is not None:
                self.awaited.remove(cell)
                self.queue += tasks
                # Widest first, as in the grid.
                self.queue.sort(key=lambda task: -task.width)
        return self.queue.pop(0) if self.queue else None

    def known(self, method: str, width: float) -> list[Task] | None:
        """This shard's runs of a variant; None until the sweeps that it waits for are finished, in
        whichever shards."""
        needed = waits_for(method, width, self.plan)
        names = {task.name for task in self.settings.grid if task.width in needed}
        if any(not (self.runs / name / 'summary.json').exists() for name in names):
            return None
        rows = [row for row in collect(self.runs)[0] if row['run'] in names]
        return self.mine(tasks_of(method, width, self.plan, rows), self.number(method, width))

    def expected(self, method: str, width: float) -> list[Task]:
        """Likewise, under other names while their lambda is not known."""
        unknown = [Task(width, 0.0, method, seed) for seed in self.plan['seeds']]
        known = self.known(method, width)
        return self.mine(unknown, self.number(method, width)) if known is None else known

    def number(self, method: str, width: float) -> int:
        """Of the first run of a variant, by which shards share them."""
        return variants(self.plan).index((method, width)) * len(self.plan['seeds'])

    def run(self, task: Task, group: list[Any], parts: dict[float, Parts]) -> None:
        """Finish one run. parts: of earlier ones on these devices; gets this one's."""
        display = self.overview.display(task)
        try:
            config = self.settings.config(task, self.reference(task))
            reference = read_checked(config, self.splits)
            of_width = parts.get(task.width)
            if of_width is None:
                of_width = build(config, self.splits, make_mesh(group), reference)
            else:
                of_width = of_width.rerun(config, reference)
            parts[task.width] = of_width
            workdir = self.runs / task.name
            finish(of_width, self.splits, workdir, self.stop, display, self.command)
        except WorkdirInUse:
            with self.changed:
                self.outcome.elsewhere.append(task)
        except (TrainingError, ConfigError) as error:  # of this run; the others go on
            with self.changed:
                self.outcome.failed[task] = str(error)
        else:
            self.overview.done(task)

    def reference(self, task: Task) -> str:
        """What war.reference is to name; '' of a constant lambda.

        Raises ConfigError where there is nothing to extrapolate from.
        """
        if not task.held_to:
            return ''
        width, lam = task.held_to[0]
        thin = self.runs / Task(width, lam, FIXED, task.seed).name
        if task.method != 'extrapolated':
            return str(thin)
        path = self.workdir / 'references' / f'{task.name}.json'
        zeta = extrapolated(task, collect(self.runs)[0])
        if zeta is None:
            raise ConfigError(f'{task.name}: a thin run of seed {task.seed} has no risk ratio > 0')
        held_to = replace(read_reference(thin), zeta=zeta, trajectory=(zeta,))
        on_first(lambda: write_reference(path, held_to))
        return str(path)


def device_groups(settings: Settings) -> list[list[Any]]:
    """All devices, in groups of study.devices_per_run. Several processes work on one run after the
    other, with all their devices.

    Raises ConfigError if there are fewer, and for batches that a group cannot share.
    """
    devices_per_run, optimizer = settings.study.devices_per_run, settings.base.optimizer
    devices = jax.local_devices()
    if jax.process_count() > 1:
        groups = [jax.devices()]
    elif devices_per_run > len(devices):
        rule = f'must be at most the number of devices here, {len(devices)}'
        raise refusal('study.devices_per_run', devices_per_run, rule, f'{len(devices)}')
    else:
        usable = len(devices) // devices_per_run * devices_per_run
        groups = [devices[i : i + devices_per_run] for i in range(0, usable, devices_per_run)]
    mesh = make_mesh(groups[0])
    check_divisible(mesh, 'optimizer.batch_size', optimizer.batch_size, optimizer.accumulation)
    check_divisible(mesh, 'evaluation.batch_size', settings.base.evaluation.batch_size)
    return groups
