"""Oracles: the published hyperparameters, JSON round trips, and a list of values to be refused.

Each refusal is compared with key, value, rule and nearest choice worked out by hand.
"""

import dataclasses
import json

import pytest
from ml_collections.config_dict import ConfigDict

from configs import default, digits, wrn
from war_jax.config import Config, ConfigError, DataConfig, resolve, to_dict
from war_jax.config_rules import absent_values, nearest, nearest_key, number


def values(**overrides) -> dict:
    """Default values as nested dicts, with `group__key=value` overrides."""
    config = default.get_config().to_dict()
    for path, value in overrides.items():
        *groups, key = path.split('__')
        target = config
        for group in groups:
            target = target[group]
        target[key] = value
    return config


EXTRA = {'data__extra_path': 'x.npz', 'data__extra_fraction': 0.5}


def test_default_is_trades_wrn_34_10():
    config = resolve(default.get_config())
    assert (config.model.depth, config.model.widen_factor) == (34, 10.0)
    assert (config.objective.name, config.objective.lam) == ('trades', 6.0)
    assert (config.threat.norm, config.threat.epsilon) == ('linf', 0.031)
    assert config.attack == resolve(values()).attack
    assert dataclasses.astuple(config.attack)[:4] == (10, 0.007, 'gaussian', 0.001)
    optimizer = config.optimizer
    assert (optimizer.batch_size, optimizer.epochs) == (128, 76)
    assert (optimizer.schedule, optimizer.boundaries) == ('piecewise', (75, 90, 100))
    assert (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay) == (0.1, 0.9, 2e-4)
    assert (config.evaluation.num_steps, config.evaluation.step_size) == (20, 0.003)
    assert config.batch_norm.updates == 'natural,adversarial'


def test_every_default_keeps_its_own_rule():
    config = Config()
    assert resolve(default.get_config()) == config
    assert repr(resolve(to_dict(config))) == repr(config), 'an int where a float is meant'


@pytest.mark.parametrize(
    'config',
    [
        digits.get_config(),
        digits.get_config('smoke'),
        digits.get_config('natural,seed=1'),
        wrn.get_config(),
        wrn.get_config('authors,34-5,lambda=12,cifar100'),
        wrn.get_config('smoke,svhn_cropped,mart'),
    ],
)
def test_json_round_trip(config: ConfigDict):
    resolved = resolve(config)
    assert resolve(json.loads(json.dumps(to_dict(resolved)))) == resolved
    assert hash(resolved) == hash(resolve(to_dict(resolved)))


