"""Files of every kind that PyTorch's users save: read with the right numbers, or refused in one
line. Oracles: the arrays that were written, and files written here byte by byte."""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.config import ConfigError
from war_jax.models.torch_io import to_torch
from war_jax.models.wide_resnet import WideResNet
from war_jax.robustness.network import FileOptions, Network, read_network
from war_jax.robustness.weight_files import choose

COUNTERS = 'num_batches_tracked'
BFLOAT16 = jnp.dtype('bfloat16')


def make_state() -> dict[str, np.ndarray]:
    """Of a WRN-10-0.25, with numbers that bfloat16 and float16 hold exactly, to 3 bits."""
    image = jnp.zeros((1, 8, 8, 1))
    shapes = jax.eval_shape(
        lambda: WideResNet(10, 0.25, 10, 4).init(jax.random.key(0), image, train=False)
    )
    rng = np.random.default_rng(0)
    numbers = jax.tree.map(lambda leaf: rng.integers(1, 8, leaf.shape).astype('f') / 8, shapes)
    return to_torch(numbers)


STATE = make_state()
FLOATS = [name for name in STATE if not name.endswith(COUNTERS)]


def in_type(dtype) -> dict[str, np.ndarray]:
    return {name: a.astype(dtype) if name in FLOATS else a for name, a in STATE.items()}


def assert_holds(network: Network, state: dict[str, np.ndarray] = STATE) -> None:
    back = to_torch(jax.tree.map(np.asarray, network.params))
    assert back.keys() == state.keys()
    for name in FLOATS:
        assert back[name].dtype == np.float32
        np.testing.assert_array_equal(back[name], state[name], err_msg=name)


def write_npz(folder, state) -> str:
    np.savez(folder / 'net.npz', allow_pickle=False, **state)
    return str(folder / 'net.npz')


def write_safetensors(folder, state: dict[str, np.ndarray], named: str) -> str:
    """As the format is published: a length in 8 bytes, a header in JSON, the numbers."""
    header: dict = {'__metadata__': {'format': 'pt'}}
    numbers = b''
    for name, array in state.items():
        raw = array.tobytes()
        dtype = named if name in FLOATS else 'I64'
        offsets = [len(numbers), len(numbers) + len(raw)]
        header[name] = {'dtype': dtype, 'shape': list(array.shape), 'data_offsets': offsets}
        numbers += raw
    text = json.dumps(header).encode()
    path = folder / 'net.safetensors'
    path.write_bytes(len(text).to_bytes(8, 'little') + text + numbers)
    return str(path)


@pytest.mark.parametrize('dtype', ['>f4', '>f8', '<f2', '>f2'])
def test_numbers_of_any_order_and_length(dtype, tmp_path):
    network = read_network(write_npz(tmp_path, in_type(dtype)))
    if dtype == '>f8':
        kernel = network.params['params']['stem']['kernel']
        assert kernel.dtype == np.float64 and kernel.dtype.isnative
        np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), STATE['conv1.weight'])
    else:
        assert_holds(network)


@pytest.mark.parametrize(
    ('dtype', 'named'), [('<f4', 'F32'), ('<f2', 'F16'), (BFLOAT16, 'BF16')]
)  # fmt: skip
def test_safetensors(dtype, named, tmp_path):
    assert_holds(read_network(write_safetensors(tmp_path, in_type(dtype), named)))


@pytest.mark.parametrize('contents', [b'', b'no header at all', (2).to_bytes(8, 'little') + b'[]'])
def test_safetensors_that_are_none(contents, tmp_path):
    (tmp_path / 'net.safetensors').write_bytes(contents)
    with pytest.raises(ConfigError, match=r'cannot be read \(OSError: no .safetensors file'):
        read_network(str(tmp_path / 'net.safetensors'))


def test_numbers_that_are_no_floats_are_refused(tmp_path):
    for dtype in ('i4', 'c8', BFLOAT16):  # NumPy writes bfloat16 as bytes without a meaning
        state = {**STATE, 'fc.bias': STATE['fc.bias'].astype(dtype)}
        with pytest.raises(ConfigError, match=r'holds no floating-point numbers in fc\.bias'):
            read_network(write_npz(tmp_path, state))


@pytest.mark.parametrize(
    'prefix', ['module.', 'model.', 'module.model.', '_orig_mod.', '1.', 'any.other.']
)
def test_wrappers(prefix, tmp_path):
    path = write_npz(tmp_path, {prefix + name: array for name, array in STATE.items()})
    network = read_network(path)
    assert_holds(network)
    assert f"names without '{prefix}'" in network.description


def test_an_averaged_model(tmp_path):
    state = {'n_averaged': np.array(3), **{f'module.{name}': a for name, a in STATE.items()}}
    assert_holds(read_network(write_npz(tmp_path, state)))


def test_what_stands_beside_a_wrapped_network(tmp_path):
    state = {f'1.{name}': array for name, array in STATE.items()}
    constants = {'0.mean': np.full(1, 0.25, 'f'), '0.std': np.full(1, 0.5, 'f')}
    network = read_network(write_npz(tmp_path, {**state, **constants}))
    assert_holds(network)
    assert 'images normalised by 0.25 and 0.5' in network.description
    assert network.assumed is None
    with pytest.raises(ConfigError) as caught:
        read_network(write_npz(tmp_path, {**state, '0.weight': np.ones(3), '2.bias': np.ones(3)}))
    assert "its names begin with '1.', but not 0.weight, 2.bias;" in str(caught.value)


