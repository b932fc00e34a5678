"""Networks of other code bases, from their state dicts to logits. Oracle: logits recorded from
PyTorch, in float64, for weights that are drawn here as there (tests/fixtures/README.md)."""

import json
import re
import zlib
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.config import ConfigError
from war_jax.models.normalisation import Normalisation
from war_jax.models.torch_io import from_torch, to_torch
from war_jax.models.variants import read_variant
from war_jax.records.files import write_npz
from war_jax.robustness.network import FileOptions, read_network

FIXTURE = Path(__file__).parents[2] / 'fixtures' / 'torch_logits.npz'
ASSUMED = '(assumed: the file has no mu and sigma)'
IMAGES = np.random.RandomState(0).uniform(size=(4, 32, 32, 3)).astype(np.float32)
NETWORKS = (
    '28-10', '34-1', 'normalised-10-1', 'deepmind-16-2', 'deepmind-preact-18', 'preact-18',
    'preact-plain-10', 'resnet-10', 'resnet-bottleneck', 'robust-wide', 'robust-resnet',
    'boosting-10-1', 'pssilu-10-1',
)  # fmt: skip
PSSILU = {'alpha': 1.3, 'beta': 0.2}


def drawn(name: str, shape: list[int]) -> np.ndarray:
    """RandomState's numbers are the same in every release of NumPy."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    leaf = name.rsplit('.', 1)[-1]
    if leaf == 'num_batches_tracked':
        return np.zeros(shape, np.int64)
    if leaf in PSSILU:  # one for all layers
        return np.full(shape, PSSILU[leaf], np.float32)
    if name == 'mu':
        values = rng.uniform(0.4, 0.6, shape)
    elif name == 'sigma':
        values = rng.uniform(0.2, 0.3, shape)
    elif len(shape) > 1:
        values = rng.standard_normal(shape) * np.sqrt(1.2 / np.prod(shape[1:]))
    elif leaf in ('running_var', 'weight'):
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.standard_normal(shape) * 0.2
    return values.astype(np.float32)


def state_of(network: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURE) as file:
        shapes = json.loads(str(file[f'{network}/shapes']))
    return {name: drawn(name, shape) for name, shape in shapes.items()}


def recorded(network: str) -> np.ndarray:
    with np.load(FIXTURE) as file:
        return file[f'{network}/logits']


@pytest.fixture(scope='module', params=NETWORKS)
def saved(request, tmp_path_factory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp('networks') / f'{request.param}.npz'
    np.savez(path, allow_pickle=False, **state_of(request.param))
    return request.param, path


def test_logits_are_those_of_pytorch(saved):
    name, path = saved
    network = read_network(str(path))
    logits = jax.jit(network.classify)(network.params, jnp.asarray(IMAGES))
    assert np.abs(recorded(name)).max() > 0.2
    np.testing.assert_allclose(logits, recorded(name), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    'network',
    ['34-1', 'preact-18', 'preact-plain-10', 'resnet-10', 'resnet-bottleneck', 'boosting-10-1'],
)
def test_export_of_an_import_is_the_identity(network):
    state = state_of(network)
    variant = read_variant(state)
    state = {n: a for n, a in variant.state.items() if not n.startswith('sub_block1.')}
    back = to_torch(from_torch(state, variant.naming, variant.form))
    assert back.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_torchvisions_names_are_those_of_a_resnet():
    """Its ResNet with a first convolution for small images (Diffenderfer et al. 2021)."""
    state = state_of('resnet-10')
    renamed = {
        n.replace('shortcut', 'downsample').replace('linear', 'fc'): a for n, a in state.items()
    }
    ours, theirs = (read_variant(each) for each in (state, renamed))
    assert ours.form == theirs.form and ours.naming != theirs.naming
    chex.assert_trees_all_equal(*(from_torch(v.state, v.naming, v.form) for v in (ours, theirs)))


def test_what_no_family_has_is_refused(tmp_path):
    wide = write(tmp_path, state_of('robust-wide'))
    with pytest.raises(ConfigError, match='has 3 stages: --strides must be as many'):
        read_network(wide, FileOptions(strides=(1, 2, 2, 2)))
    several = state_of('pssilu-10-1') | {'activation.alpha': np.ones(1, np.float32)}
    with pytest.raises(ConfigError, match='must be one alpha and one beta'):
        read_network(write(tmp_path, several))
    state = {n: a for n, a in state_of('resnet-10').items() if not n.startswith('layer4.')}
    state['linear.weight'] = state['linear.weight'][:, :256]
    with pytest.raises(ConfigError, match='has 3 stages: a ResNet has 4'):
        read_network(write(tmp_path, state))
    # A layer that changes what is computed.
    more = state | {'layer1.0.se.weight': np.ones(3, np.float32)}
    with pytest.raises(ConfigError, match=r'not a ResNet: unknown: layer1\.0\.se\.weight'):
        read_network(write(tmp_path, more))


def write(folder: Path, state: dict[str, np.ndarray]) -> str:
    write_npz(folder / 'network.npz', state)
    return str(folder / 'network.npz')


def test_normalisation_can_be_given(tmp_path):
    """As RobustBench's code does for a network whose file does not hold it."""
    state = state_of('normalised-10-1')
    told = FileOptions(mean=tuple(state.pop('mu').ravel()), std=tuple(state.pop('sigma').ravel()))
    network = read_network(write(tmp_path, state), told)
    logits = network.classify(network.params, jnp.asarray(IMAGES))
    np.testing.assert_allclose(logits, recorded('normalised-10-1'), rtol=0, atol=1e-4)


