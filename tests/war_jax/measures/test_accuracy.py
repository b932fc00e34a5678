"""Natural, stable and robust examples. Oracle: a linear classifier, whose margin says exactly which
perturbations change its label: |w·x + b| against epsilon times the dual norm of w."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.data.batches import eval_plan
from war_jax.data.device import DeviceData
from war_jax.data.sources import Dataset
from war_jax.measures.accuracy import Outcome, count, make_attacks, run_attack
from war_jax.mesh import make_mesh

EPSILON = 0.1
NUM_EXAMPLES = 43  # ragged for every batch size used here


class Linear(nn.Module):
    """Two classes with logits ±(w·x + b); takes the arguments of our networks."""

    @nn.compact
    def __call__(self, images, *, train):
        del train
        flat = images.reshape(images.shape[0], -1)
        w = self.param('w', nn.initializers.normal(1.0), (flat.shape[-1],))
        b = self.param('b', nn.initializers.constant(0.0), ())
        score = flat @ w + b
        return jax.numpy.stack([score, -score], -1)


@pytest.fixture(scope='module')
def problem():
    """Data in [0.3, 0.7], so that the pixel box never binds; w, b; and the data's true sets."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0.3, 0.7, (NUM_EXAMPLES, 8, 8, 1)).astype(np.float32)
    w = rng.normal(size=64)
    scores = images.reshape(NUM_EXAMPLES, -1).astype(np.float64) @ w
    b = -np.median(scores)
    labels = rng.integers(0, 2, NUM_EXAMPLES).astype(np.int32)
    variables = {'params': {'w': w.astype(np.float32), 'b': np.float32(b)}}
    return Dataset(images, labels), variables, scores + b, w


def truth(scores, labels, w, norm, epsilon):
    reach = epsilon * (np.abs(w).sum() if norm == 'linf' else np.sqrt(np.square(w).sum()))
    natural = (scores < 0).astype(int) == labels
    return natural, np.abs(scores) > reach


@pytest.mark.parametrize('loss', ['ce', 'cw', 'kl'])
@pytest.mark.parametrize(('norm', 'epsilon'), [('linf', 0.03), ('l2', 0.15)])
def test_sets_of_a_linear_classifier(problem, loss, norm, epsilon):
    dataset, variables, scores, w = problem
    mesh = make_mesh()
    data = DeviceData(mesh, dataset)
    budget = Budget(10, epsilon / 3, 'uniform', 1.0)
    attack = make_attacks(Linear(), mesh, ThreatModel(norm, epsilon), budget)[loss]
    # KL grows to both sides of x, so the start decides which way a run climbs.
    restarts = 10 if loss == 'kl' else 1
    plan = eval_plan(len(data), 16)
    outcome = run_attack(attack, variables, jax.random.key(0), data, plan, restarts=restarts)
    natural, stable = truth(scores, dataset.labels, w, norm, epsilon)
    np.testing.assert_array_equal(outcome.natural, natural)
    if loss == 'kl':
        np.testing.assert_array_equal(outcome.stable, stable)
    # A misclassified example is pushed further from its label by a label's loss: its stability is
    # overstated there, its robustness is not.
    np.testing.assert_array_equal(outcome.robust, natural & stable)
    assert 0 < outcome.robust.sum() < natural.sum() < NUM_EXAMPLES


def test_outcome_does_not_depend_on_batches_or_devices(problem):
    dataset, variables, _, _ = problem
    threat, budget = ThreatModel('linf', 0.03), Budget(1, 0.01, 'uniform', 1.0)
    outcomes = []
    for num_devices, batch_size in ((1, 5), (4, 16), (4, 48)):
        mesh = make_mesh(jax.devices()[:num_devices])
        data = DeviceData(mesh, dataset)
        attack = make_attacks(Linear(), mesh, threat, budget)['ce']
        plan = eval_plan(len(data), batch_size)
        outcomes.append(run_attack(attack, variables, jax.random.key(3), data, plan))
    for other in outcomes[1:]:
        np.testing.assert_array_equal(outcomes[0].stable, other.stable)
        np.testing.assert_allclose(outcomes[0].max_grad_l1, other.max_grad_l1, rtol=1e-5)


def test_restarts_only_ever_break_more(problem):
    dataset, variables, _, _ = problem
    mesh = make_mesh()
    data = DeviceData(mesh, dataset)
    weak = make_attacks(
        Linear(), mesh, ThreatModel('linf', EPSILON), Budget(1, 1e-4, 'uniform', 1.0)
    )['ce']
    calls = []
    stable = [
        run_attack(
            weak,
            variables,
            jax.random.key(0),
            data,
            eval_plan(len(data), 16),
            restarts=restarts,
            on_batch=lambda: calls.append(1),
        ).stable
        for restarts in (1, 8)
    ]
    assert not np.any(stable[1] & ~stable[0])
    assert stable[1].sum() < stable[0].sum()
    assert len(calls) == 3 * (1 + 8)


def test_scale_zero_is_the_clean_image(problem):
    dataset, variables, _, _ = problem
    mesh = make_mesh()
    data = DeviceData(mesh, dataset)
    attack = make_attacks(
        Linear(), mesh, ThreatModel('linf', EPSILON), Budget(3, 0.05, 'uniform', 1.0)
    )['ce']
    plan = eval_plan(len(data), 44)
    clean = run_attack(attack, variables, jax.random.key(0), data, plan, scale=0.0)
    assert clean.stable.all()
    assert not run_attack(attack, variables, jax.random.key(0), data, plan).stable.all()


def test_kl_gradient_norm_of_a_linear_classifier(problem):
    """d/dx KL(p || q(x)) = (q - p)(score') summed over classes = 2 (q0 - p0) w; its l1 norm grows
    with the distance from x, so the largest of two steps is met at the second, one step away."""
    dataset, variables, scores, w = problem
    mesh = make_mesh()
    data = DeviceData(mesh, dataset)
    step_size = 0.01
    attack = make_attacks(
        Linear(), mesh, ThreatModel('linf', EPSILON), Budget(2, step_size, 'gaussian', 1e-4)
    )['kl']
    outcome = run_attack(attack, variables, jax.random.key(0), data, eval_plan(len(data), 44))
    one_step = step_size * np.abs(w).sum()

    def probability(score):
        return 1 / (1 + np.exp(-2 * score))

    # The first step goes either way, as the tiny start decides.
    candidates = [
        2 * np.abs(probability(scores + sign * one_step) - probability(scores)) * np.abs(w).sum()
        for sign in (1, -1)
    ]
    distance = np.min([np.abs(outcome.max_grad_l1 / c - 1) for c in candidates], axis=0)
    assert distance.max() < 0.02


def test_counts_are_of_the_sets():
    outcome = Outcome(
        natural=np.array([True, True, False, False]),
        stable=np.array([True, False, True, False]),
        max_grad_l1=np.zeros(4),
    )
    assert count(outcome) == (4, 2, 2, 1)
