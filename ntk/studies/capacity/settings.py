"""What a study of capacity consists of: numbers of pairs, dimensions, radii and seeds.

    settings = read(Settings, ntk_capacity.get_config())    # war_jax.lab.settings
    for cell in settings.cells: ...                         # one set of pairs and one radius each

Free of JAX.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from war_jax.config import NOT_EMPTY, AboveZero, Positive
from war_jax.config_rules import above, at_least, at_most, below, increasing, key
from war_jax.lab.settings import SMOKE, Seeds, among, distinct_names

WIDEST = 1024  # units: training pads each network to one of a few widths, of which it is the last
Radius = Annotated[float, at_least(0), below(1)]
Dimension = Annotated[int, at_least(3)]


@dataclass(frozen=True)
class CapacityData:
    half_gap: Annotated[float, above(0), at_most(0.5)]


@dataclass(frozen=True)
class CapacityGrid:
    num_pairs: Annotated[tuple[Positive, ...], NOT_EMPTY, increasing()]
    dimensions: Annotated[tuple[Dimension, ...], NOT_EMPTY, increasing()]
    radii: Annotated[tuple[Radius, ...], NOT_EMPTY, increasing()]
    seeds: Seeds


@dataclass(frozen=True)
class CapacityBase:
    num_pairs: Positive
    dimension: Dimension
    radius: Annotated[float, above(0), below(1)]


@dataclass(frozen=True)
class CapacitySearch:
    widest: Annotated[int, at_least(1), at_most(WIDEST)]
    ratio: Annotated[float, at_least(1)]
    num_steps: Annotated[int, at_least(2)]
    attack_steps: Positive
    learning_rate: AboveZero
    restarts: Positive


@dataclass(frozen=True)
class CapacityVerify:
    num_steps: Positive
    restarts: Positive


@dataclass(frozen=True)
class CapacityKernel:
    activation: Literal['relu', 'erf', 'gelu', 'relu2']
    tolerance: Annotated[float, above(0), below(1)]


@dataclass(frozen=True)
class Cell:
    """One set of pairs; radius: of the caps, in units of half the gap of a pair; 0 is plain."""

    num_pairs: int
    dimension: int
    radius: float
    seed: int

    @property
    def name(self) -> str:
        """'n16-d8-rho0.9-seed0'."""
        return f'n{self.num_pairs}-d{self.dimension}-rho{self.radius:g}-seed{self.seed}'


class SmallestNorm(Cell):
    """The smallest RKHS norm of a function that interpolates."""

    folder = 'kernels'


class SmallestWidth(Cell):
    """The smallest width of a network that interpolates, and every width tried."""

    folder = 'widths'


@dataclass(frozen=True)
class Settings:
    data: CapacityData
    grid: CapacityGrid
    base: CapacityBase
    search: CapacitySearch
    verify: CapacityVerify
    kernel: CapacityKernel
    smoke: bool = key(False, SMOKE, absent=False)

    def check(self) -> None:
        """Raises ConfigError for values that do not go together."""
        grid, base = self.grid, self.base
        among('base.num_pairs', base.num_pairs, 'grid.num_pairs', grid.num_pairs)
        among('base.dimension', base.dimension, 'grid.dimensions', grid.dimensions)
        among('base.radius', base.radius, 'grid.radii', grid.radii)
        distinct_names('grid.radii', grid.radii, [cell.name for cell in self.widths])

    @property
    def places(self) -> list[tuple[int, int, float]]:
        """(pairs, dimension, radius): from the base all radii; n and d, plainly and robustly."""
        grid, base = self.grid, self.base
        places = [(base.num_pairs, base.dimension, radius) for radius in grid.radii]
        for radius in (0.0, base.radius):
            places += [(n, base.dimension, radius) for n in grid.num_pairs]
            places += [(base.num_pairs, d, radius) for d in grid.dimensions]
        return list(dict.fromkeys(places))

    @property
    def widths(self) -> list[SmallestWidth]:
        return [SmallestWidth(*place, seed) for place in self.places for seed in self.grid.seeds]

    @property
    def cells(self) -> list[SmallestNorm | SmallestWidth]:
        """First the norms, which are quick."""
        norms = [SmallestNorm(*place, seed) for place in self.places for seed in self.grid.seeds]
        return [*norms, *self.widths]
