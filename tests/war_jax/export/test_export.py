"""A run's network in PyTorch's names, the card and the result beside it.

Oracles: the variables in the run's checkpoint; names and shapes recorded from RobustBench's class
(tests/fixtures/README.md); the numbers in the run's own files.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import war_jax
from configs import digits
from tests.war_jax.report.runs import make_run
from war_jax.config import ConfigError, resolve, to_dict
from war_jax.export.__main__ import main
from war_jax.export.layouts import LAYOUTS
from war_jax.export.result import robustbench_result
from war_jax.models.normalisation import IDENTITY
from war_jax.models.residual import PreActResNet
from war_jax.models.torch_io import from_torch
from war_jax.models.wide_resnet import WideResNet
from war_jax.records.files import plain
from war_jax.robustness.network import FileOptions, read_network
from war_jax.robustness.torch_files import write_state
from war_jax.training.checkpoint import Checkpoints
from war_jax.training.networks import make_model

STEP, STRIDES = 1650, (1, 2, 1)
FIXTURE = Path(__file__).parents[2] / 'fixtures' / 'torch_logits.npz'
ATTACKS = ('apgd-ce', 'apgd-t', 'fab-t', 'square')


def saved_run(folder: Path, **network: Any) -> Path:
    """A finished run of invented numbers, with a checkpoint of random weights."""
    folder = make_run(folder)
    about = json.loads((folder / 'config.json').read_text())
    config = digits.get_config('lambda=6')
    config.model.update(stem_channels=4, **network)
    resolved = resolve(config)
    about['config'] = plain(to_dict(resolved))
    (folder / 'config.json').write_text(json.dumps(about))
    model = make_model(resolved, 10)
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
    )
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda leaf: rng.uniform(0.1, 1, leaf.shape).astype('f'), shapes)
    checkpoints = Checkpoints(folder / 'checkpoints', 2)
    checkpoints.save_best(STEP, jax.tree.map(jnp.asarray, drawn))
    checkpoints.close()
    return folder


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Path:
    return saved_run(tmp_path_factory.mktemp('runs') / 'run', widen_factor=0.125, strides=STRIDES)


def evaluation(**changes: Any) -> dict[str, Any]:
    """evaluation.json of AutoAttack on the run; the numbers are invented."""
    attacks = [{'name': name} for name in ATTACKS]
    intervals = {'natural_accuracy': (0.9, 1.0), 'robust_accuracy': (0.6, 0.8)}
    found: dict[str, Any] = {
        'settings': {'network': f'WRN-10-0.125, runs/x at step {STEP}', 'data': 'digits'},
        'natural_accuracy': 0.975, 'robust_accuracy': 0.7125, 'intervals': intervals,
        'num_examples': 80, 'norm': 'linf', 'epsilon': 0.2, 'attacks': attacks, 'doubts': [],
    }  # fmt: skip
    return {**found, **changes}


@pytest.fixture(scope='module')
def exported(run, tmp_path_factory) -> Path:
    """Evaluated, and in RobustBench's layout."""
    folder = tmp_path_factory.mktemp('exported')
    shutil.copytree(run, folder / 'run')
    path = folder / 'run' / 'evaluation' / 'evaluation.json'
    path.parent.mkdir()
    path.write_text(json.dumps(evaluation()))
    to = folder / 'net.safetensors'
    assert main(['export', str(folder / 'run'), f'--to={to}', '--layout=robustbench']) == 0
    return to


def test_what_is_written_is_read_back_without_being_told(run, exported):
    """Strides and channels of the stem are not those of PyTorch's class."""
    ours, read = read_network(str(run)), war_jax.load_torch(exported)
    chex.assert_trees_all_equal(read.params, ours.params)
    images = np.random.default_rng(1).uniform(size=(2, 8, 8, 1)).astype('f')
    logits = jax.jit(read.classify)(read.params, images)
    assert np.ptp(logits) > 0.1
    np.testing.assert_array_equal(logits, jax.jit(ours.classify)(ours.params, images))
    assert read.assumed is None
    assert read.description == 'WRN-10-0.125, net.safetensors, images not normalised'


UNUSUAL = {
    'name': 'preact_resnet', 'depth': 12, 'stage_depths': (2, 1, 1, 1), 'widen_factor': 0.03125,
    'stage_widths': (2, 1, 1, 0.5), 'strides': (1, 2, 1, 1), 'activation': 'gelu',
    'normalization': '0.4:0.25',
}  # fmt: skip


