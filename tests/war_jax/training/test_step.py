"""The training step as a whole. Its numbers are checked against PyTorch in test_reference_step.

Here: that they do not depend on how the batch is laid out over devices or padded (oracle: the same
step on one device and without padding, in float64), and what each option changes (oracle: NumPy).
"""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from scipy.special import log_softmax

from tests.one_block import OneBlock
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.config_data import AugmentConfig
from war_jax.data.batches import Batch
from war_jax.mesh import AXIS, make_mesh, replicate, shard
from war_jax.models import forward
from war_jax.training.averaging import Averaging
from war_jax.training.grad_align import near
from war_jax.training.helper import Helper
from war_jax.training.objective import Natural, Trades
from war_jax.training.state import TrainState, create_state
from war_jax.training.step import (
    Metrics,
    StepOptions,
    make_attacked,
    make_augmented,
    make_train_step,
)
from war_jax.training.war import fixed_rule

FLOAT64 = jnp.dtype('float64')
THREAT = ThreatModel('linf', 0.1)
BUDGET = Budget(2, 0.05, 'gaussian', 0.001)
CLIP_NORM = 0.3
OPTIMIZER = optax.chain(optax.clip_by_global_norm(CLIP_NORM), optax.sgd(0.1, momentum=0.9))
AUGMENTED = StepOptions(pad=1, flip=True)
MIXED = StepOptions(pad=1, flip=True, augment=AugmentConfig(randaugment=1, cutout=2, cutmix=0.8))
PERTURBED = StepOptions(pad=1, flip=True, awp_gamma=0.05, awp_start=1)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def network(statistics: str, remat: bool) -> OneBlock:
    return OneBlock(AXIS if statistics == 'global' else None, remat, FLOAT64)


def images(n: int = 8, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(
        rng.integers(0, 256, (n, 8, 8, 1), np.uint8),
        rng.integers(0, 3, n).astype(np.int32),
        np.ones(n, bool),
        np.arange(10, 10 + n, dtype=np.int32),
    )


@functools.cache
def machinery(
    num_devices: int, statistics: str, objective, options: StepOptions, remat: bool = False
):
    """Mesh and jitted step; compiled once for all tests that share them."""
    mesh = make_mesh(jax.devices()[:num_devices])
    model = network(statistics, remat)
    return mesh, make_train_step(model, objective, THREAT, BUDGET, OPTIMIZER, mesh, options)


@functools.cache
def first_state(lam: float, ema: bool) -> TrainState:
    """On the host. However the statistics are shared, the network starts with the same numbers."""
    rule, model = fixed_rule(lam, decay=0.99, total_steps=10), network('per_device', False)
    return jax.device_get(create_state(jax.random.key(0), model, OPTIMIZER, (8, 8, 1), rule, ema))


def fresh_state(lam: float, ema: bool = False) -> TrainState:
    """A copy, since a step may write its result over the state."""
    return jax.tree.map(np.array, first_state(lam, ema))


def run(
    batches,
    num_devices: int = 1,
    statistics: str = 'global',
    objective=None,
    options: StepOptions = AUGMENTED,
    lam: float = 3.0,
    first_step: int = 0,
    seed: int = 1,
    remat: bool = False,
):
    """State after the batches, and the metrics of each."""
    mesh, step = machinery(num_devices, statistics, objective or Trades(), options, remat)
    rule = fixed_rule(lam, decay=0.99, total_steps=10)
    state = fresh_state(lam, bool(options.averaging)).replace(step=np.int32(first_step))
    state = replicate(mesh, state)
    program = getattr(step, 'program', step)  # of a step with a helper's variables
    traced_before = program._cache_size()
    key = replicate(mesh, jax.random.key(seed))
    history = []
    for batch in batches:
        state, metrics = step(state, key, rule, shard(mesh, batch))
        history.append(Metrics(*jax.device_get(metrics)))
    assert program._cache_size() <= traced_before + 1, 'the step was traced more than once'
    return jax.device_get(state), history


def largest_difference(a, b) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)


@pytest.mark.parametrize('options', [AUGMENTED, MIXED])
def test_four_devices_agree_with_one(options):
    batches = [images(seed=s) for s in range(3)]
    one, metrics_of_one = run(batches, 1, options=options)
    four, metrics_of_four = run(batches, 4, options=options)
    assert largest_difference(one, four) < 1e-12
    np.testing.assert_allclose(metrics_of_one, metrics_of_four, rtol=1e-9)


