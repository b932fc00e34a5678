"""AutoAttack on the networks of each width's best lambda, once the grid is trained.

    attack_best(settings, Path('runs/study/runs'), command)      # runs/NAME/autoattack-100/...
    rows = with_autoattack(rows, Path('runs/study/runs'), 100)   # column autoattack_accuracy

A study's verdicts rest on PGD, which is what lambda is chosen by; AutoAttack (Croce and Hein 2020)
takes hundreds of times as long, so that only the networks are attacked that an answer is about: at
each width, of each seed the one at the lambda that is best on validation images. What it leaves in
a run's folder is what `python -m war_jax.evaluate` does, and goes on after an interruption alike.
"""

from collections.abc import Sequence
from pathlib import Path

import jax

from war_jax.records.files import read_file, read_json, require
from war_jax.records.provenance import WorkdirInUse
from war_jax.robustness import run as evaluation
from war_jax.studies.width import tuning
from war_jax.studies.width.results import Row, collect
from war_jax.studies.width.settings import Settings
from war_jax.studies.width.tasks import Plan, Task, grid


def best_tasks(plan: Plan, rows: Sequence[Row]) -> list[Task]:
    """Those at the best lambda of their width; [] while runs of the grid are missing."""
    tasks, finished = grid(plan), {row['run'] for row in rows}
    if any(task.name not in finished for task in tasks):
        return []
    best = tuning.best_lambdas(rows)
    return [task for task in tasks if task.lam == best[task.width]]


def attack_best(settings: Settings, runs: Path, command: str) -> None:
    """Attacks what is not attacked yet; what another process is at is left to it.

    Raises ReportError for a finished run that cannot be read, and SystemExit(128 + signal number)
    after SIGINT or SIGTERM.
    """
    count, batch_size = settings.study.autoattack_examples, settings.base.evaluation.batch_size
    tasks = best_tasks(settings.plan, collect(runs)[0]) if count else []
    devices = jax.device_count()
    for number, task in enumerate(tasks, 1):
        if accuracy(runs / task.name, count) is not None:
            continue
        print(f'AutoAttack on {task.name}, {number} of {len(tasks)}', flush=True)
        asked = evaluation.Settings(
            str(runs / task.name), num_examples=count, stability=False, curve_examples=0,
            batch_size=-(-min(batch_size, count) // devices) * devices,  # as devices can share
        )  # fmt: skip
        try:
            evaluation.run(asked, _folder(runs / task.name, count), command)
        except WorkdirInUse:
            print(f'{task.name} is being attacked by another process.')


def with_autoattack(rows: Sequence[Row], runs: Path, count: int) -> list[Row]:
    """With the robust accuracy on so many test images, of the runs that were attacked."""
    return [{**row, 'autoattack_accuracy': accuracy(runs / row['run'], count)} for row in rows]


def accuracy(run: Path, count: int) -> float | None:
    """Under AutoAttack; None where it has not been measured. Raises ReportError."""
    path = _folder(run, count) / 'evaluation.json'
    if not path.is_file():
        return None
    found = read_file(path, read_json)
    require(path, found, ('robust_accuracy',))
    return found['robust_accuracy']


def _folder(run: Path, count: int) -> Path:
    """One for each number of images, as a study may grow."""
    return run / f'autoattack-{count}'
