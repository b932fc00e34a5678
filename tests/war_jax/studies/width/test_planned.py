"""Which runs belong to a study that has changed since they were made. Oracle: what was planted."""

import csv
import math
from pathlib import Path

import pytest

from tests.war_jax.studies.width.planted import edit, make_study
from war_jax.studies.width import pictures
from war_jax.studies.width.report import write_report


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time."""
    monkeypatch.setattr(pictures, 'draw', lambda *_: [])


def test_runs_that_are_no_longer_planned_are_left_out(tmp_path: Path) -> None:
    """Lambda 27 and seed 2 were dropped; then another lambda became the thin network's best."""
    make_study(tmp_path / 'study', targets=('trajectory',), lams=(1.0, 3.0, 9.0, 27.0))
    plan = {'widths': [1.0, 2.0, 4.0], 'lams': [1.0, 3.0, 9.0], 'seeds': [0, 1]}
    edit(
        tmp_path / 'study/study.json',
        lambda found: found.update(study={**plan, 'war': ['trajectory']}),
    )
    write_report(tmp_path / 'study')
    with (tmp_path / 'study/study.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3 * 2 + 2 * 2
    assert {row['lambda'] for row in rows} == {'1.0', '3.0', '9.0'}
    assert {row['seed'] for row in rows} == {'0', '1'}

    def worse(found: dict) -> None:
        found['best_step'] = 10  # whose validation robust accuracy is 0.1 lower

    for seed in (0, 1):
        edit(tmp_path / f'study/runs/k1-fixed-lam3-seed{seed}/summary.json', worse)
    write_report(tmp_path / 'study')
    with (tmp_path / 'study/study.csv').open(newline='') as file:
        assert {row['method'] for row in csv.DictReader(file)} == {'fixed'}


def test_war_runs_of_another_thin_network_are_left_out(tmp_path: Path) -> None:
    """Width 1 was dropped: width 2 is the thin network now, with the same best lambda."""
    def peak(k: float, lam: float, seed: int) -> float:
        return 0.5 - 0.1 * abs(math.log(lam / 3))

    make_study(tmp_path / 'study', targets=('constant',), validation_robust_accuracy=peak)
    plan = {'widths': [2.0, 4.0], 'lams': [1.0, 3.0, 9.0], 'seeds': [0, 1, 2], 'war': ['constant']}
    edit(tmp_path / 'study/study.json', lambda found: found.update(study=plan))
    for name in ('constant-lam3-seed0', 'constant-lam3-seed1'):  # as if run again since
        edit(
            tmp_path / f'study/runs/k4-{name}/config.json',
            lambda found: found['reference'].update(widen_factor=2.0),
        )
    text = write_report(tmp_path / 'study').read_text()
    with (tmp_path / 'study/study.csv').open(newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['method'] != 'fixed']
    assert [(row['run'], row['reference_width']) for row in rows] == [
        ('k4-constant-lam3-seed0', '2.0'), ('k4-constant-lam3-seed1', '2.0')
    ]  # fmt: skip
    assert '- width 4, WAR (target: constant): seed 2\n' in text