def test_the_gradient_of_all_devices_is_clipped_and_logged_as_it_was():
    """The first update is by the learning rate times what is left of the gradient."""
    before = fresh_state(3.0).params
    for num_devices in (1, 4):
        after, [metrics] = run([images()], num_devices)
        moved = jax.tree.map(lambda new, old: np.sum(np.square(new - old)), after.params, before)
        length = np.sqrt(sum(jax.tree.leaves(moved)))
        np.testing.assert_allclose(length, 0.1 * CLIP_NORM, rtol=1e-9)
        assert metrics.gradient_norm > 2 * CLIP_NORM


def test_per_device_statistics_count_real_examples():
    """The mean of the first norm's input is linear: whatever the split, the devices' means weighted
    by their real examples make the mean over the batch."""
    batch = images()._replace(mask=np.array([True] * 3 + [False] + [True] * 2 + [False] * 2))
    one, _ = run([batch], 1)
    four, _ = run([batch], 4, statistics='per_device')
    first_norms = [s.batch_stats['stage1']['block0']['norm1'] for s in (one, four)]
    np.testing.assert_allclose(first_norms[0]['mean'], first_norms[1]['mean'], rtol=1e-12)
    assert not np.allclose(first_norms[0]['var'], first_norms[1]['var'], rtol=1e-5, atol=0)


@pytest.mark.parametrize('options', [AUGMENTED, MIXED])
def test_padding_changes_nothing(options):
    whole = images(6)
    padded = Batch(*(np.concatenate([a, b[:2]]) for a, b in zip(whole, images(8, 5), strict=True)))
    padded = padded._replace(mask=np.array([True] * 6 + [False] * 2))
    spread = Batch(*(leaf[[6, 0, 1, 2, 3, 7, 4, 5]] for leaf in padded))
    state, metrics = run([whole], options=options)
    for other in (padded, spread):
        other_state, other_metrics = run([other], options=options)
        assert largest_difference(state, other_state) < 1e-12
        np.testing.assert_allclose(metrics, other_metrics, rtol=1e-9)


def test_randomness_is_a_function_of_key_step_and_example():
    batch = images()
    state, metrics = run([batch])
    again, _ = run([batch])
    assert largest_difference(state, again) == 0.0
    others = [
        run([batch], first_step=1),
        run([batch], seed=2),
        run([batch._replace(ids=batch.ids + 1)]),
    ]
    for other_state, other_metrics in others:
        assert other_metrics[0].natural_risk != metrics[0].natural_risk
        assert largest_difference(state.params, other_state.params) > 1e-6
    # Without augmentation only the attack's start is left to differ.
    plain = StepOptions()
    _, [one] = run([batch], options=plain)
    _, [two] = run([batch], options=plain, first_step=1)
    assert one.natural_risk == two.natural_risk
    assert one.robust_regularization != two.robust_regularization


def test_mixed_labels_reach_the_loss_and_their_larger_shares_the_accuracies():
    """Oracle: the loss in NumPy, on the images and labels that the step makes for itself."""
    batch, lam = images(), 3.0
    mesh, _ = machinery(1, 'global', Trades(), MIXED)
    model, state = network('global', False), fresh_state(lam)
    augment = make_augmented(model, MIXED)
    forward_of = jax.shard_map(
        lambda state, key, batch: training_logits(model, state, *augment(state, key, batch)),
        mesh=mesh,
        in_specs=(P(), P(), P(AXIS)),
        out_specs=P(AXIS),
    )
    labels, logits = jax.device_get(jax.jit(forward_of)(state, jax.random.key(1), batch))
    assert labels.shape == (8, 3) and 0.2 < (labels.max(-1) < 1).mean()
    _, [metrics] = run([batch], options=MIXED, lam=lam)
    risk = -(labels * log_softmax(logits, axis=-1)).sum(-1).mean()
    np.testing.assert_allclose(metrics.natural_risk, risk, rtol=1e-9)
    right = (logits.argmax(-1) == labels.argmax(-1)).mean()
    np.testing.assert_allclose(metrics.natural_accuracy, right)


def training_logits(model, state: TrainState, batch: Batch, keys) -> tuple[jax.Array, jax.Array]:
    del keys
    logits, _ = forward.train(model, state.variables, batch.images[None], batch.mask)
    return batch.labels, logits[0]


