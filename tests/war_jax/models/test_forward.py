"""Oracles: a network of one line with known answers, the recursion by hand, and types."""

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.models import forward
from war_jax.models.wide_resnet import WideResNet


class OneLine(nn.Module):
    """Logits: sum of the pixels, plus (training) 10 or (inference) the running mean."""

    dtype: str = 'float32'

    @nn.compact
    def __call__(self, images, *, train, mask=None):
        running = self.variable('batch_stats', 'mean', jnp.zeros, (1,)).value
        if train:
            assert mask is not None
            self.put_variable('moments', 'mean', mask.sum()[None].astype('float32'))
        sums = images.reshape(len(images), -1).sum(1, keepdims=True)
        return (sums + (10.0 if train else running[None])).astype(self.dtype)


IMAGES = jnp.arange(8.0).reshape(4, 1, 2, 1)
SUMS = np.array([[1.0], [5.0], [9.0], [13.0]])
VARIABLES = {'params': {}, 'batch_stats': {'mean': jnp.array([3.0])}}


def test_evaluate_calls_in_inference_mode():
    np.testing.assert_array_equal(forward.evaluate(OneLine(), VARIABLES, IMAGES), SUMS + 3)


def test_train_hands_the_mask_on_and_the_moments_back():
    mask = jnp.array([True, True, False, True])
    logits, moments = forward.train(OneLine(), VARIABLES, IMAGES, mask)
    np.testing.assert_array_equal(logits, SUMS + 10)
    assert set(moments) == {'mean'}
    np.testing.assert_array_equal(moments['mean'], [3])


@pytest.mark.parametrize(
    'computed, returned',
    [('bfloat16', 'float32'), ('float32', 'float32'), ('float64', 'float64')],
)
def test_logits_leave_in_float32_at_least(computed, returned):
    with jax.enable_x64(True):
        model, mask = OneLine(computed), jnp.ones(4, bool)
        assert forward.evaluate(model, VARIABLES, IMAGES).dtype == returned
        assert forward.train(model, VARIABLES, IMAGES, mask)[0].dtype == returned


def equations(program: Any) -> Iterator[Any]:
    """Those of a closed program in their order, calls replaced by what they call."""
    for equation in program.eqns:
        called = equation.params.get('call_jaxpr', equation.params.get('jaxpr'))
        if called is None:
            yield equation
        else:
            yield from equations(called)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_around_it():
    """Oracle: the types in the traced program, and float32 logits to bfloat16's three digits."""
    fields = {'depth': 10, 'widen_factor': 0.25, 'num_classes': 5, 'strides': (1, 2, 1)}
    model = WideResNet(**fields, dtype=jnp.dtype('bfloat16'))
    x = jax.random.uniform(jax.random.key(1), (4, 8, 8, 1))
    mask = jnp.ones(4, bool)
    variables = jax.jit(lambda: model.init(jax.random.key(0), x, train=False))()
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}

    program = jax.make_jaxpr(lambda x: forward.train(model, variables, x, mask))(x)
    products = ('conv_general_dilated', 'dot_general')
    types = [
        e.outvars[0].aval.dtype for e in equations(program) if e.primitive.name in products
    ]
    # The first convolution sees the image, which bfloat16 would move by as much as an attack.
    assert types[0] == jnp.dtype('float32')
    assert len(types) == 11 and set(types[1:]) == {jnp.dtype('bfloat16')}

    reference = WideResNet(**fields)
    logits, moments = jax.jit(lambda: forward.train(model, variables, x, mask))()
    desired, desired_moments = jax.jit(lambda: forward.train(reference, variables, x, mask))()
    assert {leaf.dtype for leaf in jax.tree.leaves((logits, moments))} == {jnp.dtype('float32')}
    scale = float(jnp.abs(desired).max())
    np.testing.assert_allclose(logits, desired, rtol=0, atol=0.05 * scale)
    assert float(jnp.abs(logits - desired).max()) > 0  # it was another computation
    last, desired_last = moments['norm']['var'], desired_moments['norm']['var']
    np.testing.assert_allclose(last, desired_last, rtol=0.1)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_what_weights_alone_decide_is_made_once_for_many_passes(dtype: str) -> None:
    """Oracles: the network without it, to rounding; what is left to do in a pass that has it."""
    model = WideResNet(10, 0.25, 5, strides=(1, 2, 1), dtype=jnp.dtype(dtype))
    x = jax.random.uniform(jax.random.key(1), (4, 8, 8, 1))
    variables = jax.jit(lambda: model.init(jax.random.key(0), x, train=False))()
    assert set(variables) == {'params', 'batch_stats'}
    variables['batch_stats'] = jax.tree.map(
        lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)), variables['batch_stats']
    )
    ready = forward.prepared(model, variables, x)

    logits = jax.jit(lambda known: forward.evaluate(model, known, x))
    # XLA may keep more digits of what it makes and uses in one place.
    digits = 1e-6 if dtype == 'float32' else 2e-2
    np.testing.assert_allclose(logits(ready), logits(variables), rtol=0, atol=digits)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, ready['prepared'])
    assert float(jnp.abs(logits({**ready, 'prepared': doubled}) - logits(ready)).max()) > 0.1

    def left(known: forward.Variables) -> tuple[int, int]:
        """Square roots, and kernels that are rounded: ((size, size, c, d) -> bfloat16)."""
        program = jax.make_jaxpr(lambda z: forward.evaluate(model, known, z))(x)
        ops = [(e.primitive.name, e.invars[0].aval) for e in equations(program) if e.invars]
        kernels = [of for name, of in ops if name == 'convert_element_type' and of.ndim == 4]
        kernels = [of for of in kernels if of.dtype == 'float32' and of.shape[0] == of.shape[1] < 4]
        return sum(name == 'rsqrt' for name, _ in ops), len(kernels)

    # 7 norms; 6 convolutions of blocks and 3 shortcuts, whose type is float32 already, or not.
    assert left(variables) == (7, 9 if dtype == 'bfloat16' else 0)
    assert left(ready) == (0, 0)


