"""AutoAttack on the networks of each width's best lambda, once the grid is trained.

    attack_best(settings, Path('runs/study/runs'), command)      # runs/NAME/autoattack-100/...
    rows = with_autoattack(rows, Path('runs/study/runs'), 100)   # column autoattack_accuracy

A study's verdicts rest on PGD, which is what lambda is chosen by; AutoAttack (Croce and Hein 2020)
takes hundreds of times as long, so that only the networks are attacked that an answer is about: at
each width, of each seed the one at the lambda that is best on validation images. What it leaves in
a run's folder is what `python -m war_jax.evaluate` does, and goes on after an interruption alike.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from war_jax.config_rules import ConfigError
from war_jax.processes import on_first
from war_jax.records.files import read_file, read_json, require
from war_jax.records.provenance import WorkdirInUse
from war_jax.robustness import run as evaluation
from war_jax.studies.width import tuning
from war_jax.studies.width.results import Row, collect
from war_jax.studies.width.settings import Settings
from war_jax.studies.width.tasks import Plan, Task, grid
from war_jax.training.checkpoint import UnreadableError


def best_tasks(plan: Plan, rows: Sequence[Row]) -> list[Task]:
    """Those at the best lambda of their width; [] while runs of the grid are missing."""
    tasks = grid(plan)
    names = {task.name for task in tasks}
    swept = [row for row in rows if row['run'] in names]  # a study may have been larger before
    if len(swept) < len(tasks):
        return []
    best = tuning.best_lambdas(swept)
    return [task for task in tasks if task.lam == best[task.width]]


def attack_best(settings: Settings, runs: Path, command: str) -> dict[str, str]:
    """Attacks what is not attacked yet; what another process is at is left to it.

    Returns why an attack could not be made, by the name of the run. Raises ReportError for a
    finished run that cannot be read, and SystemExit(128 + signal number) after SIGINT or SIGTERM.
    """
    count, batch_size = settings.study.autoattack_examples, settings.base.evaluation.batch_size
    if not count:
        return {}
    failed: dict[str, str] = {}
    # Processes of one job must not see different files.
    names = on_first(lambda: [t.name for t in best_tasks(settings.plan, collect(runs)[0])])
    if not names:
        print('AutoAttack waits until all runs of the grid are finished.')
    devices = jax.device_count()
    for number, name in enumerate(names, 1):
        if on_first(partial(_read, runs / name, count)):
            continue
        print(f'AutoAttack on {name}, {number} of {len(names)}', flush=True)
        asked = evaluation.Settings(
            str(runs / name), num_examples=count, stability=False, curve_examples=0,
            batch_size=-(-min(batch_size, count) // devices) * devices,  # as devices can share
        )  # fmt: skip
        try:
            evaluation.run(asked, _folder(runs / name, count), command)
        except WorkdirInUse:
            print(f'{name} is being attacked by another process.')
        except (ConfigError, UnreadableError) as error:  # of this network; the others go on
            failed[name] = str(error)
    return failed


def with_autoattack(rows: Sequence[Row], runs: Path, count: int) -> list[Row]:
    """With the robust accuracy on so many test images, of the runs that were attacked."""
    return [{**row, **_read(runs / row['run'], count)} for row in rows]


def _read(run: Path, count: int) -> dict[str, Any]:
    """The columns of an attacked run; {} of any other. Raises ReportError."""
    path = _folder(run, count) / 'evaluation.json'
    if not path.is_file():
        return {}
    found = read_file(path, read_json)
    require(path, found, ('robust_accuracy', 'origin'))
    return {
        'autoattack_accuracy': found['robust_accuracy'],
        'autoattack_commit': found['origin']['commit'],
    }


def _folder(run: Path, count: int) -> Path:
    """One for each number of images, as a study may grow."""
    return run / f'autoattack-{count}'
