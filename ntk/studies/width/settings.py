"""What a study of width consists of: networks, parametrizations, seeds, and phases of training.

    settings = resolve_width(ntk_width.get_config())
    for cell in settings.cells: ...                     # a parametrization, a width and a seed
    for phase in settings.phases: ...                   # how each of them is trained
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ntk.networks import Architecture
from ntk.studies.cells import study_settings
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
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
from war_jax.config_rules import above, at_least, at_most, increasing, refusal
from war_jax.models.wide_resnet import stage_widths

ParametrizationName = Literal['standard', 'ntk', 'sqrt_m', 'sqrt_m_unit', 'mup']
PhaseName = Literal['natural', 'natural_lazy', 'trades', 'trades_lazy']
# Hidden units, or a widen factor; the kernels of a million units would not fit anywhere.
Width = Annotated[float, above(0), at_most(2**20)]
Seed = Annotated[int, at_least(0), at_most(2**32 - 1)]


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
    seeds: Annotated[tuple[Seed, ...], NOT_EMPTY, increasing()]
    phases: tuple[PhaseName, ...]
    lams: Annotated[tuple[AboveZero, ...], NOT_EMPTY, increasing()]


@dataclass(frozen=True)
class WidthTraining:
    num_steps: Positive
    speed: Annotated[float, above(0), at_most(2)]
    momentum: Fraction
    lazy_scale: Annotated[float, at_least(1)]
    tuned_width: Width


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


@dataclass(frozen=True)
class Cell:
    """One network, in all phases."""

    parametrization: ParametrizationName
    width: float
    seed: int

    @property
    def name(self) -> str:
        """Of its file: 'ntk-m512-seed0'."""
        return f'{self.parametrization}-m{self.width:g}-seed{self.seed}'


@dataclass(frozen=True)
class Settings:
    data: WidthData
    network: WidthNetwork
    grid: WidthGrid
    training: WidthTraining
    threat: ThreatConfig
    attack: WidthAttack

    @property
    def architecture(self) -> Architecture:
        network = self.network
        return Architecture(
            network.kind, network.num_layers, network.depth, network.strides, network.activation
        )

    @property
    def ball(self) -> ThreatModel:
        return ThreatModel(self.threat.norm, self.threat.epsilon)

    @property
    def training_budget(self) -> Budget:
        """As in TRADES: a start close to x, where KL has a gradient."""
        return Budget(self.attack.num_steps, self.attack.step_size, 'gaussian', 0.001)

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
    def cells(self) -> list[Cell]:
        """From the widest down, all of a width behind one another: they share their programs."""
        grid = self.grid
        return [
            Cell(parametrization, width, seed)
            for width in reversed(grid.widths)
            for seed in grid.seeds
            for parametrization in grid.parametrizations
        ]


def resolve_width(config: Any) -> Settings:
    """Returns the settings of a ConfigDict or mapping with exactly their keys.

    Raises ConfigError, one line, for a key or value that cannot be.
    """
    settings = study_settings(Settings, config)
    grid, network = settings.grid, settings.network
    for key, chosen in (('parametrizations', grid.parametrizations), ('phases', grid.phases)):
        if len(set(chosen)) < len(chosen):
            rule = 'must not name one twice'
            raise refusal(f'grid.{key}', chosen, rule, repr(tuple(dict.fromkeys(chosen))))
    names = [cell.name for cell in settings.cells] + [phase.label for phase in settings.phases]
    if len(set(names)) < len(names):
        rule = 'must differ in their first six digits, as grid.lams'
        raise refusal('grid.widths', grid.widths, rule)
    if network.kind == 'wrn' and len({stage_widths(k) for k in grid.widths}) < len(grid.widths):
        rule = 'must give different numbers of channels'
        raise refusal('grid.widths', grid.widths, rule)
    if 'trades_lazy' in grid.phases and settings.training.lazy_scale == 1:
        rule = "must be above 1 with grid.phases 'trades_lazy', which is 'trades' otherwise"
        raise refusal('training.lazy_scale', 1.0, rule, '100')
    tuned = settings.training.tuned_width
    if network.kind == 'fcn' and any(width != round(width) for width in (*grid.widths, tuned)):
        rule = "must be whole numbers of units with network.kind = 'fcn', as training.tuned_width"
        whole = tuple(max(1.0, float(round(width))) for width in grid.widths)
        raise refusal('grid.widths', grid.widths, rule, repr(whole))
    if settings.threat.norm == 'linf' and settings.threat.epsilon > 1:
        rule = "must be at most 1 with threat.norm = 'linf', as pixels are in [0, 1]"
        raise refusal('threat.epsilon', settings.threat.epsilon, rule, '1')
    if settings.data.num_kernel > min(settings.data.num_train, settings.data.num_test):
        most = min(settings.data.num_train, settings.data.num_test)
        rule = 'must be at most data.num_train and data.num_test'
        raise refusal('data.num_kernel', settings.data.num_kernel, rule, f'{most}')
    return settings


