"""Learning-rate schedule, clipping and decay mask as one optax chain.

    schedule = make_schedule(config.optimizer, steps_per_epoch=352)
    tx = make_optimizer(config.optimizer, schedule, steps_per_epoch=352)

SGD as in PyTorch: the decay is added to the gradient, before the momentum (in all parameters, norms
and biases included, in the papers' code).
"""

from typing import Any, get_type_hints

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from war_jax.config import OptimizerConfig
from war_jax.config_rules import convert


def make_schedule(optimizer: OptimizerConfig, steps_per_epoch: int) -> optax.Schedule:
    """step -> learning rate. Epochs count from 1, as the papers' code does.

    'piecewise': times `factor` from each epoch in `boundaries` on (TRADES: 75, 90, 100).
    'halving': halved at boundaries[0] and at every epoch after it (the WAR authors' early stop).
    'cosine': to 0 at the end of the last epoch.
    'one_cycle': PyTorch's OneCycleLR with pct_start = `rise`, as in code for Rebuffi et al. 2021.
    'cyclic': PyTorch's CyclicLR from 0 over `rise` of the steps, once (Wong et al. 2020).
    A warm-up over the first `warmup_epochs` multiplies any of them: step / its steps, from 1 on.
    Raises ConfigError for any other schedule.
    """
    convert('optimizer.schedule', optimizer.schedule, get_type_hints(OptimizerConfig)['schedule'])
    peak = optimizer.learning_rate
    warmup_steps = optimizer.warmup_epochs * steps_per_epoch
    total_steps = optimizer.epochs * steps_per_epoch

    def schedule(count: ArrayLike) -> ArrayLike:
        step = jnp.asarray(count)
        epoch = step // steps_per_epoch + 1
        if optimizer.schedule == 'cosine':
            scale = (1 + jnp.cos(jnp.pi * step / total_steps)) / 2
        elif optimizer.schedule == 'one_cycle':
            share, is_rising = one_cycle(step, total_steps, optimizer.rise)
            lowest = jnp.where(is_rising, 1 / 25, 1 / 250_000)
            scale = lowest + (1 - lowest) * share
        elif optimizer.schedule == 'cyclic':
            top = optimizer.rise * total_steps
            scale = jnp.minimum(step / top, (total_steps - step) / (total_steps - top))
        elif optimizer.schedule == 'halving':
            scale = 0.5 ** jnp.maximum(epoch - optimizer.boundaries[0] + 1, 0)
        else:
            passed = sum((epoch >= boundary).astype(int) for boundary in optimizer.boundaries)
            scale = optimizer.factor ** jnp.asarray(passed)
        if warmup_steps:
            scale = scale * jnp.minimum((step + 1) / warmup_steps, 1.0)
        return peak * scale

    return schedule


def one_cycle(step: Array, total_steps: int, rise: float) -> tuple[Array, Array]:
    """From 0 up to 1, then down to 0 at the last step, in half waves of a cosine; and whether up.

    optax's schedule of this name has its peak at a whole step, and its end behind the last one.
    """
    last = total_steps - 1
    top = rise * total_steps - 1
    rising = step <= top
    # With so few steps that the first one is behind the peak, there is no rise to divide by.
    share = jnp.where(rising, step / max(top, 1e-9), (last - step) / max(last - top, 1e-9))
    return (1 - jnp.cos(jnp.pi * share)) / 2, rising


def make_momentum(optimizer: OptimizerConfig, steps_per_epoch: int) -> optax.Schedule:
    """step -> momentum of PyTorch's OneCycleLR: 0.95, at the rate's peak 0.85, at the end 0.95."""
    total_steps = optimizer.epochs * steps_per_epoch

    def momentum(count: ArrayLike) -> ArrayLike:
        return 0.95 - 0.1 * one_cycle(jnp.asarray(count), total_steps, optimizer.rise)[0]

    return momentum


def make_optimizer(
    optimizer: OptimizerConfig, schedule: optax.Schedule, steps_per_epoch: int
) -> optax.GradientTransformation:
    """Clipping, decay, momentum, learning rate; the state is arrays only."""

    def is_decayed(params: optax.Params) -> Any:
        return jax.tree.map(lambda w: optimizer.decay_norm_and_bias or w.ndim > 1, params)

    # Where nothing is clipped it is not in the chain, whose state is that of older checkpoints.
    clip = [optax.clip_by_global_norm(optimizer.clip_norm)] if optimizer.clip_norm else []
    if optimizer.cycle_momentum:
        moving = optax.inject_hyperparams(optax.trace, static_args='nesterov')
        momentum = make_momentum(optimizer, steps_per_epoch)
        trace = moving(decay=momentum, nesterov=optimizer.nesterov)
    else:
        trace = optax.trace(optimizer.momentum, nesterov=optimizer.nesterov)
    return optax.chain(
        *clip,
        optax.add_decayed_weights(optimizer.weight_decay, mask=is_decayed),
        trace,
        optax.scale_by_learning_rate(schedule),
    )
