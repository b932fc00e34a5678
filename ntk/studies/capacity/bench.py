"""Makes the cells of a study of capacity: the smallest width, or RKHS norm, of a set of pairs.

    bench = Bench(settings, Path('runs/capacity'))
    row = bench.make(SmallestWidth(num_pairs=16, dimension=8, radius=0.9, seed=0), stop)
    row['smallest_width'], row['tried_widths'], row['standing']

A seed draws the pairs, the same for all radii, and the starts of the trainings.
"""

from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntk.infinite import fully_connected
from ntk.studies.adversary import Strong
from ntk.studies.capacity.kernel import smallest_norm
from ntk.studies.capacity.settings import Cell, Settings, SmallestNorm, SmallestWidth
from ntk.studies.capacity.training import Trials, smallest_width
from ntk.studies.sphere import pairs
from war_jax.config_rules import ConfigError
from war_jax.lab.experiment import Row
from war_jax.records.interrupt import Stop


class Bench:
    """Raises ConfigError for pairs that do not find room on the sphere."""

    about: Mapping[str, Any] = {}

    def __init__(self, settings: Settings, workdir: Path):
        del workdir
        self.settings = settings
        self.data = (
            'pairs of opposite labels on the unit sphere, last coordinate 1/2, '
            f'{2 * settings.data.half_gap:g} apart; random centres and directions for each seed'
        )
        points, _ = self.pairs(Cell(4, 8, 0.0, 0))
        self.checksum = sha256(points.tobytes()).hexdigest()
        for cell in settings.widths:
            self.pairs(cell)  # all of them find room, or nothing is made
        search, verify = settings.search, settings.verify
        self.attack = Strong(verify.num_steps, verify.restarts)
        self.trials = Trials(
            search.num_steps, search.attack_steps, search.learning_rate, search.restarts,
            self.attack,
        )  # fmt: skip
        self.kernel = fully_connected(2, settings.kernel.activation)

    def work(self, cell: Cell) -> int:
        return cell.num_pairs * cell.dimension * (3 if cell.radius else 1)

    def make(self, cell: SmallestNorm | SmallestWidth, stop: Stop) -> Row:
        is_width = isinstance(cell, SmallestWidth)
        found = self.smallest_width(cell, stop) if is_width else self.smallest_norm(cell)
        return {**asdict(cell), **found}

    def pairs(self, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
        """Points (2 n, d) and labels (2 n,)."""
        rng = np.random.default_rng([cell.seed, cell.num_pairs, cell.dimension])
        half_gap = self.settings.data.half_gap
        try:
            return pairs(rng, cell.num_pairs, cell.dimension, half_gap)
        except ValueError as error:
            raise ConfigError(f'data.half_gap = {half_gap}: {error}') from error

    def epsilon(self, cell: Cell) -> float:
        return cell.radius * self.settings.data.half_gap

    def smallest_width(self, cell: Cell, stop: Stop) -> Row:
        """With every width tried, and the share of the points that stood at each."""
        points, labels = (jnp.asarray(array, jnp.float32) for array in self.pairs(cell))
        shares: list[float] = []

        def interpolates(width: int) -> bool:
            seed = int(np.random.SeedSequence([cell.seed, width]).generate_state(1)[0])
            stop.leave_if_told()
            shares.append(self.trials(points, labels, width, self.epsilon(cell), seed))
            return shares[-1] == 1.0

        search = self.settings.search
        found, tried = smallest_width(interpolates, search.widest, search.ratio)
        widths = [width for width, _ in tried]
        return {'smallest_width': found, 'tried_widths': widths, 'standing': shares}

    def smallest_norm(self, cell: Cell) -> Row:
        found = smallest_norm(
            self.kernel, *self.pairs(cell), self.epsilon(cell), jax.random.key(cell.seed),
            self.attack, self.settings.kernel.tolerance,
        )  # fmt: skip
        return {'norm_lower': found.lower, 'norm_upper': found.upper, 'rounds': found.rounds}
