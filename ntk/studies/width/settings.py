"""What a study of width consists of: networks, parametrizations, seeds, and phases of training.

    settings = read(Settings, ntk_width.get_config())   # war_jax.lab.settings
    for network in settings.networks: ...               # a parametrization, a width and a seed
    for phase in settings.phases: ...                   # how each of them is trained

Free of JAX.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from war_jax.config import (
    DATA_NAME,
    DEPTH,
    NOT_EMPTY,
    AboveZero,
    DataConfig,
    Fraction,
    Positive,
    ThreatConfig,
)
from war_jax.config_rules import above, at_least, at_most, increasing, key, refusal
from war_jax.lab.settings import SMOKE, Seeds, check_ball, distinct, distinct_names

ParametrizationName = Literal['standard', 'ntk', 'sqrt_m', 'sqrt_m_unit', 'mup']
PhaseName = Literal[
    'natural', 'natural_lazy', 'trades', 'trades_lazy', 'trades_timed', 'trades_matched'
]  # fmt: skip
INITIALISATION = 'initialisation'
# Hidden units, or a widen factor; the kernels of a million units would not fit anywhere.
Width = Annotated[float, above(0), at_most(2**20)]


@dataclass(frozen=True)
class WidthData:
    name: Annotated[str, DATA_NAME]
    data_dir: str
    num_train: Annotated[int, at_least(2)]
    num_test: Positive
    num_kernel: Annotated[int, at_least(2)]


@dataclass(frozen=True)
class WidthNetwork:
    kind: Literal['fcn', 'wrn']
    num_layers: Annotated[int, at_least(2)]
    depth: Annotated[int, DEPTH]
    strides: tuple[Positive, Positive, Positive]
    activation: Literal['relu', 'erf', 'gelu', 'relu2']
    weight_variance: AboveZero
    output_variance: AboveZero


@dataclass(frozen=True)
class WidthGrid:
    widths: Annotated[tuple[Width, ...], NOT_EMPTY, increasing()]
    parametrizations: Annotated[tuple[ParametrizationName, ...], NOT_EMPTY]
    seeds: Seeds
    phases: tuple[PhaseName, ...]
    lams: Annotated[tuple[AboveZero, ...], NOT_EMPTY, increasing()]


@dataclass(frozen=True)
class WidthTraining:
    num_steps: Positive
    speed: Annotated[float, above(0), at_most(2)]
    momentum: Fraction
    lazy_scale: Annotated[float, at_least(1)]
    tuned_width: Width
    matched_risk: AboveZero
    most_steps: Positive


@dataclass(frozen=True)
class WidthAttack:
    num_steps: Positive
    step_size: AboveZero
    measure_steps: Positive


@dataclass(frozen=True)
class Phase:
    """One way to train: with lambda 0 naturally."""

    name: PhaseName
    lam: float = 0.0

    @property
    def label(self) -> str:
        """'trades_lazy-lam3'."""
        return f'{self.name}-lam{self.lam:g}' if self.lam else self.name

    @property
    def lazy(self) -> bool:
        return self.name.endswith('_lazy')

    @property
    def matched(self) -> bool:
        """Whether training ends at `training.matched_risk`, after however many steps."""
        return self.name == 'trades_matched'

    @property
    def own_rate(self) -> bool:
        """Whether each network has a learning rate of its own, for equal kernel time."""
        return self.name in ('trades_timed', 'trades_matched')

    @property
    def step(self) -> PhaseName:
        """The phase whose training step this one takes."""
        return 'trades' if self.own_rate else self.name


@dataclass(frozen=True)
class Cell:
    """One network, in all phases; its file has a row for the start and one for each phase."""

    parametrization: ParametrizationName
    width: float
    seed: int
    folder = 'cells'

    @property
    def name(self) -> str:
        """'ntk-m512-seed0'."""
        return f'{self.parametrization}-m{self.width:g}-seed{self.seed}'


@dataclass(frozen=True)
class Limit:
    """What infinite width says of a parametrization, with the learning rate of one width."""

    parametrization: ParametrizationName
    width: float
    folder = 'limits'

    @property
    def name(self) -> str:
        """'ntk-m512'."""
        return f'{self.parametrization}-m{self.width:g}'


@dataclass(frozen=True)
class Settings:
    data: WidthData
    network: WidthNetwork
    grid: WidthGrid
    training: WidthTraining
    threat: ThreatConfig
    attack: WidthAttack
    smoke: bool = key(False, SMOKE, absent=False)

    def check(self) -> None:
        """Raises ConfigError for values that do not go together."""
        grid = self.grid
        distinct('grid.parametrizations', grid.parametrizations)
        distinct('grid.phases', grid.phases)
        distinct_names('grid.widths', grid.widths, [cell.name for cell in self.networks])
        distinct_names('grid.lams', grid.lams, self.labels)
        if 'trades_lazy' in grid.phases and self.training.lazy_scale == 1:
            rule = "must be above 1 with grid.phases 'trades_lazy', which is 'trades' otherwise"
            raise refusal('training.lazy_scale', 1.0, rule, '100')
        widths = (*grid.widths, self.training.tuned_width)
        if self.network.kind == 'fcn' and any(width != round(width) for width in widths):
            rule = (
                "must be whole numbers of units with network.kind = 'fcn', as training.tuned_width"
            )
            whole = tuple(max(1.0, float(round(width))) for width in grid.widths)
            raise refusal('grid.widths', grid.widths, rule, repr(whole))
        training = self.training
        if training.most_steps < training.num_steps:
            rule = 'must be at least training.num_steps'
            raise refusal('training.most_steps', training.most_steps, rule, f'{training.num_steps}')
        check_ball(self.threat)
        most = min(self.data.num_train, self.data.num_test)
        if self.data.num_kernel > most:
            rule = 'must be at most data.num_train and data.num_test'
            raise refusal('data.num_kernel', self.data.num_kernel, rule, f'{most}')

    @property
    def data_config(self) -> DataConfig:
        """All training images; the study takes a balanced subset of them and of the test images."""
        return DataConfig.whole(self.data.name, self.data.data_dir)

    @property
    def phases(self) -> list[Phase]:
        """Those of the grid, TRADES at each lambda."""
        return [
            Phase(name, lam)
            for name in self.grid.phases
            for lam in (self.grid.lams if name.startswith('trades') else (0.0,))
        ]

    @property
    def labels(self) -> list[str]:
        """Of the rows of a network: the start, and each phase."""
        return [INITIALISATION, *(phase.label for phase in self.phases)]

    @property
    def networks(self) -> list[Cell]:
        """From the widest down, all of a width behind one another: they share their programs."""
        grid = self.grid
        return [
            Cell(parametrization, width, seed)
            for width in reversed(grid.widths)
            for seed in grid.seeds
            for parametrization in grid.parametrizations
        ]

    @property
    def cells(self) -> list[Limit | Cell]:
        """First what infinite width says, which is quick and may find the data unsuitable."""
        limits = [Limit(cell.parametrization, cell.width) for cell in self.networks]
        return [*dict.fromkeys(limits), *self.networks]
