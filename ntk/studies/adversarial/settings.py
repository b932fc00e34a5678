"""What is trained: the kernel predictor and finite networks, naturally and adversarially.

settings = read(Settings, adv_ntk.get_config())          # war_jax.lab.settings
for cell in settings.cells: ...               # a width (0: infinite), a way to train, a seed
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.config import (
    DATA_NAME,
    NOT_EMPTY,
    AboveZero,
    DataConfig,
    Fraction,
    Positive,
    ThreatConfig,
)
from war_jax.config_rules import at_least, at_most, increasing, key, refusal
from war_jax.lab.settings import SMOKE, Seeds, check_ball

Method = Literal['natural', 'natural_stopped', 'attacked_stopped', 'adversarial']
# Of the kernel. Without an adversary: fully learned, or stopped at the one common time at which
# most validation images are right as they are, or right under attack.
METHODS: tuple[Method, ...] = ('natural', 'natural_stopped', 'attacked_stopped', 'adversarial')
PLAIN = METHODS[:-1]
OF_NETWORKS: tuple[Method, ...] = ('natural', 'adversarial')
INFINITE = 0  # as a width


@dataclass(frozen=True)
class AdvData:
    name: Annotated[str, DATA_NAME]
    data_dir: str
    num_train: Annotated[int, at_least(2)]
    num_validation: Positive
    num_test: Positive


@dataclass(frozen=True)
class AdvNetwork:
    num_layers: Annotated[int, at_least(2)]
    activation: Literal['relu', 'erf', 'gelu']
    weight_variance: AboveZero
    output_variance: AboveZero


@dataclass(frozen=True)
class AdvGrid:
    widths: Annotated[tuple[Positive, ...], NOT_EMPTY, increasing()]
    seeds: Seeds


@dataclass(frozen=True)
class AdvKernel:
    num_steps: Positive
    learning_rate: AboveZero
    initial_time: AboveZero
    common_times: Annotated[tuple[AboveZero, ...], NOT_EMPTY, increasing()]


@dataclass(frozen=True)
class AdvTraining:
    num_steps: Positive
    speed: Annotated[float, at_least(0), at_most(2)]
    momentum: Fraction
    every: Positive


@dataclass(frozen=True)
class AdvAttack:
    num_steps: Positive
    measure_steps: Positive


@dataclass(frozen=True)
class Cell:
    """One predictor."""

    folder: ClassVar[str] = 'cells'
    width: int  # INFINITE: the kernel
    method: Method
    seed: int

    @property
    def values(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def name(self) -> str:
        """Of its file: 'm256-adversarial-seed0'."""
        return f'm{self.width or "inf"}-{self.method}-seed{self.seed}'


@dataclass(frozen=True)
class Settings:
    data: AdvData
    network: AdvNetwork
    grid: AdvGrid
    kernel: AdvKernel
    training: AdvTraining
    threat: ThreatConfig
    attack: AdvAttack
    smoke: bool = key(False, SMOKE, absent=False)

    @property
    def ball(self) -> ThreatModel:
        return ThreatModel(self.threat.norm, self.threat.epsilon)

    def budget(self, num_steps: int) -> Budget:
        """Steps that together are 2.5 radii long, from a uniform start."""
        return Budget(num_steps, 2.5 * self.threat.epsilon / num_steps, 'uniform', 1.0)

    @property
    def data_config(self) -> DataConfig:
        return DataConfig.whole(self.data.name, self.data.data_dir)

    @property
    def cells(self) -> list[Cell]:
        """Infinite width first; then the widest down, as networks of a width share programs."""
        return [
            Cell(width, method, seed)
            for width in (INFINITE, *reversed(self.grid.widths))
            for method in (OF_NETWORKS if width else METHODS)
            for seed in self.grid.seeds
        ]

    def check(self) -> None:
        """Raises ConfigError for a ball that is none, or that no image has room for."""
        if not self.threat.epsilon:
            raise refusal('threat.epsilon', 0.0, 'must be above 0: it is what is defended', '0.1')
        check_ball(self.threat)
