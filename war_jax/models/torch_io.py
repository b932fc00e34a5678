"""PyTorch WideResNet state dicts in and out, without PyTorch.

    variables = from_torch(np.load('state_dict.npz'))       # {'params': ..., 'batch_stats': ...}
    logits = model.apply(variables, images, train=False)
    state = to_torch(variables)                             # PyTorch's names and layouts again

The names are those of the WideResNet in TRADES' and in the WAR authors' code (`conv1`,
`block1.layer.0.bn1`, ..., `bn1`, `fc`). Both networks compute the same function, so a conversion
only renames and transposes: convolutions between (out, in, height, width) and (height, width, in,
out), the head between (classes, channels) and (channels, classes). float32 and float64
are kept, shorter floats become float32. Every array is copied: a tensor's memory would change under
the result while its PyTorch model trains on.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

Shape = tuple[int, ...]
Path = tuple[str, ...]  # of a linen variable, its collection first

_OUTER = {'conv1': 'stem', 'bn1': 'norm', 'fc': 'head'}
_IN_BLOCK = {
    'bn1': 'norm1', 'conv1': 'conv1', 'bn2': 'norm2', 'conv2': 'conv2', 'convShortcut': 'shortcut'
}  # fmt: skip
_OF_NORM = {
    'weight': ('params', 'scale'),
    'bias': ('params', 'bias'),
    'running_mean': ('batch_stats', 'mean'),
    'running_var': ('batch_stats', 'var'),
}
_OF_LAYER = {'weight': ('params', 'kernel'), 'bias': ('params', 'bias')}

# The arrays whose shapes fix all others, with their numbers of dimensions.
_ANCHORS = {
    'conv1.weight': 4,
    'block1.layer.0.conv1.weight': 4,
    'block2.layer.0.conv1.weight': 4,
    'block3.layer.0.conv1.weight': 4,
    'fc.weight': 2,
}
_COUNTER = 'num_batches_tracked'
_FIRST = re.compile(r'((?:.+\.)?)(?:conv1|init_conv)\.weight')  # the first convolution's name
_IN_NETWORK = re.compile(r'(^|\.)(block\d|layer\.)')  # a later convolution's
_LISTED = 10  # a wholly foreign file would otherwise fill the screen


class Unwrapped(NamedTuple):
    """A network's state dict without what wrappers put around it.

    prefix: what stood before each of its names. beside: what does not begin with that.
    """

    prefix: str
    state: dict[str, Any]
    beside: dict[str, Any]


def unwrapped(state: Mapping[str, Any]) -> Unwrapped:
    """A network inside of wrappers, in any number: DataParallel's `module.`, torch.compile's
    `_orig_mod.`, Sequential's `1.`, AveragedModel's `module.` with `n_averaged` (dropped), ..."""
    found = [match[1] for match in map(_FIRST.fullmatch, state) if match]
    prefix = min((p for p in found if not _IN_NETWORK.search(p)), key=len, default='')
    parts: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for name, value in state.items():
        is_inside = name.startswith(prefix)
        if is_inside or name.rpartition('.')[2] != 'n_averaged':
            parts[0 if is_inside else 1][name.removeprefix(prefix)] = value
    return Unwrapped(prefix, *parts)


def check_nothing_beside(prefix: str, beside: Iterable[str]) -> None:
    """ValueError, naming them, for arrays that stand beside a wrapped network."""
    if names := list(beside):
        raise ValueError(
            f'not a WideResNet alone: its names begin with {prefix!r}, but not {_some(names)}; '
            "save the network's own state_dict()"
        )


def from_torch(state: Mapping[str, Any]) -> dict[str, Any]:
    """A PyTorch state dict (arrays or tensors) as {'params': ..., 'batch_stats': ...}.

    Dropped: the prefix of wrappers, BatchNorm's `num_batches_tracked`, and the `sub_block1.*` that
    TRADES' code creates and never uses.

    Raises ValueError, listing them, for names that are missing or unknown, for wrong shapes and
    for what are no floating-point numbers.
    """
    wrapped = unwrapped(state)
    check_nothing_beside(wrapped.prefix, wrapped.beside)
    arrays = {
        name: as_array(name, array)
        for name, array in wrapped.state.items()
        if not name.startswith('sub_block1.')
    }
    layers = (re.match(r'block\d+\.layer\.(\d+)\.', name) for name in arrays)
    num_blocks = len({layer[1] for layer in layers if layer})
    expected = _expected_shapes(arrays, num_blocks)
    for name in expected:
        if name.endswith('.running_mean'):
            arrays.pop(name.replace('running_mean', _COUNTER), None)
    _check(arrays, expected)
    others = [
        f'{name} ({array.dtype})'
        for name, array in arrays.items()
        if array.dtype not in (np.float32, np.float64)
    ]
    if others:
        raise ValueError(f'holds no floating-point numbers in {_some(others)}: save it in float32')

    variables: dict[str, Any] = {}
    for name in expected:
        *outer, last = _path(name)
        node = variables
        for part in outer:
            node = node.setdefault(part, {})
        node[last] = _transposed(arrays[name], (2, 3, 1, 0))
    return variables


def as_array(name: str, value: Any) -> np.ndarray:
    """An array or a tensor of any kind; floats in float32, or float64 if they are longer.

    All in the machine's order of bytes, since JAX reads another one as other numbers, and none of
    16 bits, in which BatchNorm would compute. Raises ValueError for a tensor without values.
    """
    if hasattr(value, 'detach'):
        try:
            value = value.detach().cpu()
            value = value.dequantize() if value.is_quantized else value.to_dense()
            if value.is_floating_point() and value.element_size() < 4:
                value = value.float()  # NumPy has no bfloat16
            value = value.numpy()
        except (RuntimeError, TypeError) as error:
            reason = ' '.join(str(error).split())[:200]
            raise ValueError(f'{name} cannot be read ({reason})') from error
    array = np.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32, copy=False)
    return array


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Linen variables as a PyTorch state dict, complete for `load_state_dict(strict=True)`, but for
    the `sub_block1.*` of TRADES' class.

    Linen keeps no count of BatchNorm's updates: every `num_batches_tracked` is 0, which PyTorch
    reads only where BatchNorm has no momentum.

    Raises ValueError, listing them, for arrays that are missing or unknown (the latter by their
    linen path) and for wrong shapes (in PyTorch's order).
    """
    leaves = {path: _transposed(leaf, (3, 2, 0, 1)) for path, leaf in _leaves(variables)}
    num_blocks = len({path[2] for path in leaves if len(path) == 5})
    anchors = {name: leaves[_path(name)] for name in _ANCHORS if _path(name) in leaves}
    expected = _expected_shapes(anchors, num_blocks)
    names = {_path(name): name for name in expected}
    arrays = {names.get(path, '/'.join(path)): leaf for path, leaf in leaves.items()}
    _check(arrays, expected)

    state: dict[str, np.ndarray] = {}
    for name in expected:
        state[name] = arrays[name]
        if name.endswith('.running_var'):
            state[name.replace('running_var', _COUNTER)] = np.zeros((), np.int64)
    return state


