"""WideResNets of other code bases: what their state dicts are called, and what they do not hold.

    variant = read_variant(state)                       # a PyTorch state dict
    variables = from_torch(variant.state)               # in the names that torch_io knows
    model = WideResNet(..., activation=variant.activation, padding=variant.padding)
    logits = model.apply(variables, (images - variant.mean) / variant.std, train=False)

Known are TRADES' names, with or without the normalisation of the input that RobustBench keeps as
`mu` and `sigma` in the same dict, and the names of DeepMind's PyTorch code (Gowal et al. 2020),
which most of RobustBench's later networks have: Swish, TensorFlow's padding, and images normalised
by constants that are in the code only.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from war_jax.models.torch_io import without_prefix

Numbers = tuple[float, ...]

# Mean and standard deviation of the channels in the training set, as in DeepMind's code.
NORMALISATION: dict[int, tuple[Numbers, Numbers]] = {
    10: ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),  # CIFAR-10
    100: ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),  # CIFAR-100
}

_DEEPMIND = {'init_conv': 'conv1', 'batchnorm': 'bn1', 'logits': 'fc'}
_DEEPMIND_IN_BLOCK = {
    'batchnorm_0': 'bn1', 'conv_0': 'conv1', 'batchnorm_1': 'bn2', 'conv_1': 'conv2',
    'shortcut': 'convShortcut',
}  # fmt: skip


class Variant(NamedTuple):
    """state: in TRADES' names; activation, padding: as WideResNet takes them; mean and std: of the
    normalisation, one number per channel or one for all; None where it cannot be known."""

    state: dict[str, Any]
    activation: str
    padding: str
    mean: Numbers | None
    std: Numbers | None


def read_variant(state: Mapping[str, Any]) -> Variant:
    """What a PyTorch state dict tells of its WideResNet."""
    arrays = without_prefix(state)
    is_deepmind = 'init_conv.weight' in arrays
    mean, std = _pop(arrays, 'mu', 'mean'), _pop(arrays, 'sigma', 'std')
    if not is_deepmind:
        return Variant(arrays, 'relu', 'torch', mean or (0.0,), std or (1.0,))
    if mean is None and std is None:
        classes = len(np.atleast_1d(arrays.get('logits.bias', ())))
        mean, std = NORMALISATION.get(classes, (None, None))
    renamed = {_of_trades(name): value for name, value in arrays.items()}
    return Variant(renamed, 'swish', 'tensorflow', mean, std)


def _pop(arrays: dict[str, Any], *names: str) -> Numbers | None:
    """The numbers of the first of these arrays that is there; all of them are taken out."""
    found = [np.ravel(arrays.pop(name)) for name in names if name in arrays]
    return tuple(float(value) for value in found[0]) if found else None


def _of_trades(name: str) -> str:
    """'layer.1.block.0.batchnorm_1.weight' -> 'block2.layer.0.bn2.weight'; others as they are."""
    inner = re.fullmatch(r'layer\.(\d+)\.block\.(\d+)\.(\w+)\.(\w+)', name)
    if inner and inner[3] in _DEEPMIND_IN_BLOCK:
        stage, block, module, leaf = inner.groups()
        return f'block{int(stage) + 1}.layer.{block}.{_DEEPMIND_IN_BLOCK[module]}.{leaf}'
    module, _, leaf = name.partition('.')
    return f'{_DEEPMIND.get(module, module)}.{leaf}' if leaf else name
