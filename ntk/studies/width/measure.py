"""All numbers of one network of the study.

    programs = Programs(settings, width=512, num_outputs=10)       # compiled once
    values = programs.measure(network, key, x_test, y_test)        # {'gradient_rms': ..., ...}
    values |= programs.movement(network, x_test)

Every number is of g (see `ntk.studies.width.training`), on given examples and labels.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ntk.gradients import dual, largest_over_ball, loss_gradient_norms, output_gradient_norms
from ntk.networks.parametrization import Scales
from ntk.studies.width.settings import Settings
from ntk.studies.width.training import Network, make_model, make_step, outputs, predict
from war_jax.attacks.losses import cross_entropy, kl_divergence
from war_jax.attacks.pgd import Budget, attack_trace
from war_jax.attacks.threat import ThreatModel
from war_jax.measures.lipschitz import output_ratio

# Of each split, in the order of the tables.
MEASURED = (
    'gradient_rms',  # of ||grad_x g_c||_2 over examples and outputs c
    'loss_gradient',  # mean dual norm of the cross-entropy's gradient
    'loss_gradient_ball',  # mean over examples of its largest value met in the ball
    'local_lipschitz',  # mean largest ||g(x) - g(x')||_1 / ||x - x'|| (Yang et al. 2020)
    'margin',  # mean of the largest output minus the second
    'lipschitz_by_margin',  # local_lipschitz / margin, which no factor on the outputs changes
    'local_lipschitz_kl_gradient',  # mean largest ||grad KL||_1 (WAR authors)
    'natural_accuracy',
    'robust_accuracy',  # under ascent on KL, as the next one
    'perturbation_stability',
    'natural_risk',  # mean cross-entropy
)
Measure = Callable[[Network, Array, Array, Array], dict[str, Array]]


def make_measure(model: nn.Module, threat: ThreatModel, num_steps: int) -> Measure:
    """A jitted (network, key, x (n, ...), y (n,)) -> the values of MEASURED, each ()."""
    # Small steps close to x first, where a ratio of differences is nearly a derivative.
    near = Budget(num_steps, threat.epsilon * 2.5 / num_steps, 'gaussian', 0.001)
    anywhere = Budget(num_steps, threat.epsilon * 2.5 / num_steps, 'uniform', 1.0)
    norm = dual(threat.norm)

    def measure(network: Network, key: Array, x: Array, y: Array) -> dict[str, Array]:
        def f(z: Array) -> Array:
            return predict(model, network, z)

        def loss_gradient(z: Array) -> Array:
            return loss_gradient_norms(f, lambda logits: cross_entropy(logits, y), z, norm)

        clean = f(x)
        keys = jax.random.split(key, (3, x.shape[0]))
        attacked = attack_trace(keys[0], lambda z: kl_divergence(clean, f(z)), x, threat, anywhere)
        correct = clean.argmax(-1) == y
        lipschitz = output_ratio(f, keys[2], x, threat, near).mean()
        second, first = jnp.moveaxis(jnp.sort(clean, -1)[:, -2:], -1, 0)
        margin = (first - second).mean()
        stable = f(attacked.x_adv).argmax(-1) == clean.argmax(-1)
        values = (
            jnp.sqrt(jnp.square(output_gradient_norms(f, x)).mean()),
            loss_gradient(x).mean(),
            largest_over_ball(keys[1], loss_gradient, x, threat, anywhere).mean(),
            lipschitz,
            margin,
            lipschitz / margin,
            attacked.max_grad_l1.mean(),
            correct.mean(),
            (correct & stable).mean(),
            stable.mean(),
            cross_entropy(clean, y).mean(),
        )
        return dict(zip(MEASURED, values, strict=True))

    return jax.jit(measure)


def make_movement(model: nn.Module) -> Callable[[Network, Array], dict[str, Array]]:
    """A jitted (network, x (n, ...)) -> how far the network is from its start, each ().

    movement: ||w - w_0|| / ||w_0|| over all trained weights. linearisation_error: of the first
    Taylor polynomial g_lin in the weights around the start, ||g - g_lin|| / ||g - g_0|| over x and
    outputs; 0 / 0, at the start, is not a number.
    """

    def movement(network: Network, x: Array) -> dict[str, Array]:
        change = jax.tree.map(lambda w, w0: w - w0, network.weights, network.start)
        at_start, linear = jax.jvp(
            lambda weights: outputs(model, network.multipliers, weights, x),
            (network.start,),
            (change,),
        )
        moved = outputs(model, network.multipliers, network.weights, x) - at_start
        return {
            'movement': _length(change) / _length(network.start),
            'linearisation_error': _length(moved - linear) / _length(moved),
        }

    return jax.jit(movement)


class Programs:
    """Everything compiled for one width."""

    def __init__(self, settings: Settings, width: float, num_outputs: int):
        self.width = width
        self.model = make_model(settings.network, width, num_outputs)
        ball = ThreatModel(settings.threat.norm, settings.threat.epsilon)
        attack = settings.attack
        # As in TRADES: a start close to x, where KL has a gradient.
        budget = Budget(attack.num_steps, attack.step_size, 'gaussian', 0.001)
        self.steps = {
            phase.step: make_step(self.model, phase.step, ball, budget)
            for phase in settings.phases
        }
        self.risk = jax.jit(
            lambda network, x, y: cross_entropy(predict(self.model, network, x), y).mean()
        )
        self.measure = make_measure(self.model, ball, attack.measure_steps)
        self.movement = make_movement(self.model)
        self._functions: dict[str, Callable[..., Array]] = {}

    def function(self, name: str, scales: Scales) -> Callable[..., Array]:
        """f(trained weights, x); the same object at every call, for it to be compiled once."""
        if name not in self._functions:
            self._functions[name] = lambda weights, x: outputs(
                self.model, scales.multipliers, weights, x
            )
        return self._functions[name]


def _length(tree: object) -> Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))