def _expected_shapes(arrays: Mapping[str, np.ndarray], num_blocks: int) -> dict[str, Shape]:
    """PyTorch name -> shape of the only WideResNet that agrees with the anchors in `arrays`."""
    for name, num_dimensions in _ANCHORS.items():
        if name not in arrays:
            there = _some(list(arrays)) if arrays else 'nothing'
            raise ValueError(f'not a WideResNet: missing {name}; there is {there}')
        if arrays[name].ndim != num_dimensions:
            raise ValueError(f'not a WideResNet: {name} has shape {arrays[name].shape}')
    channels, in_channels = arrays['conv1.weight'].shape[:2]
    shapes: dict[str, Shape] = {'conv1.weight': (channels, in_channels, 3, 3)}
    for stage in (1, 2, 3):
        width = arrays[f'block{stage}.layer.0.conv1.weight'].shape[0]
        for index in range(num_blocks):
            block = f'block{stage}.layer.{index}'
            shapes |= _norm_shapes(f'{block}.bn1', channels)
            shapes[f'{block}.conv1.weight'] = (width, channels, 3, 3)
            shapes |= _norm_shapes(f'{block}.bn2', width)
            shapes[f'{block}.conv2.weight'] = (width, width, 3, 3)
            if channels != width:
                shapes[f'{block}.convShortcut.weight'] = (width, channels, 1, 1)
            channels = width
    shapes |= _norm_shapes('bn1', channels)
    classes = arrays['fc.weight'].shape[0]
    return shapes | {'fc.weight': (classes, channels), 'fc.bias': (classes,)}


def _norm_shapes(name: str, channels: int) -> dict[str, Shape]:
    return {f'{name}.{leaf}': (channels,) for leaf in _OF_NORM}


def _path(name: str) -> Path:
    """'block1.layer.0.bn2.weight' -> ('params', 'stage1', 'block0', 'norm2', 'scale')."""
    *outer, module, leaf = name.split('.')
    collection, linen_leaf = (_OF_NORM if module.startswith('bn') else _OF_LAYER)[leaf]
    if not outer:
        return (collection, _OUTER[module], linen_leaf)
    stage, _, index = outer
    number = stage.removeprefix('block')
    return (collection, f'stage{number}', f'block{index}', _IN_BLOCK[module], linen_leaf)


def _leaves(tree: Mapping[str, Any], outer: Path = ()) -> Iterator[tuple[Path, Any]]:
    for name, node in tree.items():
        if isinstance(node, Mapping):
            yield from _leaves(node, (*outer, name))
        else:
            yield (*outer, name), node


def _transposed(array: Any, of_convolution: tuple[int, ...]) -> np.ndarray:
    """A contiguous copy; convolutions in the given order of axes, matrices transposed."""
    array = np.asarray(array)
    order = of_convolution if array.ndim == 4 else None  # None reverses; a vector stays as it is
    return np.array(array.transpose(order), order='C')


def _check(arrays: Mapping[str, np.ndarray], expected: Mapping[str, Shape]) -> None:
    """ValueError unless `arrays` has exactly the expected names and shapes."""
    wrong = [
        f'{name} {arrays[name].shape} instead of {shape}'
        for name, shape in expected.items()
        if name in arrays and arrays[name].shape != shape
    ]
    faults = {
        'missing': [name for name in expected if name not in arrays],
        'unknown': [name for name in arrays if name not in expected],
        'wrong shape': wrong,
    }
    listed = [f'{fault}: {_some(names)}' for fault, names in faults.items() if names]
    if listed:
        raise ValueError('not a WideResNet: ' + '; '.join(listed))


def _some(names: list[str]) -> str:
    rest = len(names) - _LISTED
    return ', '.join(names[:_LISTED]) + (f' and {rest} more' if rest > 0 else '')
