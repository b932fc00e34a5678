"""Rows and curves of planted runs. Oracle: the numbers that were planted."""

from pathlib import Path
from typing import Any

import pytest

from tests.war_jax.studies.width.planted import edit, make_study
from war_jax.lab.tables import csv_text
from war_jax.records.files import ReportError
from war_jax.studies.width.results import COLUMNS, collect, read_rows, samples, slopes


def test_a_row_holds_what_the_run_left(tmp_path: Path) -> None:
    truths: dict[str, Any] = {
        'natural_accuracy': 0.91, 'robust_accuracy': 0.52, 'perturbation_stability': 0.57,
        'robust_accuracy_all': 0.48, 'perturbation_stability_all': 0.53, 'local_lipschitz': 21.5,
        'local_lipschitz_kl_gradient': 1.25, 'natural_risk': 0.4, 'robust_regularization': 0.1,
        'margin': 3.5, 'lipschitz_by_margin': 6.25, 'natural_accuracy_train': 0.97,
        'robust_accuracy_train': 0.81, 'perturbation_stability_train': 0.82,
        'robust_accuracy_last': 0.49, 'risk_ratio': 4.0, 'validation_robust_accuracy': 0.55,
        'seconds': 12.5,
    }  # fmt: skip
    planted: dict[str, Any] = {key: lambda *_, x=value: x for key, value in truths.items()}
    workdir = make_study(
        tmp_path, widths=(2.0,), lams=(0.3,), seeds=(7,), num_validation=297, **planted
    )
    [row], curves = collect(workdir / 'runs')
    expected = {
        **{key: value for key, value in truths.items() if key != 'seconds'},
        'run': 'k2-lam0.3-seed7',
        'method': 'fixed',
        'depth': 10,
        'widen_factor': 2.0,
        'seed': 7,
        'lambda': 0.3,
        'final_lambda': 0.3,
        'reference_width': None,
        'zeta': None,
        'matched_loss': None,
        'autoattack_accuracy': None,
        'autoattack_commit': None,
        'natural_accuracy_matched': None,
        'robust_accuracy_matched': None,
        'perturbation_stability_matched': None,
        'robust_overfitting': pytest.approx(0.03),
        'num_validation': 297,
        'best_epoch': 2.0,
        'epochs': 2,
        'num_examples': 1000,
        'epsilon': 0.2,
        'norm': 'linf',
        'device_seconds': 25.0,  # two devices
        'device': '2 × cpu',
        'commit': '0123456789ab',
    }
    assert row == expected
    assert tuple(row) == COLUMNS
    [found] = curves.values()
    assert [line['robust_accuracy'] for line in found['validation']] == [0.55 - 0.1, 0.55]
    assert [line['epoch'] for line in found['train']] == [1.0, 2.0]
    assert found['target'] == []


def test_war_runs_are_told_apart_and_have_their_target(tmp_path: Path) -> None:
    workdir = make_study(
        tmp_path, widths=(1.0, 2.0), lams=(3.0,), seeds=(0,), targets=('trajectory', 'constant'),
        final_lambda=lambda k, lam, seed: 4.5,
    )  # fmt: skip
    # A wide run's own objective.lam plays no part.
    edit(
        workdir / 'runs/k2-war-trajectory-from-k1-lam3-seed0/config.json',
        lambda found: found['reference'].update(lam=3.1),
    )
    rows, curves = collect(workdir / 'runs')
    assert [
        (row['widen_factor'], row['method'], row['lambda'], row['final_lambda']) for row in rows
    ] == [
        (1.0, 'fixed', 3.0, 3.0),
        (2.0, 'constant', 3.0, 4.5),
        (2.0, 'fixed', 3.0, 3.0),
        (2.0, 'trajectory', 3.1, 4.5),
    ]
    assert [row['reference_width'] for row in rows] == [None, 1.0, None, 1.0]
    assert [row['zeta'] for row in rows] == [None, 5.0, None, 5.0]
    targets = [curves[row['run']]['target'] for row in rows]
    assert targets == [[], [5.0], [], [8.0, 5.0]]


def test_rows_are_sorted_by_numbers_not_by_names(tmp_path: Path) -> None:
    workdir = make_study(tmp_path, widths=(2.0, 10.0), lams=(3.0, 27.0), seeds=(2, 10))
    found = [
        (row['widen_factor'], row['lambda'], row['seed']) for row in collect(workdir / 'runs')[0]
    ]
    assert found == [(k, lam, seed) for k in (2, 10) for lam in (3, 27) for seed in (2, 10)]