def test_frozen():
    config = resolve(values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.threat.epsilon = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_numbers_are_converted():
    config = resolve(values(threat__epsilon='8/255', attack__step_size=1, model__strides=[1, 2, 1]))
    assert config.threat.epsilon == 8 / 255
    assert isinstance(config.attack.step_size, float)
    assert config.model.strides == (1, 2, 1)
    assert number('0.031') == 0.031


@pytest.mark.parametrize(
    ('path', 'value', 'line'),
    [
        ('threat__epsilon', -0.1, 'threat.epsilon = -0.1: must be at least 0; nearest: 0'),
        ('threat__epsilon', '8/0', "threat.epsilon = '8/0': must be a finite number or a fraction"),
        ('threat__epsilon', float('nan'), 'threat.epsilon = nan: must be a finite number'),
        ('threat__epsilon', True, 'threat.epsilon = True: must be a finite number'),
        ('threat__norm', 'l1', "threat.norm = 'l1': must be one of 'linf', 'l2'; nearest: 'l2'"),
        ('attack__step_size', 0.0, 'attack.step_size = 0.0: must be above 0; nearest: any number'),
        ('attack__num_steps', 0, 'attack.num_steps = 0: must be at least 1; nearest: 1'),
        ('attack__num_steps', 2.4, 'attack.num_steps = 2.4: must be a whole number; nearest: 2'),
        ('attack__num_steps', True, 'attack.num_steps = True: must be a whole number'),
        ('ema_decay', 1.0, 'ema_decay = 1.0: must be below 1; nearest: any number below 1'),
        ('batch_norm__momentum', 2.0, 'batch_norm.momentum = 2.0: must be at most 1; nearest: 1'),
        ('data__flip', 'yes', "data.flip = 'yes': must be True or False; nearest: True"),
        ('data__data_dir', 3, "data.data_dir = 3: must be a string; nearest: '3'"),
        ('data__name', 'cifar', "data.name = 'cifar': must be one of digits, cifar10, cifar100, "),
        ('data__name', 'cifra100', '; nearest: cifar100'),
        ('data__name', 'my/own.npz', '; nearest: npz:my/own.npz'),
        ('data__name', 'npz:', '; nearest: npz:PATH'),
        ('threat__epsilon', 8, "must be at most 1 with threat.norm = 'linf', as pixels are in"),
        ('threat__epsilon', 8, '; nearest: 8/255'),
        ('threat__epsilon', 8000.0, '; nearest: 1'),
        ('augment__cutmix', 1.5, 'augment.cutmix = 1.5: must be at most 1; nearest: 1'),
        ('augment__cutmix_alpha', 0, 'augment.cutmix_alpha = 0.0: must be above 0; nearest: any'),
        ('augment__cutout', 0.5, 'augment.cutout = 0.5: must be a whole number; nearest: 0'),
        ('augment__magnitude', 31, 'augment.magnitude = 31.0: must be at most 30; nearest: 30'),
        ('augment__cutmx', 1, 'augment.cutmx = 1: no such key; nearest: augment.cutmix'),
        ('model__widen_factor', 3410, 'model.widen_factor = 3410.0: must be at most 1000; neares'),
        ('model__strides', (1, 2), 'model.strides = (1, 2): must have 3 elements with model.name'),
        ('model__strides', (1, 0, 1), 'model.strides[1] = 0: must be at least 1; nearest: 1'),
        ('model__strides', 2, 'model.strides = 2: must be a tuple; nearest: (2,)'),
        ('optimizer__boundaries', (9, 8), 'must be strictly increasing; nearest: (8, 9)'),
        ('evaluation__curve_scales', (), 'evaluation.curve_scales = (): must not be empty'),
        ('attack', 3, 'attack = 3: must be a group of the keys num_steps, step_size, init, init_s'),
        ('attack__stepsize', 1, 'attack.stepsize = 1: no such key; nearest: attack.step_size'),
        ('sede', 1, 'sede = 1: no such key; nearest: seed'),
        ('optimizer__lr', 1, 'optimizer.lr = 1: no such key; nearest: optimizer.learning_rate'),
    ],
)
def test_refusals(path: str, value: object, line: str):
    with pytest.raises(ConfigError) as caught:
        resolve(values(**{path: value}))
    assert line in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('depth', 'suggestion'), [(4, '10'), (9, '10'), (33, '34'), (35, '34'), (31, '28 or 34')]
)
def test_impossible_depths(depth: int, suggestion: str):
    with pytest.raises(ConfigError, match=rf'model.depth = {depth}: .*; nearest: {suggestion}$'):
        resolve(values(model__depth=depth))


@pytest.mark.parametrize(
    ('overrides', 'key'),
    [
        ({'data__extra_fraction': 0.5}, 'data.extra_fraction'),
        ({'data__extra_path': 'x.npz'}, 'data.extra_path'),
        ({**EXTRA, 'data__extra_fraction': 0.001}, 'data.extra_fraction'),
        ({**EXTRA, 'data__extra_fraction': 0.999}, 'data.extra_fraction'),
        ({**EXTRA, 'optimizer__batch_size': 1}, 'optimizer.batch_size'),
        ({'augment__cutmix': 1.0, 'optimizer__batch_size': 1}, 'augment.cutmix'),
        ({'optimizer__schedule': 'halving'}, 'optimizer.boundaries'),
        ({'optimizer__warmup_epochs': 77.0}, 'optimizer.warmup_epochs'),
        ({'optimizer__cycle_momentum': True}, 'optimizer.cycle_momentum'),
        (
            {'objective__name': 'natural', 'batch_norm__updates': 'adversarial'},
            'batch_norm.updates',
        ),
        ({'batch_norm__updates': 'natural,adversarial,helper'}, 'batch_norm.updates'),
        ({'attack__warmup_epochs': 77.0}, 'attack.warmup_epochs'),
        ({'awp__gamma': 0.1, 'awp__warmup_epochs': 77}, 'awp.warmup_epochs'),
        ({'attack__early_stop': 10}, 'attack.early_stop'),  # of as many steps
        ({'ema_start': 2.0}, 'ema_start'),
        ({'ema_ramp': True}, 'ema_ramp'),
        ({'ema_batch_norm': 'copied'}, 'ema_batch_norm'),
        ({'ema_start': 77.0, 'ema_decay': 0.9}, 'ema_start'),
        ({'augment__magnitude': 5.0, 'augment__cutmix': 0.5}, 'augment.magnitude'),
        ({'augment__cutmix_alpha': 0.5, 'augment__randaugment': 1}, 'augment.cutmix_alpha'),
        ({'objective__helper_weight': 1.0}, 'objective.helper_weight'),
        ({'objective__helper_reach': 3.0}, 'objective.helper_reach'),
        ({'data__num_validation': 0}, 'data.num_validation'),
        ({'attack__init': 'none'}, 'attack.init'),
        ({'attack__init': 'uniform', 'attack__init_scale': 1.5}, 'attack.init_scale'),
        ({'objective__name': 'madry', 'optimizer__accumulation': 2}, 'optimizer.accumulation'),
        ({'war__rule': 'fixed_step'}, 'war.rule'),
    ],
)
def test_keys_that_do_not_go_together(overrides: dict, key: str):
    with pytest.raises(ConfigError, match=f'^{key} = .*: .*; nearest: '):
        resolve(values(**overrides))


