"""Oracles: PyTorch's published names and layouts by hand, and our network's own tree."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.models.torch_io import from_torch, to_torch
from war_jax.models.wide_resnet import WideResNet

COUNTER = 'num_batches_tracked'


def pytorch_state(blocks: int = 2, widths: tuple[int, ...] = (16, 32, 64)) -> dict:
    """Random values under the names that PyTorch's WideResNet-(6 blocks + 4) has, by hand."""
    rng = np.random.default_rng(0)
    state: dict = {'conv1.weight': rng.normal(size=(16, 3, 3, 3))}

    def norm(name: str, channels: int) -> None:
        for leaf in ('weight', 'bias', 'running_mean', 'running_var'):
            state[f'{name}.{leaf}'] = rng.normal(size=channels)
        state[f'{name}.{COUNTER}'] = np.zeros((), np.int64)

    channels = 16
    for stage, width in enumerate(widths, start=1):
        for layer in range(blocks):
            name = f'block{stage}.layer.{layer}'
            norm(f'{name}.bn1', channels)
            state[f'{name}.conv1.weight'] = rng.normal(size=(width, channels, 3, 3))
            norm(f'{name}.bn2', width)
            state[f'{name}.conv2.weight'] = rng.normal(size=(width, width, 3, 3))
            if channels != width:
                state[f'{name}.convShortcut.weight'] = rng.normal(size=(width, channels, 1, 1))
            channels = width
    norm('bn1', channels)
    state['fc.weight'] = rng.normal(size=(10, channels))
    state['fc.bias'] = rng.normal(size=10)
    return state


def assert_same(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('blocks', [1, 2, 12])  # 12: '10' sorts before '2'
def test_state_dict_survives_the_round_trip(blocks, dtype):
    state = {
        name: array if name.endswith(COUNTER) else array.astype(dtype)
        for name, array in pytorch_state(blocks).items()
    }
    assert_same(to_torch(from_torch(state)), state)


@pytest.mark.parametrize('depth, widen_factor', [(10, 1), (16, 2), (10, 0.5)])
def test_variables_of_our_network_survive_the_round_trip(depth, widen_factor):
    model = WideResNet(depth=depth, widen_factor=widen_factor, num_classes=7)
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
    )
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    back = from_torch(to_torch(variables))
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    chex.assert_trees_all_equal(back, variables)


def test_each_name_and_axis_goes_to_its_place():
    state = pytorch_state()
    variables = from_torch(state)
    params, stats = variables['params'], variables['batch_stats']
    kernel = params['stage2']['block0']['conv1']['kernel']
    assert kernel.shape == (3, 3, 16, 32)
    assert kernel[0, 2, 5, 30] == state['block2.layer.0.conv1.weight'][30, 5, 0, 2]
    assert params['stem']['kernel'][1, 2, 0, 9] == state['conv1.weight'][9, 0, 1, 2]
    shortcut = params['stage3']['block0']['shortcut']['kernel']
    assert shortcut[0, 0, 3, 60] == state['block3.layer.0.convShortcut.weight'][60, 3, 0, 0]
    assert 'shortcut' not in params['stage1']['block0']
    assert params['head']['kernel'][4, 9] == state['fc.weight'][9, 4]
    np.testing.assert_array_equal(params['head']['bias'], state['fc.bias'])
    for linen, name in [
        (params['norm']['scale'], 'bn1.weight'),
        (params['stage1']['block1']['norm2']['scale'], 'block1.layer.1.bn2.weight'),
        (params['stage1']['block1']['norm2']['bias'], 'block1.layer.1.bn2.bias'),
        (stats['stage1']['block1']['norm1']['mean'], 'block1.layer.1.bn1.running_mean'),
        (stats['stage1']['block1']['norm1']['var'], 'block1.layer.1.bn1.running_var'),
    ]:
        np.testing.assert_array_equal(linen, state[name], err_msg=name)


def test_result_does_not_share_memory_with_the_state_dict():
    state = pytorch_state(1)
    variables = from_torch(state)
    state['bn1.weight'][:] = 100.0
    assert not np.any(variables['params']['norm']['scale'] == 100.0)


def test_harmless_surplus_is_dropped():
    state = pytorch_state()
    surplus = {f'module.{name}': array for name, array in state.items()}
    surplus['module.sub_block1.layer.0.conv1.weight'] = np.zeros((16, 16, 3, 3))
    surplus['module.sub_block1.layer.2.bn1.weight'] = np.zeros(16)
    assert_same(to_torch(from_torch(surplus)), state)
    without_counters = {n: array for n, array in state.items() if not n.endswith(COUNTER)}
    assert_same(to_torch(from_torch(without_counters)), state)


def test_error_lists_missing_unknown_and_misshaped_names():
    state = pytorch_state()
    del state['block2.layer.1.bn2.running_var'], state['fc.bias']
    state['normalize.mean'] = np.zeros(3)
    state[f'normalize.{COUNTER}'] = np.zeros(())
    state['block1.layer.0.conv2.weight'] = np.zeros((16, 16, 5, 5))
    with pytest.raises(ValueError) as caught:
        from_torch(state)
    assert str(caught.value) == (
        'not a WideResNet: missing: block2.layer.1.bn2.running_var, fc.bias; '
        f'unknown: normalize.mean, normalize.{COUNTER}; '
        'wrong shape: block1.layer.0.conv2.weight (16, 16, 5, 5) instead of (16, 16, 3, 3)'
    )


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda state: state.clear(), 'missing conv1.weight'),
        (lambda state: state.pop('fc.weight'), 'missing fc.weight'),
        (lambda state: state.update({'fc.weight': np.zeros(3)}), r'fc.weight has shape \(3,\)'),
        # A layer between others is missing: no more than ten are named.
        (
            lambda state: [
                state.update({n.replace('layer.1', 'layer.2'): state.pop(n)})
                for n in list(state)
                if n.startswith('block3.layer.1.')
            ],
            'missing: block3.layer.1.bn1.weight, .*block3.layer.1.conv2.weight; unknown: block3.la',
        ),
        (
            lambda state: state.update({f'head{i}': np.zeros(1) for i in range(12)}),
            'unknown: head0, head1, .*head9 and 2 more$',
        ),
        # Width 16 -> 16 needs no projection in stage 1.
        (
            lambda state: state.update({'block1.layer.0.convShortcut.weight': np.zeros(1)}),
            'unknown: block1.layer.0.convShortcut.weight',
        ),
    ],
)
def test_what_is_no_wide_resnet_is_refused(change, message):
    state = pytorch_state()
    change(state)
    with pytest.raises(ValueError, match=message):
        from_torch(state)


def test_incomplete_variables_are_refused():
    variables = from_torch(pytorch_state())
    del variables['batch_stats']['stage2']['block1']['norm1']['var']
    variables['params']['stage1']['block0']['gate'] = {'kernel': np.zeros(1)}
    with pytest.raises(ValueError) as caught:
        to_torch(variables)
    assert str(caught.value) == (
        'not a WideResNet: missing: block2.layer.1.bn1.running_var; '
        'unknown: params/stage1/block0/gate/kernel'
    )
