"""Oracles: tables written out by hand, closed forms, and SGD as a NumPy loop."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from war_jax.config import OptimizerConfig
from war_jax.training.optimizer import make_optimizer, make_schedule

STEPS_PER_EPOCH = 391  # CIFAR-10 in batches of 128
TRADES = OptimizerConfig(
    epochs=76,
    batch_size=128,
    accumulation=1,
    learning_rate=0.1,
    momentum=0.9,
    nesterov=False,
    weight_decay=2e-4,
    decay_norm_and_bias=True,
    schedule='piecewise',
    boundaries=(75, 90, 100),
    factor=0.1,
    warmup_epochs=0.0,
)
# adjust_learning_rate of the TRADES authors: divided by 10 at 75, 90 and 100.
PIECEWISE = {1: 0.1, 74: 0.1, 75: 0.01, 76: 0.01, 89: 0.01, 90: 1e-3, 99: 1e-3, 100: 1e-4}
# The WAR authors' early stop: from epoch 75 on, 0.1 * 0.5**int(epoch - 74).
HALVING = {1: 0.1, 74: 0.1, 75: 0.05, 76: 0.025, 90: 0.1 / 65536, 100: 0.1 / 67108864}


def change(**fields) -> OptimizerConfig:
    return dataclasses.replace(TRADES, **fields)


def rates(schedule: optax.Schedule, steps: np.ndarray | list[int]) -> np.ndarray:
    return np.array([schedule(int(step)) for step in steps])


@pytest.mark.parametrize(
    'settings, table',
    [
        (TRADES, PIECEWISE),
        (change(schedule='halving', boundaries=(75,)), HALVING),
        (change(boundaries=()), {1: 0.1, 76: 0.1}),
        (change(boundaries=(2, 3), factor=0.5), {1: 0.1, 2: 0.05, 3: 0.025, 4: 0.025}),
    ],
)
def test_rate_of_each_epoch_from_its_first_to_its_last_step(settings, table):
    schedule = make_schedule(settings, STEPS_PER_EPOCH)
    for epoch, rate in table.items():
        first, last = (epoch - 1) * STEPS_PER_EPOCH, epoch * STEPS_PER_EPOCH - 1
        np.testing.assert_allclose(rates(schedule, [first, last]), rate, rtol=1e-5)


def test_cosine_from_the_peak_to_zero():
    """Oracle: cos^2 of a quarter turn, the half-angle form."""
    schedule = make_schedule(change(schedule='cosine', epochs=8), 10)
    steps = np.arange(81)
    desired = 0.1 * np.cos(np.pi / 2 * steps / 80) ** 2
    np.testing.assert_allclose(rates(schedule, steps), desired, rtol=0, atol=1e-7)
    np.testing.assert_allclose(rates(schedule, [0, 40, 80]), [0.1, 0.05, 0], atol=1e-8)


# Rates of 24 steps with torch 2.13: OneCycleLR(max_lr=0.2, total_steps=24, pct_start=0.25), and
# CyclicLR(base_lr=0, max_lr=0.2, step_size_up=9.6, step_size_down=14.4).
ONE_CYCLE = [
    0.008, 0.0263343685, 0.0743343685, 0.133665631, 0.181665631, 0.2, 0.198480781, 0.193969286,
    0.186602594, 0.176604538, 0.164278904, 0.1500002, 0.134202278, 0.117365148, 0.1000004,
    0.0826356517, 0.0657985225, 0.0500006, 0.0357218961, 0.0233962621, 0.013398206, 0.0060315138,
    0.00152001862, 8e-07,
]  # fmt: skip
CYCLIC = [
    0.0, 0.0208333333, 0.0416666667, 0.0625, 0.0833333333, 0.104166667, 0.125, 0.145833333,
    0.166666667, 0.1875, 0.194444444, 0.180555556, 0.166666667, 0.152777778, 0.138888889, 0.125,
    0.111111111, 0.0972222222, 0.0833333333, 0.0694444444, 0.0555555556, 0.0416666667,
    0.0277777778, 0.0138888889,
]  # fmt: skip


@pytest.mark.parametrize(
    ('schedule', 'rise', 'recorded'), [('one_cycle', 0.25, ONE_CYCLE), ('cyclic', 0.4, CYCLIC)]
)
def test_up_and_down_as_pytorch_does(schedule, rise, recorded):
    settings = change(schedule=schedule, rise=rise, epochs=4, learning_rate=0.2)
    found = rates(make_schedule(settings, 6), np.arange(24))
    np.testing.assert_allclose(found, recorded, rtol=2e-6, atol=2e-8)


def test_one_cycle_of_a_peak_between_two_steps():
    """The same with total_steps=10: PyTorch's peak is at step 1.5."""
    found = rates(make_schedule(change(schedule='one_cycle', epochs=10), 1), np.arange(10))
    recorded = [
        0.008, 0.152, 0.197814769, 0.180901776, 0.1500002, 0.110453205, 0.0690988242, 0.033087607,
        0.00864621965, 8e-07,
    ]  # fmt: skip
    np.testing.assert_allclose(2 * found, recorded, rtol=2e-6, atol=2e-8)


