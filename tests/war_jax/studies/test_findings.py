"""The page of findings, from planted verdicts; and from those that are in the repository."""

import json
from pathlib import Path

import pytest

from war_jax.lab.verdicts import read_verdicts
from war_jax.records.files import ReportError
from war_jax.studies import findings
from war_jax.studies.findings import ROOT, decide, main, page


def planted(name: str, verdict: str, **changes):
    return {
        'name': name, 'claim': f'{name} holds', 'verdict': verdict, 'effect': -1.25, 'low': -2.0,
        'high': -0.5, 'unit': 'points', 'seeds': 3, 'command': 'python -m x', 'commit': 'abc',
        'data': 'Eight images', **changes,
    }  # fmt: skip


def write(folder: Path, *rows: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'verdicts.json').write_text(json.dumps(rows))
    return folder


def test_decisions():
    """All, none, some, and too few."""
    assert decide({'a': 'supported', 'b': 'supported', 'c': 'undecided'}, ('a', 'b')) == 'supported'
    assert decide({'a': 'contradicted', 'b': 'contradicted'}, ('a', 'b')) == 'contradicted'
    assert decide({'a': 'supported', 'b': 'contradicted'}, ('a', 'b')) == 'not reproduced'
    assert decide({'a': 'supported', 'b': 'undecided'}, ('a', 'b')) == 'not reproduced'
    assert decide({'a': 'supported'}, ('a', 'b')) == 'not measured'


def test_a_page_from_planted_verdicts(tmp_path: Path):
    stability = planted('perturbation_stability_with_width', 'supported')
    tuned = planted('best_lambda_grows', 'supported', low=None, high=None, effect=None, seeds=0)
    runs = write(tmp_path / 'runs', stability, tuned)
    other = planted('margin_with_epsilon', 'contradicted', extra='is not read')
    swept = write(tmp_path / 'swept', other)
    assert main([f'width_digits={runs}', f'epsilon={swept}'], tmp_path) == 0
    text = (tmp_path / 'docs' / 'findings.md').read_text()
    lines = text.replace('\\_', '_').splitlines()
    a, b, c = (next(line for line in lines if line.startswith(f'| {p}.')) for p in 'ABC')
    assert '| width_digits | supported |' in a
    assert '| — | not measured |' in b
    assert '| epsilon | not measured |' in c and 'margin_with_epsilon holds: contradicted' in c
    row = next(line for line in lines if '| perturbation_stability_with_width holds |' in line)
    assert '−1.25 | −2.00 to −0.50 | points | 3 | width_digits |' in row
    row = next(line for line in lines if '| best_lambda_grows holds |' in line)
    assert '| — | — | points | — |' in row
    assert '    python -m x' in text and 'Eight images. Commit abc.' in text
    (tmp_path / 'docs' / 'findings.md').unlink()
    assert main([], tmp_path) == 0  # from its copies
    assert (tmp_path / 'docs' / 'findings.md').read_text() == text


def test_what_is_no_study_is_refused(tmp_path: Path, capsys):
    incomplete = planted('x', 'supported')
    del incomplete['effect']
    for arguments in (
        ['runs'],
        [f'epsilon={tmp_path}'],
        [f'other={write(tmp_path / "a", planted("x", "supported"))}'],
        [f'epsilon={write(tmp_path / "b", incomplete)}'],
    ):
        assert main(arguments, tmp_path / 'root') == 2
        assert capsys.readouterr().err.count('\n') == 1
        for path in (tmp_path / 'root').rglob('*.json'):
            path.unlink()
    with pytest.raises(ReportError, match='must be a list'):
        (tmp_path / 'c.json').write_text('{}')
        read_verdicts(tmp_path / 'c.json')


def test_the_page_in_the_repository_is_that_of_its_verdicts():
    folder = ROOT / 'docs' / 'verdicts'
    studies = {path.stem: read_verdicts(path) for path in folder.glob('*.json')}
    assert (ROOT / 'docs' / 'findings.md').read_text('utf-8') == page(studies)
    names = {verdict.name for verdicts in studies.values() for verdict in verdicts}
    for paper in findings.PAPERS:
        if any(name.split('_')[0] in paper.prefixes for name in studies):
            assert set(paper.needed) <= names, paper.title
