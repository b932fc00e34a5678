"""A small study of width, whole. Oracles: another study that was never interrupted, and NumPy."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ntk_width
from ntk.networks import plain_weights
from ntk.studies.width import runner
from ntk.studies.width.runner import Programs, Runner, run_width
from ntk.studies.width.settings import Settings, resolve_width
from war_jax.config import ConfigError
from war_jax.data.sources import load
from war_jax.records.interrupt import Stop


def settings(**changes: Any) -> Settings:
    config = ntk_width.get_config('smoke').unlock()
    small = {
        'grid.parametrizations': ('ntk', 'sqrt_m'), 'grid.widths': (4.0, 8.0), 'grid.seeds': (0, 1),
        'grid.phases': ('natural_lazy', 'trades'), 'training.tuned_width': 8.0,
        'training.num_steps': 3, 'data.num_train': 10, 'data.num_test': 6,
    }  # fmt: skip
    config.update_from_flattened_dict({**small, **changes})
    return resolve_width(config)


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp('width')
    assert run_width(settings(), workdir, 'command').exists()
    return workdir


def rows_of(workdir: Path) -> dict[str, Any]:
    return {p.name: json.loads(p.read_text()) for p in sorted((workdir / 'cells').iterdir())}


def test_every_network_has_a_row_for_every_phase(finished: Path):
    rows = rows_of(finished)
    assert len(rows) == 2 * 2 * 2
    for name, found in rows.items():
        assert [row['phase'] for row in found] == ['initialisation', 'natural_lazy', 'trades-lam3']
        first, lazy, trained = found
        assert first['kernel_error'] > 0 and lazy['kernel_drift'] > 0
        assert lazy['spectral_product'] is None  # g is no composition of layers
        if name.startswith('ntk-m8'):  # where learning rates are set: thinner ones may diverge
            assert trained['movement'] > lazy['movement'] > 0  # alpha = 100
    assert rows['ntk-m8-seed0.json'] != rows['ntk-m8-seed1.json']


def test_a_network_is_the_same_in_all_parametrizations_of_one_seed(finished: Path):
    """At the start, up to the factor between their outputs: sqrt(64), for 8x8 images."""
    rows = rows_of(finished)
    plain, scaled = (rows[f'{name}-m8-seed1.json'][0] for name in ('ntk', 'sqrt_m'))
    assert scaled['gradient_rms_test'] == pytest.approx(8 * plain['gradient_rms_test'], rel=1e-4)
    assert scaled['natural_accuracy_test'] == plain['natural_accuracy_test']


def test_an_interrupted_study_goes_on_to_the_same_rows(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = []
    original = Runner.make

    def stopping(self: Runner, cell: Any, programs: Programs) -> None:
        made.append(cell.name)
        if len(made) == 4:
            self.stop.signum = 15
        original(self, cell, programs)

    monkeypatch.setattr(Runner, 'make', stopping)
    with pytest.raises(SystemExit) as left:
        run_width(settings(), tmp_path, 'command')
    assert left.value.code == 143 and len(rows_of(tmp_path)) == 3
    run_width(settings(), tmp_path, 'command')
    assert len(made) == 4 + 5
    assert rows_of(tmp_path) == rows_of(finished)
    run_width(settings(), tmp_path, 'command')  # nothing is left to do
    assert len(made) == 4 + 5


def test_the_grid_may_grow_and_what_it_is_made_of_may_not_change(finished: Path, monkeypatch):
    before = rows_of(finished)
    made = []
    monkeypatch.setattr(Runner, 'make', lambda self, cell, programs: made.append(cell.name))
    run_width(settings(**{'grid.seeds': (0, 1, 2)}), finished, 'command')
    assert sorted(made) == [f'{n}-m{m}-seed2' for n in ('ntk', 'sqrt_m') for m in (4, 8)]
    made.clear()
    run_width(settings(**{'grid.lams': (3.0, 6.0)}), finished, 'command')
    assert len(made) == 8  # a further phase for all
    assert rows_of(finished) == before
    with pytest.raises(ConfigError, match=r'training\.num_steps'):
        run_width(settings(**{'training.num_steps': 4}), finished, 'command')


def test_learning_rates_come_from_the_largest_eigenvalue_of_the_tangent_kernel(finished: Path):
    """speed * n / lambda_max at the tuned width, and as 1/m from there for sqrt_m."""
    chosen = settings()
    found = Runner(chosen, load(chosen.data_config), finished, Stop())
    scales = found.scales('sqrt_m', 8.0)
    programs = Programs(chosen, 8.0, 10)
    weights = scales.draw(plain_weights(programs.model, jax.random.key(0), (8, 8, 1)))
    jacobian = jax.jacrev(lambda w: programs.function('sqrt_m', scales)(w, found.train[0]))(weights)
    flat = np.concatenate(
        [np.asarray(leaf, float).reshape(100, -1) for leaf in jax.tree.leaves(jacobian)], axis=1
    )
    expected = chosen.training.speed * 10 / np.linalg.eigvalsh(flat @ flat.T)[-1]
    assert found.learning_rate('sqrt_m', 8.0) == pytest.approx(expected, rel=1e-2)
    assert found.learning_rate('sqrt_m', 4.0) == pytest.approx(2 * expected, rel=1e-2)


def test_images_are_balanced_and_in_the_unit_interval():
    splits = load(settings().data_config)
    images, labels = runner.chosen(splits.test, 20)
    assert images.shape == (20, 8, 8, 1) and images.dtype == jnp.float32
    assert float(images.min()) >= 0.0 and float(images.max()) <= 1.0 and float(images.max()) > 0.5
    np.testing.assert_array_equal(np.bincount(np.asarray(labels)), np.full(10, 2))
