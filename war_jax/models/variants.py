"""Residual networks of other code bases: what their state dicts say of them, and what they do not.

    variant = read_variant(state)                       # a PyTorch state dict
    variables = from_torch(variant.state, variant.naming, variant.form)
    model = ResidualNetwork(..., **variant.fields, normalise=Normalisation(variant.mean, ...))

Known are, by the names of their arrays: WideResNets of TRADES' code, of DeepMind's (Gowal et al.
2020; most often with Swish, with TensorFlow's padding, and with images normalised by constants that
are in the code only), of Huang et al. 2021 and 2022, with cosines for logits (Pang et al. 2020) and
with PSSiLU (Dai et al. 2022); PreActResNets of Rice et al. 2020, of Wong et al. 2020 and of
DeepMind's code; ResNets whose activations follow the norms, with two or three convolutions in a
block. All are in RobustBench's code. A normalisation of the input may be in the same dict: as `mu`
and `sigma`, as in RobustBench's code, or as `mean` and `std`, also of a layer before a wrapped
network.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from war_jax.models import namings
from war_jax.models.layers import Pssilu
from war_jax.models.namings import Naming
from war_jax.models.normalisation import CIFAR, IDENTITY, Normalisation, Numbers
from war_jax.models.residual import BASIC, BOTTLENECK, PREACT, WIDE, Form
from war_jax.models.torch_io import as_array, check_nothing_beside, unwrapped

_MEAN, _STD = ('mu', 'mean'), ('sigma', 'std')
# Without a norm before the pool, RobustBench's PreActResNets project the input itself.
_PLAIN_PREACT = PREACT._replace(projects_activated=False, has_last_norm=False)
_DEEPMIND_PREACT = PREACT._replace(projects_activated=False, projection=3)


class Variant(NamedTuple):
    """state: without `prefix`, in the names of `naming`; activation, padding, form: as
    `models.residual.ResidualNetwork` takes them.

    mean, std: of the normalisation in the state dict; None where it holds none.
    assumed: the normalisation if it holds neither; None where that cannot be known.
    """

    state: dict[str, Any]
    prefix: str
    naming: Naming
    form: Form
    activation: str | Pssilu
    padding: str
    mean: Numbers | None
    std: Numbers | None
    assumed: Normalisation | None


def read_variant(state: Mapping[str, Any]) -> Variant:
    """What a PyTorch state dict tells of its network.

    Raises ValueError, naming them, for arrays beside a wrapped network that are no normalisation,
    and for activations of several forms.
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
    pssilu = _pop_pssilu(arrays)
    naming, form, activation, padding = _kind(arrays)
    assumed = IDENTITY
    if padding == 'tensorflow':
        assumed = CIFAR.get(as_array('logits.bias', arrays.get('logits.bias', ())).size)
    return Variant(
        arrays, prefix, naming, form, pssilu or activation, padding, mean, std, assumed
    )


def _kind(arrays: Mapping[str, Any]) -> tuple[Naming, Form, str, str]:
    """By names that only one code base has; TRADES' where none of them is there."""
    if 'init_conv.weight' in arrays:
        return namings.DEEPMIND, WIDE, 'swish', 'tensorflow'
    if 'conv_2d.weight' in arrays:
        return namings.DEEPMIND_PREACT, _DEEPMIND_PREACT, 'swish', 'tensorflow'
    if 'stem_conv.weight' in arrays and 'norm1.weight' in arrays:
        return namings.ROBUST_RESNET, WIDE, 'swish', 'torch'
    if 'stem_conv.weight' in arrays:
        return namings.ROBUST_WIDE, WIDE, 'relu', 'torch'
    if 'layer1.0.conv1.weight' in arrays and 'bn1.weight' in arrays:
        form = BOTTLENECK if 'layer1.0.conv3.weight' in arrays else BASIC
        is_other = 'linear.weight' not in arrays
        return namings.TORCHVISION if is_other else namings.RESNET, form, 'relu', 'torch'
    if 'layer1.0.conv1.weight' in arrays:
        return namings.PREACT, PREACT if 'bn.weight' in arrays else _PLAIN_PREACT, 'relu', 'torch'
    is_cosine = 'fc.weight' in arrays and 'fc.bias' not in arrays
    return namings.TRADES, WIDE._replace(is_cosine=is_cosine), 'relu', 'torch'


def _pop_pssilu(arrays: dict[str, Any]) -> Pssilu | None:
    """The activation of Dai et al. 2022, listed anew for every layer that it is used in."""
    found: dict[str, set[float]] = {'alpha': set(), 'beta': set()}
    for name in list(arrays):
        *outer, leaf = name.split('.')
        if outer[-1:] == ['activation'] and leaf in found:
            found[leaf] |= {float(value) for value in as_array(name, arrays.pop(name)).ravel()}
    if not any(found.values()):
        return None
    if any(len(values) != 1 for values in found.values()):
        raise ValueError('has activations of several forms: must be one alpha and one beta')
    return Pssilu(*(values.pop() for values in found.values()))


def _first(constants: Mapping[str, Any], names: tuple[str, ...]) -> Numbers | None:
    """The numbers of the first of these arrays that is there."""
    found = [as_array(name, constants[name]) for name in names if name in constants]
    return tuple(float(value) for value in found[0].ravel()) if found else None