def test_statistics_follow_pytorchs_momentum_in_the_order_of_the_passes():
    """Oracle: running <- 0.9 running + 0.1 moment, twice: the later pass weighs more."""
    running = {'norm': {'mean': jnp.array([1.0, 2.0]), 'var': jnp.array([4.0, 1.0])}}
    natural = {'norm': {'mean': jnp.array([10.0, 0.0]), 'var': jnp.array([1.0, 1.0])}}
    adversarial = {'norm': {'mean': jnp.array([0.0, 20.0]), 'var': jnp.array([2.0, 3.0])}}
    new = forward.update_statistics(running, [natural, adversarial], 0.1)
    np.testing.assert_allclose(new['norm']['mean'], [0.81 + 0.9, 1.62 + 2.0], rtol=1e-6)
    np.testing.assert_allclose(new['norm']['var'], [3.24 + 0.29, 0.81 + 0.39], rtol=1e-6)
    swapped = forward.update_statistics(running, [adversarial, natural], 0.1)
    np.testing.assert_allclose(swapped['norm']['mean'], [0.81 + 1.0, 1.62 + 1.8], rtol=1e-6)


def test_statistics_without_passes_and_with_momentum_one():
    running, moment = {'mean': jnp.array([1.0])}, {'mean': jnp.array([5.0])}
    np.testing.assert_array_equal(forward.update_statistics(running, [], 0.1)['mean'], [1])
    np.testing.assert_array_equal(forward.update_statistics(running, [moment], 1.0)['mean'], [5])


def test_examples_are_evaluated_one_by_one():
    """Oracle: the same images in batches of one."""
    model = WideResNet(10, 0.25, 5, strides=(1, 2, 1))
    x = jax.random.uniform(jax.random.key(2), (3, 8, 8, 1))
    variables = jax.jit(lambda: model.init(jax.random.key(0), x, train=False))()
    evaluate = jax.jit(lambda x: forward.evaluate(model, variables, x))
    alone = [evaluate(x[i : i + 1])[0] for i in range(3)]
    np.testing.assert_allclose(evaluate(x), np.stack(alone), rtol=1e-4, atol=1e-5)
