"""AutoAttack on the networks of the best lambdas. Oracles: planted accuracies, and the grid.

The attack itself is tested in tests/war_jax/robustness; here it is a stand-in that writes what one
leaves.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.war_jax.studies.width.planted import edit, make_study
from tests.war_jax.studies.width.test_study_report import table_under
from war_jax.config import ConfigError
from war_jax.lab.verdicts import SUPPORTED
from war_jax.records.provenance import WorkdirInUse
from war_jax.studies.width import autoattack, findings, pictures, runner
from war_jax.studies.width.autoattack import attack_best, best_tasks, evaluation
from war_jax.studies.width.results import collect, read_rows
from war_jax.studies.width.study import read_study

COUNT = 100
# Planted in the three widths: the best lambda is 3 at the thinnest and 9 at the widest.
BEST = {'k1-lam3', 'k2-lam3', 'k4-lam9'}


def validation(k: float, lam: float, seed: int) -> float:
    return 0.6 - 0.1 * abs(math.log(lam / (9 if k == 4 else 3)))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pictures, 'draw', lambda *_: [])
    folder = make_study(tmp_path / 'study', validation_robust_accuracy=validation)
    edit(folder / 'study.json', lambda found: found['study'].update(autoattack_examples=COUNT))
    return folder


def settings(folder: Path, count: int = COUNT) -> Any:
    plan = json.loads((folder / 'study.json').read_text())['study']
    plan = {**plan, 'autoattack_examples': count}
    base = SimpleNamespace(evaluation=SimpleNamespace(batch_size=30))
    chosen = SimpleNamespace(autoattack_examples=count)
    return SimpleNamespace(plan=plan, study=chosen, base=base)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was to be evaluated; the accuracies rise by 10 points a doubling."""
    found: list[Any] = []

    def stand_in(chosen: Any, workdir: Path, command: str) -> None:
        found.append(chosen)
        width = float(Path(chosen.checkpoint).name.split('-')[0][1:])
        workdir.mkdir()
        contents = {'robust_accuracy': 0.3 + 0.1 * math.log2(width), 'origin': {'commit': 'fedc'}}
        (workdir / 'evaluation.json').write_text(json.dumps(contents))

    monkeypatch.setattr(evaluation, 'run', stand_in)
    return found


def attacked(study: Path, count: int = COUNT) -> set[str]:
    return {path.parent.name for path in study.glob(f'runs/*/autoattack-{count}')}


def test_each_width_is_attacked_at_its_best_lambda_and_once(study: Path, asked: list[Any]):
    attack_best(settings(study), study / 'runs', 'python -m x')
    assert attacked(study) == {f'{name}-seed{seed}' for name in BEST for seed in range(3)}
    assert len(asked) == 9
    assert {(s.attack, s.num_examples) for s in asked} == {('autoattack', COUNT)}
    assert {s.batch_size for s in asked} == {32}, 'four devices share it'
    attack_best(settings(study), study / 'runs', 'python -m x')
    assert len(asked) == 9, 'what is there is not attacked again'
    attack_best(settings(study, 200), study / 'runs', 'python -m x')
    assert attacked(study, 200) == attacked(study) and len(asked) == 18


def test_nothing_is_attacked_unasked_or_while_the_grid_is_unfinished(
    study: Path, asked: list[Any], capsys
):
    attack_best(settings(study, 0), study / 'runs', 'python -m x')
    (study / 'runs' / 'k1-lam9-seed2' / 'summary.json').unlink()
    assert attack_best(settings(study), study / 'runs', 'python -m x') == {}
    assert 'waits until all runs' in capsys.readouterr().out
    assert not asked and best_tasks(settings(study).plan, collect(study / 'runs')[0]) == []


def test_runs_of_an_earlier_larger_plan_choose_no_network(study: Path, asked: list[Any]):
    """Without lambda = 9 and the third seed, whose runs are still there, 3 is the best of all."""
    smaller = settings(study)
    smaller.plan.update(lams=(1.0, 3.0), seeds=(0, 1))
    assert {task.name for task in best_tasks(smaller.plan, collect(study / 'runs')[0])} == {
        f'k{k}-lam3-seed{seed}' for k in (1, 2, 4) for seed in (0, 1)
    }


