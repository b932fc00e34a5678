"""The settings of a toy study: what a new experiment has to bring, file one of two."""

from dataclasses import dataclass

from war_jax.config import Positive
from war_jax.lab.settings import Seeds, distinct


@dataclass(frozen=True)
class Grid:
    sizes: tuple[Positive, ...]
    seeds: Seeds


@dataclass(frozen=True)
class Cell:
    size: int
    seed: int
    folder = 'cells'

    @property
    def name(self) -> str:
        return f'size{self.size}-seed{self.seed}'


@dataclass(frozen=True)
class Settings:
    power: float
    grid: Grid

    def check(self) -> None:
        distinct('grid.sizes', self.grid.sizes)

    @property
    def cells(self) -> list[Cell]:
        return [Cell(size, seed) for size in self.grid.sizes for seed in self.grid.seeds]
