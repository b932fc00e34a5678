"""PyTorch's state dicts of residual networks in and out, without PyTorch.

    variables = from_torch(np.load('state_dict.npz'))       # {'params': ..., 'batch_stats': ...}
    logits = model.apply(variables, images, train=False)
    state = to_torch(variables)                             # PyTorch's names and layouts again

The names of a WideResNet are those of TRADES' and of the WAR authors' code (`conv1`,
`block1.layer.0.bn1`, ..., `bn1`, `fc`), those of a PreActResNet those of Rice et al.'s and of
RobustBench's (`conv1`, `layer1.0.bn1`, ..., `bn`, `linear`); `from_torch` reads others, too
(`war_jax.models.namings`). Both networks compute the same function, so a conversion
only renames and transposes: convolutions between (out, in, height, width) and (height, width, in,
out), the head between (classes, channels) and (channels, classes). float32 and float64
are kept, shorter floats become float32. Every array is copied: a tensor's memory would change under
the result while its PyTorch model trains on.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from war_jax.models import namings
from war_jax.models.namings import OF_NORM, Naming, Path
from war_jax.models.residual import BASIC, BOTTLENECK, EXPANSION, PREACT, WIDE, Form

Shape = tuple[int, ...]

_COUNTER = 'num_batches_tracked'
# The first convolution's name, and a later one's.
_FIRST = re.compile(r'((?:.+\.)?)(?:conv1|init_conv|stem_conv|conv_2d)\.weight')
_IN_NETWORK = re.compile(r'(^|\.)(sub_)?(blocks?\d*|layer_?\d*)\.')
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
            f'not a network alone: its names begin with {prefix!r}, but not {_some(names)}; '
            "save the network's own state_dict()"
        )


def from_torch(
    state: Mapping[str, Any], naming: Naming = namings.TRADES, form: Form = WIDE
) -> dict[str, Any]:
    """A PyTorch state dict (arrays or tensors) as {'params': ..., 'batch_stats': ...}.

    naming, form: of its network. Dropped: the prefix of wrappers, BatchNorm's
    `num_batches_tracked`, and the `sub_block1.*` that TRADES' code creates and never uses.

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
    expected = _expected_shapes(arrays, naming, form, _depths(arrays, naming))
    for name in expected:
        if name.endswith('.running_mean'):
            arrays.pop(name.replace('running_mean', _COUNTER), None)
    _check(arrays, expected, naming.kind)
    others = [
        f'{name} ({array.dtype})'
        for name, array in arrays.items()
        if array.dtype not in (np.float32, np.float64)
    ]
    if others:
        raise ValueError(f'holds no floating-point numbers in {_some(others)}: save it in float32')

    variables: dict[str, Any] = {}
    for name in expected:
        *outer, last = naming.path(name)
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
    params = variables['params']
    naming, form = _named(params)
    leaves = {path: _transposed(leaf, (3, 2, 0, 1)) for path, leaf in _leaves(variables)}
    stages = range(1, 5 if 'stage4' in params else 4)
    depths = [len(params.get(f'stage{stage}', ())) for stage in stages]
    arrays = {_name(naming, path): leaf for path, leaf in leaves.items()}
    expected = _expected_shapes(arrays, naming, form, depths)
    _check(arrays, expected, naming.kind)

    state: dict[str, np.ndarray] = {}
    for name in expected:
        state[name] = arrays[name]
        if name.endswith('.running_var'):
            state[name.replace('running_var', _COUNTER)] = np.zeros((), np.int64)
    return state


def _named(params: Mapping[str, Any]) -> tuple[Naming, Form]:
    """Of the class that takes these weights, by the layers that are there."""
    if 'stem_norm' in params:
        is_bottleneck = 'conv3' in params.get('stage1', {}).get('block0', {})
        return namings.RESNET, BOTTLENECK if is_bottleneck else BASIC
    if 'stage4' in params:
        return namings.PREACT, PREACT._replace(has_last_norm='norm' in params)
    return namings.TRADES, WIDE._replace(is_cosine='bias' not in params.get('head', ('bias',)))


def _name(naming: Naming, path: Path) -> str:
    """The array's in PyTorch, or the path itself for one that has none."""
    try:
        return naming.name(path)
    except KeyError:
        return '/'.join(path)


