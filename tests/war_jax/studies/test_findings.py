"""The page of findings, from planted verdicts and from a toy study; and the one in the repository.

Oracles: what was planted; the toy's known answer; a verdict decided anew from the committed rows.
"""

import importlib
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.war_jax.lab.toy_settings import Settings
from tests.war_jax.lab.toy_study import EXPERIMENT as TOY
from war_jax.lab.experiment import run
from war_jax.lab.settings import read
from war_jax.lab.verdicts import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Record,
    judge_paper,
    read_verdicts,
)
from war_jax.records.files import read_json, write_json
from war_jax.studies import catalogue, findings
from war_jax.studies.findings import ROOT, decide_again, main, page

FAILED = subprocess.CompletedProcess([], 3)
KEPT = sorted(path.parent for path in (ROOT / 'docs' / 'studies').glob('*/study.json'))


def planted(name: str, verdict: str, p_value: float | None = 0.001) -> Record:
    return Record(
        name, f'Claim {name}', verdict, 1.0, 0.5, 1.5, 'points', 5, 'a rule', 'how', '', p_value,
        'python -m x', 'abc', 'digits',
    )  # fmt: skip


def toy(workdir: Path) -> Path:
    settings = {'power': 2.0, 'grid': {'sizes': (2, 4, 8), 'seeds': (0, 1, 2)}}
    run(TOY, read(Settings, settings), workdir, 'python -m toy')
    return workdir


def test_a_paper_needs_all_its_claims():
    needed = ('a', 'b')
    assert judge_paper({'a': SUPPORTED, 'b': SUPPORTED}, needed) == 'supported'
    assert judge_paper({'a': SUPPORTED, 'b': UNDECIDED}, needed) == 'not reproduced'
    assert judge_paper({'a': CONTRADICTED, 'b': CONTRADICTED}, needed) == 'contradicted'
    assert judge_paper({'a': SUPPORTED}, needed) == 'not measured'


def test_page_shows_both_verdicts_and_the_size_of_the_family():
    claims = [planted(f'margin_{i}', SUPPORTED, 0.02) for i in range(4)]
    text = page({'epsilon_a': claims, 'capacity': [planted('width_ratio', CONTRADICTED, None)]})
    # 4 x 0.02 is above 5 %: none survives the correction; what has no test is not corrected.
    assert text.count('| supported | undecided | Claim margin') == 4
    assert '| contradicted | — | Claim width' in text
    assert '4 tested claims on paper C' in text and 'paper B' not in text.split('## Which')[1][:900]
    single = page({'epsilon_a': [replace(claims[0])]})
    assert '| supported | supported | Claim margin' in single


def test_every_claim_of_a_kept_study_stands_in_the_page_once():
    studies = {path.name: read_verdicts(path / 'verdicts.json') for path in KEPT}
    kept = [(name, record.name) for name, found in studies.items() for record in found]
    shown = [
        (name, record.name)
        for question in findings.QUESTIONS
        for name, record in findings._of(question, studies)
    ]
    assert kept and sorted(shown) == sorted(kept)


def test_a_study_is_kept_and_decided_again(tmp_path: Path, capsys):
    workdir = toy(tmp_path / 'work')
    assert main([f'ntk_toy={workdir}'], tmp_path) == 0
    kept = tmp_path / 'docs' / 'studies' / 'ntk_toy'
    assert {path.name for path in kept.iterdir()} == {'study.json', 'rows.csv', 'verdicts.json'}
    assert read_verdicts(kept / 'verdicts.json') == read_verdicts(workdir / 'verdicts.json')
    assert 'The value grows' in (tmp_path / 'docs' / 'findings.md').read_text('utf-8')
    # Rows that say something else are decided otherwise, without training.
    text = (kept / 'rows.csv').read_text().replace(',16.0', ',1.0').replace(',64.0', ',0.5')
    (kept / 'rows.csv').write_text(text)
    (record,) = decide_again(kept)
    assert record.verdict != SUPPORTED


@pytest.mark.parametrize(
    'name',
    [
        'war_jax.studies.width', 'war_jax.studies.regularization', 'ntk.studies.width',
        'ntk.studies.dynamics', 'ntk.studies.convergence', 'ntk.studies.capacity',
        'ntk.studies.adversarial', 'ntk.studies.theorem',
    ],
)  # fmt: skip
def test_every_experiment_can_be_decided_again(name: str):
    """By the module that its study.json names: it is there, and has what `decide_again` calls."""
    module = importlib.import_module(f'{name}.findings')
    experiment = getattr(module, 'EXPERIMENT', None)
    if experiment is None:
        assert callable(module.decide)
    else:
        assert experiment.name == module.__name__