def test_an_unfinished_run_is_left_out(tmp_path: Path) -> None:
    workdir = make_study(tmp_path, widths=(1.0,), lams=(3.0,), seeds=(0, 1))
    (workdir / 'runs/k1-lam3-seed0/summary.json').unlink()
    rows, curves = collect(workdir / 'runs')
    assert [row['seed'] for row in rows] == [1]
    assert list(curves) == ['k1-lam3-seed1']
    assert collect(tmp_path / 'none') == ([], {})


def test_the_validation_of_the_selected_checkpoint_counts_not_the_last(tmp_path: Path) -> None:
    workdir = make_study(
        tmp_path, widths=(1.0,), lams=(3.0,), seeds=(0,), validation_robust_accuracy=lambda *_: 0.5
    )
    edit(
        workdir / 'runs/k1-lam3-seed0/summary.json', lambda found: found.update(best_step=10)
    )
    assert collect(workdir / 'runs')[0][0]['validation_robust_accuracy'] == 0.4


@pytest.mark.parametrize(
    ('file', 'change', 'message'),
    [
        ('summary.json', lambda found: found.pop('last'), 'earlier version.*another --workdir'),
        ('summary.json', lambda found: found.pop('risk_ratio'), 'summary.json: no risk_ratio'),
        ('summary.json', lambda found: found.update(best_step=15), 'no validation at step 15'),
        ('config.json', lambda found: found['config'].pop('war'), 'config.json: config: no war'),
    ],
)
def test_a_run_that_cannot_be_read_is_named(
    tmp_path: Path, file: str, change: Any, message: str
) -> None:
    workdir = make_study(tmp_path, widths=(1.0,), lams=(3.0,), seeds=(0,))
    edit(workdir / 'runs/k1-lam3-seed0' / file, change)
    with pytest.raises(ReportError, match=message):
        collect(workdir / 'runs')


def test_csv_reads_back_exactly(tmp_path: Path) -> None:
    awkward = 0.1 + 0.2  # 0.30000000000000004
    workdir = make_study(
        tmp_path, widths=(0.125, 0.25), lams=(1 / 3,), seeds=(0,), targets=('constant',),
        natural_accuracy=lambda *_: awkward, risk_ratio=lambda *_: None, num_validation=32,
    )  # fmt: skip
    rows, _ = collect(workdir / 'runs')
    text = csv_text(COLUMNS, rows)
    assert text.count('\n') == 4 and '\r' not in text
    (tmp_path / 'rows.csv').write_text(text)
    read = read_rows(tmp_path / 'rows.csv')
    assert read == rows
    assert [list(map(type, row.values())) for row in read] == [
        list(map(type, row.values())) for row in rows
    ]


def test_rows_of_before_the_number_of_validation_images_was_kept(tmp_path: Path) -> None:
    (tmp_path / 'rows.csv').write_text('run,widen_factor,seed\nk2-lam3-seed0,2.0,0\n')
    [row] = read_rows(tmp_path / 'rows.csv')
    assert (row['run'], row['widen_factor'], row['seed']) == ('k2-lam3-seed0', 2.0, 0)
    assert row['num_validation'] is None
    (tmp_path / 'rows.csv').write_text('folder,name\n')
    with pytest.raises(ValueError, match='no rows of runs'):
        read_rows(tmp_path / 'rows.csv')


def test_samples_are_of_constant_lambda_by_seed(tmp_path: Path) -> None:
    workdir = make_study(
        tmp_path, widths=(1.0, 2.0), lams=(1.0, 3.0), seeds=(0, 1), targets=('constant',),
        robust_accuracy=lambda k, lam, seed: (10 * k + lam + seed / 10) / 100,
        risk_ratio=lambda k, lam, seed: None if (k, seed) == (1.0, 1) else 5.0,
    )  # fmt: skip
    rows, _ = collect(workdir / 'runs')
    by_width = samples(rows, 'robust_accuracy', 'widen_factor', 'lambda', 3.0)
    assert by_width == {
        1.0: pytest.approx({0: 0.13, 1: 0.131}), 2.0: pytest.approx({0: 0.23, 1: 0.231})
    }  # fmt: skip
    by_lambda = samples(rows, 'robust_accuracy', 'lambda', 'widen_factor', 2.0)
    assert {lam: set(values) for lam, values in by_lambda.items()} == {1.0: {0, 1}, 3.0: {0, 1}}
    assert samples(rows, 'risk_ratio', 'widen_factor', 'lambda', 3.0)[1.0] == {0: 5.0}
    # 10 points and no more with the one doubling
    assert slopes(rows, 'robust_accuracy', 3.0) == pytest.approx({0: 10.0, 1: 10.0})
    assert slopes(rows, 'robust_accuracy', 9.0) == {}
