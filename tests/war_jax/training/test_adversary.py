"""The attack inside training. Oracles: closed forms for a linear network; for the batch's own
statistics jax.grad through the whole batch on one device."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from war_jax.attacks.losses import cross_entropy
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import BoxOnly, ThreatModel
from war_jax.data.batches import Batch
from war_jax.lowering import for_mesh
from war_jax.mesh import AXIS, make_mesh
from war_jax.models import forward
from war_jax.models.layers import BatchNorm
from war_jax.training.adversary import AttackOptions, make_adversary
from war_jax.training.objective import Madry

EPSILON, STEP_SIZE = 0.2, 0.05
THREAT = ThreatModel('linf', EPSILON)
W = np.random.default_rng(0).normal(size=(1, 4, 4, 1))


class State(NamedTuple):
    """What the attack looks at of a TrainState."""

    step: Any
    variables: Any


class Linear(nn.Module):
    """Two classes with logits ±w·(x - 0.5)."""

    @nn.compact
    def __call__(self, images, *, train):
        del train
        score = jnp.sum((images - 0.5) * W, (1, 2, 3))
        return jnp.stack([score, -score], -1)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(0), count)


def examples(count: int, *shape: int) -> Batch:
    rng = np.random.default_rng(1)
    x = rng.uniform(0.05, 0.95, (count, *shape))
    labels = rng.integers(0, 2, count).astype(np.int32)
    return Batch(x, labels, np.ones(count, bool), np.arange(count, dtype=np.int32))


def attack_of_a_line(threat, budget, options, steps=(0,)) -> list[np.ndarray]:
    """x_adv at each of these steps of the training, by one program."""
    batch = examples(6, 4, 4, 1)
    find: Any = jax.jit(make_adversary(Linear(), Madry(), threat, budget, options))
    found = [
        np.asarray(find(State(jnp.int32(step), {}), keys(6), batch))
        for step in steps
    ]
    assert find._cache_size() == 1
    return found


def uphill() -> np.ndarray:
    """The sign of the loss's gradient, everywhere."""
    return np.sign(W) * np.where(examples(6, 4, 4, 1).labels == 0, -1, 1)[:, None, None, None]


def test_radius_and_step_grow_to_what_they_are():
    """Four steps of warm-up: a quarter at step 0, all of both from step 3 on."""
    x = examples(6, 4, 4, 1).images
    budget, options = Budget(6, STEP_SIZE, 'none', 0.0), AttackOptions(warmup_steps=4)
    found = attack_of_a_line(THREAT, budget, options, steps=(0, 1, 3, 9))
    for share, x_adv in zip((0.25, 0.5, 1.0, 1.0), found, strict=True):
        reach = min(6 * STEP_SIZE, EPSILON) * share
        np.testing.assert_allclose(x_adv, np.clip(x + reach * uphill(), 0, 1), atol=1e-6)
    budget = Budget(1, STEP_SIZE, 'none', 0.0)  # too short to see the radius
    for share, x_adv in zip(
        (0.25, 1.0), attack_of_a_line(THREAT, budget, options, (0, 7)), strict=True
    ):
        reach = STEP_SIZE * share
        np.testing.assert_allclose(x_adv, np.clip(x + reach * uphill(), 0, 1), atol=1e-6)


def starts_in_linf(scale: float) -> np.ndarray:
    """Where the uniform starts lie, as the attack draws them."""
    x = examples(6, 4, 4, 1).images
    noise = jax.vmap(lambda key: THREAT.sample(key, (4, 4, 1), jnp.dtype('float64')))(keys(6))
    return np.asarray(x + scale * noise)


def test_fgsm_rs():
    """Wong et al. 2020: uniform start cut to the box, one step of 1.25 epsilon, cut to ball and
    box."""
    x = examples(6, 4, 4, 1).images
    budget = Budget(1, 1.25 * EPSILON, 'uniform', 1.0, project_start=True)
    [x_adv] = attack_of_a_line(THREAT, budget, AttackOptions())
    start = np.clip(starts_in_linf(1.0), 0, 1)
    assert (start != starts_in_linf(1.0)).any()
    step = start + 1.25 * EPSILON * uphill()
    desired = np.clip(np.clip(step, x - EPSILON, x + EPSILON), 0, 1)
    np.testing.assert_allclose(x_adv, desired, atol=1e-6)


