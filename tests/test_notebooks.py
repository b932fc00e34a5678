"""The notebooks of docs/notebooks, executed cell by cell in an empty folder."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

FOLDER = Path(__file__).parents[1] / 'docs' / 'notebooks'


@pytest.fixture
def executed(request, tmp_path, monkeypatch):
    """The names that the notebook leaves behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, 'show', lambda: plt.close('all'))
    notebook = json.loads((FOLDER / request.param).read_text('utf-8'))
    assert notebook['nbformat'] == 4 and len({cell['id'] for cell in notebook['cells']}) > 5
    names = {}
    for cell in notebook['cells']:
        if cell['cell_type'] == 'code':
            assert cell['outputs'] == []  # what is kept is what was written, not what was drawn
            exec(compile(''.join(cell['source']), request.param, 'exec'), names)
    return names


@pytest.mark.parametrize('executed', ['attack_your_model.ipynb'], indirect=True)
def test_a_larger_ball_breaks_more(executed):
    robust = executed['robust']
    assert executed['natural'] > 0.8 and robust == sorted(robust, reverse=True)
    assert robust[-1] < robust[0] and executed['farthest'] <= 0.1 + 1e-6


@pytest.mark.parametrize('executed', ['ntk_and_its_limit.ipynb'], indirect=True)
def test_the_kernel_comes_to_its_limit(executed):
    assert -0.7 < executed['slope'] < -0.3
    assert max(executed['norms']) < 1.5 * min(executed['norms'])
