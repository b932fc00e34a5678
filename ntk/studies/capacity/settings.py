"""What a study of capacity consists of: numbers of pairs, dimensions, radii and seeds.

settings = resolve_capacity(ntk_capacity.get_config())
for cell in settings.cells: ...                 # one set of pairs and one radius each
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ntk.studies.adversary import Strong
from ntk.studies.capacity.training import WIDEST
from ntk.studies.cells import study_settings
from war_jax.config import NOT_EMPTY, AboveZero, Positive
from war_jax.config_rules import above, at_least, at_most, below, increasing, refusal

Radius = Annotated[float, at_least(0), below(1)]
Dimension = Annotated[int, at_least(3)]
Seed = Annotated[int, at_least(0), at_most(2**32 - 1)]


@dataclass(frozen=True)
class CapacityData:
    half_gap: Annotated[float, above(0), at_most(0.5)]


@dataclass(frozen=True)
class CapacityGrid:
    num_pairs: Annotated[tuple[Positive, ...], NOT_EMPTY, increasing()]
    dimensions: Annotated[tuple[Dimension, ...], NOT_EMPTY, increasing()]
    radii: Annotated[tuple[Radius, ...], NOT_EMPTY, increasing()]
    seeds: Annotated[tuple[Seed, ...], NOT_EMPTY, increasing()]


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
        """Of its file: 'n16-d8-rho0.9-seed0'."""
        return f'n{self.num_pairs}-d{self.dimension}-rho{self.radius:g}-seed{self.seed}'


@dataclass(frozen=True)
class Settings:
    data: CapacityData
    grid: CapacityGrid
    base: CapacityBase
    search: CapacitySearch
    verify: CapacityVerify
    kernel: CapacityKernel

    @property
    def attack(self) -> Strong:
        return Strong(self.verify.num_steps, self.verify.restarts)

    @property
    def cells(self) -> list[Cell]:
        """From the base: radii; n, plain and at the base's radius; d likewise."""
        grid, base = self.grid, self.base
        places = [(base.num_pairs, base.dimension, radius) for radius in grid.radii]
        for radius in (0.0, base.radius):
            places += [(n, base.dimension, radius) for n in grid.num_pairs]
            places += [(base.num_pairs, d, radius) for d in grid.dimensions]
        return [Cell(*place, seed) for place in dict.fromkeys(places) for seed in grid.seeds]


def resolve_capacity(config: Any) -> Settings:
    """Returns the settings of a ConfigDict or mapping with exactly their keys.

    Raises ConfigError, one line, for a key or value that cannot be.
    """
    settings = study_settings(Settings, config)
    grid, base = settings.grid, settings.base
    for key, value, name, among in (
        ('num_pairs', base.num_pairs, 'num_pairs', grid.num_pairs),
        ('dimension', base.dimension, 'dimensions', grid.dimensions),
        ('radius', base.radius, 'radii', grid.radii),
    ):
        if value not in among:
            nearest = min(among, key=lambda known: abs(known - value))
            raise refusal(f'base.{key}', value, f'must be in grid.{name}, {among}', f'{nearest:g}')
    if len({cell.name for cell in settings.cells}) < len(settings.cells):
        rule = 'must differ in their first six digits'
        raise refusal('grid.radii', grid.radii, rule)
    return settings