# Its momentum along the 24 steps of ONE_CYCLE, recorded with it.
CYCLED = [
    0.95, 0.9404508497187474, 0.9154508497187474, 0.8845491502812526, 0.8595491502812526, 0.85,
    0.8507596123493896, 0.8530153689607045, 0.856698729810778, 0.8616977778440511,
    0.8678606195156731, 0.875, 0.8828989928337165, 0.8913175911166534, 0.9, 0.9086824088833465,
    0.9171010071662834, 0.925, 0.932139380484327, 0.9383022221559488, 0.9433012701892219,
    0.9469846310392954, 0.9492403876506104, 0.95,
]  # fmt: skip


@pytest.mark.parametrize('nesterov', [True, False])
def test_momentum_goes_with_the_rate(nesterov):
    settings = change(
        schedule='one_cycle', epochs=4, cycle_momentum=True, nesterov=nesterov, weight_decay=0.3
    )
    start, gradients = random_tree(0), [random_tree(seed) for seed in range(1, 25)]
    with jax.enable_x64(True):
        tx = make_optimizer(settings, make_schedule(settings, 6), 6)
        params: Any = start
        state, update = tx.init(params), jax.jit(tx.update)
        for gradient in gradients:
            updates, state = update(gradient, state, params)
            params = optax.apply_updates(params, updates)
    rates = np.array(ONE_CYCLE) / 2
    for layer, name in (('conv', 'kernel'), ('norm', 'bias')):
        of_leaf = [gradient[layer][name] for gradient in gradients]
        desired = numpy_sgd(start[layer][name], of_leaf, rates, CYCLED, nesterov, 0.3)
        np.testing.assert_allclose(params[layer][name], desired, rtol=1e-6, err_msg=name)


def test_warm_up_rises_linearly_and_ends():
    """1.5 epochs of 10 steps: a fifteenth more at each step, then the schedule itself."""
    schedule = make_schedule(change(boundaries=(3,), warmup_epochs=1.5), 10)
    found = rates(schedule, np.arange(30))
    np.testing.assert_allclose(found[:15], 0.1 * np.arange(1, 16) / 15, rtol=1e-5)
    np.testing.assert_allclose(found[15:20], 0.1, rtol=1e-5)
    np.testing.assert_allclose(found[20:], 0.01, rtol=1e-5)


def test_warm_up_multiplies_the_cosine():
    schedule = make_schedule(change(schedule='cosine', epochs=4, warmup_epochs=2), 10)
    desired = 0.1 * (10 + 1) / 20 * (1 + np.cos(np.pi / 4)) / 2
    np.testing.assert_allclose(rates(schedule, [10]), [desired], rtol=1e-5)


def test_schedule_may_be_traced():
    schedule = make_schedule(TRADES, STEPS_PER_EPOCH)
    steps = np.array([0, 74 * STEPS_PER_EPOCH - 1, 74 * STEPS_PER_EPOCH])
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(steps), [0.1, 0.1, 0.01], rtol=1e-5)


