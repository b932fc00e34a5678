"""The recipes in configs/recipes. Oracles: public code's hyperparameters, and a run of each."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from war_jax import command_line, main
from war_jax.config import resolve, to_dict

# Read out of the code (and its defaults) that each recipe's header names.
_TRADES = {
    'objective.name': 'trades', 'objective.lam': 6.0, 'attack.num_steps': 10,
    'attack.init': 'gaussian', 'attack.init_scale': 0.001, 'attack.batch_norm': 'eval',
    'optimizer.momentum': 0.9, 'optimizer.learning_rate': 0.1, 'optimizer.batch_size': 128,
    'model.depth': 34, 'model.widen_factor': 10.0, 'data.pad': 4, 'data.flip': True,
    'data.name': 'cifar10', 'threat.norm': 'linf', 'model.normalization': 'none',
}  # fmt: skip
_031 = {'threat.epsilon': 0.031, 'attack.step_size': 0.007}
_8_255 = {'threat.epsilon': 8 / 255, 'attack.step_size': 2 / 255}
PUBLISHED: dict[str, dict[str, Any]] = {
    'trades': {
        **_TRADES, **_031, 'optimizer.weight_decay': 2e-4, 'optimizer.epochs': 76,
        'optimizer.boundaries': (75, 90, 100), 'batch_norm.updates': 'natural,adversarial,natural',
    },
    'bag_of_tricks': {
        **_TRADES, **_8_255, 'optimizer.weight_decay': 5e-4, 'optimizer.epochs': 110,
        'optimizer.boundaries': (100, 105),
    },
    'awp': {
        **_TRADES, **_8_255, 'optimizer.weight_decay': 5e-4, 'optimizer.epochs': 200,
        'optimizer.boundaries': (100, 150), 'awp.gamma': 0.005,
    },
    'rst': {
        **_TRADES, **_031, 'model.depth': 28, 'optimizer.weight_decay': 5e-4,
        'optimizer.batch_size': 256, 'optimizer.nesterov': True, 'optimizer.schedule': 'cosine',
        'data.extra_fraction': 0.5,
    },
    'dm_improves': {
        **_TRADES, **_8_255, 'model.depth': 28, 'model.activation': 'swish', 'objective.lam': 5.0,
        'objective.label_smoothing': 0.1, 'optimizer.batch_size': 512,
        'optimizer.learning_rate': 0.2, 'optimizer.weight_decay': 5e-4,
        'optimizer.decay_norm_and_bias': False, 'optimizer.nesterov': True,
        'optimizer.schedule': 'one_cycle', 'optimizer.rise': 0.025, 'data.extra_fraction': 0.7,
        'optimizer.cycle_momentum': True,
        'ema_decay': 0.995, 'ema_ramp': True, 'ema_batch_norm': 'copied',
        'batch_norm.momentum': 0.01,
    },
    'fast': {
        'model.name': 'preact_resnet', 'model.depth': 18, 'model.normalization': 'cifar10',
        'objective.name': 'adversarial', 'threat.epsilon': 8 / 255, 'attack.num_steps': 1,
        'attack.step_size': 10 / 255, 'attack.init': 'uniform', 'attack.init_scale': 1.0,
        'attack.project_start': True, 'attack.projection': 'ball', 'attack.batch_norm': 'train',
        'batch_norm.updates': 'adversarial', 'optimizer.epochs': 15, 'optimizer.batch_size': 128,
        'optimizer.schedule': 'cyclic', 'optimizer.rise': 0.5, 'optimizer.learning_rate': 0.2,
        'optimizer.weight_decay': 5e-4, 'optimizer.momentum': 0.9,
    },
    'war_2021': {
        **_TRADES, **_031, 'model.widen_factor': 15.0, 'optimizer.batch_size': 64,
        'optimizer.epochs': 100, 'optimizer.schedule': 'halving', 'optimizer.boundaries': (75,),
        'optimizer.weight_decay': 2e-4, 'data.extra_fraction': 0.5,
    },
}  # fmt: skip
# Passes over 50,000 images, of both kinds, that the code makes: theirs, and images of a batch.
PASSES = {'rst': (200, 256), 'dm_improves': (400, 512)}


def recipe(name: str):
    return import_module(f'war_jax.configs.recipes.{name}')


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_hyperparameters_are_those_of_the_code(name: str):
    config = recipe(name).get_config().unlock()
    if config.data.extra_fraction:
        config.data.extra_path = 'extra.npz'
    values = to_dict(resolve(config))
    for key, expected in PUBLISHED[name].items():
        group, _, leaf = key.rpartition('.')
        value = values[group][leaf] if group else values[leaf]
        value = tuple(value) if isinstance(value, list) else value
        assert value == pytest.approx(expected), key


@pytest.mark.parametrize('name', PASSES)
def test_where_extra_images_count_the_steps_are_as_many(name: str):
    epochs, batch = PASSES[name]
    config = recipe(name).get_config()
    extra = round(config.data.extra_fraction * config.optimizer.batch_size)
    own = config.optimizer.batch_size - extra
    steps = config.optimizer.epochs * -(-(50_000 - config.data.num_validation) // own)
    assert steps == pytest.approx(epochs * -(-50_000 // batch), rel=0.005)


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_header_says_what_is_published_and_that_we_have_not_run_it(name: str):
    text = ' '.join((recipe(name).__doc__ or '').split())
    assert 'Published' in text and 'AutoAttack' in text and 'Not run by us' in text
    assert f'configs/recipes/{name}.py' in text and 'Source' in text


def test_a_recipe_is_found_by_its_name_from_anywhere(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {command_line.config_file(p) for p in ('recipes/awp', 'configs/recipes/awp.py')}
    assert len(found) == 1 and Path(found.pop()).is_file()
    assert command_line.config_file('recipes/../digits') == 'recipes/../digits'


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_first_stage_of_a_smoke_run_has_four_channels(name: str):
    model = recipe(name).get_config('smoke').model
    assert {'wide_resnet': 16, 'preact_resnet': 64}[model.name] * model.widen_factor == 4


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random images, a quarter of the pixels of CIFAR-10's for the time's sake; and extra ones."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp('images')

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count, dtype=np.int32) % 10
        return rng.integers(0, 256, (count, 16, 16, 3), np.uint8), labels

    (train, labels), (test, test_labels), (extra, extra_labels) = drawn(200), drawn(60), drawn(100)
    np.savez(
        folder / 'own.npz', train_images=train, train_labels=labels, test_images=test,
        test_labels=test_labels,
    )  # fmt: skip
    np.savez(folder / 'extra.npz', image=extra, label=extra_labels)
    return folder


@pytest.mark.parametrize('name', PUBLISHED)
def test_smoke_trains_and_evaluates(name: str, images: Path, tmp_path: Path, undrawn):
    flags = [
        f'--config=recipes/{name}:smoke', f'--workdir={tmp_path}/run',
        f'--config.data.name=npz:{images}/own.npz',
    ]  # fmt: skip
    if extra := PUBLISHED[name].get('data.extra_fraction'):
        flags += [f'--config.data.extra_fraction={extra}']
        flags += [f'--config.data.extra_path={images}/extra.npz']
    assert main.main(['prog', *flags]) == 0
    summary = json.loads((tmp_path / 'run/summary.json').read_text())
    assert 0.0 <= summary['robust_accuracy'] <= summary['natural_accuracy'] <= 1.0
