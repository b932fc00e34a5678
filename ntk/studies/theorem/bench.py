"""Makes the cells of a study of the theorem: suprema around a start, or a training.

    bench = Bench(settings, Path('runs/theorem'))
    row = bench.make(settings.suprema[0], stop)
    row['suprema']['outputs-frobenius-constant'], row['first_layer']     # one for each omega_0
    row = bench.make(settings.trainings[0], stop)
    row['steps'], row['alignments'], row['test']['max_outputs']

Images are flattened and scaled to length 1, as the theory has them. A seed draws the weights, the
same up to factors in all parametrizations.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntk.studies.images import balanced
from ntk.studies.theorem.ascent import Question, climb
from ntk.studies.theorem.measure import (
    first_alignment,
    first_layer_bound,
    gradient_norms,
    measure,
)
from ntk.studies.theorem.network import Matrices, Network, draw
from ntk.studies.theorem.settings import LAWS, THEORY, Settings, Supremum, Training
from ntk.studies.theorem.training import advance, rates_of, start
from war_jax.data.sources import Dataset, checksum, load
from war_jax.lab.experiment import Row
from war_jax.records.interrupt import Stop

# What is asked of each ball: (name, of the loss?, in the spectral norm?).
ASKED = (
    ('outputs-frobenius', False, False),
    ('outputs-spectral', False, True),
    ('loss-frobenius', True, False),
    ('loss-spectral', True, True),
)


class Bench:
    """Raises ConfigError for more images than there are."""

    about: Mapping[str, Any] = {}

    def __init__(self, settings: Settings, workdir: Path):
        del workdir
        self.settings = settings
        splits = load(settings.data_config)
        self.data = f'{splits.provenance.rstrip(".")}; flattened, and scaled to length 1'
        self.checksum, self.num_outputs = checksum(splits), splits.num_classes
        self.train = _flat(splits.train, settings.data.num_train)
        self.test = _flat(splits.test, settings.data.num_test)
        self.measure = jax.jit(partial(measure, num_steps=settings.training.measure_steps))
        self.norms, self.first_layer = jax.jit(gradient_norms), jax.jit(first_layer_bound)
        self.climb_all = jax.jit(self._climb_all)

    def work(self, cell: Supremum | Training) -> int:
        size = 20 + cell.depth * cell.width**2 // 2**14
        return size if isinstance(cell, Training) and cell.objective == 'natural' else 4 * size

    def make(self, cell: Supremum | Training, stop: Stop) -> Row:
        found = self.supremum(cell) if isinstance(cell, Supremum) else self.training(cell, stop)
        return {**asdict(cell), **found}

    def network(self, cell: Supremum | Training) -> Network:
        name = cell.parametrization if isinstance(cell, Supremum) else THEORY
        num_inputs = self.train[0].shape[1]
        key = jax.random.key(cell.seed)
        return draw(name, cell.depth, cell.width, num_inputs, self.num_outputs, key)

    def supremum(self, cell: Supremum) -> Row:
        """Of all balls; a larger ball holds the smaller ones, and its supremum is no less."""
        network, (x, y), balls = self.network(cell), self.test, self.settings.balls
        radii = {
            (law, omega): self.settings.radius(law, omega, cell.width)
            for law in LAWS
            for omega in balls.omegas
        }
        factors = np.asarray(network.factors)
        by_radius = sorted(radii.values())
        reaches = jnp.asarray(np.outer(by_radius, factors), jnp.float32)  # (balls, L)
        of_outputs, of_loss = self.norms(network.matrices, x, y)
        values = {}
        for name, is_loss, is_spectral in ASKED:
            points = self.most(of_loss[:, None] if is_loss else of_outputs)
            c = y[points[0]] if is_loss else points[1]
            found = self.climb_all(network.matrices, x[points[0]], c, is_loss, is_spectral, reaches)
            values[name] = np.maximum.accumulate(np.asarray(found).max(1))
        for kind in ('outputs', 'loss'):  # every ball of the Frobenius norm is in the spectral one
            frobenius, spectral = f'{kind}-frobenius', f'{kind}-spectral'
            values[spectral] = np.maximum(values[frobenius], values[spectral])
        place = {key: by_radius.index(radius) for key, radius in radii.items()}

        def listed(of: Any, law: str) -> list[float]:
            return [_short(of[place[law, omega]]) for omega in balls.omegas]

        alone = [self.first_layer(network.matrices, x, reach[0]).max() for reach in reaches]
        return {
            **_plain(self.measure(network.matrices, x, y, balls.epsilon)),
            'suprema': {
                f'{name}-{law}': listed(v, law) for name, v in values.items() for law in LAWS
            },
            'first_layer': {law: listed(alone, law) for law in LAWS},
        }

    def most(self, norms: Array) -> tuple[Array, Array]:
        """Rows and columns of the largest entries, with which the restarts begin."""
        count = min(self.settings.ascent.restarts, norms.size)
        places = jax.lax.top_k(norms.ravel(), count)[1]
        return places // norms.shape[1], places % norms.shape[1]

    def _climb_all(
        self,
        matrices: Matrices,
        x: Array,
        c: Array,
        is_loss: Array,
        is_spectral: Array,
        reaches: Array,
    ) -> Array:
        """(balls, L) reaches around each of the points (r, d) -> (balls, r) suprema."""
        settings = self.settings
        epsilon = jnp.asarray(settings.balls.epsilon, x.dtype)

        def at(point: tuple[Array, Array]) -> Array:
            def in_ball(reach: Array) -> Array:
                question = Question(*point, is_loss, reach, epsilon, is_spectral)
                return climb(matrices, question, settings.ascent.num_steps).value

            return jax.vmap(in_ball)(reaches)

        return jax.lax.map(at, (x, c)).T

    def training(self, cell: Training, stop: Stop) -> Row:
        """With W_1's alignment on the training images at the powers of 2."""
        settings, (x, y) = self.settings, self.train
        training, network = settings.training, self.network(cell)
        epsilon = settings.balls.epsilon if cell.objective == 'adversarial' else 0.0
        trained, rates = start(network.matrices), rates_of(network, training.learning_rate)
        steps = [0, *(2**k for k in range(training.num_steps.bit_length()))]
        losses, aligned = [], [first_alignment(network.matrices, x, y)]
        for before, step in pairwise(steps):
            stop.leave_if_told()
            trained, loss = advance(
                trained, rates, x, y, jnp.float32(epsilon), step - before, training.momentum,
                attack_steps=training.attack_steps,
            )  # fmt: skip
            losses.append(loss)
            aligned.append(first_alignment(trained.matrices, x, y))
        moved = [
            jnp.linalg.norm(now - then) / factor
            for now, then, factor in zip(
                trained.matrices, network.matrices, network.factors, strict=True
            )
        ]
        sides = {'train': self.train, 'test': self.test}
        return {
            'steps': steps,
            'losses': [_short(loss) for loss in losses],
            'alignments': [_short(value) for value in aligned],
            'movement': [_short(value) for value in moved],
            **{
                side: _plain(self.measure(trained.matrices, *images, settings.balls.epsilon))
                for side, images in sides.items()
            },
        }


def _flat(dataset: Dataset, count: int) -> tuple[Array, Array]:
    """Images (n, d) of length 1, and labels (n,)."""
    images, labels = balanced(dataset, count)
    rows = images.reshape(count, -1)
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True), labels


def _short(value: Any) -> float:
    """Six digits: more are noise of float32, and rows are kept as text."""
    return float(f'{float(value):.6g}')


def _plain(found: Mapping[str, Array]) -> Row:
    return {
        name: [_short(v) for v in value] if value.ndim else _short(value)
        for name, value in found.items()
    }