SHAPES = {'conv': {'kernel': (3, 3, 1, 2)}, 'norm': {'scale': (2,), 'bias': (2,)}}


def random_tree(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return {
        layer: {name: rng.normal(size=shape) for name, shape in leaves.items()}
        for layer, leaves in SHAPES.items()
    }


def numpy_sgd(w, gradients, rates, momenta, nesterov, decay):
    """torch.optim.SGD's documentation, dampening 0, for one array; one momentum, or one a step."""
    buffer = np.zeros_like(w)
    momenta = np.broadcast_to(momenta, len(rates))
    for gradient, rate, momentum in zip(gradients, rates, momenta, strict=True):
        g = gradient + decay * w
        buffer = momentum * buffer + g
        w = w - rate * (g + momentum * buffer if nesterov else buffer)
    return w


@pytest.mark.parametrize('decay_norm_and_bias', [True, False])
@pytest.mark.parametrize('nesterov', [True, False])
def test_chain_is_pytorchs_sgd(nesterov, decay_norm_and_bias):
    """Five steps over a drop of the rate, with a decay large enough to be seen."""
    settings = change(
        nesterov=nesterov,
        decay_norm_and_bias=decay_norm_and_bias,
        weight_decay=0.3,
        momentum=0.8,
        boundaries=(2,),
    )
    five_rates = [0.1, 0.1, 0.1, 0.01, 0.01]
    start, gradients = random_tree(0), [random_tree(seed) for seed in range(1, 6)]
    with jax.enable_x64(True):
        tx = make_optimizer(settings, make_schedule(settings, 3), 3)
        params: Any = start
        state = tx.init(params)
        update = jax.jit(tx.update)
        for gradient in gradients:
            updates, state = update(gradient, state, params)
            params = optax.apply_updates(params, updates)
    for layer, name in (('conv', 'kernel'), ('norm', 'scale'), ('norm', 'bias')):
        decay = 0.3 if decay_norm_and_bias or name == 'kernel' else 0.0
        of_leaf = [gradient[layer][name] for gradient in gradients]
        desired = numpy_sgd(start[layer][name], of_leaf, five_rates, 0.8, nesterov, decay)
        np.testing.assert_allclose(params[layer][name], desired, rtol=1e-7, err_msg=name)


@pytest.mark.parametrize('clip_norm', [0.0, 0.5, 100.0])
def test_clipping_is_of_all_weights_together_and_before_the_decay(clip_norm):
    settings = change(clip_norm=clip_norm, weight_decay=0.3, boundaries=())
    start, gradients = random_tree(0), [random_tree(1), random_tree(2)]
    clipped = []
    for gradient in gradients:
        length = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
        assert 0.5 < length < 100
        factor = 0.5 / length if clip_norm == 0.5 else 1.0
        clipped.append(jax.tree.map(lambda g, factor=factor: factor * g, gradient))
    with jax.enable_x64(True):
        tx = make_optimizer(settings, make_schedule(settings, 3), 3)
        params: Any = start
        state = tx.init(params)
        for gradient in gradients:
            updates, state = tx.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
    for layer, name in (('conv', 'kernel'), ('norm', 'bias')):
        of_leaf = [gradient[layer][name] for gradient in clipped]
        desired = numpy_sgd(start[layer][name], of_leaf, [0.1, 0.1], 0.9, False, 0.3)
        np.testing.assert_allclose(params[layer][name], desired, rtol=1e-6, err_msg=name)


def test_state_holds_nothing_but_arrays():
    """It goes through jit, shard_map and checkpoints."""
    tx = make_optimizer(TRADES, make_schedule(TRADES, STEPS_PER_EPOCH), STEPS_PER_EPOCH)
    params = jax.tree.map(jnp.asarray, random_tree(0))
    leaves = jax.tree.leaves(tx.init(params))
    assert leaves and all(isinstance(leaf, jax.Array) for leaf in leaves)
