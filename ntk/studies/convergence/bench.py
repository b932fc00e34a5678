"""Makes the cells of a study of convergence: a training, or the best loss in a ball.

    bench = Bench(settings, Path('runs/convergence'))
    row = bench.make(settings.trainings[0], stop)
    row['steps'], row['least_attacked_loss']            # the least L_A so far, at powers of 2
    best = bench.make(settings.optima[0], stop)
    best['lower'], best['upper']                        # of the linearised network in its ball

A seed is a draw of the points, of their labels and of the weights.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntk.studies.adversary import Strong
from ntk.studies.convergence.network import Design, Start, at_start, draw
from ntk.studies.convergence.optimum import best_in_ball
from ntk.studies.convergence.settings import Cell, DesignName, Optimum, Settings
from ntk.studies.convergence.training import Programs
from ntk.studies.sphere import random_points
from war_jax.lab.experiment import Row
from war_jax.records.interrupt import Stop

_WEIGHTS, _MEASURE, _CUTS = range(3)  # folded into a seed's key, for independent random numbers


class Bench:
    about: Mapping[str, Any] = {}

    def __init__(self, settings: Settings, workdir: Path):
        del workdir
        self.settings, data = settings, settings.data
        self.data = (
            f'{data.num_points} random points of the unit sphere in dimension {data.dimension}, '
            'last coordinate 1/2, random labels of -1 and 1 in equal numbers; drawn for each seed'
        )
        points, labels = self.points(seed=0)
        self.checksum = sha256(points.tobytes() + labels.tobytes()).hexdigest()
        self.programs = cache(self._programs)

    def work(self, cell: Cell | Optimum) -> int:
        square = cell.width**2 // 1000
        return 20 + (square if cell.design == 'deep' else cell.width // 20)

    def make(self, cell: Cell | Optimum, stop: Stop) -> Row:
        del stop  # a training is one program, which nothing can interrupt
        found = self.optimum(cell) if isinstance(cell, Optimum) else self.training(cell)
        return {**asdict(cell), **found}

    def points(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, d) and labels (n,), float32."""
        data = self.settings.data
        rng = np.random.default_rng([seed, data.num_points, data.dimension])
        points, labels = random_points(rng, data.num_points, data.dimension)
        return points.astype(np.float32), labels.astype(np.float32)

    def design(self, name: DesignName) -> Design:
        if name == 'deep':
            return Design('deep', 'relu', self.settings.training.deep_layers)
        return Design('two_layer', name, 1)

    def _programs(self, name: DesignName) -> Programs:
        strong, training = self.settings.strong, self.settings.training
        rate = training.deep_learning_rate if name == 'deep' else training.learning_rate
        return Programs(self.design(name), Strong(strong.num_steps, strong.restarts), rate)

    def begin(self, cell: Cell | Optimum) -> tuple[Start, Array, Array, Array]:
        """The start, points (n, d), labels (n,), and the seed's key."""
        points, labels = self.points(cell.seed)
        key = jax.random.key(cell.seed)
        weights_key = jax.random.fold_in(key, _WEIGHTS)
        dimension = self.settings.data.dimension
        start = draw(weights_key, self.design(cell.design), cell.width, dimension)
        return start, jnp.asarray(points), jnp.asarray(labels), key

    def training(self, cell: Cell) -> Row:
        programs = self.programs(cell.design)
        start, x, y, key = self.begin(cell)
        movement, losses = programs.train(cell.attack)(
            start, at_start(start), x, y, cell.radius or np.inf, cell.epsilon,
            jnp.zeros(self.settings.training.num_steps),
        )  # fmt: skip
        found = programs.measure(
            start, movement, x, y, cell.epsilon, jax.random.fold_in(key, _MEASURE)
        )
        least = np.minimum.accumulate(np.asarray(losses, float))
        times = [2**k for k in range(3, int(np.log2(len(least))) + 1)]
        return {
            'steps': times,
            'least_attacked_loss': [least[time - 1] for time in times],
            'attacked_loss': least[-1],
            **{name: np.asarray(value) for name, value in found.items()},
        }

    def optimum(self, cell: Optimum) -> Row:
        start, x, y, key = self.begin(cell)
        best = best_in_ball(
            self.programs(cell.design), start, x, y, cell.epsilon, cell.radius,
            jax.random.fold_in(key, _CUTS), self.settings.strong.tolerance,
        )  # fmt: skip
        return best._asdict()
