"""The helper's network, from a run's folder. Oracle: the variables that were put there; HAT's part
of the loss is checked in test_step."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from war_jax.config import Config, ConfigError, resolve, to_dict
from war_jax.data.sources import load
from war_jax.mesh import make_mesh
from war_jax.models import forward
from war_jax.training.build import build
from war_jax.training.checkpoint import Checkpoints
from war_jax.training.helper import WithVariables, read_helper
from war_jax.training.networks import make_model

NATURAL = resolve(digits.get_config('natural,smoke'))
X = np.random.default_rng(0).uniform(size=(3, 8, 8, 1)).astype(np.float32)


def finished(folder: Path, config: Config) -> dict:
    """A run that went as far as its best network; returns that network's variables."""
    init = partial(make_model(config, 10).init, train=False)
    shapes, rng = jax.eval_shape(init, jax.random.key(0), X), np.random.default_rng(3)
    variables = jax.tree.map(lambda s: rng.uniform(0.1, 0.5, s.shape).astype(s.dtype), shapes)
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps({'config': to_dict(config)}))
    checkpoints = Checkpoints(folder / 'checkpoints', 1)
    checkpoints.save_best(5, variables)
    checkpoints.close()
    return variables


def with_helper(folder: Path, argument: str = 'smoke') -> Config:
    config = digits.get_config(argument)
    config.objective.helper = str(folder)
    return resolve(config)


def test_labels_are_the_standard_networks(tmp_path):
    variables = finished(tmp_path / 'standard', NATURAL)
    config = with_helper(tmp_path / 'standard')
    helper = read_helper(config, (8, 8, 1), make_mesh())
    assert helper is not None and (helper.weight, helper.reach) == (0.5, 2.0)
    model = make_model(NATURAL, 10)
    logits = jax.jit(lambda x: forward.evaluate(model, variables, x))(X)
    labels = jax.jit(helper.label)(X, helper.variables)
    np.testing.assert_array_equal(labels, logits.argmax(-1))
    beyond = helper.examples(jnp.asarray(X), jnp.asarray(X + 0.1))
    np.testing.assert_allclose(beyond, X + 0.2, rtol=1e-6)
    splits = load(config.data)
    assert isinstance(build(config, splits, make_mesh(jax.devices()[:1])).step, WithVariables)


def test_what_cannot_help_is_refused(tmp_path):
    finished(tmp_path / 'robust', resolve(digits.get_config('smoke')))
    other = replace(NATURAL, data=replace(NATURAL.data, name='npz:other.npz'))
    finished(tmp_path / 'other', other)
    for folder, words in (
        ('robust', 'must be of a network trained without an adversary, not by trades'),
        ('other', 'must be of a network for the images of digits'),
        ('nothing', 'must be the folder of a run of war_jax.main'),
    ):
        with pytest.raises(ConfigError, match=f'^objective.helper.*{words}'):
            read_helper(with_helper(tmp_path / folder), (8, 8, 1), make_mesh())
    with pytest.raises(ConfigError, match='has no perturbations'):
        with_helper(tmp_path / 'robust', 'natural,smoke')


def test_without_a_folder_there_is_none():
    assert read_helper(NATURAL, (8, 8, 1), make_mesh()) is None
