"""A small study of the theorem, whole. Oracles: inclusion of balls, the same cell again, NumPy."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from configs import ntk_theorem
from ntk.studies.theorem.bench import Bench
from ntk.studies.theorem.findings import EXPERIMENT
from ntk.studies.theorem.measure import alignments, first_layer_bound, measure
from ntk.studies.theorem.network import Matrices, draw
from ntk.studies.theorem.settings import LAWS, Settings, Supremum, Training
from ntk.studies.theorem.training import rates_of
from war_jax.config import ConfigError
from war_jax.lab.experiment import path_of, run
from war_jax.lab.settings import read
from war_jax.records.files import read_json
from war_jax.records.interrupt import Stop

START, TRAINED = Supremum('sqrt_m', 2, 8, 0), Training('adversarial', 2, 8, 0)


def settings(**changes: Any) -> Settings:
    config = ntk_theorem.get_config('smoke').unlock()
    small = {
        'grid.depths': (2,), 'grid.widths': (8,), 'grid.seeds': (0,), 'grid.parametrizations': (),
        'grid.objectives': ('adversarial',), 'base.width': 8, 'training.num_steps': 4,
    }  # fmt: skip
    config.update_from_flattened_dict({**small, **changes})
    return read(Settings, config)


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp('theorem')
    text = run(EXPERIMENT, settings(), workdir, 'command').read_text()
    assert 'Not finished' not in text and 'Lipschitzness ÷ margin' in text
    return workdir


def test_a_larger_ball_has_no_smaller_supremum(finished: Path):
    row = read_json(path_of(finished, START))
    radius = {(law, omega): settings().radius(law, omega, 8)
              for law in LAWS for omega in settings().balls.omegas}  # fmt: skip
    places = sorted(radius, key=radius.__getitem__)
    for kind in ('outputs', 'loss'):
        by_norm = {
            norm: [row['suprema'][f'{kind}-{norm}-{law}'][settings().balls.omegas.index(omega)]
                   for law, omega in places]
            for norm in ('frobenius', 'spectral')
        }  # fmt: skip
        for values in by_norm.values():
            assert values == sorted(values) and values[0] >= row[f'max_{kind}']
        pairs = zip(by_norm['frobenius'], by_norm['spectral'], strict=True)
        assert all(frobenius <= spectral for frobenius, spectral in pairs)


def test_a_row_depends_on_its_cell_alone(finished: Path, tmp_path: Path):
    """So that a study which was interrupted goes on to the same rows."""
    bench = Bench(settings(), tmp_path)
    for cell in (START, TRAINED):
        assert bench.make(cell, Stop()) == read_json(path_of(finished, cell))


def test_training_goes_down_and_leaves_at_a_signal(finished: Path, tmp_path: Path):
    row = read_json(path_of(finished, TRAINED))
    assert row['steps'] == [0, 1, 2, 4] and row['losses'][-1] < row['losses'][0]
    stop = Stop()
    stop.signum = 15
    with pytest.raises(SystemExit) as left:
        Bench(settings(), tmp_path).make(TRAINED, stop)
    assert left.value.code == 143


def network() -> tuple[Matrices, np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).uniform(size=(5, 6)).astype(np.float32)
    return draw('ntk', 3, 7, 6, 4, jax.random.key(0)).matrices, x, np.arange(5) % 4


def by_hand(matrices: Matrices, x: np.ndarray, c: int) -> list[np.ndarray]:
    """[gradient in x, b_1, b_2] of output c, in float64."""
    a = [np.asarray(m, np.float64) for m in matrices]
    first = x @ a[0]
    second = np.maximum(first, 0) @ a[1]
    b2 = (second > 0) * a[2][:, c]
    b1 = (first > 0) * (a[1] @ b2)
    return [a[0] @ b1, b1, b2]


def test_alignments_and_gates_are_what_the_product_of_norms_hides():
    matrices, x, y = network()
    aligned, gates = alignments(matrices, x, y)
    found = measure(matrices, x, y, 0.1, 2)
    gradients = [by_hand(matrices, z, c)[0] for z, c in zip(x, y, strict=True)]
    truth = np.exp(np.mean([np.log(np.linalg.norm(g)) for g in gradients]))
    product = np.prod([np.linalg.norm(np.asarray(m, np.float64), 2) for m in matrices])
    assert float(found['product']) == pytest.approx(product, rel=1e-4)
    assert float(np.prod(aligned) * np.prod(gates)) * product == pytest.approx(truth, rel=1e-4)
    b = [by_hand(matrices, z, c)[1] for z, c in zip(x, y, strict=True)]
    norm = np.linalg.norm(np.asarray(matrices[0], np.float64), 2)
    first = [
        np.linalg.norm(g) / norm / np.linalg.norm(v) for g, v in zip(gradients, b, strict=True)
    ]
    assert float(aligned[0]) == pytest.approx(np.exp(np.mean(np.log(first))), rel=1e-4)


def test_what_moving_the_first_matrix_gives_is_its_closed_form():
    matrices, x, _ = network()
    found = np.asarray(first_layer_bound(matrices, x, np.float32(0.5)))
    for i in range(5):
        for c in range(4):
            g, b, _ = by_hand(matrices, x[i], c)
            expected = np.linalg.norm(g) + 0.5 * np.linalg.norm(b)
            assert found[i, c] == pytest.approx(expected, rel=1e-4)


def test_rates_are_those_of_the_trained_weights():
    """A_l = factor V_l: a step of V_l by r is one of A_l by factor^2 r; r = rate / (m L)."""
    of = draw('sqrt_m', 3, 32, 8, 4, jax.random.key(0))
    np.testing.assert_allclose(rates_of(of, 2.0), np.array([4, 1, 8]) * 2 / (32 * 3), rtol=1e-6)


@pytest.mark.parametrize(
    ('key', 'value', 'rule'),
    [
        ('base.width', 10, 'nearest: 8'),
        ('base.depth', 3, 'nearest: 2'),
        ('base.omega', 0.9, 'nearest: 1'),
        ('training.num_steps', 5, 'must be a power of 2'),
        ('grid.parametrizations', ('ntk', 'ntk'), 'must not name one twice'),
        ('grid.parametrizations', ('mup',), "nearest: '"),
        ('balls.omegas', (1.0, 1.00000001), 'must differ in their first six digits'),
        ('grid.depths', (1,), 'must be at least 2'),
    ],
)
def test_refused(key: str, value: Any, rule: str):
    with pytest.raises(ConfigError) as raised:
        settings(**{key: value})
    assert rule in str(raised.value) and '\n' not in str(raised.value)