def test_a_normalisation_that_cannot_be_known_is_asked_for(tmp_path):
    state = state_of('deepmind-16-2')
    for name in ('logits.weight', 'logits.bias'):
        state[name] = state[name][:7]
    path = write(tmp_path, state)
    with pytest.raises(ConfigError, match='not known for 7 classes: give --input_mean'):
        read_network(path)
    network = read_network(path, FileOptions(mean=(0.5,), std=(0.25,)))
    assert network.num_classes == 7
    with pytest.raises(ConfigError, match='--input_mean must be as many numbers, or one, not 2'):
        read_network(path, FileOptions(mean=(0.5, 0.5), std=(0.25,)))


@pytest.mark.parametrize(
    ('classes', 'buffers', 'mean', 'std'),
    [
        # As in DeepMind's code: CIFAR-100's numbers; what is in the file goes first.
        (100, {}, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        (10, {'mean': np.full((3, 1, 1), 0.5), 'std': np.ones(1)}, (0.5, 0.5, 0.5), (1.0,)),
        # A layer before the wrapped network.
        (10, {'0.mu': np.full(3, 0.5), '0.sigma': np.ones(3)}, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
    ],
)
def test_normalisation_of_deepminds_networks(classes, buffers, mean, std):
    state = {'module.1.init_conv.weight': 1, 'module.1.logits.bias': np.zeros(classes)}
    state |= {f'module.{name if "." in name else f"1.{name}"}': v for name, v in buffers.items()}
    variant = read_variant(state)
    if buffers:
        assert (variant.mean, variant.std) == (mean, std)
    else:
        assert (variant.mean, variant.std) == (None, None)
        assert variant.assumed == Normalisation(mean, std)
    assert variant.prefix == 'module.1.'
    assert variant.state.keys() == {'init_conv.weight', 'logits.bias'}


def test_what_a_network_is_given_is_part_of_its_description(saved):
    """So it is in the report, and an evaluation is not continued under another normalisation."""
    name, path = saved
    expected = {
        '28-10': f'WRN-28-10, {path.name}, images not normalised {ASSUMED}',
        '34-1': f'WRN-34-1, {path.name}, images not normalised {ASSUMED}',
        'normalised-10-1': 'images normalised by 0.',
        'deepmind-16-2': 'swish and the padding of tensorflow, images normalised by '
        f'0.4914, 0.4822, 0.4465 and 0.2471, 0.2435, 0.2616 {ASSUMED}',
        'preact-18': f'PreActResNet-18, {path.name}, images not normalised {ASSUMED}',
        'preact-plain-10': f'PreActResNet-10, {path.name}, projections of what is not activated and'
        ' no norm before the pool, images not',
        'deepmind-preact-18': f'PreActResNet-18, {path.name}, swish and the padding of tensorflow '
        'and projections of what is not activated, images normalised by 0.4914',
        'resnet-10': f'ResNet-10, {path.name}, images not normalised',
        'resnet-bottleneck': f'ResNet-14 (1+1+1+1 blocks), {path.name}, images not normalised',
        'robust-wide': 'WRN-12-2 (1+2+1 blocks; stage widths × 1, 1, 0.3125)',
        'robust-resnet': f'{path.name}, swish, images normalised by 0.',
        'boosting-10-1': f'WRN-10-1, {path.name}, cosines for logits, images normalised by 0.',
        'pssilu-10-1': f'WRN-10-1, {path.name}, PSSiLU (alpha 1.3, beta 0.2), images not',
    }
    network = read_network(str(path))
    assert expected[name] in network.description
    if name == 'normalised-10-1':
        assert ASSUMED not in network.description and network.assumed is None


def test_a_run_is_not_told_what_it_is(tmp_path):
    with pytest.raises(ConfigError, match='a run says what its network is; --strides'):
        read_network(str(tmp_path), FileOptions(mean=(0.5,)))


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'sigma': np.array([0.2, 0.0, 0.2])}, 'deviation (sigma) of 0.2, 0, 0.2: must be finite'),
        ({'sigma': np.full(3, np.nan)}, 'must be finite, and above 0'),
        ({'mu': np.full(3, np.inf)}, 'by a mean of inf, inf, inf: must be finite'),
        ({'sigma': None}, 'by a mean, but by no deviation that is known: give both --input_mean'),
        ({'mu': None}, 'by a deviation, but by no mean that is known'),
        ({'mu': np.ones(2)}, 'has images of 3 channels'),
    ],
)
def test_a_normalisation_that_cannot_be_is_refused(change, sentence, tmp_path):
    state = {**state_of('normalised-10-1'), **change}
    path = write(tmp_path, {name: array for name, array in state.items() if array is not None})
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        read_network(path)
    told = read_network(path, FileOptions(mean=(0.5,), std=(0.5,)))
    assert 'images normalised by 0.5 and 0.5' in told.description and told.assumed is None


