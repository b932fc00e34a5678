"""README.md's tables. Oracles: rows made by hand, the files in docs/, a table written by hand."""

import json
from pathlib import Path

import pytest

from war_jax.records.files import ReportError
from war_jax.studies import readme


def test_the_tables_in_the_repository_are_those_of_the_files():
    text = (readme.ROOT / 'README.md').read_text(encoding='utf-8')
    assert readme.filled(text) == text, 'run python -m war_jax.studies.readme'
    assert text.count('<!-- end -->') == len(readme.TABLES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A README and a study, and two runs beside."""
    (tmp_path / 'README.md').write_text(
        'Before.\n\n<!-- demo -->\nold\n<!-- end -->\n\nAfter.\n', encoding='utf-8'
    )
    for name, robust in (('natural', 0.0), ('demo', 0.75)):
        run = tmp_path / name
        run.mkdir()
        summary = {
            'natural_accuracy': 0.98, 'robust_accuracy': robust, 'num_examples': 100,
            'perturbation_stability': 0.5, 'attacks': {'all': {'robust_accuracy': robust / 2}},
        }  # fmt: skip
        about = {
            'config': {
                'evaluation': {'restarts': 5, 'num_steps': 20},
                'objective': {'name': 'trades' if robust else 'natural', 'lam': 3.0},
            },
            'provenance': {'commit': 'abc', 'python': '3.11', 'versions': {'jax': '0.10.2'}},
        }
        (run / 'summary.json').write_text(json.dumps(summary))
        (run / 'config.json').write_text(json.dumps(about))
    return tmp_path


def test_runs_are_kept_and_tables_made_between_the_comments(root: Path):
    arguments = [f'{name}={root / name}' for name in readme.RUNS]
    assert readme.main(arguments, root) == 0
    text = (root / 'README.md').read_text(encoding='utf-8')
    assert text.startswith('Before.\n\n<!-- demo -->\n| the demo') and text.endswith('After.\n')
    assert 'old' not in text and '| naturally trained | TRADES, λ = 3 |' in text
    # 75 of 100: Wilson's interval is 0.657 to 0.825.
    cells = '| 0.0\u00a0% (0.0–3.7\u00a0%) | 75.0\u00a0% (65.6–82.5\u00a0%) |'
    assert f'| robust accuracy, PGD-20 × 5 {cells}' in text
    assert 'commit abc, Python 3.11, jax 0.10.2' in text


def test_what_cannot_be_is_refused(root: Path, capsys):
    assert readme.main(['other=x'], root) == 2
    assert 'must be one of natural, demo' in capsys.readouterr().err
    assert readme.main(['demo'], root) == 2
    assert 'must be NAME=RUN' in capsys.readouterr().err
    with pytest.raises(ReportError, match='no such table'):
        readme.filled('<!-- what -->\n<!-- end -->\n', root)
