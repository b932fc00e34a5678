"""One bar for a study. Oracle: the epochs of the tasks, counted by hand."""

from pathlib import Path
from typing import Any

import pytest

from configs import width_study
from war_jax.studies.width import progress
from war_jax.studies.width.progress import Overview
from war_jax.studies.width.settings import Settings, resolve_study
from war_jax.studies.width.tasks import Task

THIN, WIDE = Task(0.125, 1.0, 'fixed', 0), Task(2.0, 1.0, 'fixed', 0)


class Bar:
    """Keeps what it is told."""

    def __init__(self, name: str, total: int, initial: int):
        self.name, self.total, self.done, self.postfix = name, total, initial, ''

    def update(self, n: int) -> None:
        self.done += n

    def set_postfix_str(self, s: str) -> None:
        self.postfix = s

    def __enter__(self) -> 'Bar':
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def bars(monkeypatch) -> list[Bar]:
    made: list[Bar] = []

    def make(*arguments: Any) -> Bar:
        made.append(Bar(*arguments))
        return made[-1]

    monkeypatch.setattr(progress, 'progress_bar', make)
    return made


def settings() -> Settings:
    return resolve_study(width_study.get_config('smoke'))  # two epochs a run


def finish(runs: Path, task: Task) -> None:
    (runs / task.name).mkdir(parents=True)
    (runs / task.name / 'summary.json').touch()


def test_wide_runs_count_more_and_finished_ones_are_counted(bars, tmp_path: Path) -> None:
    """1 + 2 k^2, rounded: 1 for the thin one, 9 for the wide one, twice."""
    finish(tmp_path, THIN)
    with Overview(settings(), [THIN, WIDE], tmp_path):
        pass
    [bar] = bars
    assert (bar.total, bar.done) == (2 * 1 + 2 * 9, 2)


def test_the_steps_of_a_run_move_the_bar_by_whole_epochs(bars, tmp_path: Path) -> None:
    with Overview(settings(), [WIDE], tmp_path) as overview:
        display = overview.display(WIDE)
        seen = []
        with display.bar('train', total=6) as bar:
            for _ in range(6):
                bar.update()
                seen.append(bars[0].done)
            bar.set_postfix_str('λ 3')
        with display.bar('test', total=4) as bar:
            bar.update()
        assert seen == [0, 0, 9, 9, 9, 18] and bars[0].done == 18


def test_a_resumed_run_moves_the_bar_by_what_was_done_before_too(bars, tmp_path: Path) -> None:
    with Overview(settings(), [WIDE], tmp_path) as overview:
        with overview.display(WIDE).bar('train', total=6, initial=3) as bar:
            for _ in range(3):
                bar.update()
        assert bars[0].done == bars[0].total


def test_the_bar_names_the_last_run_and_says_how_many_there_are(bars, tmp_path: Path) -> None:
    finish(tmp_path, THIN)
    with Overview(settings(), [THIN, WIDE], tmp_path) as overview:
        overview.done(THIN)  # looked at again, not finished twice
        assert bars[0].postfix == f'1 of 2 runs, last {THIN.name}'
        overview.done(WIDE)
        assert bars[0].postfix == f'2 of 2 runs, last {WIDE.name}'


def test_a_run_that_another_process_finished_moves_the_bar(bars, tmp_path: Path) -> None:
    with Overview(settings(), [THIN, WIDE], tmp_path) as overview:
        overview.done(WIDE)
        assert (bars[0].done, bars[0].total) == (18, 20)


def test_runs_are_silent(bars, tmp_path: Path, capsys) -> None:
    with Overview(settings(), [WIDE], tmp_path) as overview:
        overview.display(WIDE).say('WRN-10-2 (4,000 parameters)')
    assert capsys.readouterr() == ('', '')
