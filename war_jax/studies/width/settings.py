"""What a study consists of: a grid of widths, lambdas and seeds, and ways to spare its sweeps.

    settings = resolve_study(width_study.get_config())
    for task in settings.grid: ...                       # lambda constant
    config = settings.config(task, reference='runs/k0.25-lam3-seed0')

The first width is the thin network: lambda is tuned on it, and its runs are the references. What is
run beside the grid: war_jax/studies/width/tasks.py.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from war_jax.config import NOT_EMPTY, AboveZero, Config, Count, Positive, Width, resolve
from war_jax.config_rules import build, increasing, refusal
from war_jax.lab.settings import Seeds, distinct
from war_jax.studies.width.tasks import FROM_TWO, RULES, Plan, Task, Variant, grid


@dataclass(frozen=True)
class StudyConfig:
    widths: Annotated[tuple[Width, ...], NOT_EMPTY, increasing()]
    lams: Annotated[tuple[AboveZero, ...], NOT_EMPTY, increasing()]
    seeds: Seeds
    war: tuple[Variant, ...]
    devices_per_run: Positive
    autoattack_examples: Count


@dataclass(frozen=True)
class Settings:
    base: Config  # of every run, but for width, lambda, seed, reference and rule
    study: StudyConfig

    @property
    def plan(self) -> Plan:
        """The group `study`, as study.json has it."""
        return asdict(self.study)

    @property
    def grid(self) -> list[Task]:
        """The runs of constant lambda."""
        return grid(self.plan)

    def check(self) -> None:
        """Raises ConfigError for a base that is no base of a study, and variants that cannot be."""
        if (name := self.base.objective.name) in ('natural', 'adversarial'):
            rule = f'must not be that in a study: {name!r} has no lambda'
            raise refusal('objective.name', name, rule, "'trades'")
        if self.base.war.reference:
            rule = 'must be empty in a study, which makes its own references'
            raise refusal('war.reference', self.base.war.reference, rule, "''")
        # One process has one of each, and the runs of a study are side by side in it.
        for key, value, nothing in (
            ('log.wandb', self.base.log.wandb, ''),
            ('log.profile_steps', self.base.log.profile_steps, 0),
        ):
            if value != nothing:
                rule = f'must be {nothing!r} in a study: it is of a process, which has many runs'
                raise refusal(key, value, rule, repr(nothing))
        study = self.study
        distinct('study.war', study.war)
        # With one width there is nothing to look at it for, whatever is named.
        alone = [method for method in study.war if method in FROM_TWO and len(study.widths) == 2]
        if alone:
            rule = f'{alone[0]!r} needs two thinner networks, so three widths or more'
            nearest = repr(tuple(method for method in study.war if method not in FROM_TWO))
            raise refusal('study.war', study.war, rule, nearest)
        if 'power_law' in study.war and len(study.lams) < 3:
            rule = "must be three or more with 'power_law' in study.war, for a peak between them"
            raise refusal('study.lams', study.lams, rule)

    def config(self, task: Task, reference: str = '') -> Config:
        """reference: of a run with WAR, the folder or file that war.reference is to name."""
        war = replace(self.base.war, reference=reference)
        if reference:
            target = 'trajectory' if task.method == 'trajectory' else 'constant'
            war = replace(war, rule=RULES[task.method], target=target)
        return replace(
            self.base,
            seed=task.seed,
            model=replace(self.base.model, widen_factor=task.width),
            objective=replace(self.base.objective, lam=task.lam),
            war=war,
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
