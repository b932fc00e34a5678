"""What is there of a study that may have changed since it was made. Oracle: what was planted."""

import math
import shutil
from pathlib import Path

import pytest

from tests.war_jax.studies.width.planted import edit, make_study
from war_jax.lab.tables import csv_text
from war_jax.records.files import ReportError
from war_jax.studies.width.findings import decide
from war_jax.studies.width.results import COLUMNS
from war_jax.studies.width.study import missing, read_study


def test_runs_that_are_no_longer_planned_are_left_out(tmp_path: Path) -> None:
    """Lambda 27 and seed 2 were dropped; then another lambda became the thin network's best."""
    make_study(tmp_path / 'study', targets=('trajectory',), lams=(1.0, 3.0, 9.0, 27.0))
    plan = {'widths': [1.0, 2.0, 4.0], 'lams': [1.0, 3.0, 9.0], 'seeds': [0, 1]}
    edit(
        tmp_path / 'study/study.json',
        lambda found: found.update(study={**plan, 'war': ['trajectory']}),
    )
    rows = read_study(tmp_path / 'study').rows
    assert len(rows) == 3 * 3 * 2 + 2 * 2
    assert {row['lambda'] for row in rows} == {1.0, 3.0, 9.0}
    assert {row['seed'] for row in rows} == {0, 1}

    def worse(found: dict) -> None:
        found['best_step'] = 10  # whose validation robust accuracy is 0.1 lower

    for seed in (0, 1):
        edit(tmp_path / f'study/runs/k1-lam3-seed{seed}/summary.json', worse)
    assert {row['method'] for row in read_study(tmp_path / 'study').rows} == {'fixed'}


def test_war_runs_of_another_thin_network_are_left_out(tmp_path: Path) -> None:
    """Width 1 was dropped: width 2 is the thin network now, with the same best lambda."""
    def peak(k: float, lam: float, seed: int) -> float:
        return 0.5 - 0.1 * abs(math.log(lam / 3))

    make_study(tmp_path / 'study', targets=('constant',), validation_robust_accuracy=peak)
    plan = {'widths': [2.0, 4.0], 'lams': [1.0, 3.0, 9.0], 'seeds': [0, 1, 2], 'war': ['constant']}
    edit(tmp_path / 'study/study.json', lambda found: found.update(study=plan))
    for seed in (0, 1):  # as if run again since
        folder = tmp_path / f'study/runs/k4-war-constant-from-k1-lam3-seed{seed}'
        edit(
            folder / 'config.json', lambda found: found['reference'].update(widen_factor=2.0)
        )
        folder.rename(folder.with_name(f'k4-war-constant-from-k2-lam3-seed{seed}'))
    study = read_study(tmp_path / 'study')
    adjusted = [row for row in study.rows if row['method'] != 'fixed']
    assert [(row['run'], row['reference_width']) for row in adjusted] == [
        ('k4-war-constant-from-k2-lam3-seed0', 2.0), ('k4-war-constant-from-k2-lam3-seed1', 2.0)
    ]  # fmt: skip
    assert study.missing == ['width 4, WAR (target: constant): seed 2']


def test_two_small_files_decide_as_the_whole_study_does(tmp_path: Path) -> None:
    whole = make_study(tmp_path / 'study', targets=('trajectory',), num_validation=300)
    kept = tmp_path / 'docs/studies/width_planted'
    kept.mkdir(parents=True)
    shutil.copy(whole / 'study.json', kept)
    (kept / 'rows.csv').write_text(csv_text(COLUMNS, read_study(whole).rows))
    claims, provenance = decide(whole)
    assert decide(kept) == (claims, provenance)
    assert len(claims) == 13 and {claim.verdict for claim in claims} > {'supported'}
    assert provenance['command'].startswith('python -m war_jax.studies.width')
    assert {'commit', 'data'} <= provenance.keys()


def test_missing_ignores_where_war_started() -> None:
    plan = {'widths': [1.0, 2.0], 'lams': [3.0], 'seeds': [0], 'war': ['constant']}
    row = {'run': 'k2-war-constant-from-k1-lam9-seed0', 'method': 'constant', 'widen_factor': 2.0,
           'seed': 0}  # fmt: skip
    fixed = [
        {'run': f'k{k}-lam3-seed0', 'method': 'fixed', 'widen_factor': k, 'seed': 0} for k in (1, 2)
    ]
    assert missing(plan, [row, *fixed]) == []
    assert missing(plan, fixed) == ['width 2, WAR (target: constant): seed 0']
    assert missing(plan, fixed[:1]) == [
        'width 2, constant λ: λ = 3 seed 0', 'width 2, WAR (target: constant): seed 0'
    ]  # fmt: skip


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r'missing study\.json'):
        read_study(tmp_path)
    assert list(tmp_path.iterdir()) == []
