"""Training of one network of the study: full-batch gradient descent in one of four phases.

    model = make_model(settings.network, width, num_outputs)
    step = make_step(model, phase.name, threat, budget)           # one program per width and phase
    network = start(scales.draw(plain), scales, alpha)
    for number in range(num_steps):
        network, loss = step(network, key, number, rates, x, y)
    logits = predict(model, network, x)

The network that is trained is g = f_0 + alpha (f - f_0), f_0 being f at the start (Chizat, Oyallon
& Bach 2019): alpha = 1 is f itself, and with alpha -> infinity the weights hardly move and g learns
like its linearisation, whatever the parametrization; its learning rate is divided by alpha^2, so
that it learns at the same speed. In the lazy natural phase the loss is the squared one,
sum ||g - t||^2 / (2 n) with t the centred one-hot labels, without momentum: that is what infinite
width predicts in closed form (`ntk.infinite.predictions`). The other phases are those of `war_jax`:
cross-entropy, and TRADES' cross-entropy + lambda * KL.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from ntk.networks import Architecture, make_network
from ntk.networks.parametrization import Scales, outputs
from ntk.studies.images import centred_targets
from ntk.studies.width.settings import PhaseName, WidthNetwork
from war_jax.attacks.pgd import Budget, pgd
from war_jax.attacks.threat import ThreatModel
from war_jax.training.objective import Natural, Trades


class Network(NamedTuple):
    """One network in training: everything here is data, so that parametrizations share programs."""

    weights: Any  # what is trained
    start: Any  # the same at the start
    velocity: Any
    multipliers: Any  # of each weight array
    alpha: Array  # ()


class Rates(NamedTuple):
    learning_rate: Array  # () of f; that of g is divided by alpha^2
    momentum: Array  # ()
    lam: Array  # ()


Step = Callable[[Network, Array, int, Rates, Array, Array], tuple[Network, Array]]


def make_model(network: WidthNetwork, width: float, num_outputs: int) -> nn.Module:
    of = network
    kind = Architecture(of.kind, of.num_layers, of.depth, of.strides, of.activation)
    return make_network(kind, width, num_outputs)


def start(weights: Any, scales: Scales, alpha: float) -> Network:
    # Copies: the step donates its network, and the caller's weights must outlive it.
    return Network(
        weights=jax.tree.map(jnp.copy, weights),
        start=jax.tree.map(jnp.copy, weights),
        velocity=jax.tree.map(jnp.zeros_like, weights),
        multipliers=jax.tree.map(jnp.float32, scales.multipliers),
        alpha=jnp.float32(alpha),
    )


def predict(model: nn.Module, network: Network, x: Array) -> Array:
    """g: (n, ...) -> (n, outputs)."""
    at_start = outputs(model, network.multipliers, network.start, x)
    change = outputs(model, network.multipliers, network.weights, x) - at_start
    return at_start + network.alpha * change


def make_step(
    model: nn.Module, phase: PhaseName, threat: ThreatModel, budget: Budget
) -> Step:
    """A jitted (network, key, number, rates, x (n, ...), y (n,)) -> (network, loss before it).

    The network is donated.
    """
    lazy, trades = phase.endswith('_lazy'), phase.startswith('trades')
    objective = Trades() if trades else Natural()

    def forward(network: Network, weights: Any, x: Array) -> Array:
        if lazy:
            return predict(model, network._replace(weights=weights), x)
        return outputs(model, network.multipliers, weights, x)  # alpha = 1: f_0 is not needed

    def adversarial(network: Network, keys: Array, x: Array, y: Array) -> Array:
        clean = forward(network, network.weights, x)

        def attack_loss(z: Array) -> Array:
            return objective.attack_loss(forward(network, network.weights, z), clean, y)

        return pgd(keys, attack_loss, x, threat, budget)

    def loss_of(weights: Any, network: Network, lam: Array, x: Array, x_adv: Array, y: Array):
        logits = forward(network, weights, x)
        if lazy and not trades:
            return optax.l2_loss(logits, centred_targets(y, logits.shape[-1])).sum(-1).mean()
        adv_logits = forward(network, weights, x_adv) if trades else logits
        terms = objective.risk(logits, adv_logits, y, jnp.mean)
        return terms.natural + lam * terms.robust

    def step(
        network: Network, key: Array, number: Array, rates: Rates, x: Array, y: Array
    ) -> tuple[Network, Array]:
        keys = jax.random.split(jax.random.fold_in(key, number), x.shape[0])
        x_adv = adversarial(network, keys, x, y) if trades else x
        loss, grads = jax.value_and_grad(loss_of)(
            network.weights, network, rates.lam, x, x_adv, y
        )
        rate = rates.learning_rate / network.alpha**2
        velocity = jax.tree.map(
            lambda old, grad: rates.momentum * old + grad, network.velocity, grads
        )
        weights = jax.tree.map(lambda w, v: w - rate * v, network.weights, velocity)
        return network._replace(weights=weights, velocity=velocity), loss

    return jax.jit(step, donate_argnums=0)