def test_an_unusual_network_is_written_and_read_back(tmp_path, capsys):
    """A PreActResNet with GELU, stages of their own and a normalisation of its images."""
    run, to = saved_run(tmp_path / 'run', **UNUSUAL), tmp_path / 'net.safetensors'
    assert main(['export', str(run), f'--to={to}']) == 2
    assert 'has no class for a PreActResNet; nearest: --layout=rob' in capsys.readouterr().err
    assert main(['export', str(run), f'--to={to}', '--layout=robustbench']) == 0
    ours, read = read_network(str(run)), war_jax.load_torch(to)
    chex.assert_trees_all_equal(read.params, ours.params)
    images = np.random.default_rng(1).uniform(size=(2, 8, 8, 1)).astype('f')
    logits = jax.jit(read.classify)(read.params, images)
    np.testing.assert_array_equal(logits, jax.jit(ours.classify)(ours.params, images))
    name = 'PreActResNet-12-0.03125 (gelu; 2+1+1+1 blocks; stage widths × 2, 1, 1, 0.5; images'
    assert ours.description.startswith(f'{name} normalised: 0.4:0.25), ')
    assert read.description == (
        'PreActResNet-12-0.0625 (2+1+1+1 blocks; stage widths × 1, 0.5, 0.5, 0.25), '
        'net.safetensors, gelu, images normalised by 0.4 and 0.25'
    )
    warned = capsys.readouterr().out
    card = to.with_suffix('.md').read_text()
    for text in ('no normalisation of images (images normalised by 0.4 and 0.25)', 'activation'):
        assert text in warned and text in card
    assert 'the network itself normalises them: images normalised by 0.4 and 0.25' in card
    assert f'# {name} normalised: 0.4:0.25), TRADES training' in card


def test_a_preact_resnet_has_its_class_in_robustbench():
    model = PreActResNet(18, 1, 10)
    target = LAYOUTS['robustbench'].target(model)
    assert target.differences(model, channels=3, size=32) == []
    options = 'num_classes=10, bn_before_fc=True, out_shortcut=True'
    assert target.constructor(model) == f'PreActResNet(PreActBlock, [2, 2, 2, 2], {options})'


def test_the_users_word_goes_before_the_files(exported):
    network = read_network(str(exported), FileOptions(mean=(0.5,), std=(0.25,)))
    assert network.description.endswith('images normalised by 0.5 and 0.25')


@pytest.mark.parametrize(
    ('about', 'words'),
    [
        ({'strides': [1, 2]}, 'strides'),
        ({'activation': 'tanh'}, "must be one of 'relu', 'swish', 'gelu'"),
        ({'mean': [0.0], 'std': [0.0]}, 'must be finite, and above 0'),
        (['relu'], 'must be an object'),
    ],
)
def test_a_description_that_cannot_be_is_refused(about, words, run, tmp_path):
    state = LAYOUTS['trades'].targets['wide_resnet'].state(read_network(str(run)).params, IDENTITY)
    write_state(state, tmp_path / 'net.safetensors', about)
    with pytest.raises(ConfigError, match=words):
        read_network(str(tmp_path / 'net.safetensors'))


@pytest.mark.parametrize(('layout', 'recorded'), [('trades', '28-10'), ('robustbench', '34-1')])
def test_names_and_shapes_are_those_that_the_class_asks_for(layout, recorded):
    """The recorded WRN-28-10 has the `sub_block1` of TRADES' code, the other has not."""
    with np.load(FIXTURE) as file:
        shapes = json.loads(str(file[f'{recorded}/shapes']))
    # A view of one number: the networks are large, and nothing here depends on the numbers.
    asked = {name: np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()}
    state = LAYOUTS[layout].targets['wide_resnet'].state(from_torch(asked), IDENTITY)
    assert {name: list(array.shape) for name, array in state.items()} == shapes


def test_the_card_says_what_was_measured_and_how_it_is_called(exported):
    card = exported.with_suffix('.md').read_text()
    for text in (
        '| Strides of the stages | 1, 2, 1 |',
        '| Input | images in \\[0, 1\\], not normalised',
        'strides (1, 2, 2), not (1, 2, 1); channels of the images 3, not 1;',
        "war_jax.load_torch('net.safetensors')",
        'pgd20, cw20, kl20; L∞ ball of ε = 0.2 | 360 test |',
        'apgd-ce, apgd-t, fab-t, square; L∞ ball of ε = 0.2 | 80 test |',
        '71.25\u00a0% | 60.0–80.0\u00a0%',
        'digits: handwritten digits',
        '0123456789abcdef',
        'TRADES, λ = 6',
        '"widen_factor": 0.125',
    ):
        assert text in card
    assert str(exported.parent) not in card


