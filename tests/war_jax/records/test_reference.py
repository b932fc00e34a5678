"""What a thin network hands to a wide one. Oracle: the numbers that were written, read back."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from configs import digits
from war_jax.config import Config, ConfigError, resolve
from war_jax.records.reference import (
    Reference,
    check_reference,
    make_reference,
    read_reference,
    write_reference,
)

ABOUT = {'commit': 'abc', 'device': 'cpu'}


def config(**changes: Any) -> Config:
    values = digits.get_config('smoke,lambda=4,seed=7')
    values.update_from_flattened_dict(changes)
    return resolve(values)


def reference(ratios=(9.0, 5.0, 3.5)) -> Reference:
    made = make_reference(config(), 'digest', ratios, ABOUT)
    assert made is not None
    return made


def test_what_is_recorded(tmp_path: Path) -> None:
    write_reference(tmp_path / 'war.json', reference())
    found = json.loads((tmp_path / 'war.json').read_text())
    assert (found['lam'], found['zeta'], found['trajectory']) == (4.0, 3.5, [9.0, 5.0, 3.5])
    assert (found['depth'], found['widen_factor'], found['seed']) == (10, 0.25, 7)
    assert found['conditions']['data.name'] == 'digits'
    assert found['conditions']['threat.epsilon'] == 0.2
    assert found['conditions']['attack.num_steps'] == 2
    assert found['provenance'] == ABOUT


@pytest.mark.parametrize('by', ['file', 'folder'])
def test_read_gives_back_what_was_written(tmp_path: Path, by: str) -> None:
    write_reference(tmp_path / 'war.json', reference())
    path = tmp_path if by == 'folder' else tmp_path / 'war.json'
    assert read_reference(str(path)) == reference()


@pytest.mark.parametrize('ratios', [(3.0, None), (3.0, math.inf), (0.0, 3.0), ()])
def test_ratios_that_are_no_positive_numbers_make_no_reference(ratios) -> None:
    assert make_reference(config(), 'digest', ratios, ABOUT) is None


def test_lambda_zero_makes_no_reference() -> None:
    """Nothing would ever move it."""
    assert make_reference(config(**{'objective.lam': 0.0}), 'digest', (3.0,), ABOUT) is None


@pytest.mark.parametrize(
    'changes',
    [{}, {'model.widen_factor': 2.0, 'model.depth': 16, 'optimizer.epochs': 9, 'seed': 3}],
)
def test_a_wider_network_may_be_held_to_it(changes) -> None:
    check_reference(reference(), config(**changes), 'digest')


@pytest.mark.parametrize(
    ('key', 'value', 'shown'),
    [
        ('data.name', 'cifar10', "data.name = 'cifar10' (there 'digits')"),
        ('threat.epsilon', 0.1, 'threat.epsilon = 0.1 (there 0.2)'),
        ('objective.name', 'madry', "objective.name = 'madry' (there 'trades')"),
        ('attack.num_steps', 5, 'attack.num_steps = 5 (there 2)'),
        ('awp.gamma', 0.005, 'awp.gamma = 0.005 (there 0.0)'),
        ('attack.projection', 'box', "attack.projection = 'box' (there 'ball')"),
        ('objective.grad_align', 0.2, 'objective.grad_align = 0.2 (there 0.0)'),
        ('data.flip', True, 'data.flip = True (there False)'),
        ('augment.cutmix', 0.5, 'augment.cutmix = 0.5 (there 0.0)'),
        ('war.averaging_epochs', 2.0, 'war.averaging_epochs = 2.0 (there 1.0)'),
    ],
)
def test_a_run_under_other_conditions_is_refused(key: str, value: Any, shown: str) -> None:
    changed = config(**{key: value, 'war.reference': 'runs/thin', 'awp.warmup_epochs': 0})
    with pytest.raises(ConfigError, match=r"war\.reference = 'runs/thin': must be of") as error:
        check_reference(reference(), changed, 'digest')
    assert shown in str(error.value) and '\n' not in str(error.value)


def test_one_from_before_there_was_a_key_has_what_its_absence_means() -> None:
    made = reference()
    conditions = {k: v for k, v in made.conditions.items() if not k.startswith('augment.')}
    older = dataclasses.replace(made, conditions=conditions)
    check_reference(older, config(), 'digest')
    with pytest.raises(ConfigError, match=r'augment\.cutout = 2 \(there 0\)'):
        check_reference(older, config(**{'augment.cutout': 2}), 'digest')


def test_other_images_are_refused() -> None:
    with pytest.raises(ConfigError, match='other training, validation or test images'):
        check_reference(reference(), config(), 'another')


def test_a_reference_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'there is no .*absent'):
        read_reference(tmp_path / 'absent')
    with pytest.raises(ConfigError, match=r'there is no .*war\.json'):
        read_reference(tmp_path)


@pytest.mark.parametrize(
    'broken',
    [
        '{"lam": 4',
        '[]',
        '{"lam": 4.0}',
        {'zeta': 0.0},
        {'zeta': None},
        {'trajectory': 3.0},
        {'trajectory': [1.0, 'x']},
        {'lam': 0.0},
        {'further': 1},
    ],
)
def test_a_file_that_is_no_reference_is_refused(tmp_path: Path, broken) -> None:
    path = tmp_path / 'war.json'
    if isinstance(broken, dict):
        broken = json.dumps({**dataclasses.asdict(reference()), **broken})
    path.write_text(broken)
    with pytest.raises(ConfigError, match=r'must be a war\.json that a run') as error:
        read_reference(path)
    assert '\n' not in str(error.value)