def test_n_fgsm():
    """De Jorge et al. 2022: uniform start from twice the radius, one step of epsilon, cut to the
    box alone."""
    x = examples(6, 4, 4, 1).images
    budget = Budget(1, EPSILON, 'uniform', 2.0, project_start=True)
    [x_adv] = attack_of_a_line(BoxOnly('linf', EPSILON), budget, AttackOptions())
    desired = np.clip(np.clip(starts_in_linf(2.0), 0, 1) + EPSILON * uphill(), 0, 1)
    np.testing.assert_allclose(x_adv, desired, atol=1e-6)
    assert np.abs(x_adv - x).max() > 1.5 * EPSILON


def test_stops_early_with_labels_of_its_own():
    """An image on the wrong side stays, one on the right side goes on until it is not."""
    batch, budget = examples(6, 4, 4, 1), Budget(40, 0.01, 'none', 0.0)
    [x_adv] = attack_of_a_line(ThreatModel('linf', 0.9), budget, AttackOptions(early_stop=0))

    def margin(x: np.ndarray) -> np.ndarray:
        return np.where(batch.labels == 0, 1, -1) * ((x - 0.5) * W).sum((1, 2, 3))

    before, after, one_step = margin(batch.images), margin(x_adv), 0.01 * np.abs(W).sum()
    assert (before < 0).any() and (before > one_step).any()
    np.testing.assert_array_equal(x_adv[before < 0], batch.images[before < 0])
    assert (after <= 0).all() and (after[before > 0] > -one_step).all()


class Normed(nn.Module):
    """BatchNorm of pixels, a nonlinearity, two classes."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, *, train, mask=None):
        float64 = jnp.dtype('float64')
        norm = BatchNorm(1e-5, self.axis_name, float64, float64)
        z = jnp.tanh(norm(images, train=train, mask=mask)).reshape(len(images), -1)
        return nn.Dense(2, dtype=float64, param_dtype=float64)(z)


def normed_variables() -> Any:
    return Normed().init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)), train=False)


def attack_of_norms(num_devices: int, batch: Batch) -> np.ndarray:
    """Two steps, the statistics of the attacked batch over all devices."""
    budget, options = Budget(2, 0.02, 'none', 0.0), AttackOptions(batch_norm='train')
    find = make_adversary(Normed(AXIS), Madry(), THREAT, budget, options)
    mesh = make_mesh(jax.devices()[:num_devices])
    specs = (P(), P(AXIS), P(AXIS))
    mapped = jax.shard_map(find, mesh=mesh, in_specs=specs, out_specs=P(AXIS))
    arguments = (State(jnp.int32(0), normed_variables()), keys(len(batch.ids)), batch)
    return np.asarray(jax.jit(for_mesh(mapped, mesh))(*arguments))


def test_statistics_of_the_attacked_batch():
    """On one device, and on four with padding."""
    batch = examples(6, 4, 4, 3)
    x = z = jnp.asarray(batch.images)
    everything = jnp.ones(6, bool)

    def loss(z):
        logits, _ = forward.train(Normed(), normed_variables(), z, everything)
        return cross_entropy(logits, batch.labels).sum()

    for _ in range(2):
        step = z + 0.02 * jnp.sign(jax.grad(loss)(z))
        z = jnp.clip(jnp.clip(step, x - EPSILON, x + EPSILON), 0, 1)
    padded = Batch(*(np.concatenate([a, a[:2]]) for a in batch))
    padded = padded._replace(mask=np.array([True] * 6 + [False] * 2))
    np.testing.assert_allclose(attack_of_norms(1, batch), z, atol=1e-12)
    np.testing.assert_allclose(attack_of_norms(4, padded)[:6], z, atol=1e-12)