def test_the_result_has_robustbenchs_fields(exported):
    found = json.loads(exported.with_suffix('.json').read_text())
    assert found == {
        'link': None, 'name': None, 'authors': None, 'additional_data': False,
        'number_forward_passes': 1, 'dataset': 'digits', 'venue': None,
        'architecture': 'WideResNet-10-0.125', 'eps': '0.2', 'clean_acc': '97.50',
        'reported': '73.06',  # 263 of 360, under all attacks of the run's own report
        'autoattack_acc': '71.25', 'footnote': 'AutoAttack of war_jax on 80 test images.',
        'unreliable': False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ('changes', 'accuracy', 'is_unreliable'),
    [
        ({}, '71.25', False),
        ({'doubts': ['gradients of 0']}, '71.25', True),
        ({'epsilon': 0.1}, None, False),
        ({'attacks': [{'name': 'pgd20'}]}, None, False),
    ],
)
def test_only_autoattack_in_the_ball_of_training_counts(changes, accuracy, is_unreliable):
    config = {
        'threat': {'norm': 'linf', 'epsilon': 0.2}, 'data': {'name': 'digits'},
        'model': {'depth': 34, 'widen_factor': 10},
    }  # fmt: skip
    summary = {'natural_accuracy': 0.98, 'robust_accuracy': 0.75, 'attacks': {}}
    found = robustbench_result(config, summary, evaluation(**changes))
    assert found is not None
    assert (found['autoattack_acc'], found['unreliable']) == (accuracy, is_unreliable)
    assert (found['architecture'], found['reported']) == ('WideResNet-34-10', '75.00')
    config['threat']['epsilon'] = 8 / 255
    found = robustbench_result(config, summary, None)
    assert found is not None and found['eps'] == '8/255'
    assert robustbench_result(config, None, None) is None


def test_a_run_that_has_not_ended_has_a_card_without_numbers(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / 'run')
    (tmp_path / 'run' / 'summary.json').unlink()
    path = tmp_path / 'run' / 'evaluation' / 'evaluation.json'
    path.parent.mkdir()
    other = {'network': 'WRN-10-0.125, runs/x at step 7', 'data': 'digits'}
    path.write_text(json.dumps(evaluation(settings=other)))
    to = tmp_path / 'net.safetensors'
    assert main(['export', f'--run={tmp_path / "run"}', f'--to={to}', '--layout=robustbench']) == 0
    card = to.with_suffix('.md').read_text()
    assert 'Nothing: the run had not ended.' in card and 'an evaluation of step 7 and' in card
    assert 'TRADES, λ = 6' in card and not to.with_suffix('.json').exists()
    assert 'computes something else: strides (1, 2, 2)' in capsys.readouterr().out


def test_the_class_that_computes_the_same_is_named_with_its_sizes():
    model = WideResNet(34, 10, 100)
    layout = LAYOUTS['robustbench'].target(model)
    assert layout.differences(model, channels=3, size=32) == []
    assert layout.constructor(model) == 'WideResNet(depth=34, num_classes=100, widen_factor=10)'
    swish = WideResNet(34, 10, 100, activation='swish', padding='tensorflow')
    found = ['activation relu, not swish', 'padding torch, not tensorflow']
    assert layout.differences(swish, channels=3, size=None) == found


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['{run}'], '--to: must be given'),
        (['nowhere', '--to=x.pt'], 'must be the folder of a run'),
        (['{run}', '--to=x.npz'], 'must end with .safetensors or .pt; nearest: --to=x.safetensors'),
        (['{run}', '--to=x.pt', '--layout=robust'], 'nearest: --layout=robustbench'),
        (['{run}', '--to={run}/summary.pt'], 'summary.json is there and would be replaced'),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(arguments, words, run, capsys):
    assert main(['export', *(text.format(run=run) for text in arguments)]) == 2
    message = capsys.readouterr().err
    assert words in message and message.count('\n') == 1


def test_a_file_of_pytorch_is_written_by_pytorch(run, tmp_path, capsys):
    to = tmp_path / 'net.pt'
    code = main(['export', str(run), f'--to={to}'])
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        assert code == 2 and "pip install 'war-jax[torch]'" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())
        return
    state = torch.load(to, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    network = war_jax.load_torch(to, strides=STRIDES)
    chex.assert_trees_all_equal(network.params, read_network(str(run)).params)
    assert f"load_torch('net.pt', strides={STRIDES})" in to.with_suffix('.md').read_text()
