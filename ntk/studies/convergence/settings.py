"""What a study of convergence consists of: designs, widths, radii, attacks, caps and seeds.

    settings = read(Settings, ntk_convergence.get_config())     # war_jax.lab.settings
    for cell in settings.trainings: ...                         # one training each
    for best in settings.optima: ...                            # what they are compared with

Free of JAX.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from war_jax.config import NOT_EMPTY, AboveZero, Positive
from war_jax.config_rules import Rule, above, at_least, at_most, increasing, key, refusal
from war_jax.lab.settings import SMOKE, Seeds, among, distinct, distinct_names

DesignName = Literal['softplus', 'relu', 'deep']
AttackName = Literal['none', 'fgsm', 'pgd2', 'pgd5', 'pgd10', 'pgd20']
# Losses are recorded at the powers of 2, and the last of these has to be the last step.
POWER_OF_2 = Rule(
    'must be a power of 2', lambda n: n & (n - 1) == 0, lambda n: f'{2 ** (n.bit_length() - 1)}'
)
EVEN = Rule('must be even', lambda m: m % 2 == 0, lambda m: f'{m + 1}')
Width = Annotated[int, at_least(2), at_most(2**20), EVEN]
Radius = Annotated[float, at_least(0)]
# Of a chord: beyond, the cap would be the sphere of the free coordinates.
Epsilon = Annotated[float, above(0), at_most(1.7)]


@dataclass(frozen=True)
class ConvergenceData:
    num_points: Annotated[int, at_least(2)]
    dimension: Annotated[int, at_least(3)]


@dataclass(frozen=True)
class ConvergenceGrid:
    designs: Annotated[tuple[DesignName, ...], NOT_EMPTY]
    widths: Annotated[tuple[Width, ...], NOT_EMPTY, increasing()]
    deep_widths: Annotated[tuple[Width, ...], NOT_EMPTY, increasing()]
    radii: Annotated[tuple[Radius, ...], NOT_EMPTY, increasing()]
    epsilons: Annotated[tuple[Epsilon, ...], NOT_EMPTY, increasing()]
    attacks: Annotated[tuple[AttackName, ...], NOT_EMPTY]
    seeds: Seeds


@dataclass(frozen=True)
class ConvergenceBase:
    design: DesignName
    width: Width
    radius: AboveZero
    epsilon: Epsilon
    attack: AttackName


@dataclass(frozen=True)
class ConvergenceTraining:
    num_steps: Annotated[int, at_least(16), POWER_OF_2]
    learning_rate: AboveZero
    deep_learning_rate: AboveZero
    deep_layers: Positive


@dataclass(frozen=True)
class ConvergenceStrong:
    num_steps: Positive
    restarts: Positive
    tolerance: AboveZero


@dataclass(frozen=True)
class Cell:
    """One training: without projection if the radius is 0."""

    design: DesignName
    width: int
    radius: float
    epsilon: float
    attack: AttackName
    seed: int
    folder = 'cells'

    @property
    def name(self) -> str:
        """'softplus-m256-R8-eps0.1-pgd5-seed0', or 'softplus-m256-free-...'."""
        ball = f'R{self.radius:g}' if self.radius else 'free'
        return (
            f'{self.design}-m{self.width}-{ball}-eps{self.epsilon:g}-{self.attack}-seed{self.seed}'
        )


@dataclass(frozen=True)
class Optimum:
    """One linearised network in its ball: what trainings with any attack are compared with."""

    design: DesignName
    width: int
    radius: float
    epsilon: float
    seed: int
    folder = 'optima'

    @property
    def name(self) -> str:
        return f'{self.design}-m{self.width}-R{self.radius:g}-eps{self.epsilon:g}-seed{self.seed}'


@dataclass(frozen=True)
class Settings:
    data: ConvergenceData
    grid: ConvergenceGrid
    base: ConvergenceBase
    training: ConvergenceTraining
    strong: ConvergenceStrong
    smoke: bool = key(False, SMOKE, absent=False)

    def check(self) -> None:
        """Raises ConfigError for values that do not go together."""
        grid, base = self.grid, self.base
        distinct('grid.designs', grid.designs)
        distinct('grid.attacks', grid.attacks)
        if base.design not in grid.designs:
            rule = f'must be one of grid.designs, {grid.designs}'
            raise refusal('base.design', base.design, rule, repr(grid.designs[0]))
        key = 'grid.deep_widths' if base.design == 'deep' else 'grid.widths'
        among('base.width', base.width, key, self.widths(base.design))
        among('base.radius', base.radius, 'grid.radii', grid.radii)
        distinct_names('grid.radii', grid.radii, [f'{radius:g}' for radius in grid.radii])
        # That of the base need not be among them.
        names = [cell.name for cell in self.trainings]
        distinct_names('grid.epsilons', grid.epsilons, names)

    def widths(self, name: DesignName) -> tuple[int, ...]:
        return self.grid.deep_widths if name == 'deep' else self.grid.widths

    @property
    def trainings(self) -> list[Cell]:
        """Widths against radii for every design; from the base, one key at a time, the others."""
        grid, base = self.grid, self.base

        def of_all_seeds(design: DesignName, width: int, **swept: Any) -> list[Cell]:
            fixed: dict[str, Any] = {
                'radius': base.radius, 'epsilon': base.epsilon, 'attack': base.attack, **swept,
            }  # fmt: skip
            return [Cell(design, width, seed=seed, **fixed) for seed in grid.seeds]

        found: list[Cell] = []
        for design in grid.designs:
            for width in self.widths(design):
                for radius in grid.radii:
                    found += of_all_seeds(design, width, radius=radius)
        for epsilon in grid.epsilons:
            found += of_all_seeds(base.design, base.width, epsilon=epsilon)
        for attack in grid.attacks:
            found += of_all_seeds(base.design, base.width, attack=attack)
        return list(dict.fromkeys(found))

    @property
    def optima(self) -> list[Optimum]:
        found = [
            Optimum(cell.design, cell.width, cell.radius, cell.epsilon, cell.seed)
            for cell in self.trainings
            if cell.radius
        ]
        return list(dict.fromkeys(found))

    @property
    def cells(self) -> list[Cell | Optimum]:
        return [*self.trainings, *self.optima]

    def optimum_of(self, cell: Cell) -> Optimum:
        """What a training is compared with; without projection, the best in the largest ball."""
        radius = cell.radius or self.grid.radii[-1]
        return Optimum(cell.design, cell.width, radius, cell.epsilon, cell.seed)
