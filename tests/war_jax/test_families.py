"""Sizes and names of networks. Oracles: the names in the papers, and sums by hand."""

from dataclasses import asdict

import pytest

from configs import default
from war_jax.config import ConfigError, resolve, to_dict
from war_jax.config_model import constants
from war_jax.families import FAMILIES, network_name


@pytest.mark.parametrize(
    ('family', 'depth', 'blocks'),
    [
        ('wide_resnet', 34, (5, 5, 5)),
        ('wide_resnet', 12, None),
        ('preact_resnet', 18, (2, 2, 2, 2)),
        ('preact_resnet', 34, (3, 4, 6, 3)),
        ('bottleneck_resnet', 50, (3, 4, 6, 3)),
        ('resnet', 50, None),
    ],
)
def test_a_depth_says_how_many_blocks(family, depth, blocks):
    assert FAMILIES[family].depths(depth) == blocks
    assert blocks is None or FAMILIES[family].depth(blocks) == depth


def test_channels_of_published_networks():
    wide, preact = FAMILIES['wide_resnet'], FAMILIES['preact_resnet']
    assert wide.channels(20, (1, 1, 0.4)) == (320, 640, 512)  # Huang et al. 2021
    assert wide.channels(1, (10, 14, 6)) == (160, 448, 384)  # Huang et al. 2022, WRN-A4
    assert preact.channels(1) == (64, 128, 256, 512)
    assert wide.channels(0.01) == (1, 1, 1)


@pytest.mark.parametrize(
    ('changes', 'width', 'name'),
    [
        ({}, None, 'WRN-34-10'),
        ({'widen_factor': 0.25}, 'k', 'WRN-34-k'),
        ({'name': 'preact_resnet', 'depth': 18, 'widen_factor': 1.0}, None, 'PreActResNet-18'),
        ({'name': 'preact_resnet', 'depth': 18, 'widen_factor': 0.5}, None, 'PreActResNet-18-0.5'),
        (
            {'depth': 32, 'stage_depths': (4, 6, 4), 'stage_widths': (1, 1, 0.4),
             'activation': 'swish', 'normalization': 'cifar10'},
            12.0,
            'WRN-32-12 (swish; 4+6+4 blocks; stage widths × 1, 1, 0.4; images normalised: cifar10)',
        ),
    ],
)  # fmt: skip
def test_a_name_says_what_is_unusual(changes, width, name):
    config = default.get_config()
    config.model.update(changes)
    if changes.get('name'):
        config.model.strides = (1, 2, 2, 2)
    model = asdict(resolve(config).model)
    assert network_name(model, width) == name
    if not set(changes) - {'widen_factor'}:
        assert network_name({k: model[k] for k in ('depth', 'widen_factor')}, width) == name


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'stage_depths': (4, 6)}, 'model.stage_depths = (4, 6): must have 3 elements with '
         "model.name = 'wide_resnet', one per stage; nearest: (4, 6, 6)"),
        ({'stage_depths': (4, 6, 4)}, 'model.depth = 34: must be 2 * 14 + 4 with '
         'model.stage_depths = (4, 6, 4); nearest: 32'),
        ({'stage_widths': (1.0,) * 4}, 'model.stage_widths = (1.0, 1.0, 1.0, 1.0): must have 3'),
        ({'name': 'preact_resnet'}, 'model.strides = (1, 2, 2): must have 4 elements with '
         "model.name = 'preact_resnet', one per stage; nearest: (1, 2, 2, 2)"),
        ({'name': 'preact_resnet', 'strides': (1, 2, 2, 2), 'depth': 20}, 'model.depth = 20: must '
         "be one of [10, 18, 34] with model.name = 'preact_resnet', or give stage_depths; nearest"),
        ({'normalization': 'imagenet'}, "model.normalization = 'imagenet': must be one of none, "),
        ({'normalization': '0.5:0'}, "model.normalization = '0.5:0': must be one of none, cifar10"),
        ({'normalization': '0.5,0.5:0.2,0.2,0.2'}, 'numbers with commas between'),
        ({'normalization': 'nan:1'}, 'numbers with commas between'),
        ({'activation': 'silu'}, "must be one of 'relu', 'swish', 'gelu'"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_in_one_line(changes, message):
    config = default.get_config()
    config.model.update(changes)
    with pytest.raises(ConfigError) as caught:
        resolve(config)
    assert message in str(caught.value) and '\n' not in str(caught.value)


def test_normalization_is_read():
    assert constants('0.5:0.25') == ((0.5,), (0.25,))
    assert constants('0.1,0.2,0.3:1') == ((0.1, 0.2, 0.3), (1.0,))
    assert constants('cifar100')[0] == (0.5071, 0.4865, 0.4409)


def test_a_config_of_before_there_were_these_keys_is_a_wide_resnet_of_old():
    values = to_dict(resolve(default.get_config()))
    for key in ('name', 'stage_depths', 'stage_widths', 'activation', 'normalization'):
        del values['model'][key]
    assert resolve(values) == resolve(default.get_config())