def test_each_image_by_its_own_mean_and_deviation(tmp_path):
    """Oracle: images that NumPy normalised in float64, given to the same network as it is."""
    state = state_of('normalised-10-1')
    del state['mu'], state['sigma']
    path = write(tmp_path, state)
    flat = IMAGES.astype(np.float64).reshape(4, -1)
    deviation = np.sqrt(((flat - flat.mean(1, keepdims=True)) ** 2).sum(1) / (flat.shape[1] - 1))
    normalised = (flat - flat.mean(1, keepdims=True)) / deviation[:, None]
    plain = read_network(path)
    expected = plain.classify(plain.params, jnp.asarray(normalised.reshape(IMAGES.shape), 'f'))
    network = read_network(path, FileOptions(normalize='per_image'))
    logits = network.classify(network.params, jnp.asarray(IMAGES))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    assert 'each image normalised by its own mean' in network.description
    assert np.isfinite(network.classify(network.params, jnp.full((1, 32, 32, 3), 0.5))).all()


def test_the_activation_can_be_given(tmp_path):
    """Oracle: the network of the other names, with the same weights and no stride to pad for."""
    state = state_of('normalised-10-1')
    of_deepmind = {_of_deepmind(name): array for name, array in state.items()}
    told = FileOptions(strides=(1, 1, 1), activation='relu')
    network = read_network(write(tmp_path, of_deepmind), told)
    plain = read_network(write(tmp_path, state), FileOptions(strides=(1, 1, 1)))
    images = jnp.asarray(IMAGES[:, :8, :8])
    expected = plain.classify(plain.params, images)
    np.testing.assert_allclose(network.classify(network.params, images), expected, atol=1e-5)
    swish = read_network(write(tmp_path, of_deepmind), FileOptions(strides=(1, 1, 1)))
    assert np.abs(swish.classify(swish.params, images) - expected).max() > 0.1


def _of_deepmind(name: str) -> str:
    for ours, theirs in (
        (r'^conv1\.', 'init_conv.'), (r'^bn1\.', 'batchnorm.'), (r'^fc\.', 'logits.'),
        (r'^block1\.layer', 'layer.0.block'), (r'^block2\.layer', 'layer.1.block'),
        (r'^block3\.layer', 'layer.2.block'), (r'\.bn1\.', '.batchnorm_0.'),
        (r'\.bn2\.', '.batchnorm_1.'), (r'\.conv1\.', '.conv_0.'), (r'\.conv2\.', '.conv_1.'),
        ('convShortcut', 'shortcut'),
    ):  # fmt: skip
        name = re.sub(ours, theirs, name)
    return name
