"""What may stand behind the colon of --config=FILE.py:ARGUMENT, in every file of configs/.

Oracles: values worked out by hand, and the programs' own checks of their configurations.
"""

import dataclasses
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from configs import (
    adv_ntk,
    digits,
    ntk_capacity,
    ntk_convergence,
    ntk_run,
    ntk_theorem,
    ntk_width,
    preact_resnet,
    regularization,
    scaling,
    width_study,
    wrn,
)
from ntk.studies.adversarial.settings import Settings as AdversarialSettings
from ntk.studies.capacity.settings import Settings as CapacitySettings
from ntk.studies.convergence.settings import Settings as ConvergenceSettings
from ntk.studies.dynamics.settings import Settings as DynamicsSettings
from ntk.studies.theorem.settings import Settings as TheoremSettings
from ntk.studies.width.settings import Settings as WidthSettings
from war_jax.config import ConfigError, resolve
from war_jax.lab.settings import read
from war_jax.studies.regularization.settings import resolve_regularization
from war_jax.studies.scaling.settings import resolve_scaling
from war_jax.studies.width.settings import resolve_study

FILES = {
    adv_ntk: partial(read, AdversarialSettings),
    digits: resolve,
    ntk_capacity: partial(read, CapacitySettings),
    ntk_convergence: partial(read, ConvergenceSettings),
    ntk_run: partial(read, DynamicsSettings),
    ntk_theorem: partial(read, TheoremSettings),
    ntk_width: partial(read, WidthSettings),
    preact_resnet: resolve,
    regularization: resolve_regularization,
    scaling: resolve_scaling,
    width_study: resolve_study,
    wrn: resolve,
}


def test_config_arguments():
    config = resolve(wrn.get_config('34-5,lambda=12'))
    assert (config.model.depth, config.model.widen_factor, config.objective.lam) == (34, 5.0, 12.0)
    config = resolve(wrn.get_config('lambda=1/2,10-0.5,seed=3,madry,smoke'))
    assert (config.model.widen_factor, config.seed) == (0.5, 3), 'values win over words'
    assert (config.objective.name, config.objective.lam) == ('madry', 0.5)
    natural = resolve(digits.get_config('natural'))
    robust = resolve(digits.get_config())
    assert (natural.objective.name, natural.objective.lam) == ('natural', 0.0)
    assert dataclasses.replace(natural, objective=robust.objective) == robust, 'a twin'


def test_authors_plan_is_that_of_their_code():
    config = resolve(wrn.get_config('authors'))
    optimizer = config.optimizer
    assert (optimizer.batch_size, optimizer.epochs) == (64, 100)
    assert (optimizer.schedule, optimizer.boundaries) == ('halving', (75,))
    assert config.evaluation.step_size == 0.007
    assert config.batch_norm.updates == 'natural,adversarial'
    for argument in ('authors,madry', 'madry,10-1,authors', 'authors,madry,lambda=3'):
        config = resolve(wrn.get_config(argument))
        assert config.objective.name == 'madry_per_example'
        assert config.objective.lam == (3.0 if 'lambda' in argument else 2.0)
        assert config.batch_norm.updates == 'adversarial,natural'
    plain = resolve(wrn.get_config('madry'))
    assert (plain.objective.name, plain.objective.lam) == ('madry', 1.0)
    assert plain.batch_norm.updates == 'natural,adversarial'


def test_both_forms_of_madry_have_a_word():
    config = resolve(wrn.get_config('madry_per_example'))
    assert (config.objective.name, config.objective.lam) == ('madry_per_example', 1.0)
    with pytest.raises(ConfigError, match='contradicts'):
        wrn.get_config('madry,madry_per_example')