def test_natural_objective_ignores_lambda_and_the_adversary():
    zero, metrics = run([images()], objective=Natural(), lam=0.0)
    six, _ = run([images()], objective=Natural(), lam=6.0)
    assert largest_difference(zero.params, six.params) == 0.0
    assert metrics[0].robust_regularization == 0.0
    assert metrics[0].adversarial_accuracy == metrics[0].natural_accuracy
    assert metrics[0].loss == metrics[0].natural_risk


def test_loss_is_the_weighted_sum_and_lambda_is_data():
    _, [small] = run([images()], lam=0.5)
    _, [large] = run([images()], lam=5.0)
    assert small.natural_risk == large.natural_risk
    assert small.robust_regularization == large.robust_regularization > 0
    for metrics, lam in ((small, 0.5), (large, 5.0)):
        expected = metrics.natural_risk + lam * metrics.robust_regularization
        np.testing.assert_allclose(metrics.loss, expected, rtol=1e-12)


def test_weight_average():
    batches = [images(seed=s) for s in range(2)]
    start, _ = run([])
    after_one, _ = run(batches[:1])
    after_two, _ = run(batches)
    averaged, _ = run(batches, options=StepOptions(pad=1, flip=True, averaging=Averaging(0.7)))
    expected = jax.tree.map(
        lambda a, b, c: 0.7 * (0.7 * a + 0.3 * b) + 0.3 * c,
        start.variables,
        after_one.variables,
        after_two.variables,
    )
    assert largest_difference(averaged.evaluated, expected) < 1e-12
    assert largest_difference(averaged.variables, after_two.variables) == 0.0


def test_weight_perturbation_starts_when_told_and_raises_the_loss():
    batches = [images(), images(seed=1)]
    plain, metrics = run(batches)
    perturbed, awp_metrics = run(batches, options=PERTURBED)
    np.testing.assert_allclose(awp_metrics[0], metrics[0], rtol=1e-12)
    assert awp_metrics[1].loss > metrics[1].loss
    assert largest_difference(perturbed.params, plain.params) > 1e-4


def test_weight_perturbation_is_undone_before_the_update():
    """With momentum, an update is by the learning rate times the buffer after it."""
    batches = [images(), images(seed=1)]
    before, _ = run(batches[:1], options=PERTURBED)
    after, _ = run(batches, options=PERTURBED)
    expected = jax.tree.map(lambda p, t: p - 0.1 * t, before.params, after.opt_state[1][0].trace)
    assert largest_difference(after.params, expected) < 1e-12


def test_grad_align_over_devices_and_padding():
    """Oracle: the loss without it, and the penalty of all images at once outside of the step."""
    options = StepOptions(grad_align=0.7)
    padded = images(8)._replace(mask=np.array([True] * 6 + [False] * 2))
    _, [without] = run([padded], options=StepOptions())
    _, [metrics] = run([padded], 2, options=options)

    model, variables = network('per_device', False), fresh_state(3.0).variables
    x = jnp.asarray(padded.images[:6] / 255)
    keys = jax.vmap(
        lambda i: jax.random.split(jax.random.fold_in(jax.random.fold_in(jax.random.key(1), 0), i))
    )(padded.ids[:6])[:, 1]

    def direction(z):
        def loss(z):
            logits, _ = forward.train(model, variables, z, jnp.ones(6, bool))
            return -jax.nn.log_softmax(logits)[jnp.arange(6), padded.labels[:6]].sum()

        flat = np.asarray(jax.jit(jax.grad(loss))(z)).reshape(6, -1)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    cosines = (direction(x) * direction(near(keys, x, THREAT))).sum(1)
    penalty = metrics.loss - without.loss
    np.testing.assert_allclose(penalty, 0.7 * (1 - cosines).mean(), rtol=1e-6)