def test_names_of_another_kind_are_listed(tmp_path):
    state = {name.replace('block1.', 'layer1.'): array for name, array in STATE.items()}
    with pytest.raises(ConfigError) as caught:
        read_network(write_npz(tmp_path, state))
    message = str(caught.value)
    assert 'missing block1.layer.0.conv1.weight; there is conv1.weight, layer1.layer' in message
    assert '\n' not in message


RAW, EMA = {'module.conv1.weight': np.zeros(1)}, {'conv1.weight': np.ones(1)}


@pytest.mark.parametrize(
    ('contents', 'wanted', 'name', 'others'),
    [
        (RAW, '', '', ()),
        ({'epoch': 3, 'state_dict': RAW}, '', 'state_dict', ()),
        ({'ema_state_dict': EMA, 'state_dict': RAW}, '', 'state_dict', ('ema_state_dict',)),
        ({'state_dict': RAW, 'ema_state_dict': EMA}, 'ema', 'ema_state_dict', ('state_dict',)),
        ({'model': RAW, 'state_dict_ema': EMA}, 'ema', 'state_dict_ema', ('model',)),
        ({'net': RAW, 'ema': {'decay': 0.9, 'shadow': EMA}}, 'ema', 'ema.shadow', ('net',)),
        ({'ema': EMA, 'optimizer': {'state': {0: 1}}}, '', 'ema', ()),
        ({'student': RAW, 'teacher': EMA}, 'teacher', 'teacher', ('student',)),
        # 'schema' is no average.
        ({'schema': RAW, 'ema': EMA}, '', 'schema', ('ema',)),
    ],
)
def test_state_dicts_are_found_inside_of_checkpoints(contents, wanted, name, others):
    weights = choose(contents, wanted)
    assert (weights.name, weights.others) == (name, others)
    expected = contents
    for part in filter(None, name.split('.')):
        expected = expected[part]
    assert weights.state == expected


@pytest.mark.parametrize(
    ('contents', 'wanted', 'sentence'),
    [
        (3, '', 'holds a int: must be a state dict'),
        ({'epoch': 3}, '', 'has the keys epoch: no state dict'),
        (RAW, 'ema', 'holds one network alone: there is no --weights=ema'),
        ({'model': RAW}, 'ema', 'holds those of model: there is no --weights=ema'),
        ({'student': RAW, 'teacher': EMA}, '', r'choose one by --weights=student\|teacher'),
    ],
)
def test_no_state_dict_or_several(contents, wanted, sentence):
    with pytest.raises(ValueError, match=sentence):
        choose(contents, wanted)


def _parameters(torch, state):
    return {
        name: torch.nn.Parameter(a) if a.is_floating_point() and 'running' not in name else a
        for name, a in state.items()
    }


KINDS = {
    'plain': lambda torch, state: state,
    'parameters': _parameters,
    'bfloat16': lambda torch, s: {n: a.bfloat16() if n in FLOATS else a for n, a in s.items()},
    'half': lambda torch, s: {n: a.half() if n in FLOATS else a for n, a in s.items()},
    'sparse': lambda torch, s: {n: a.to_sparse() if n == 'fc.weight' else a for n, a in s.items()},
    'nested': lambda torch, s: {'epoch': 1, 'state_dict': {f'module.{n}': a for n, a in s.items()}},
}


@pytest.mark.filterwarnings('ignore:Validating sparse tensor')
@pytest.mark.parametrize('kind', KINDS)
def test_files_of_pytorch(kind, tmp_path):
    torch = pytest.importorskip('torch')
    state = {name: torch.from_numpy(array.copy()) for name, array in STATE.items()}
    torch.save(KINDS[kind](torch, state), tmp_path / 'net.pt')
    assert_holds(read_network(str(tmp_path / 'net.pt')))


def test_two_networks_in_one_file_of_pytorch(tmp_path):
    torch = pytest.importorskip('torch')
    state = {name: torch.from_numpy(array.copy()) for name, array in STATE.items()}
    zeros = {name: array * 0 for name, array in state.items()}
    torch.save({'state_dict': zeros, 'ema_state_dict': state}, tmp_path / 'net.pt')
    ema = read_network(str(tmp_path / 'net.pt'), FileOptions(weights='ema'))
    assert_holds(ema)
    assert 'its ema_state_dict (beside state_dict)' in ema.description
    raw = read_network(str(tmp_path / 'net.pt'))
    assert_holds(raw, {name: array * 0 for name, array in STATE.items()})
    assert 'its state_dict (beside ema_state_dict)' in raw.description


def test_python_objects_of_pytorch_are_refused(tmp_path):
    torch = pytest.importorskip('torch')
    path = tmp_path / 'net.pt'
    for contents in (torch.nn.Linear(2, 2), {'state_dict': {}, 'args': argparse.Namespace()}):
        torch.save(contents, path)
        with pytest.raises(ConfigError, match=r'which is not loaded.*save its state_dict\(\)'):
            read_network(str(path))
    path.write_bytes(b'garbage in here')
    with pytest.raises(ConfigError, match='no tensors that PyTorch reads'):
        read_network(str(path))
