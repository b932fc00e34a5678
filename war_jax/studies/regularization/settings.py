"""What is trained and measured: a study at each epsilon, and the measures of its networks.

settings = resolve_regularization(regularization.get_config())
for epsilon in settings.epsilons:
    runner_settings = settings.at(epsilon)          # of war_jax.studies.width
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from war_jax.config import NOT_EMPTY, AboveZero, NonNegative, Positive
from war_jax.config_rules import at_least, build, increasing, refusal
from war_jax.studies.width.settings import Settings as StudySettings
from war_jax.studies.width.settings import resolve_study

# In steps of an attack, together, times epsilon: enough to cross the ball and come back.
_WAY = 2.5


@dataclass(frozen=True)
class SweepConfig:
    epsilons: Annotated[tuple[NonNegative, ...], NOT_EMPTY, increasing()]


@dataclass(frozen=True)
class MeasureConfig:
    num_train: Positive
    num_test: Positive
    num_distance: Positive
    epsilon: AboveZero
    attack_steps: Positive
    search_steps: Positive
    directions: Annotated[int, at_least(1)]


@dataclass(frozen=True)
class Settings:
    study: StudySettings
    epsilons: tuple[float, ...]
    measure: MeasureConfig

    def at(self, epsilon: float) -> StudySettings:
        """The study of this epsilon, with attacks in proportion; natural training attacks a point,
        and its steps only have to be positive."""
        base = self.study.base
        reach = _WAY * (epsilon or base.threat.epsilon)
        return replace(
            self.study,
            base=replace(
                base,
                threat=replace(base.threat, epsilon=epsilon),
                attack=replace(base.attack, step_size=reach / base.attack.num_steps),
                evaluation=replace(base.evaluation, step_size=reach / base.evaluation.num_steps),
            ),
        )


def resolve_regularization(config: Any) -> Settings:
    """Returns the settings of a ConfigDict or mapping: a study's keys, and `sweep` and `measure`.

    Raises ConfigError, one line, for a key or value that cannot be.
    """
    values = dict(config if isinstance(config, Mapping) else config.to_dict())
    groups = {name: values.pop(name, None) for name in ('sweep', 'measure')}
    for name, group in groups.items():
        if not isinstance(group, Mapping):
            rule = 'absent; this program needs it, as configs/regularization.py has it'
            raise refusal(name, group, rule)
    study = resolve_study(values)
    epsilons = build(SweepConfig, dict(groups['sweep'] or {}), 'sweep.').epsilons
    settings = Settings(
        study, epsilons, build(MeasureConfig, dict(groups['measure'] or {}), 'measure.')
    )
    if study.base.threat.norm == 'linf' and max(*epsilons, settings.measure.epsilon) > 1:
        rule = "must be at most 1 with threat.norm = 'linf', as pixels are in [0, 1]"
        raise refusal('sweep.epsilons', epsilons, rule)
    if study.study.war:
        rule = 'must be (): the sweep is of constant lambda'
        raise refusal('study.war', study.study.war, rule, '()')
    if not study.base.ntk.every:
        rule = 'must be at least 1: networks are compared along training'
        raise refusal('ntk.every', 0, rule, '8')
    if settings.measure.num_distance > settings.measure.num_test:
        rule = 'must be at most measure.num_test'
        most = settings.measure.num_test
        raise refusal('measure.num_distance', settings.measure.num_distance, rule, f'{most}')
    return settings