@pytest.mark.parametrize(
    'overrides',
    [
        {'objective__name': 'madry_per_example', 'optimizer__accumulation': 2},
        {'war__rule': 'fixed_step', 'war__reference': 'runs/thin'},
        {'attack__init': 'uniform', 'attack__init_scale': 2.0, 'attack__projection': 'box'},
        {'war__step': 0.2, 'war__start': 1.0},  # of the other rule: not used
        {'augment__magnitude': 5.0, 'augment__randaugment': 1},
        {'objective__helper_weight': 1.0, 'objective__helper': 'runs/natural'},
    ],
)
def test_keys_that_go_together(overrides: dict):
    resolve(values(**overrides))


@pytest.mark.parametrize(('fraction', 'count'), [('1/128', 1), (0.5, 64), ('127/128', 127)])
def test_extra_images_fill_part_of_a_batch(fraction, count):
    config = resolve(values(data__extra_path='x.npz', data__extra_fraction=fraction))
    assert config.data.extra_fraction * config.optimizer.batch_size == pytest.approx(count)


@pytest.mark.parametrize(('fraction', 'nearest'), [(0.003, '1/128'), (0.997, '127/128')])
def test_nearest_extra_fraction_is_accepted(fraction: float, nearest: str):
    with pytest.raises(ConfigError, match=f'1 to 127 images .* 128, .*; nearest: {nearest}$'):
        resolve(values(data__extra_path='x.npz', data__extra_fraction=fraction))
    resolve(values(data__extra_path='x.npz', data__extra_fraction=nearest))


def test_large_radii_are_possible_in_l2():
    assert resolve(values(threat__epsilon=8, threat__norm='l2')).threat.epsilon == 8.0


def test_absent_key():
    config = values()
    del config['threat']['norm']
    with pytest.raises(
        ConfigError, match=r"^threat\.norm: absent; .*; nearest: 'linf', the default"
    ):
        resolve(config)


def test_a_group_that_was_always_there_must_be_there():
    config = values()
    del config['threat']
    with pytest.raises(ConfigError, match=r'^threat: absent; must be set'):
        resolve(config)


def test_a_config_json_from_before_there_were_smoke_runs():
    config = values()
    del config['smoke']
    assert resolve(config) == Config()


def test_a_config_json_from_before_any_key_that_may_be_absent():
    config = values()
    for path in absent_values(Config):
        *groups, key = path.split('.')
        group = config
        for name in groups:
            group = group[name]
        del group[key]
    assert not config['augment']
    assert resolve(config) == Config()
    del config['augment']  # nor was there the group
    assert resolve(config) == Config()


def test_a_config_json_from_before_war_had_a_choice_of_rules():
    config = values()
    for key in ('rule', 'step', 'start'):
        del config['war'][key]
    assert resolve(config) == Config()


def test_a_whole_data_set_is_neither_split_nor_changed():
    data = DataConfig.whole('svhn_cropped', '/data')
    assert dataclasses.astuple(data) == (
        'svhn_cropped', '/data', 0, 0, 0, False, '', 0.0, 'replicated',
    )  # fmt: skip


def test_nearest():
    assert nearest('trade', ('natural', 'madry', 'trades', 'mart')) == 'trades'
    keys = ('attack.num_steps', 'evaluation.step_size', 'attack.step_size', 'threat.epsilon')
    assert nearest_key('atack.step_size', keys) == 'attack.step_size'
    assert nearest_key('stepsize', keys) == 'attack.step_size'
    assert nearest_key('model.epsilon', keys) == 'threat.epsilon'


@pytest.mark.parametrize(
    ('word', 'meant'),
    [
        ('lr', 'optimizer.learning_rate'),
        ('optimizer.lr', 'optimizer.learning_rate'),
        ('wd', 'optimizer.weight_decay'),
        ('bs', 'optimizer.batch_size'),
        ('evaluation.bs', 'evaluation.batch_size'),
        ('eps', 'threat.epsilon'),
        ('attack.eps', 'threat.epsilon'),
        ('attack.alpha', 'attack.step_size'),
        ('beta', 'objective.lam'),
        ('Lambda', 'objective.lam'),
        ('model.width', 'model.widen_factor'),
    ],
)
def test_synonyms(word: str, meant: str):
    keys = [
        f'{group}.{key}'
        for group, found in values().items()
        if isinstance(found, dict)
        for key in found
    ]
    assert nearest_key(word, keys) == meant
