"""What a study consists of. Oracle: the grid, counted and written out by hand."""

from typing import Any

import pytest

from configs import width_study
from war_jax.config import ConfigError
from war_jax.studies.width.settings import Settings, Task, resolve_study


def settings(**changes: Any) -> Settings:
    config = width_study.get_config('smoke').unlock()
    config.update_from_flattened_dict(changes)
    return resolve_study(config)


def test_the_grid_is_every_combination_once_the_thin_network_first():
    found = settings(**{'study.widths': (1.0, 2.0, 4.0), 'study.seeds': (0, 5)}).grid
    assert len(found) == len(set(found)) == 3 * 2 * 2
    assert [task.width for task in found] == [1.0] * 4 + [4.0] * 4 + [2.0] * 4
    assert {(task.lam, task.seed) for task in found if task.width == 2.0} == {
        (1.0, 0), (1.0, 5), (9.0, 0), (9.0, 5)
    }  # fmt: skip
    assert {task.method for task in found} == {'fixed'}


def test_names_say_what_a_run_is():
    fixed = Task(0.125, 3.0, 'fixed', 0)
    assert fixed.name == 'k0.125-lam3-seed0'
    assert Task(2.0, 3.0, 'constant', 4, 0.5).name == 'k2-war-constant-from-k0.5-lam3-seed4'


def test_the_thin_network_is_not_adjusted():
    both = settings(**{'study.war': ('trajectory', 'constant')}).adjusted(9.0)
    assert {task.width for task in both} == {0.25}
    assert {(task.method, task.seed, task.lam) for task in both} == {
        ('trajectory', 0, 9.0), ('trajectory', 1, 9.0), ('constant', 0, 9.0), ('constant', 1, 9.0)
    }  # fmt: skip


def test_a_task_changes_width_lambda_seed_and_rule_and_nothing_else():
    of = settings()
    config = of.config(Task(0.25, 9.0, 'constant', 7), reference='runs/thin')
    assert (config.model.widen_factor, config.objective.lam, config.seed) == (0.25, 9.0, 7)
    assert (config.war.reference, config.war.target) == ('runs/thin', 'constant')
    assert of.config(Task(0.25, 9.0, 'fixed', 7)).war.reference == ''
    assert (config.optimizer, config.data, config.attack) == (
        of.base.optimizer, of.base.data, of.base.attack
    )  # fmt: skip


@pytest.mark.parametrize(
    ('key', 'value', 'rule'),
    [
        ('study.widths', (), 'must not be empty'),
        ('study.widths', (2.0, 1.0), 'must be strictly increasing'),
        ('study.lams', (0.0, 1.0), 'must be above 0'),
        ('study.seeds', (1, 1), 'must be strictly increasing'),
        ('study.war', ('paper',), r"must be one of 'trajectory', 'constant'"),
        ('study.war', ('constant', 'constant'), 'must not name one twice'),
        ('study.devices_per_run', 0, 'must be at least 1'),
        ('war.reference', 'runs/thin', 'must be empty in a study'),
        ('objective.name', 'natural', 'has no lambda'),
    ],
)
def test_what_no_study_can_be_is_refused(key: str, value: Any, rule: str):
    with pytest.raises(ConfigError, match=rule) as error:
        settings(**{key: value})
    assert key in str(error.value) and '\n' not in str(error.value)


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
    assert len(study.lams) == 4 and len(study.seeds) == 5


def test_an_unknown_argument_is_refused():
    with pytest.raises(ConfigError, match=r"'cifar': .* nearest: cifar10"):
        width_study.get_config('cifar')
