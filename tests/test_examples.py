"""The scripts of docs/examples, run as they stand in an empty folder; the guide names them."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / 'docs' / 'examples').glob('*.py'))


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_the_guide_names_the_script_and_it_is_short(script: Path):
    assert f'](examples/{script.name})' in (ROOT / 'docs' / 'guide.md').read_text('utf-8')
    assert len(script.read_text('utf-8').splitlines()) <= 30


@pytest.fixture
def shown(request, tmp_path, monkeypatch, capsys) -> str:
    """What the script prints. In this process, which has JAX and some of its programs already."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / 'docs' / 'examples' / request.param), run_name='__main__')
    return capsys.readouterr().out


@pytest.mark.parametrize('shown', ['attack_your_model.py'], indirect=True)
def test_a_model_of_ones_own_is_attacked(shown):
    rates = re.search(r'natural ([\d.]+)%, robust ([\d.]+)%', shown)
    assert rates is not None, shown
    natural, robust = map(float, rates.groups())
    assert robust + 30 < natural > 80  # it has learned, and was not trained against attacks


@pytest.mark.parametrize('shown', ['train_on_arrays.py'], indirect=True)
def test_arrays_are_trained_on(undrawn, shown, tmp_path):
    assert re.search(r'robust_accuracy: [\d.]+% \(', shown)
    assert (tmp_path / 'runs' / 'mine' / 'report.md').is_file()


@pytest.mark.parametrize('shown', ['ntk_of_nnx.py'], indirect=True)
def test_the_kernel_of_an_nnx_module_moves(shown):
    drift = re.search(r'drift: ([\d.]+) of the kernel', shown)
    assert drift is not None and float(drift[1]) > 0.1, shown
    assert len(re.findall(r'\d+\.\d', shown.partition('gradients')[2])) == 10
