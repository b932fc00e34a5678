"""What a study of the theorem consists of: parametrizations, depths, widths, radii and seeds.

    settings = read(Settings, ntk_theorem.get_config())     # war_jax.lab.settings
    for cell in settings.suprema: ...                       # one network at its start each
    for cell in settings.trainings: ...                     # one training each

Free of JAX.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from war_jax.config import DATA_NAME, NOT_EMPTY, AboveZero, DataConfig, Fraction, Positive
from war_jax.config_rules import Rule, at_least, at_most, increasing, key
from war_jax.lab.settings import SMOKE, Seeds, among, distinct, distinct_names

THEORY = 'sqrt_m'  # the parametrization of the theorem, which is always there
ParametrizationName = Literal['standard', 'ntk']
Objective = Literal['natural', 'adversarial']
Law = Literal['shrinking', 'constant']
LAWS: tuple[Law, ...] = ('shrinking', 'constant')
Width = Annotated[int, at_least(2), at_most(2**16)]
Depth = Annotated[int, at_least(2), at_most(64)]
# Alignments are recorded at the powers of 2, and the last of these has to be the last step.
POWER_OF_2 = Rule(
    'must be a power of 2', lambda n: n & (n - 1) == 0, lambda n: f'{2 ** (n.bit_length() - 1)}'
)


@dataclass(frozen=True)
class TheoremData:
    name: Annotated[str, DATA_NAME]
    data_dir: str
    num_train: Annotated[int, at_least(2)]
    num_test: Positive


@dataclass(frozen=True)
class TheoremGrid:
    parametrizations: tuple[ParametrizationName, ...]
    depths: Annotated[tuple[Depth, ...], NOT_EMPTY, increasing()]
    widths: Annotated[tuple[Width, ...], NOT_EMPTY, increasing()]
    objectives: tuple[Objective, ...]
    seeds: Seeds


@dataclass(frozen=True)
class TheoremBase:
    depth: Depth
    width: Width
    omega: AboveZero


@dataclass(frozen=True)
class TheoremBalls:
    omegas: Annotated[tuple[AboveZero, ...], NOT_EMPTY, increasing()]
    epsilon: AboveZero


@dataclass(frozen=True)
class TheoremAscent:
    num_steps: Positive
    restarts: Positive


@dataclass(frozen=True)
class TheoremTraining:
    num_steps: Annotated[int, at_least(2), POWER_OF_2]
    learning_rate: AboveZero
    momentum: Fraction
    attack_steps: Positive
    measure_steps: Positive


@dataclass(frozen=True)
class Supremum:
    """One network at its start, in all balls."""

    parametrization: str
    depth: int
    width: int
    seed: int
    folder = 'suprema'

    @property
    def name(self) -> str:
        """'sqrt_m-L4-m256-seed0'."""
        return f'{self.parametrization}-L{self.depth}-m{self.width}-seed{self.seed}'


@dataclass(frozen=True)
class Training:
    """One training, in the parametrization of the theorem."""

    objective: Objective
    depth: int
    width: int
    seed: int
    folder = 'trainings'

    @property
    def name(self) -> str:
        """'natural-L4-m256-seed0'."""
        return f'{self.objective}-L{self.depth}-m{self.width}-seed{self.seed}'


@dataclass(frozen=True)
class Settings:
    data: TheoremData
    grid: TheoremGrid
    base: TheoremBase
    balls: TheoremBalls
    ascent: TheoremAscent
    training: TheoremTraining
    smoke: bool = key(False, SMOKE, absent=False)

    def check(self) -> None:
        """Raises ConfigError for values that do not go together."""
        grid, base, omegas = self.grid, self.base, self.balls.omegas
        distinct('grid.parametrizations', grid.parametrizations)
        distinct('grid.objectives', grid.objectives)
        among('base.depth', base.depth, 'grid.depths', grid.depths)
        among('base.width', base.width, 'grid.widths', grid.widths)
        among('base.omega', base.omega, 'balls.omegas', omegas)
        distinct_names('balls.omegas', omegas, [f'{omega:g}' for omega in omegas])

    @property
    def data_config(self) -> DataConfig:
        """All training images; the study takes a balanced subset of them and of the test images."""
        return DataConfig.whole(self.data.name, self.data.data_dir)

    @property
    def suprema(self) -> list[Supremum]:
        """The theorem's parametrization at all depths, the others at the base's."""
        grid = self.grid
        return [
            Supremum(name, depth, width, seed)
            for depth in grid.depths
            for width in grid.widths
            for name in (THEORY, *(grid.parametrizations if depth == self.base.depth else ()))
            for seed in grid.seeds
        ]

    @property
    def trainings(self) -> list[Training]:
        grid = self.grid
        return [
            Training(objective, depth, width, seed)
            for depth in grid.depths
            for width in grid.widths
            for objective in grid.objectives
            for seed in grid.seeds
        ]

    @property
    def cells(self) -> list[Supremum | Training]:
        return [*self.suprema, *self.trainings]

    def radius(self, law: Law, omega: float, width: int) -> float:
        """omega_0, or omega_0 m^(-1/2)."""
        return omega if law == 'constant' else omega * width**-0.5