def _depths(arrays: Iterable[str], naming: Naming) -> list[int]:
    """How many blocks each stage has, by the names."""
    places = {place for name in arrays if (place := naming.place(name))}
    count = len({stage for stage, _ in places})
    return [len({b for stage, b in places if stage == s}) for s in range(1, count + 1)]


def _expected_shapes(
    arrays: Mapping[str, np.ndarray], naming: Naming, form: Form, depths: Sequence[int]
) -> dict[str, Shape]:
    """PyTorch name -> shape of the only such network that agrees with a few of `arrays`."""
    outer = naming.outer
    stages = range(1, max(len(depths), 3) + 1)
    # The arrays whose shapes fix all others, with their numbers of dimensions.
    anchors = {f'{outer["stem"]}.weight': 4}
    anchors |= {f'{naming.of_block(stage, 0, "conv1")}.weight': 4 for stage in stages}
    anchors[f'{outer["head"]}.weight'] = 2
    for name, num_dimensions in anchors.items():
        if name not in arrays:
            there = _some(list(arrays)) if arrays else 'nothing'
            raise ValueError(f'not a {naming.kind}: missing {name}; there is {there}')
        if arrays[name].ndim != num_dimensions:
            raise ValueError(f'not a {naming.kind}: {name} has shape {arrays[name].shape}')
    channels, in_channels = arrays[f'{outer["stem"]}.weight'].shape[:2]
    shapes: dict[str, Shape] = {f'{outer["stem"]}.weight': (channels, in_channels, 3, 3)}
    if not form.is_preactivated:
        shapes |= _norm_shapes(outer['stem_norm'], channels)
    for stage, num_blocks in enumerate(depths, start=1):
        width = arrays[f'{naming.of_block(stage, 0, "conv1")}.weight'].shape[0]
        for index in range(num_blocks):
            shortcut = f'{naming.of_block(stage, index, "shortcut")}.weight'
            may_project = form.projects_strides and index == 0 and shortcut in arrays
            block, channels = _block_shapes(form, channels, width, may_project)
            for layer, (first, *others) in block.items():
                name = naming.of_block(stage, index, layer)
                is_norm = not others
                shapes |= (
                    _norm_shapes(name, first) if is_norm else {f'{name}.weight': (first, *others)}
                )
    if form.has_last_norm:
        shapes |= _norm_shapes(outer['norm'], channels)
    classes = arrays[f'{outer["head"]}.weight'].shape[0]
    shapes[f'{outer["head"]}.weight'] = (classes, channels)
    return shapes if form.is_cosine else shapes | {f'{outer["head"]}.bias': (classes,)}


def _block_shapes(
    form: Form, channels: int, width: int, is_projected: bool
) -> tuple[dict[str, Shape], int]:
    """Our layers' names -> shapes of kernels, or (channels,) of norms; and how many come out."""
    first, second, out = (width, channels, 3, 3), (width, width, 3, 3), width
    shapes: dict[str, Shape]
    if form.block == 'preactivation':
        shapes = {'norm1': (channels,), 'conv1': first, 'norm2': (width,), 'conv2': second}
    elif form.block == 'basic':
        shapes = {'conv1': first, 'norm1': (width,), 'conv2': second, 'norm2': (width,)}
    else:
        out = EXPANSION * width
        shapes = {
            'conv1': (width, channels, 1, 1), 'norm1': (width,), 'conv2': second,
            'norm2': (width,), 'conv3': (out, width, 1, 1), 'norm3': (out,),
        }  # fmt: skip
    if is_projected or channels != out:
        shapes['shortcut'] = (out, channels, form.projection, form.projection)
        shapes |= {} if form.is_preactivated else {'shortcut_norm': (out,)}
    return shapes, out


def _norm_shapes(name: str, channels: int) -> dict[str, Shape]:
    return {f'{name}.{leaf}': (channels,) for leaf in OF_NORM}


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


def _check(
    arrays: Mapping[str, np.ndarray], expected: Mapping[str, Shape], kind: str
) -> None:
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
        raise ValueError(f'not a {kind}: {"; ".join(listed)}')


def _some(names: list[str]) -> str:
    rest = len(names) - _LISTED
    return ', '.join(names[:_LISTED]) + (f' and {rest} more' if rest > 0 else '')