def test_helper_examples():
    """Oracle: the loss without them, and HAT's cross-entropy of all images outside of the step."""
    batch = images(8)._replace(mask=np.array([True] * 6 + [False] * 2))
    weights = jnp.asarray(np.random.default_rng(5).normal(size=(64, 3)))
    helper = Helper(lambda w, z: (z.reshape(-1, 64) - 0.5) @ w, weights, weight=0.5, reach=2.0)
    options = StepOptions(helper=helper, bn_updates=('natural', 'adversarial', 'helper'))
    plain, [without] = run([batch], options=StepOptions())
    state, [metrics] = run([batch], 2, options=options)

    model, before = network('per_device', False), fresh_state(3.0)
    seen, keys = make_augmented(model, options)(before, jax.random.key(1), batch)
    attacked = make_attacked(model, Trades(), THREAT, BUDGET, options)
    _, x_adv = jax.jit(attacked)(before, (seen, keys))
    x = seen.images
    labels = ((np.asarray(x_adv).reshape(8, 64) - 0.5) @ np.asarray(weights)).argmax(-1)
    assert len(set(labels[:6])) > 1
    logits, moments = jax.jit(partial(forward.train, model))(
        before.variables, x + 2 * (x_adv - x), batch.mask
    )
    desired = -log_softmax(logits, axis=-1)[np.arange(6), labels[:6]].mean()
    np.testing.assert_allclose(metrics.loss - without.loss, 0.5 * desired, rtol=1e-6)
    assert metrics.natural_accuracy == without.natural_accuracy
    assert metrics.adversarial_accuracy == without.adversarial_accuracy
    last = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, plain.batch_stats, moments)
    assert largest_difference(state.batch_stats, last) < 1e-9


def test_third_natural_update_of_the_statistics():
    """Oracle: the moments of both passes, from steps whose statistics move by a tenth of them."""
    batch = images()
    updates, q = ('natural', 'adversarial', 'natural'), 0.3
    thrice, _ = run([batch], options=StepOptions(1, True, bn_momentum=q, bn_updates=updates))
    once, _ = run([batch], objective=Natural())
    twice, _ = run([batch])

    def expected(start, once, twice):
        natural, adversarial = (once - 0.9 * start) / 0.1, (twice - 0.9 * once) / 0.1
        after_two = (1 - q) * ((1 - q) * start + q * natural) + q * adversarial
        return (1 - q) * after_two + q * natural

    states = (fresh_state(3.0), once, twice)
    moved = jax.tree.map(expected, *(state.batch_stats for state in states))
    assert largest_difference(thrice.batch_stats, moved) < 1e-12


def test_state_is_donated():
    mesh, step = machinery(1, 'global', Natural(), AUGMENTED)
    state = replicate(mesh, fresh_state(1.0))
    rule = fixed_rule(1.0, decay=0.99, total_steps=10)
    step(state, replicate(mesh, jax.random.key(1)), rule, shard(mesh, images()))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_parts_of_a_batch_are_as_many_devices():
    """Oracle: the same rows, split over devices that each have statistics of their own."""
    batches = [images(seed=s) for s in range(2)]
    batches[1].mask[5:] = False  # the last device, or its last part, holds nothing but padding
    options = StepOptions(pad=1, flip=True, accumulation=2)
    both, metrics = run(batches, 2, 'per_device', options=options)
    spread, expected = run(batches, 4, 'per_device')
    assert largest_difference(both, spread) < 1e-12
    np.testing.assert_allclose(metrics, expected, rtol=1e-9)


def test_parts_that_look_alike_make_the_gradient_of_the_whole_batch():
    """Every image is in it twice, once in each part, so that BatchNorm sees the same."""
    half = images(4)
    batch = Batch(*(np.concatenate([array, array]) for array in half))
    options = StepOptions(pad=1, flip=True, accumulation=2)
    parts, metrics = run([batch], options=options)
    whole, expected = run([batch])
    for name in ('params', 'opt_state', 'war'):
        assert largest_difference(getattr(parts, name), getattr(whole, name)) < 1e-12
    np.testing.assert_allclose(metrics, expected, rtol=1e-9)


def test_parts_of_nothing_but_padding_count_nowhere():
    """With one real example in four parts over two devices, global statistics."""
    batch = images(8)
    batch.mask[1:] = False
    options = StepOptions(pad=1, flip=True, accumulation=4)
    parts, metrics = run([batch], 2, options=options)
    alone, expected = run([Batch(*(array[:2] for array in batch))], 2)
    for name in ('params', 'batch_stats'):
        assert largest_difference(getattr(parts, name), getattr(alone, name)) < 1e-12
    np.testing.assert_allclose(metrics, expected, rtol=1e-9)


def test_rematerialisation_changes_no_number():
    batches = [images(seed=s) for s in range(2)]
    kept, metrics = run(batches)
    again, metrics_again = run(batches, remat=True)
    assert largest_difference(kept, again) < 1e-12
    np.testing.assert_allclose(metrics_again, metrics, rtol=1e-12)
