"""What a validation row and the test summary say. Oracle: the linear classifier of test_accuracy,
whose true sets follow from its margins, and counting."""

import jax
import numpy as np
import pytest

from tests.war_jax.measures.test_accuracy import Linear
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.data.batches import eval_plan
from war_jax.data.device import DeviceData
from war_jax.data.sources import Dataset
from war_jax.measures import network
from war_jax.measures.accuracy import Counts
from war_jax.mesh import make_mesh

EPSILON = 0.03


@pytest.fixture(scope='module')
def problem():
    rng = np.random.default_rng(1)
    images = rng.uniform(0.3, 0.7, (43, 8, 8, 1)).astype(np.float32)
    w = rng.normal(size=64).astype(np.float32)
    scores = images.reshape(43, -1) @ w
    b = np.float32(0.05 - np.median(scores))  # no example exactly on the boundary
    dataset = Dataset(images, rng.integers(0, 2, 43).astype(np.int32))
    mesh = make_mesh()
    measures = network.make_measures(
        Linear(), mesh, ThreatModel('linf', EPSILON), Budget(10, EPSILON / 3, 'uniform', 1.0)
    )
    natural = (scores + b < 0).astype(int) == dataset.labels
    stable = np.abs(scores + b) > EPSILON * np.abs(w).sum()
    return measures, {'params': {'w': w, 'b': b}}, DeviceData(mesh, dataset), natural, stable, w


def test_validation_row(problem):
    measures, variables, data, natural, stable, w = problem
    calls = []
    row = network.validate(
        measures,
        variables,
        jax.random.key(0),
        data,
        eval_plan(43, 16),
        lambda: calls.append(1),
    )
    assert row['num_examples'] == 43
    assert row['natural_accuracy'] == pytest.approx(natural.mean())
    assert row['robust_accuracy'] == pytest.approx((natural & stable).mean())
    assert row['local_lipschitz'] == pytest.approx(2 * np.abs(w).sum(), rel=0.06)
    assert len(calls) == 3 * 3


def test_summary(problem):
    measures, variables, data, natural, stable, _ = problem
    plan = network.TestPlan(eval_plan(43, 16), 10, eval_plan(20, 16), (0.0, 1.0, 100.0))
    calls = []
    summary = network.test(
        measures, variables, jax.random.key(0), data, plan, lambda: calls.append(1)
    )
    assert len(calls) == plan.num_batches == 3 * (3 * 10 + 1) + 2 * 3
    assert set(summary['attacks']) == {'pgd10', 'cw10', 'kl10', 'all'}
    for attack in summary['attacks'].values():
        assert attack['robust_accuracy'] == pytest.approx((natural & stable).mean())
    # The label's attacks leave misclassified images alone; all together find what there is.
    assert summary['perturbation_stability'] > stable.mean()
    assert summary['attacks']['all']['perturbation_stability'] == pytest.approx(stable.mean())
    assert summary['perturbation_stability_kl'] == pytest.approx(stable.mean())
    curve = summary['curve']
    assert curve['epsilon'] == pytest.approx([0, EPSILON, 100 * EPSILON])
    expected = [natural[:20].mean(), (natural & stable)[:20].mean(), 0.0]
    assert curve['robust_accuracy'] == pytest.approx(expected)
    for name in network.RATES:
        for rate, (low, high) in zip(curve[name], curve['intervals'][name], strict=True):
            assert low <= rate <= high
        low, high = summary['intervals'][name]
        assert low <= summary[name] <= high


def test_each_interval_is_that_of_its_rate():
    counts = Counts(num_examples=400, natural=380, stable=200, robust=40)
    rates, intervals = network.rates(counts), network.intervals(counts)
    assert rates == {
        'natural_accuracy': 0.95,
        'robust_accuracy': 0.1,
        'perturbation_stability': 0.5,
    }
    for name, rate in rates.items():
        half = 1.96 * np.sqrt(rate * (1 - rate) / 400)  # the normal approximation
        np.testing.assert_allclose(intervals[name], [rate - half, rate + half], atol=0.006)
