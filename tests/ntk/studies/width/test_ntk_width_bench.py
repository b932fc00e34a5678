"""A small study of width, made whole. Oracles: its own cells made again, and NumPy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from configs import ntk_width
from ntk.networks import plain_weights
from ntk.studies.width.bench import Bench
from ntk.studies.width.findings import EXPERIMENT
from ntk.studies.width.settings import Cell, Limit, Settings
from war_jax.config import ConfigError
from war_jax.lab.experiment import path_of, read_results, run
from war_jax.lab.settings import read
from war_jax.records.files import read_json
from war_jax.records.interrupt import Stop

WIDTH, SEEDS = 8.0, (0, 1)


def settings(**changes: Any) -> Settings:
    config = ntk_width.get_config('smoke').unlock()
    # As many test images as training images: they share their programs.
    small = {
        'grid.parametrizations': ('ntk', 'sqrt_m'), 'grid.widths': (WIDTH,), 'grid.seeds': SEEDS,
        'grid.phases': ('natural_lazy', 'trades', 'trades_timed', 'trades_matched'),
        'training.tuned_width': WIDTH, 'training.num_steps': 3, 'training.most_steps': 3,
        'training.matched_risk': 100.0, 'data.num_train': 10, 'data.num_test': 10,
    }  # fmt: skip
    config.update_from_flattened_dict({**small, **changes})
    return read(Settings, config)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('width')


@pytest.fixture(scope='module')
def bench(workdir: Path) -> Bench:
    return Bench(settings(), workdir)


@pytest.fixture(scope='module')
def rows(workdir: Path, bench: Bench) -> dict[Any, Any]:
    """Of the finished study, whose page is drawn elsewhere (test_ntk_width_findings.py)."""
    plain = replace(EXPERIMENT, bench=lambda *_: bench, sections=lambda *_: ())
    assert run(plain, settings(), workdir, 'command').exists()
    results = read_results(EXPERIMENT, workdir)
    assert not results.missing
    assert results.about == {'shape': {'image': [8, 8, 1], 'num_outputs': 10}}
    return dict(results.rows)


def test_every_network_has_a_row_for_every_phase(rows: dict[Any, Any]):
    networks = [cell for cell in rows if isinstance(cell, Cell)]
    assert len(networks) == 2 * 2 and len(rows) == 2 * 2 + 2
    for cell in networks:
        first, lazy, trained, timed, matched = rows[cell]
        phases = [row['phase'] for row in rows[cell]]
        assert phases == [
            'initialisation', 'natural_lazy', 'trades-lam3', 'trades_timed-lam3',
            'trades_matched-lam3',
        ]  # fmt: skip
        # Any risk is below 100: one step. Equal time is as many steps at a rate of its own.
        assert (trained['num_steps'], timed['num_steps'], matched['num_steps']) == (3, 3, 1)
        assert timed['natural_risk_train'] != trained['natural_risk_train']
        assert first['kernel_error'] > 0 and lazy['kernel_drift'] > 0
        assert lazy['spectral_product'] is None  # g is no composition of layers
        if cell.parametrization == 'ntk':
            assert trained['movement'] > lazy['movement'] > 0  # alpha = 100
    assert rows[Cell('ntk', WIDTH, 0)] != rows[Cell('ntk', WIDTH, 1)]
    assert all(rows[Limit(name, WIDTH)]['initial'] > 0 for name in ('ntk', 'sqrt_m'))


def test_a_network_is_the_same_in_all_parametrizations_of_one_seed(rows: dict[Any, Any]):
    """At the start, up to the factor between their outputs: sqrt(64), for 8x8 images."""
    plain, scaled = (rows[Cell(name, WIDTH, 1)][0] for name in ('ntk', 'sqrt_m'))
    assert scaled['gradient_rms_test'] == pytest.approx(8 * plain['gradient_rms_test'], rel=1e-4)
    assert scaled['natural_accuracy_test'] == plain['natural_accuracy_test']


def test_a_network_does_not_depend_on_what_was_made_before(
    rows: dict[Any, Any], workdir: Path, bench: Bench
):
    cell = Cell('sqrt_m', WIDTH, 0)
    assert bench.make(cell, Stop()) == read_json(path_of(workdir, cell)) == rows[cell]


def test_a_signal_ends_a_training(rows: dict[Any, Any], bench: Bench):
    stop = Stop()
    stop.signum = 15
    with pytest.raises(SystemExit) as left:
        bench.make(Cell('ntk', WIDTH, 0), stop)
    assert left.value.code == 143


def test_a_network_is_complete_once_it_has_all_phases(rows: dict[Any, Any]):
    cell, grown = Cell('ntk', WIDTH, 0), settings(**{'grid.lams': (3.0, 6.0)})
    assert EXPERIMENT.is_complete(settings(), cell, rows[cell])
    assert not EXPERIMENT.is_complete(grown, cell, rows[cell])
    limit = Limit('ntk', WIDTH)
    assert EXPERIMENT.is_complete(grown, limit, rows[limit])
    renamed = {'lipschitz_by_margin_test': 'lipschitz_per_margin_test'}
    old = [{renamed.get(key, key): value for key, value in row.items()} for row in rows[cell]]
    assert not EXPERIMENT.is_complete(settings(), cell, old)


def test_a_risk_that_is_not_reached_is_not_measured(tmp_path: Path):
    few = settings(**{'grid.phases': ('trades_matched',), 'training.matched_risk': 1e-9})
    made: Any = Bench(few, tmp_path).make(Cell('ntk', WIDTH, 0), Stop())
    start, matched = made
    assert matched.keys() == start.keys() and matched['natural_risk_test'] is None
    assert (matched['phase'], matched['seed']) == ('trades_matched-lam3', 0)


def test_learning_rates_come_from_the_largest_eigenvalue_of_the_tangent_kernel(
    rows: dict[Any, Any], bench: Bench
):
    """speed * n / lambda_max at the tuned width, and as 1/m from there for sqrt_m."""
    scales, programs = bench.scales('sqrt_m', WIDTH), bench.programs(WIDTH)
    weights = scales.draw(plain_weights(programs.model, jax.random.key(0), (8, 8, 1)))
    f = programs.function('sqrt_m', scales)
    jacobian = jax.jit(jax.jacrev(lambda w: f(w, bench.train[0])))(weights)
    flat = np.concatenate(
        [np.asarray(leaf, float).reshape(100, -1) for leaf in jax.tree.leaves(jacobian)], axis=1
    )
    expected = settings().training.speed * 10 / np.linalg.eigvalsh(flat @ flat.T)[-1]
    assert bench.learning_rate('sqrt_m', WIDTH) == pytest.approx(expected, rel=1e-2)
    assert bench.learning_rate('sqrt_m', WIDTH / 2) == pytest.approx(2 * expected, rel=1e-2)


def test_widths_that_give_the_same_channels_are_refused(tmp_path: Path):
    same = settings(**{'network.kind': 'wrn', 'grid.widths': (1.0, 1.001)})
    with pytest.raises(ConfigError, match=r'grid\.widths .*must give different numbers of chan'):
        Bench(same, tmp_path)
