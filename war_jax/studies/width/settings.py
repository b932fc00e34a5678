"""What a study consists of: a grid of widths, lambdas and seeds, and width adjusted regularization.

    settings = resolve_study(width_study.get_config())
    for task in settings.grid: ...                       # lambda constant
    for task in settings.adjusted(lam=3.0): ...          # lambda moved, from the thin network's 3.0
    config = settings.config(task, reference='runs/k0.25-lam3-seed0')

The first width is the thin network: lambda is tuned on it, and its runs are the references.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from war_jax.config import NOT_EMPTY, AboveZero, Config, Positive, Width, resolve
from war_jax.config_rules import build, increasing, refusal
from war_jax.lab.settings import Seeds, distinct

Target = Literal['trajectory', 'constant']


@dataclass(frozen=True)
class StudyConfig:
    widths: Annotated[tuple[Width, ...], NOT_EMPTY, increasing()]
    lams: Annotated[tuple[AboveZero, ...], NOT_EMPTY, increasing()]
    seeds: Seeds
    war: tuple[Target, ...]
    devices_per_run: Positive


@dataclass(frozen=True)
class Task:
    """One run of the study."""

    width: float
    lam: float  # at which lambda starts, and stays if the method is 'fixed'
    method: Literal['fixed', 'trajectory', 'constant']
    seed: int
    thin: float = 0.0  # width of the network whose run is the reference, if there is one

    @property
    def name(self) -> str:
        """Of its folder, e.g. 'k2-lam3-seed0', 'k2-war-trajectory-from-k0.25-lam3-seed0'."""
        rule = '' if self.method == 'fixed' else f'war-{self.method}-from-k{self.thin:g}-'
        return f'k{self.width:g}-{rule}lam{self.lam:g}-seed{self.seed}'


@dataclass(frozen=True)
class Settings:
    base: Config  # of every run, but for width, lambda, seed and reference
    study: StudyConfig

    @property
    def thin(self) -> list[Task]:
        """The runs on which lambda is tuned."""
        return [task for task in self.grid if task.width == self.study.widths[0]]

    @property
    def grid(self) -> list[Task]:
        """Thin networks first, since others wait for them; then from the widest down, so that the
        last runs, in which some devices idle, are short."""
        first, *wider = self.study.widths
        return [
            Task(width, lam, 'fixed', seed)
            for width in (first, *reversed(wider))
            for seed in self.study.seeds
            for lam in self.study.lams
        ]

    def adjusted(self, lam: float) -> list[Task]:
        """The runs in which width adjusted regularization moves lambda, from the tuned `lam` on."""
        return [
            Task(width, lam, target, seed, self.study.widths[0])
            for width in reversed(self.study.widths[1:])
            for target in self.study.war
            for seed in self.study.seeds
        ]

    def check(self) -> None:
        """Raises ConfigError for a base that is no base of a study, and a target named twice."""
        if self.base.objective.name == 'natural':
            rule = "must not be that in a study: 'natural' has no lambda"
            raise refusal('objective.name', 'natural', rule, "'trades'")
        if self.base.war.reference:
            rule = 'must be empty in a study, which makes its own references'
            raise refusal('war.reference', self.base.war.reference, rule, "''")
        distinct('study.war', self.study.war)

    def config(self, task: Task, reference: str = '') -> Config:
        target = self.base.war.target if task.method == 'fixed' else task.method
        return replace(
            self.base,
            seed=task.seed,
            model=replace(self.base.model, widen_factor=task.width),
            objective=replace(self.base.objective, lam=task.lam),
            war=replace(self.base.war, reference=reference, target=target),
        )


def resolve_study(config: Any) -> Settings:
    """Returns the settings of a ConfigDict or mapping: a run's keys and the group `study`.

    Raises ConfigError, one line, as `resolve` does, and for a configuration of a single run.
    """
    values = dict(config if isinstance(config, Mapping) else config.to_dict())
    study = values.pop('study', None)
    if not isinstance(study, Mapping):
        rule = 'absent; a study needs this group of keys, as configs/width_study.py has it'
        raise refusal('study', study, rule)
    settings = Settings(resolve(values), build(StudyConfig, study, 'study.'))
    settings.check()
    return settings
