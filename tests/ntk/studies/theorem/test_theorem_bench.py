"""A small study of the theorem, whole. Oracles: inclusion of balls, the same cell again, NumPy."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from configs import ntk_theorem
from ntk.studies.theorem.bench import Bench
from ntk.studies.theorem.findings import EXPERIMENT
from ntk.studies.theorem.network import draw
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
        'grid.widths': (8,), 'grid.seeds': (0,), 'grid.parametrizations': (),
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


def by_hand(finished: Path) -> tuple[dict[str, Any], list[Any], np.ndarray, np.ndarray, Any]:
    """Row, matrices, labels; of all images and outputs ||g|| and ||b_1||, (n, k); in float64."""
    bench = Bench(settings(), finished)
    (x, y), network = bench.test, bench.network(START)
    first, last = (np.asarray(m, np.float64) for m in network.matrices)
    open_ = np.asarray(x, np.float64) @ first > 0
    behind = open_[:, None] * last.T  # (n, k, m)
    gradients = np.linalg.norm(behind @ first.T, axis=2)
    row = read_json(path_of(finished, START))
    return row, [first, last], gradients, np.linalg.norm(behind, axis=2), (np.asarray(y), network)


def test_alignments_and_gates_are_what_the_product_of_norms_hides(finished: Path):
    row, matrices, gradients, behind, (y, _) = by_hand(finished)
    norms = [np.linalg.norm(m, 2) for m in matrices]
    g, b = (of[np.arange(len(y)), y] for of in (gradients, behind))
    g, b = g[g > 0], b[g > 0]  # a dead network has no alignment
    assert row['product'] == pytest.approx(np.prod(norms), rel=1e-4)
    assert row['alignment'][0] == pytest.approx(np.exp(np.mean(np.log(g / b))) / norms[0], rel=1e-4)
    hidden = row['product'] * np.prod(row['alignment']) * np.prod(row['gate'])
    assert hidden == pytest.approx(np.exp(np.mean(np.log(g))), rel=1e-4)
    assert row['mean_outputs'] == pytest.approx(gradients.mean(), rel=1e-4)
    assert row['max_outputs'] == pytest.approx(gradients.max(), rel=1e-4)


def test_lipschitzness_over_margin_is_of_the_two_largest_outputs(finished: Path):
    """Of the gradient of their difference, by finite differences in float64; whatever the scale."""
    row, (first, last), *_ = by_hand(finished)
    images = np.asarray(Bench(settings(), finished).test[0], np.float64)

    def logits(x: np.ndarray) -> np.ndarray:
        return np.maximum(x @ first, 0) @ last

    slopes, margins = [], []
    for x in images:
        top, second = np.argsort(-logits(x))[:2]
        moved = x + 1e-7 * np.concatenate([np.eye(len(x)), -np.eye(len(x))])
        gaps = logits(moved)[:, top] - logits(moved)[:, second]
        slopes.append(np.linalg.norm(gaps[: len(x)] - gaps[len(x) :]) / 2e-7)
        margins.append(logits(x)[top] - logits(x)[second])
    ratios = [slope / margin for slope, margin in zip(slopes, margins, strict=True) if margin > 0]
    assert row['lipschitz'] == pytest.approx(np.mean(slopes), rel=1e-3)
    assert row['lipschitz_over_margin'] == pytest.approx(
        np.exp(np.mean(np.log(ratios))), rel=1e-3
    )


def test_what_moving_the_first_matrix_gives_is_its_closed_form(finished: Path):
    """|| g || + omega || b ||, omega in the units of W_1."""
    row, _, gradients, behind, (_, network) = by_hand(finished)
    for law in LAWS:
        for omega, found in zip(settings().balls.omegas, row['first_layer'][law], strict=True):
            reach = settings().radius(law, omega, 8) * network.factors[0]
            assert found == pytest.approx((gradients + reach * behind).max(), rel=1e-4)


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
