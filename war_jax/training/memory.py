"""How much memory a training step takes on each device: estimated before it is compiled, and as XLA
plans it afterwards.

    print(describe_estimate(parts, splits))
    print(describe_plan(parts.step.lower(state, key, rule, batch).compile()))

The estimate counts what has to be there: the state, a gradient, the images, and what the forward
passes leave behind for the backward ones. XLA recomputes cheap ones of the latter and needs buffers
for others, so that its plan may be a half of that or twice as much (docs/scaling.md).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from war_jax.data.sources import Splits
from war_jax.data.stream import AHEAD
from war_jax.models import forward
from war_jax.training.build import Parts


def describe_estimate(parts: Parts, splits: Splits) -> str:
    """One line."""
    sizes = estimate(parts, splits)
    items = ', '.join(f'{name} {in_units(size)}' for name, size in sizes.items())
    return f'memory per device, estimated: {in_units(sum(sizes.values()))} ({items})'


def describe_plan(compiled: Any) -> str:
    """One line, '' where the backend does not tell."""
    plan = compiled.memory_analysis()
    if plan is None:
        return ''
    arguments, temporary = plan.argument_size_in_bytes, plan.temp_size_in_bytes
    new = plan.output_size_in_bytes - plan.alias_size_in_bytes  # outputs in place of arguments
    return (
        f'memory per device, as XLA plans a step: {in_units(arguments + temporary + new)} '
        f'(state and batch {in_units(arguments)}, temporary {in_units(temporary)})'
    )


def estimate(parts: Parts, splits: Splits) -> dict[str, int]:
    """Bytes per device, by what takes them."""
    config = parts.config
    state = jax.eval_shape(parts.fresh_state, parts.key, parts.rule)
    pieces = parts.mesh.size * config.optimizer.accumulation
    rows = config.optimizer.batch_size // pieces
    image_shape = splits.train.images.shape[1:]
    # The mesh axis has no meaning outside the step; the sums over it keep nothing.
    model: Any = parts.model.clone(axis_name=None)
    kept = [kept_for_weights(model, rows, image_shape) * (1 + parts.objective.uses_attack)]
    if parts.objective.uses_attack:
        kept.append(kept_for_images(model, rows, image_shape))
    sets = (splits.train, *(() if splits.extra is None else (splits.extra,)))
    images = sum(dataset.images.nbytes for dataset in sets)
    if config.data.placement == 'host':
        images = AHEAD * config.optimizer.batch_size * splits.train.images[0].nbytes
    holders = 1 if config.data.placement == 'replicated' else parts.mesh.size
    return {
        'state': num_bytes(state),
        'gradient': num_bytes(state.params),
        'images': images // holders,
        'activations': max(kept),
    }


@functools.cache
def kept_for_weights(model: Any, rows: int, image_shape: tuple[int, ...]) -> int:
    """Bytes that a training-mode pass keeps for the gradient with respect to the weights."""
    variables, images = _arguments(model, rows, image_shape)

    def residuals(params: Any, batch_stats: Any, images: Any) -> Any:
        def logits(params: Any) -> Any:
            variables = {'params': params, 'batch_stats': batch_stats}
            return forward.train(model, variables, images, jnp.ones(rows, bool))[0]

        return jax.vjp(logits, params)[1]

    arguments = (variables['params'], variables['batch_stats'], images)
    return _without_weights(jax.eval_shape(residuals, *arguments), variables)


@functools.cache
def kept_for_images(model: Any, rows: int, image_shape: tuple[int, ...]) -> int:
    """Bytes that an inference-mode pass keeps for the gradient with respect to the images."""
    variables, images = _arguments(model, rows, image_shape)

    def residuals(variables: Any, images: Any) -> Any:
        return jax.vjp(lambda z: forward.evaluate(model, variables, z), images)[1]

    return _without_weights(jax.eval_shape(residuals, variables, images), variables)


def num_bytes(tree: Any) -> int:
    """Of arrays, or of their shapes."""
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def in_units(size: float) -> str:
    """1536 * 1024**2 -> '1.5 GiB'; below a tenth of a MiB in KiB."""
    mebibytes = size / 2**20
    if mebibytes < 0.1:
        return f'{size / 2**10:.1f} KiB'
    return f'{mebibytes:.1f} MiB' if mebibytes < 1024 else f'{mebibytes / 1024:.1f} GiB'


def _arguments(model: Any, rows: int, image_shape: tuple[int, ...]) -> tuple[Any, Any]:
    images = jax.ShapeDtypeStruct((rows, *image_shape), model.param_dtype)
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), images), images


def _without_weights(residuals: Any, variables: Any) -> int:
    """The backward pass needs the weights, too, but not a copy of them."""
    weights = {(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(variables)}
    leaves = jax.tree.leaves(residuals)
    return num_bytes([leaf for leaf in leaves if (leaf.shape, leaf.dtype) not in weights])
