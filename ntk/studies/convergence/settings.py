"""What a study of convergence consists of: designs, widths, radii, attacks, caps and seeds.

settings = resolve_convergence(ntk_convergence.get_config())
for cell in settings.cells: ...                 # one training each
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ntk.studies.adversary import Strong
from ntk.studies.cells import study_settings
from ntk.studies.convergence.network import Design
from war_jax.config import NOT_EMPTY, AboveZero, Positive
from war_jax.config_rules import Rule, above, at_least, at_most, increasing, refusal

DesignName = Literal['softplus', 'relu', 'deep']
AttackName = Literal['none', 'fgsm', 'pgd2', 'pgd5', 'pgd10', 'pgd20']
EVEN = Rule('must be even', lambda m: m % 2 == 0, lambda m: f'{m + 1}')
Width = Annotated[int, at_least(2), at_most(2**20), EVEN]
Radius = Annotated[float, at_least(0)]
Seed = Annotated[int, at_least(0), at_most(2**32 - 1)]
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
    seeds: Annotated[tuple[Seed, ...], NOT_EMPTY, increasing()]


@dataclass(frozen=True)
class ConvergenceBase:
    design: DesignName
    width: Width
    radius: AboveZero
    epsilon: Epsilon
    attack: AttackName


@dataclass(frozen=True)
class ConvergenceTraining:
    num_steps: Annotated[int, at_least(16)]
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

    @property
    def name(self) -> str:
        """Of its file: 'softplus-m256-R8-eps0.1-pgd5-seed0', or 'softplus-m256-free-...'."""
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

    def design(self, name: DesignName) -> Design:
        if name == 'deep':
            return Design('deep', 'relu', self.training.deep_layers)
        return Design('two_layer', name, 1)

    def rate(self, name: DesignName) -> float:
        training = self.training
        return training.deep_learning_rate if name == 'deep' else training.learning_rate

    def widths(self, name: DesignName) -> tuple[int, ...]:
        return self.grid.deep_widths if name == 'deep' else self.grid.widths

    @property
    def attack_budget(self) -> Strong:
        return Strong(self.strong.num_steps, self.strong.restarts)

    @property
    def cells(self) -> list[Cell]:
        """Widths against radii for every design; from the base, one key at a time, the others.

        All of a design and width behind one another: they share their programs.
        """
        grid, base = self.grid, self.base
        found = []
        for design in grid.designs:
            for width in self.widths(design):
                found += [
                    Cell(design, width, radius, base.epsilon, base.attack, seed)
                    for radius in grid.radii
                    for seed in grid.seeds
                ]
                if (design, width) == (base.design, base.width):
                    found += [
                        Cell(design, width, base.radius, epsilon, base.attack, seed)
                        for epsilon in grid.epsilons
                        for seed in grid.seeds
                    ]
                    found += [
                        Cell(design, width, base.radius, base.epsilon, attack, seed)
                        for attack in grid.attacks
                        for seed in grid.seeds
                    ]
        return list(dict.fromkeys(found))

    @property
    def optima(self) -> list[Optimum]:
        return list(
            dict.fromkeys(
                Optimum(cell.design, cell.width, cell.radius, cell.epsilon, cell.seed)
                for cell in self.cells
                if cell.radius
            )
        )


def resolve_convergence(config: Any) -> Settings:
    """Returns the settings of a ConfigDict or mapping with exactly their keys.

    Raises ConfigError, one line, for a key or value that cannot be.
    """
    settings = study_settings(Settings, config)
    grid, base = settings.grid, settings.base
    for key in ('designs', 'attacks'):
        chosen = getattr(grid, key)
        if len(set(chosen)) < len(chosen):
            rule = 'must not name one twice'
            raise refusal(f'grid.{key}', chosen, rule, repr(tuple(dict.fromkeys(chosen))))
    if base.design not in grid.designs:
        rule = f'must be one of grid.designs, {grid.designs}'
        raise refusal('base.design', base.design, rule, repr(grid.designs[0]))
    for key, value, among in (
        ('width', base.width, settings.widths(base.design)),
        ('radius', base.radius, grid.radii),
    ):
        if value not in among:
            nearest = min(among, key=lambda known: abs(known - value))
            raise refusal(f'base.{key}', value, f'must be one of {among}', f'{nearest:g}')
    if len({cell.name for cell in settings.cells}) < len(settings.cells):
        rule = 'must differ in their first six digits, as grid.epsilons'
        raise refusal('grid.radii', grid.radii, rule)
    return settings
