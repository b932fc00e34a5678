"""Makes what is not yet there of a study of convergence: one file per training, then the report.

    run_convergence(settings, Path('runs/convergence'), command='python -m ntk.main ...')

A seed is a draw of the points, of their labels and of the weights. The rows of a training hold L_A
over its steps (the least so far, at powers of 2) and what was measured at its end; `optima/` holds
the best loss of the linearised network in each ball.
"""

from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntk.studies.cells import Piece, make_missing, opened
from ntk.studies.convergence.network import Start, at_start, draw
from ntk.studies.convergence.optimum import best_in_ball
from ntk.studies.convergence.report import write_report
from ntk.studies.convergence.settings import (
    Cell,
    DesignName,
    Optimum,
    Settings,
    resolve_convergence,
)
from ntk.studies.convergence.training import Programs
from ntk.studies.sphere import random_points
from war_jax.records.files import write_json
from war_jax.records.interrupt import Stop

_WEIGHTS, _MEASURE, _CUTS = range(3)  # folded into a seed's key, for independent random numbers


def run_convergence(config: Any, workdir: Path, command: str) -> Path:
    """Returns the path of the report.

    Raises ConfigError for a config or a workdir that cannot be used, and SystemExit(128 + signal
    number) after SIGINT or SIGTERM.
    """
    settings = resolve_convergence(config)
    values = asdict(settings)
    grid = values.pop('grid')
    data = settings.data
    about = f'{data.num_points} random points of the unit sphere in dimension {data.dimension}, '
    about += 'last coordinate 1/2, random labels of -1 and 1 in equal numbers; drawn for each seed'
    points, labels = draw_data(settings, 0)
    checksum = sha256(points.tobytes() + labels.tobytes()).hexdigest()
    with opened(workdir, values, grid, about, checksum, command) as stop:
        Runner(settings, workdir, stop)()
        return write_report(workdir)


def draw_data(settings: Settings, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, settings.data.num_points, settings.data.dimension])
    points, labels = random_points(rng, settings.data.num_points, settings.data.dimension)
    return points.astype(np.float32), labels.astype(np.float32)


class Runner:
    """Calling it makes all trainings and optima that are not there."""

    def __init__(self, settings: Settings, workdir: Path, stop: Stop):
        self.settings, self.workdir, self.stop = settings, workdir, stop
        self.programs = cache(self._programs)

    def __call__(self) -> None:
        trainings = [
            Piece(cell.name, self.work(cell.design, cell.width), self.path(cell).exists(),
                  lambda cell=cell: write_json(self.path(cell), self.train(cell)))
            for cell in self.settings.cells
        ]  # fmt: skip
        make_missing('trainings', trainings, self.stop)
        optima = [
            Piece(case.name, self.work(case.design, case.width), self.optimum_path(case).exists(),
                  lambda case=case: write_json(self.optimum_path(case), self.optimum(case)))
            for case in self.settings.optima
        ]  # fmt: skip
        make_missing('best in the ball', optima, self.stop)

    def work(self, design: DesignName, width: int) -> int:
        """A rough guess of a cost, for the bars."""
        return 20 + (width**2 // 1000 if design == 'deep' else width // 20)

    def path(self, cell: Cell) -> Path:
        return self.workdir / 'cells' / f'{cell.name}.json'

    def optimum_path(self, optimum: Optimum) -> Path:
        return self.workdir / 'optima' / f'{optimum.name}.json'

    def _programs(self, design: DesignName) -> Programs:
        settings = self.settings
        return Programs(settings.design(design), settings.attack_budget, settings.rate(design))

    def begin(self, case: Cell | Optimum) -> tuple[Start, Array, Array, Array]:
        """The start, points (n, d), labels (n,), and the seed's key."""
        points, labels = draw_data(self.settings, case.seed)
        key = jax.random.key(case.seed)
        start = draw(
            jax.random.fold_in(key, _WEIGHTS),
            self.settings.design(case.design),
            case.width,
            self.settings.data.dimension,
        )
        return start, jnp.asarray(points), jnp.asarray(labels), key

    def train(self, cell: Cell) -> dict[str, Any]:
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
            **asdict(cell),
            'steps': times,
            'least_attacked_loss': [least[time - 1] for time in times],
            'attacked_loss': least[-1],
            **{name: np.asarray(value) for name, value in found.items()},
        }

    def optimum(self, case: Optimum) -> dict[str, Any]:
        start, x, y, key = self.begin(case)
        best = best_in_ball(
            self.programs(case.design), start, x, y, case.epsilon, case.radius,
            jax.random.fold_in(key, _CUTS), self.settings.strong.tolerance,
        )  # fmt: skip
        return {**asdict(case), **best._asdict()}