def test_one_that_cannot_be_attacked_does_not_stop_the_others(
    study: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch, capsys
):
    real = evaluation.run

    def refuses_one(chosen: Any, workdir: Path, command: str) -> None:
        if 'k2' in chosen.checkpoint:
            raise WorkdirInUse('in use')
        if 'seed1' in chosen.checkpoint:
            raise ConfigError('this run has no checkpoint yet')
        real(chosen, workdir, command)

    monkeypatch.setattr(autoattack.evaluation, 'run', refuses_one)
    failed = attack_best(settings(study), study / 'runs', 'python -m x')
    assert failed == {
        f'{name}-seed1': 'this run has no checkpoint yet' for name in ('k1-lam3', 'k4-lam9')
    }
    assert len(attacked(study)) == 4
    assert capsys.readouterr().out.count('by another process') == 3


def test_claim_answer_and_table_say_what_was_found(study: Path, asked: list[Any]):
    before = {claim.name: claim for claim in findings.evaluate(read_study(study))}
    assert before['best_lambda_autoattack_accuracy'].effect is None
    # Of the made-up accuracies: 0.02 below those on validation images, which are 0.6 at the best.
    pgd = before['best_lambda_robust_accuracy']
    assert pgd.effect is not None and 'λ = 3, 3, 9' in pgd.how
    attack_best(settings(study), study / 'runs', 'python -m x')
    text = findings.write_report(study).read_text()
    found = {claim.name: claim for claim in findings.evaluate(read_study(study))}
    claim = found['best_lambda_autoattack_accuracy']
    assert claim.verdict == SUPPORTED and claim.effect == pytest.approx(10.0)
    assert claim.how.endswith('on 100 of the test images by commit fedc.')
    assert 'and under AutoAttack by 10.00 (10.00 to 10.00)' in text
    table = table_under(text, 'Under AutoAttack, each width at its best λ')
    assert [row[:3] for row in table[1:4]] == [['1', '3', '3'], ['2', '3', '3'], ['4', '9', '3']]
    assert [row[6].split()[0] for row in table[1:4]] == ['30.0', '40.0', '50.0']
    kept = {row['run']: row['autoattack_accuracy'] for row in read_rows(study / 'rows.csv')}
    assert kept['k4-lam9-seed0'] == pytest.approx(0.5) and kept['k4-lam3-seed0'] is None


def test_the_claim_at_the_best_lambda_is_of_that_lambda_alone(tmp_path: Path):
    """Planted: a point more per doubling at equal lambda, and two from lambda 3 to 9."""
    study = make_study(
        tmp_path / 'study', validation_robust_accuracy=validation,
        robust_accuracy=lambda k, lam, seed: (
            0.3 + 0.01 * math.log2(k) + (0.02 if lam == 9 else 0) + 0.001 * seed
        ),
    )  # fmt: skip
    found = {claim.name: claim for claim in findings.evaluate(read_study(study))}
    claim = found['best_lambda_robust_accuracy']
    assert claim.effect == pytest.approx(2.0)  # of 30, 31 and 34: the slope of three points
    assert 'best_lambda_autoattack_accuracy' not in found


def test_a_study_attacks_behind_its_grid_and_before_its_report(tmp_path: Path, monkeypatch):
    from tests.war_jax.studies.width import test_runner

    test_runner.stand_in(monkeypatch)
    monkeypatch.setattr(pictures, 'draw', lambda *_: [])
    seen = []

    def attack(settings: Any, runs: Path, command: str) -> dict[str, str]:
        grid = len(list(runs.glob('*/summary.json')))
        seen.append((settings.study.autoattack_examples, grid, (tmp_path / 'report.md').exists()))
        return {'k0.25-lam1-seed0': 'damaged'}

    monkeypatch.setattr(runner, 'attack_best', attack)
    assert test_runner.run(tmp_path, {'study.autoattack_examples': 7}) == 1
    assert seen == [(7, 5, False)] and (tmp_path / 'report.md').exists()


def test_more_images_than_there_are_is_refused_before_anything_is_trained(tmp_path: Path):
    from tests.war_jax.studies.width.test_runner import run

    with pytest.raises(ConfigError, match='autoattack_examples = 501: must be at most 500'):
        run(tmp_path / 'new', {'study.autoattack_examples': 501})
    assert not (tmp_path / 'new').exists()
