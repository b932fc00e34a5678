"""One bar for a whole study, in place of the bars of its runs.

    with Overview(settings, tasks, runs_dir) as overview:
        display = overview.display(task)             # what `war_jax.run.finish` shows itself on
        overview.done(task)
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from war_jax.records.console import Display, NoBar, QuietDisplay, progress_bar
from war_jax.studies.width.settings import Settings, Task


class Overview:
    """Progress of `tasks` in units of work: epochs, times what one of its width costs relative to
    those of the thinnest networks."""

    def __init__(self, settings: Settings, tasks: Sequence[Task], runs_dir: Path):
        self.epochs = settings.base.optimizer.epochs
        self._lock = threading.Lock()
        self._runs = len(tasks)
        finished = [task for task in tasks if (runs_dir / task.name / 'summary.json').exists()]
        self._finished = set(finished)
        self._epochs_done = {task: self.epochs for task in finished}
        total = sum(self.work(task) for task in tasks)
        self._bar = progress_bar('study', total, sum(self.work(task) for task in finished))

    def work(self, task: Task) -> int:
        return self.epochs * self._per_epoch(task)

    def _per_epoch(self, task: Task) -> int:
        # A rough guess, of a fixed cost and one that grows with the channels' square: only the
        # remaining time that is shown depends on it.
        return round(1 + 2 * task.width**2)

    def __enter__(self) -> 'Overview':
        self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def display(self, task: Task) -> Display:
        return _Display(self, task)

    def reached(self, task: Task, epochs: int) -> None:
        """So many epochs of it are done."""
        with self._lock:
            new = epochs - self._epochs_done.get(task, 0)
            self._epochs_done[task] = epochs
            self._bar.update(new * self._per_epoch(task))

    def done(self, task: Task) -> None:
        """It is finished, whoever did it."""
        self.reached(task, self.epochs)
        with self._lock:
            self._finished.add(task)
            count = f'{len(self._finished)} of {self._runs} runs'
            self._bar.set_postfix_str(f'{count}, last {task.name}')


class _Display(QuietDisplay):
    """A run's display that moves the study's bar and says nothing."""

    def __init__(self, overview: Overview, task: Task):
        self._overview, self._task = overview, task

    def bar(self, name: str, total: int, initial: int = 0, leave: bool = True) -> Any:
        if name == 'train':
            return _TrainBar(self._overview, self._task, total, initial)
        return super().bar(name, total, initial, leave)


class _TrainBar(NoBar):
    """Counts steps and passes epochs on."""

    def __init__(self, overview: Overview, task: Task, total: int, initial: int):
        self._overview, self._task = overview, task
        self._total, self._done = total, initial

    def update(self, n: int = 1) -> None:
        self._done += n
        self._overview.reached(self._task, self._done * self._overview.epochs // self._total)

    def __enter__(self) -> '_TrainBar':
        return self

    def __exit__(self, *_: object) -> None:
        pass
