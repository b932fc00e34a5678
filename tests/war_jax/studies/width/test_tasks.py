"""What each variant waits for, and its runs. Oracles: written out by hand from the planted best
lambdas, and a line through two logarithms."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.war_jax.studies.width.planted import make_study
from war_jax.studies.width.results import Row, collect
from war_jax.studies.width.tasks import TITLES, Task, method_of, variants, waits_for
from war_jax.studies.width.variants import all_tasks, extrapolated, tasks_of

PLAN: dict[str, Any] = {
    'widths': (1.0, 2.0, 4.0, 8.0), 'lams': (1.0, 3.0, 9.0), 'seeds': (0, 1), 'war': tuple(TITLES),
}  # fmt: skip


@pytest.fixture(scope='module')
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Peaks at 2 k^0.75, so 3, 3, 9 and 9 of the grid; ratios of 2 lambda / k (1 + seed)."""

    def validation(k: float, lam: float, seed: int) -> float:
        return 0.6 - 0.01 * math.log(lam / 2 / k**0.75) ** 2

    workdir = make_study(
        tmp_path_factory.mktemp('study'), widths=PLAN['widths'], seeds=PLAN['seeds'],
        validation_robust_accuracy=validation,
        risk_ratio=lambda k, lam, seed: 2.0 * lam / k * (1 + seed),
    )  # fmt: skip
    return collect(workdir / 'runs')[0]


def test_names_say_what_a_run_is():
    tasks = {
        'k0.125-lam3-seed0': Task(0.125, 3.0, 'fixed', 0),
        'k2-power_law-lam7.4-seed1': Task(2.0, 7.4, 'power_law', 1),
        'k2-war-constant-from-k0.5-lam3-seed4': Task(2.0, 3.0, 'constant', 4, ((0.5, 3.0),)),
        'k2-war-extrapolated-from-k0.5-lam3-k1-lam9-seed4': Task(
            2.0, 3.0, 'extrapolated', 4, ((0.5, 3.0), (1.0, 9.0))
        ),
    }
    for name, task in tasks.items():
        assert task.name == name and method_of(name) == task.method


def test_two_thinner_networks_are_needed_to_see_a_change():
    found = variants(PLAN)
    assert len(found) == len(set(found)) == 3 * 3 + 2 * 2
    assert {method for method, width in found if width == 2.0} == {
        'trajectory', 'constant', 'fixed_step'
    }  # fmt: skip
    assert [width for _, width in found] == sorted((width for _, width in found), reverse=True)
    assert variants({**PLAN, 'widths': (1.0,)}) == []


def test_what_each_waits_for():
    assert waits_for('power_law', 8.0, PLAN) == [1.0, 2.0, 4.0]
    assert waits_for('extrapolated', 8.0, PLAN) == [1.0, 2.0]
    assert waits_for('fixed_step', 8.0, PLAN) == waits_for('constant', 2.0, PLAN) == [1.0]


def test_the_runs_of_each(rows: list[Row]):
    assert tasks_of('fixed_step', 2.0, PLAN, rows) == [
        Task(2.0, 3.0, 'fixed_step', seed, ((1.0, 3.0),)) for seed in (0, 1)
    ]
    assert tasks_of('extrapolated', 8.0, PLAN, rows)[1] == Task(
        8.0, 3.0, 'extrapolated', 1, ((1.0, 3.0), (2.0, 3.0))
    )
    [first, _] = tasks_of('power_law', 8.0, PLAN, rows)
    assert first.lam == float(f'{2.0 * 8.0**0.75:.4g}') and not first.held_to
    assert len(all_tasks(PLAN, rows)) == len(variants(PLAN)) * 2


def test_the_power_law_sees_thinner_networks_only(rows: list[Row]):
    """The peaks at 1 and 2 are 2 and 2^1.75, whatever the others are."""
    swept = [row for row in rows if row['widen_factor'] < 4.0]
    assert tasks_of('power_law', 4.0, PLAN, swept) == tasks_of('power_law', 4.0, PLAN, rows)
    assert tasks_of('power_law', 4.0, PLAN, swept)[0].lam == float(f'{2.0 * 4.0**0.75:.4g}')
    assert tasks_of('power_law', 8.0, PLAN, swept) == []  # 4 is not there


def test_zeta_is_extrapolated_along_the_line_through_two_logarithms(rows: list[Row]):
    """Ratios of seed 1 at lambda = 3: 12 at k = 1 and 6 at k = 2, so 12 / k."""
    task = Task(8.0, 3.0, 'extrapolated', 1, ((1.0, 3.0), (2.0, 3.0)))
    assert extrapolated(task, rows) == pytest.approx(12.0 / 8.0)
    without = [{**row, 'risk_ratio': None} if row['widen_factor'] == 2.0 else row for row in rows]
    assert extrapolated(task, without) is None


def test_nothing_is_known_of_a_sweep_that_is_not_there(tmp_path: Path):
    assert all_tasks(PLAN, []) == []