@pytest.mark.parametrize(
    ('argument', 'token', 'suggestion'),
    [
        ('34-5,lamda=12', 'lamda=12', 'lambda=NUMBER'),
        ('lambda', 'lambda', 'lambda=NUMBER'),
        ('lambda=x', 'lambda=x', 'lambda=1'),
        ('seed=1.5', 'seed=1.5', 'seed=1'),
        ('34x5', '34x5', '34-5'),
        ('wrn-28-10', 'wrn-28-10', '28-10'),
        ('34-5.5.5', '34-5.5.5', '34-10'),
        ('smok', 'smok', 'smoke'),
        ('madry=3', 'madry=3', 'madry'),
    ],
)
def test_unknown_config_arguments(argument: str, token: str, suggestion: str):
    with pytest.raises(ConfigError) as caught:
        wrn.get_config(argument)
    line = str(caught.value)
    assert line.startswith(f'config argument {token!r} in {argument!r}: ')
    assert line.endswith(f'; nearest: {suggestion}')


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.__name__)
def test_every_file_has_a_smoke_run_and_is_locked(file: ModuleType):
    small, config = file.get_config('smoke'), file.get_config()
    assert FILES[file](small) != FILES[file](config)
    assert small.is_locked and config.is_locked
    with pytest.raises(
        ConfigError, match=r"^config argument 'smok' in 'smok': .*; nearest: smoke$"
    ):
        file.get_config('smok')


@pytest.mark.parametrize(
    ('file', 'argument', 'smaller', 'chosen'),
    [
        (wrn, 'cifar100,smoke', 'optimizer.epochs', {'data.name': 'cifar100'}),
        (wrn, 'smoke,authors', 'optimizer.epochs', {'evaluation.step_size': 0.007}),
        (width_study, 'cifar10,smoke', 'study.widths', {'data.name': 'cifar10', 'smoke': True}),
        (width_study, 'smoke,paper', 'study.lams', {'data.name': 'cifar10', 'model.depth': 10}),
        (scaling, 'depth,smoke', 'optimizer.epochs', {'grid.epochs': (), 'smoke': True}),
        (adv_ntk, 'cifar10,smoke', 'data.num_train', {'data.name': 'cifar10'}),
        (ntk_width, 'wrn,smoke', 'grid.widths', {'network.kind': 'wrn'}),
        (ntk_capacity, 'many_pairs,smoke', 'grid.num_pairs', {'data.half_gap': 0.05}),
        (ntk_width, 'relu,smoke', 'grid.widths', {'network.activation': 'relu'}),
    ],
)
def test_smoke_makes_small_what_other_words_choose(
    file: ModuleType, argument: str, smaller: str, chosen: dict[str, Any]
):
    without = ','.join(word for word in argument.split(',') if word != 'smoke')
    small, whole = (flat(file.get_config(each)) for each in (argument, without))
    size = len if isinstance(small[smaller], tuple) else int
    assert size(small[smaller]) < size(whole[smaller])
    assert {key: small[key] for key in chosen} == chosen
    reordered = ','.join(reversed(argument.split(',')))
    assert flat(file.get_config(reordered)) == small
    FILES[file](file.get_config(argument))


def flat(config: Any, path: str = '') -> dict[str, Any]:
    result = {}
    for key, value in config.items():
        nested = hasattr(value, 'items')
        result |= flat(value, f'{path}{key}.') if nested else {f'{path}{key}': value}
    return result


def test_words_of_different_keys_combine():
    both = read(WidthSettings, ntk_width.get_config('wrn,relu'))
    assert (both.network.kind, both.network.activation) == ('wrn', 'relu')
    assert (both.training.lazy_scale, both.training.tuned_width) == (1.0, 2.0)


@pytest.mark.parametrize(
    ('file', 'argument', 'first', 'second'),
    [
        (digits, 'natural,smoke,mart', 'natural', 'mart'),
        (wrn, 'cifar10,34-5,cifar100', 'cifar10', 'cifar100'),
        (wrn, '34-5,34-10', '34-5', '34-10'),
        (wrn, 'seed=1,smoke,seed=2', 'seed=1', 'seed=2'),
        (width_study, 'paper,cifar10', 'paper', 'cifar10'),
    ],
)
def test_contradictions_are_refused(file: ModuleType, argument: str, first: str, second: str):
    with pytest.raises(ConfigError) as caught:
        file.get_config(argument)
    assert str(caught.value) == (
        f'config argument {second!r} in {argument!r}: must not stand beside {first!r}, '
        f'which it contradicts; nearest: {first}'
    )


def test_the_same_word_twice_is_no_contradiction():
    assert wrn.get_config('mart,smoke,mart,smoke') == wrn.get_config('mart,smoke')
