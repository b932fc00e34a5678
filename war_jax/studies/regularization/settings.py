"""What is trained and measured: a study at each epsilon, and the measures of its networks.

settings = resolve_regularization(regularization.get_config())
for epsilon in settings.sweep.epsilons:
    runner_settings = settings.at(epsilon)          # of war_jax.studies.width
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from war_jax.config import NOT_EMPTY, AboveZero, NonNegative, Positive
from war_jax.config_rules import increasing, refusal
from war_jax.lab.settings import read
from war_jax.studies.width.settings import Settings as StudySettings
from war_jax.studies.width.settings import resolve_study

# The steps of an attack, together, over epsilon: enough to cross the ball and come back.
REACH = 2.5


@dataclass(frozen=True)
class Sweep:
    epsilons: Annotated[tuple[NonNegative, ...], NOT_EMPTY, increasing()]


@dataclass(frozen=True)
class Measure:
    num_train: Positive
    num_test: Positive
    num_distance: Positive
    epsilon: AboveZero
    attack_steps: Positive
    search_steps: Positive
    directions: Positive


@dataclass(frozen=True)
class Groups:
    """The keys that a study of width and lambda does not have."""

    sweep: Sweep
    measure: Measure


@dataclass(frozen=True)
class Settings:
    study: StudySettings
    sweep: Sweep
    measure: Measure

    def check(self) -> None:
        """Raises ConfigError for values that do not go together."""
        base, epsilons, measure = self.study.base, self.sweep.epsilons, self.measure
        if base.threat.norm == 'linf' and max(*epsilons, measure.epsilon) > 1:
            rule = "must be at most 1 with threat.norm = 'linf', as pixels are in [0, 1]"
            raise refusal('sweep.epsilons', epsilons, rule)
        if self.study.study.war:
            rule = 'must be (): the sweep is of constant lambda'
            raise refusal('study.war', self.study.study.war, rule, '()')
        if count := self.study.study.autoattack_examples:
            rule = 'must be 0: nothing here is chosen or claimed of accuracies under attack'
            raise refusal('study.autoattack_examples', count, rule, '0')
        if base.model.activation != 'relu':
            rule = "must be 'relu', the only one whose Lipschitz bound is known"
            raise refusal('model.activation', base.model.activation, rule, "'relu'")
        if not base.ntk.every:
            rule = 'must be at least 1: networks are compared along training'
            raise refusal('ntk.every', 0, rule, '8')
        if measure.num_distance > measure.num_test:
            rule = 'must be at most measure.num_test'
            raise refusal('measure.num_distance', measure.num_distance, rule, f'{measure.num_test}')

    def at(self, epsilon: float) -> StudySettings:
        """The study of this epsilon, with attacks in proportion; natural training attacks a point,
        and its steps only have to be positive."""
        base = self.study.base
        reach = REACH * (epsilon or base.threat.epsilon)
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
    """The settings of a ConfigDict or mapping: a study's keys, and `sweep` and `measure`.

    Raises ConfigError, one line, for a key or value that cannot be.
    """
    values = dict(config if isinstance(config, Mapping) else config.to_dict())
    own = {name: values.pop(name) for name in ('sweep', 'measure') if name in values}
    groups = read(Groups, own)
    settings = Settings(resolve_study(values), groups.sweep, groups.measure)
    settings.check()
    return settings