def test_what_is_no_study_is_refused(tmp_path: Path, capsys):
    workdir = toy(tmp_path / 'work')
    (tmp_path / 'empty').mkdir()
    capsys.readouterr()
    for argument in ('runs', f'epsilon={tmp_path / "empty"}', f'other={workdir}'):
        assert main([argument], tmp_path / 'root') == 2
        assert capsys.readouterr().err.count('\n') == 1
    study = read_json(workdir / 'study.json')
    write_json(workdir / 'study.json', {**study, 'experiment': 'nowhere.to_be_found'})
    assert main([f'ntk_toy={workdir}'], tmp_path / 'root') == 2
    assert 'its experiment is not there' in capsys.readouterr().err


def test_numbers_are_kept_to_the_digits_that_all_processors_share():
    record = replace(planted('x', SUPPORTED), effect=0.1 + 0.2, low=None, p_value=1 / 3)
    rounded = findings._rounded(record)
    assert (rounded.effect, rounded.low, rounded.p_value) == (0.3, None, 0.333333333333)
    assert replace(rounded, effect=record.effect, p_value=record.p_value) == record


def test_catalogue(tmp_path: Path, capsys, monkeypatch):
    assert catalogue.main(['capacty']) == 2
    assert 'nearest: capacity' in capsys.readouterr().err
    assert catalogue.main([]) == 0
    out = capsys.readouterr().out
    assert out.count('python -m ') == sum(len(study.commands) for study in catalogue.STUDIES)
    asked: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(catalogue, 'run', asked.append)
        for names in ([], ['all'], ['scaling', 'capacity', 'scaling']):
            catalogue.main(['--run', *names])
    papers, everything, named = asked
    assert 'cifar10' not in str(papers) and sum(study.minutes for study in papers) <= 180
    assert set(papers) < set(everything) == set(catalogue.STUDIES)
    assert [study.name for study in named] == ['scaling', 'capacity']
    # A command that fails ends it with its code, and nothing is kept.
    monkeypatch.chdir(tmp_path)
    broken = catalogue.Study('ntk_toy', 'war_jax.main --no_such_flag', 1)
    assert catalogue.run([broken], tmp_path) == 2
    assert not broken.is_finished
    # Of two commands the second is not run, where the first one fails.
    given: list[Any] = []
    monkeypatch.setattr(catalogue.subprocess, 'run', lambda c: given.append(c) or FAILED)
    [both] = [study for study in catalogue.STUDIES if study.name == 'ntk_run']
    assert catalogue.run([both], tmp_path) == 3
    assert [command[2] for command in given] == ['war_jax.studies.width']
    assert both.commands == [
        "war_jax.studies.width --config=configs/width_study.py '--config.study.lams=(3.0,)' "
        "'--config.study.war=()' --config.ntk.every=80 --workdir=runs/findings/ntk_run_runs",
        'ntk.main --config=configs/ntk_run.py --run=runs/findings/ntk_run_runs '
        '--workdir=runs/findings/ntk_run',
    ]


@pytest.mark.parametrize('folder', KEPT, ids=lambda folder: folder.name)
def test_committed_verdicts_are_what_the_committed_rows_give(folder: Path):
    """Up to rounding, which differs from one kind of processor to another."""
    found, kept = decide_again(folder), read_verdicts(folder / 'verdicts.json')
    for one, other in zip(found, kept, strict=True):
        expected = {
            name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            for name, value in asdict(other).items()
        }
        assert asdict(one) == expected


def test_the_page_in_the_repository_is_that_of_its_verdicts():
    studies = {folder.name: read_verdicts(folder / 'verdicts.json') for folder in KEPT}
    assert (ROOT / 'docs' / 'findings.md').read_text('utf-8') == page(studies)
    names = {record.name for found in studies.values() for record in found}
    for paper in findings.PAPERS:
        if any(name.split('_')[0] in paper.prefixes for name in studies):
            assert set(paper.needed) <= names, paper.title


def test_every_kept_study_is_in_the_catalogue():
    assert {folder.name for folder in KEPT} <= {study.name for study in catalogue.STUDIES}
