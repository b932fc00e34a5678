"""WideResNets of other code bases: what their state dicts are called, and what they do not hold.

    variant = read_variant(state)                       # a PyTorch state dict
    variables = from_torch(variant.state)               # in the names that torch_io knows
    model = WideResNet(..., activation=variant.activation, padding=variant.padding)
    logits = model.apply(variables, Normalisation(variant.mean, variant.std)(images), train=False)

Known are TRADES' names and those of DeepMind's PyTorch code (Gowal et al. 2020), which most of
RobustBench's later networks have: most often with Swish, with TensorFlow's padding, and with images
normalised by constants that are in the code only. A normalisation of the input may be in the same
dict: as `mu` and `sigma`, as in RobustBench's code, or as `mean` and `std`, also of a layer before
a wrapped network.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from war_jax.models.normalisation import CIFAR, IDENTITY, Normalisation, Numbers
from war_jax.models.torch_io import as_array, check_nothing_beside, unwrapped

_MEAN, _STD = ('mu', 'mean'), ('sigma', 'std')
_DEEPMIND = {'init_conv': 'conv1', 'batchnorm': 'bn1', 'logits': 'fc'}
_DEEPMIND_IN_BLOCK = {
    'batchnorm_0': 'bn1', 'conv_0': 'conv1', 'batchnorm_1': 'bn2', 'conv_1': 'conv2',
    'shortcut': 'convShortcut',
}  # fmt: skip


class Variant(NamedTuple):
    """state: in TRADES' names, without `prefix`; activation, padding: as WideResNet takes them.

    mean, std: of the normalisation in the state dict; None where it holds none.
    assumed: the normalisation if it holds neither; None where that cannot be known.
    """

    state: dict[str, Any]
    prefix: str
    activation: str
    padding: str
    mean: Numbers | None
    std: Numbers | None
    assumed: Normalisation | None


def read_variant(state: Mapping[str, Any]) -> Variant:
    """What a PyTorch state dict tells of its WideResNet.

    Raises ValueError, naming them, for arrays beside a wrapped network that are no normalisation.
    """
    prefix, arrays, beside = unwrapped(state)
    constants = {name: arrays.pop(name) for name in (*_MEAN, *_STD) if name in arrays}
    left = []
    for name, value in beside.items():
        leaf = name.rpartition('.')[2]
        if leaf in (*_MEAN, *_STD) and leaf not in constants:
            constants[leaf] = value
        else:
            left.append(name)
    check_nothing_beside(prefix, left)
    mean, std = _first(constants, _MEAN), _first(constants, _STD)
    if 'init_conv.weight' not in arrays:
        return Variant(arrays, prefix, 'relu', 'torch', mean, std, IDENTITY)
    assumed = CIFAR.get(as_array('logits.bias', arrays.get('logits.bias', ())).size)
    renamed = {_of_trades(name): value for name, value in arrays.items()}
    return Variant(renamed, prefix, 'swish', 'tensorflow', mean, std, assumed)


def _first(constants: Mapping[str, Any], names: tuple[str, ...]) -> Numbers | None:
    """The numbers of the first of these arrays that is there."""
    found = [as_array(name, constants[name]) for name in names if name in constants]
    return tuple(float(value) for value in found[0].ravel()) if found else None


def _of_trades(name: str) -> str:
    """'layer.1.block.0.batchnorm_1.weight' -> 'block2.layer.0.bn2.weight'; others as they are."""
    inner = re.fullmatch(r'layer\.(\d+)\.block\.(\d+)\.(\w+)\.(\w+)', name)
    if inner and inner[3] in _DEEPMIND_IN_BLOCK:
        stage, block, module, leaf = inner.groups()
        return f'block{int(stage) + 1}.layer.{block}.{_DEEPMIND_IN_BLOCK[module]}.{leaf}'
    module, _, leaf = name.partition('.')
    return f'{_DEEPMIND.get(module, module)}.{leaf}' if leaf else name
