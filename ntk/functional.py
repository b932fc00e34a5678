"""Networks as functions of their parameters: f(params, x), rows of x in, rows of outputs out.

    f, params = functional(model, variables, train=False)        # BatchNorm in inference mode
    f, params = functional_on_batch(model, variables, reference) # on moments of reference images
    f, params = functional_of_nnx(module)                        # of flax.nnx
    outputs = f(params, images)                                  # (n, ...) -> (n, outputs)

The rest of `ntk` takes a network in this form, whatever it was written in (`as_function`). What it
relies on is that the rows are independent: f(params, x)[i] depends on x[i] alone. BatchNorm on the
moments of the batch itself breaks that, and a kernel or gradient would then depend on how the
images were cut into blocks.

The functions returned are pytrees (`jax.tree_util.Partial`), with the other collections and the
reference images as leaves. Passed to a jitted program as an argument, as `ntk.empirical` does, they
share one compiled program with all other variables of the same model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.tree_util import Partial

Params = Any
Function = Callable[[Params, Array], Array]
Network = Function | nn.Module | nnx.Module  # what `as_function` takes
Variables = Mapping[str, Any]
NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})


def functional(
    model: nn.Module, variables: Variables, **arguments: Any
) -> tuple[Partial, Params]:
    """f(params, x) = model.apply({**variables, 'params': params}, x, **arguments), and params.

    Running statistics and all other collections stay as they are in `variables`. Raises ValueError
    where there are no parameters, or where a field of the model or an argument is not hashable.
    """
    params, others = _split(variables)
    return Partial(_hashable(_Applied(model, tuple(sorted(arguments.items())))), others), params


def functional_of_nnx(module: nnx.Module, **arguments: Any) -> tuple[Partial, Params]:
    """f(params, x) = module(x, **arguments), with `params` for its variables of type nnx.Param.

    All other variables stay as they are now, and so does what module.eval() or module.train() has
    chosen; f changes neither these nor the module. A linen module inside of `flax.nnx.bridge` is
    one of these modules, once `lazy_init` has made its parameters. Raises ValueError where there
    are no parameters, or where an argument is not hashable.
    """
    graph, params, others = nnx.split(module, nnx.Param, ...)
    if not params:
        raise ValueError(f'{type(module).__name__}: expected variables of type nnx.Param')
    return Partial(_hashable(_Merged(graph, tuple(sorted(arguments.items())))), others), params


def as_function(f: Network, params: Params, call: Mapping[str, Any]) -> tuple[Partial, Params]:
    """f(params, x) and its parameters, of whatever stands for a network.

    f: a linen module, with its parameters or all its variables for `params`; a module of flax.nnx,
    with None; or a function of parameters and examples. call: what a module is called with beside
    the examples, by name. Raises ValueError for parameters beside a module that has its own, for
    none beside what has none, and for a `call` of a function.
    """
    if isinstance(f, nnx.Module):
        if params is not None:
            raise ValueError('params: expected None, as a module of flax.nnx has its own')
        return functional_of_nnx(f, **call)
    if params is None:
        raise ValueError('params = None: expected parameters, unless f is a module of flax.nnx')
    if isinstance(f, nn.Module):
        is_whole = isinstance(params, Mapping) and isinstance(params.get('params'), Mapping)
        return functional(f, params if is_whole else {'params': params}, **call)
    if call:
        raise ValueError(f'call = {dict(call)}: expected nothing, as f is no module; close over it')
    return f if isinstance(f, Partial) else Partial(f), params


def functional_on_batch(
    model: nn.Module, variables: Variables, reference: Any
) -> tuple[Function, Params]:
    """As in training on the batch `reference`, which is (m, h, w, c), and x in its place for free.

    f(params, reference) is what the model gives in training mode. For any x, every norm normalises
    by the mean and the biased variance of the reference images' activations; these moments are
    functions of the parameters, and derivatives go through them. A call costs a pass over the
    reference images besides the one over x, and so does each of its derivatives.

    For models called as `war_jax.models.wide_resnet.WideResNet` is, with `train` and a `mask` of
    the examples that make up the moments. These are of `reference` alone, on whatever devices: a
    model with an `axis_name` is used without. Raises ValueError as `functional` does, and unless
    there are at least two reference images.
    """
    params, others = _split(variables)
    if len(reference) < 2:
        raise ValueError(f'{len(reference)} reference images: expected at least 2')
    if getattr(model, 'axis_name', None) is not None:
        model = model.clone(axis_name=None)
    return Partial(_hashable(_OnBatch(model)), others, jnp.asarray(reference)), params


@dataclass(frozen=True)
class _Applied:
    """Equal for equal models and arguments: what makes two functions share a compiled program."""

    model: nn.Module
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, others: Variables, params: Params, x: Array) -> Array:
        outputs = self.model.apply({**others, 'params': params}, x, **dict(self.arguments))
        return jnp.asarray(outputs)


@dataclass(frozen=True)
class _Merged:
    graph: nnx.GraphDef[Any]
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, others: Any, params: Params, x: Array) -> Array:
        # Copies, which belong to the innermost trace: a BatchNorm in training mode updates them.
        module = nnx.merge(self.graph, params, others, copy=True)
        return jnp.asarray(module(x, **dict(self.arguments)))


@dataclass(frozen=True)
class _OnBatch:
    model: nn.Module

    def __call__(self, others: Variables, reference: Array, params: Params, x: Array) -> Array:
        # One pass over both. The mask takes x out of the moments, but not out of the network:
        # exactly what is asked for, without a second formula for a norm.
        images = jnp.concatenate([reference, x])
        mask = jnp.arange(len(images)) < len(reference)
        variables = {**others, 'params': params}
        outputs, _ = self.model.apply(variables, images, train=True, mask=mask, mutable=['moments'])
        return outputs[len(reference) :]


def _split(variables: Variables) -> tuple[Params, dict[str, Any]]:
    """Parameters, and all other collections."""
    if 'params' not in variables:
        raise ValueError(f"variables = {sorted(variables)}: expected a collection 'params'")
    return variables['params'], {name: variables[name] for name in variables if name != 'params'}


def _hashable(applied: Any) -> Any:
    try:
        hash(applied)
    except TypeError as error:
        raise ValueError(
            f'{applied}: {error}; fields and arguments have to be hashable (tuples, not lists)'
        ) from error
    return applied
