"""Makes what is not yet there of a study of capacity: two files per set of pairs, then the report.

    run_capacity(settings, Path('runs/capacity'), command='python -m ntk.main ...')

A seed draws the pairs and the starts of the trainings. `widths/` holds the smallest width that
interpolates and all widths tried, `kernels/` the smallest RKHS norm.
"""

from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntk.infinite import fully_connected
from ntk.studies.capacity.kernel import smallest_norm
from ntk.studies.capacity.report import write_report
from ntk.studies.capacity.settings import Cell, Settings, resolve_capacity
from ntk.studies.capacity.training import Trials, smallest_width
from ntk.studies.cells import Piece, leave_if_told, make_missing, opened
from ntk.studies.sphere import pairs
from war_jax.config_rules import ConfigError
from war_jax.records.files import write_json
from war_jax.records.interrupt import Stop


def run_capacity(config: Any, workdir: Path, command: str) -> Path:
    """Returns the path of the report.

    Raises ConfigError for a config or a workdir that cannot be used, also for pairs that do not
    find room on the sphere, and SystemExit(128 + signal number) after SIGINT or SIGTERM.
    """
    settings = resolve_capacity(config)
    data = {cell: draw_data(settings, cell) for cell in settings.cells}
    values = asdict(settings)
    grid = values.pop('grid')
    about = 'pairs of opposite labels on the unit sphere, last coordinate 1/2, '
    about += f'{2 * settings.data.half_gap:g} apart; random centres and directions for each seed'
    first = draw_data(settings, Cell(4, 8, 0.0, 0))
    checksum = sha256(first[0].tobytes()).hexdigest()
    with opened(workdir, values, grid, about, checksum, command) as stop:
        Runner(settings, data, workdir, stop)()
        return write_report(workdir)


def draw_data(settings: Settings, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Points (2 n, d) and labels (2 n,), the same for all radii. Raises ConfigError."""
    rng = np.random.default_rng([cell.seed, cell.num_pairs, cell.dimension])
    try:
        return pairs(rng, cell.num_pairs, cell.dimension, settings.data.half_gap)
    except ValueError as error:
        raise ConfigError(f'data.half_gap = {settings.data.half_gap}: {error}') from error


class Runner:
    """Calling it makes all searches and kernel fits that are not there."""

    def __init__(
        self,
        settings: Settings,
        data: dict[Cell, tuple[np.ndarray, np.ndarray]],
        workdir: Path,
        stop: Stop,
    ):
        self.settings, self.data, self.workdir, self.stop = settings, data, workdir, stop
        search = settings.search
        self.trials = Trials(
            search.num_steps, search.attack_steps, search.learning_rate, search.restarts,
            settings.attack,
        )  # fmt: skip
        self.kernel = fully_connected(2, settings.kernel.activation)

    def __call__(self) -> None:
        for name, folder, make in (
            ('RKHS norms', 'kernels', self.norm),
            ('smallest widths', 'widths', self.width),
        ):
            make_missing(
                name, [self.piece(folder, c, make) for c in self.settings.cells], self.stop
            )

    def piece(self, folder: str, cell: Cell, make: Callable[[Cell], dict[str, Any]]) -> Piece:
        path = self.workdir / folder / f'{cell.name}.json'
        work = cell.num_pairs * cell.dimension * (3 if cell.radius else 1)
        return Piece(
            cell.name, work, path.exists(), lambda: write_json(path, {**asdict(cell), **make(cell)})
        )

    def width(self, cell: Cell) -> dict[str, Any]:
        points, labels = (jnp.asarray(array, jnp.float32) for array in self.data[cell])
        epsilon = cell.radius * self.settings.data.half_gap
        shares: list[float] = []

        def interpolates(width: int) -> bool:
            seed = int(np.random.SeedSequence([cell.seed, width]).generate_state(1)[0])
            leave_if_told(self.stop)
            shares.append(self.trials(points, labels, width, epsilon, seed))
            return shares[-1] == 1.0

        search = self.settings.search
        found, tried = smallest_width(interpolates, search.widest, search.ratio)
        widths = [width for width, _ in tried]
        return {'smallest_width': found, 'tried_widths': widths, 'standing': shares}

    def norm(self, cell: Cell) -> dict[str, Any]:
        points, labels = self.data[cell]
        found = smallest_norm(
            self.kernel, points, labels, cell.radius * self.settings.data.half_gap,
            jax.random.key(cell.seed), self.settings.attack, self.settings.kernel.tolerance,
        )  # fmt: skip
        return {'norm_lower': found.lower, 'norm_upper': found.upper, 'rounds': found.rounds}
