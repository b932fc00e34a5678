"""What a study consists of. Oracle: the grid, counted and written out by hand."""

from typing import Any

import pytest

from configs import width_study
from war_jax.config import ConfigError
from war_jax.studies.width.settings import Settings, resolve_study
from war_jax.studies.width.tasks import TITLES, Task


def settings(**changes: Any) -> Settings:
    config = width_study.get_config('smoke').unlock()
    config.update_from_flattened_dict(changes)
    return resolve_study(config)


def test_the_grid_is_every_combination_once_the_thin_network_first():
    found = settings(**{'study.widths': (1.0, 2.0, 4.0), 'study.seeds': (0, 5)}).grid
    assert len(found) == len(set(found)) == 3 * 3 * 2
    assert [task.width for task in found] == [1.0] * 6 + [4.0] * 6 + [2.0] * 6
    assert {(task.lam, task.seed) for task in found if task.width == 2.0} == {
        (1.0, 0), (1.0, 5), (3.0, 0), (3.0, 5), (9.0, 0), (9.0, 5)
    }  # fmt: skip
    assert {task.method for task in found} == {'fixed'}


def test_a_task_changes_width_lambda_seed_and_rule_and_nothing_else():
    of, held_to = settings(), ((0.125, 9.0),)
    config = of.config(Task(0.25, 9.0, 'constant', 7, held_to), reference='runs/thin')
    assert (config.model.widen_factor, config.objective.lam, config.seed) == (0.25, 9.0, 7)
    assert config.war.reference == 'runs/thin'
    assert of.config(Task(0.25, 9.0, 'fixed', 7)).war == of.base.war
    assert of.config(Task(0.25, 5.3, 'power_law', 7)).objective.lam == 5.3
    assert (config.optimizer, config.data, config.attack) == (
        of.base.optimizer, of.base.data, of.base.attack
    )  # fmt: skip


@pytest.mark.parametrize(
    ('method', 'rule', 'target'),
    [('trajectory', 'integral', 'trajectory'), ('constant', 'integral', 'constant'),
     ('extrapolated', 'integral', 'constant'), ('fixed_step', 'fixed_step', 'constant')],
)  # fmt: skip
def test_the_rule_of_each_variant(method: str, rule: str, target: str):
    war = settings().config(Task(0.25, 9.0, method, 7, ((0.125, 9.0),)), 'runs/thin').war
    assert (war.rule, war.target) == (rule, target)


@pytest.mark.parametrize(
    ('key', 'value', 'rule'),
    [
        ('study.widths', (), 'must not be empty'),
        ('study.widths', (2.0, 1.0), 'must be strictly increasing'),
        ('study.lams', (0.0, 1.0), 'must be above 0'),
        ('study.seeds', (1, 1), 'must be strictly increasing'),
        ('study.war', ('paper',), r"must be one of 'trajectory', 'constant', 'fixed_step'"),
        ('study.war', ('power_law',), "study.war = .*'power_law' needs two thinner networks"),
        ('study.war', ('constant', 'constant'), 'must not name one twice'),
        ('study.devices_per_run', 0, 'must be at least 1'),
        ('war.reference', 'runs/thin', 'must be empty in a study'),
        ('log.wandb', 'war', "must be '' in a study"),
        ('log.profile_steps', 3, 'must be 0 in a study'),
        ('objective.name', 'natural', 'has no lambda'),
    ],
)
def test_what_no_study_can_be_is_refused(key: str, value: Any, rule: str):
    with pytest.raises(ConfigError, match=rule) as error:
        settings(**{key: value})
    assert key in str(error.value) and '\n' not in str(error.value)


def test_a_power_law_needs_a_peak_between_lambdas():
    changes: dict[str, Any] = {'study.widths': (1.0, 2.0, 4.0), 'study.war': ('power_law',)}
    assert settings(**changes).study.war == ('power_law',)
    with pytest.raises(ConfigError, match=r"study\.lams = .*three or more with 'power_law'"):
        settings(**{**changes, 'study.lams': (1.0, 9.0)})


def test_a_configuration_of_one_run_is_no_study():
    config = width_study.get_config('smoke').unlock()
    del config.study
    with pytest.raises(ConfigError, match='a study needs this group'):
        resolve_study(config)


@pytest.mark.parametrize('argument', ['', 'cifar10', 'paper', 'smoke'])
def test_every_study_of_the_config_file_is_one(argument: str):
    found = resolve_study(width_study.get_config(argument))
    assert len(found.study.widths) > 1 and len(found.study.lams) > 1


def test_the_default_is_what_it_says():
    study = resolve_study(width_study.get_config()).study
    assert study.widths[-1] / study.widths[0] == 8 and len(study.widths) == 4
    assert len(study.lams) == 4 and len(study.seeds) == 5 and set(study.war) == set(TITLES)


def test_an_unknown_argument_is_refused():
    with pytest.raises(ConfigError, match=r"'cifar': .* nearest: cifar10"):
        width_study.get_config('cifar')
