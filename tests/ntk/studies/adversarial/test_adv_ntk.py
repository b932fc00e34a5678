"""Adv-NTK. Oracles: explicit gradient descent in function space, finite differences, SciPy's matrix
exponential, and the study's own rows."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from configs import adv_ntk
from ntk.infinite import fully_connected
from ntk.studies.adversarial.bench import Bench
from ntk.studies.adversarial.findings import EXPERIMENT, claims
from ntk.studies.adversarial.kernel import coefficients, predictor, train_times
from ntk.studies.adversarial.settings import INFINITE, Cell, Settings
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.config_rules import ConfigError
from war_jax.lab.experiment import Results, decide, run
from war_jax.lab.settings import read


@pytest.fixture(scope='module')
def problem():
    """(matrix, times, targets): 6 points, two of them equal, so that eigenvalues vanish."""
    numbers = np.random.default_rng(0)
    features = numbers.normal(size=(6, 4))
    features[1] = features[0]
    return features @ features.T, numbers.uniform(0.1, 2, 6), numbers.normal(size=(6, 2))


def test_coefficients_are_those_of_explicit_gradient_descent(problem):
    """da/dt = V (y - Theta a) from a = 0 up to t = 1, in 20,000 small steps."""
    matrix, times, targets = problem
    steps, alpha = 20_000, np.zeros_like(targets)
    for _ in range(steps):
        alpha += times[:, None] * (targets - matrix @ alpha) / steps
    with jax.enable_x64(True):
        found = coefficients(jnp.asarray(matrix), jnp.asarray(times), jnp.asarray(targets))
    np.testing.assert_allclose(found, alpha, atol=1e-3)


def test_coefficients_in_closed_form_with_scipy(problem):
    _, times, targets = problem
    matrix = problem[0] + np.eye(6)  # with an inverse
    flow = np.eye(6) - expm(-matrix @ np.diag(times))
    with jax.enable_x64(True):
        found = coefficients(jnp.asarray(matrix), jnp.asarray(times), jnp.asarray(targets))
        fitted = coefficients(jnp.asarray(matrix), jnp.full(6, 1e6), jnp.asarray(targets))
    np.testing.assert_allclose(found, np.linalg.solve(matrix, flow @ targets), atol=1e-10)
    np.testing.assert_allclose(matrix @ np.asarray(fitted), targets, atol=1e-4)  # kernel regression


def test_the_derivative_in_the_times_is_that_of_finite_differences(problem):
    """With equal eigenvalues, at which the derivative of an eigenvector does not exist."""
    matrix, times, targets = problem

    def value(times: Any, kernel: Any) -> Any:
        return jnp.sum(jnp.sin(coefficients(kernel, times, jnp.asarray(targets))))

    with jax.enable_x64(True):
        for kernel, at in ((matrix, times), (np.eye(6), np.ones(6))):
            fixed = jnp.asarray(kernel)
            slopes = jax.grad(value)(jnp.asarray(at), fixed)
            steps = 1e-5 * np.eye(6)
            ends = [(value(at + step, fixed), value(at - step, fixed)) for step in steps]
            expected = [(above - below) / 2e-5 for above, below in ends]
            np.testing.assert_allclose(slopes, expected, rtol=1e-6, atol=1e-7)


def test_training_learns_to_leave_out_a_mislabelled_image():
    """Ten images, bright on the left or right; the one with the other label is learned last."""
    numbers = np.random.default_rng(0)

    def images(count):
        labels = np.arange(count) % 2
        side = np.where(np.arange(8) < 4, -1, 1).reshape(1, 1, 8, 1)
        x = 0.5 + 0.1 * side * np.where(labels, 1, -1).reshape(-1, 1, 1, 1)
        x = x + numbers.uniform(-0.1, 0.1, (count, 8, 8, 1))
        return jnp.asarray(x, jnp.float32), jnp.asarray(labels)

    with jax.enable_x64(True):
        (x, labels), validation = images(10), images(20)
        wrong = labels.at[3].set(0)
        targets = jax.nn.one_hot(wrong, 2) - 0.5
        kernel = fully_connected(2)
        matrix = kernel(x.astype(float), None, 'ntk')
        threat, budget = ThreatModel('linf', 0.02), Budget(2, 0.02, 'uniform', 1.0)
        key = jax.random.key(0)
        times = train_times(
            kernel, matrix, x, targets, validation, key, threat, budget, 40, 0.2, 10.0
        )
        outputs = predictor(kernel, x, coefficients(matrix, jnp.asarray(times), targets))
        right = outputs(validation[0]).argmax(-1) == validation[1]
    assert times.shape == (10,) and (times > 0).all()
    assert times[3] == times.min() and times[3] < 0.75 * np.median(times)
    assert right.mean() == 1


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp('adv')
    run(EXPERIMENT, small(), workdir, 'python -m ntk.main ...')
    return workdir


def small() -> Settings:
    config = adv_ntk.get_config('smoke')
    config.grid.widths = (8,)
    return read(Settings, config)


def test_a_study_has_all_its_cells_and_a_report(finished: Path, monkeypatch):
    rows = {path.stem: json.loads(path.read_text()) for path in (finished / 'cells').iterdir()}
    assert rows.keys() == {cell.name for cell in small().cells} and len(rows) == 12
    assert all(0 <= row['robust_accuracy'] <= row['natural_accuracy'] <= 1 for row in rows.values())
    assert rows['minf-natural-seed0']['natural_accuracy'] > 0.5  # 40 images teach that much
    # In units of 1 / (mean diagonal), and one time for all.
    times = {rows[f'minf-attacked_stopped-seed{seed}']['times'][1] for seed in (0, 1)}
    assert all(min(abs(time - common) for common in (1.0, 100.0)) < 1e-6 for time in times)
    report = (finished / 'report.md').read_text()
    assert '| ∞ | adversarial |' in report and (finished / 'figures' / 'accuracy.png').exists()
    verdicts = json.loads((finished / 'verdicts.json').read_text())
    assert [v['name'] for v in verdicts] == [
        'adv_ntk_is_more_robust', 'adv_ntk_costs_accuracy',
        'adv_ntk_is_more_robust_than_fully_learned', 'stopping_is_more_robust',
        'adv_ntk_reaches_finite_width',
    ]  # fmt: skip
    again, _ = decide(EXPERIMENT, finished)
    assert [claim.verdict for claim in again] == [v['verdict'] for v in verdicts]
    monkeypatch.setattr(Bench, 'make', None)  # nothing is made twice
    run(EXPERIMENT, small(), finished, 'python -m ntk.main ...')
    assert (finished / 'report.md').read_text() == report


def test_claims_on_planted_rows():
    """Accuracies in percent: adversarial training at infinite width gains 20 +- 1 points over the
    kernel fully learned, of which stopping it early gains 15 by itself."""
    rows = {}

    def plant(width, method, seed, natural, robust):
        rows[Cell(width, method, seed)] = {
            'natural_accuracy': natural / 100, 'robust_accuracy': robust / 100,
        }  # fmt: skip

    for seed, noise in enumerate((-1, 0, 1)):
        plant(INFINITE, 'natural', seed, 90, 30)
        plant(INFINITE, 'natural_stopped', seed, 90, 33)
        plant(INFINITE, 'attacked_stopped', seed, 88, 45)
        plant(INFINITE, 'adversarial', seed, 85, 50 + noise)
        plant(8, 'adversarial', seed, 80, 44)
        plant(32, 'adversarial', seed, 84, 48 + noise / 2)
    config = adv_ntk.get_config('smoke')
    config.grid.widths = (8, 32)
    settings = read(Settings, config)
    found = {claim.name: claim for claim in claims(Results(settings, {}, {}, rows, []))}
    gain = found['adv_ntk_is_more_robust']
    assert gain.effect == pytest.approx(5) and gain.verdict == 'supported'
    assert gain.interval == pytest.approx((5 - 2.484, 5 + 2.484), abs=1e-3)  # t_2 / sqrt(3)
    assert found['adv_ntk_costs_accuracy'].effect == pytest.approx(-3)
    assert found['adv_ntk_is_more_robust_than_fully_learned'].effect == pytest.approx(20)
    assert found['stopping_is_more_robust'].effect == pytest.approx(15)
    # 2 +- 1.2 points: wholly above a loss of 2.
    assert found['adv_ntk_reaches_finite_width'].verdict == 'supported'
    growth = found['robust_accuracy_grows_with_width_lazy']
    assert growth.effect == pytest.approx(2) and growth.num_seeds == 3
    few = Results(settings, {}, {}, dict(list(rows.items())[:1]), [])
    assert {claim.verdict for claim in claims(few)} == {'undecided'}


def test_bad_values_are_refused():
    config = adv_ntk.get_config()
    config.threat.epsilon = 0.0
    with pytest.raises(ConfigError, match=r'threat\.epsilon = 0\.0: must be above 0'):
        read(Settings, config)
