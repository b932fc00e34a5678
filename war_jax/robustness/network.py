"""The network to be evaluated: of a run of war_jax.main, or in a file of PyTorch's.

    network = read_network('runs/demo')                     # its best checkpoint
    network = read_network('trades_wrn34_10.pt')            # or .pth, .safetensors, .npz
    network = read_network('both.pt', FileOptions(weights='ema'))
    logits = network.classify(network.params, images)
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_type_hints

import jax
import numpy as np

from war_jax.attacks.machine import Classifier
from war_jax.config import Config, ConfigError
from war_jax.config_model import ModelConfig
from war_jax.config_rules import convert
from war_jax.families import FAMILIES, network_name
from war_jax.models import forward
from war_jax.models.layers import ACTIVATIONS, Pssilu
from war_jax.models.normalisation import PER_IMAGE, Normalisation, Numbers
from war_jax.models.residual import Form, ResidualNetwork
from war_jax.models.torch_io import from_torch
from war_jax.models.variants import Variant, read_variant
from war_jax.robustness.weight_files import (
    SUFFIXES,
    Weights,
    choose,
    read_description,
    read_tensors,
)
from war_jax.training.networks import best_network


@dataclass(frozen=True)
class Network:
    """assumed: how images are normalised, where neither the file nor the user said it."""

    classify: Classifier
    params: Any
    num_classes: int
    channels: int
    description: str
    config: Config | None = None  # of the run that trained it
    assumed: Normalisation | None = None


@dataclass(frozen=True)
class FileOptions:
    """What the user says of a network in a file of tensors; a run says it itself.

    strides: of the stages. mean, std: it is given (images - mean) / std; one number per
    channel or one for all. normalize: 'per_image', by the mean and deviation of each image.
    activation: of `models.layers.ACTIVATIONS`. Empty: what the file says of itself, as those
    of `war_jax.export` do, or what its kind of network has (1, 2, 2, ...; `models.variants`).
    weights: which of several networks (`robustness.weight_files.choose`).
    """

    strides: tuple[int, ...] = ()
    mean: Numbers = ()
    std: Numbers = ()
    normalize: str = ''
    activation: str = ''
    weights: str = ''


NO_OPTIONS = FileOptions()


def read_network(checkpoint: str, options: FileOptions = NO_OPTIONS) -> Network:
    """The best network of a run's folder, or that in a file.

    Raises ConfigError, one line, for a path that holds no network that can be read, and
    UnreadableError for a run's checkpoint that is damaged.
    """
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        if options != NO_OPTIONS:
            raise ConfigError(
                f'--checkpoint={checkpoint}: a run says what its network is; --strides, '
                '--input_mean, --input_std, --normalize, --activation and --weights are for files'
            )
        return _of_run(path)
    if not path.is_file():
        raise ConfigError(f'--checkpoint={checkpoint}: there is no such file or folder')
    if path.suffix not in SUFFIXES:
        rule = f'must be the folder of a run, or a file of {", ".join(SUFFIXES)}'
        raise ConfigError(f'--checkpoint={checkpoint}: {rule}')
    try:
        weights = choose(read_tensors(path), options.weights)
        return _of_file(weights, path.name, _completed(options, read_description(path)))
    except ValueError as error:
        raise ConfigError(f'--checkpoint={checkpoint}: {error}') from error


def _completed(options: FileOptions, about: Mapping[str, Any]) -> FileOptions:
    """With what a file says of its network where the user has said nothing.

    Raises ConfigError, a ValueError, for what cannot be of a network.
    """
    kinds = {
        'strides': get_type_hints(ModelConfig, include_extras=True)['strides'],
        'mean': tuple[float, ...],
        'std': tuple[float, ...],
        'activation': Literal[*ACTIVATIONS],
    }
    said = {name: convert(name, about[name], kind) for name, kind in kinds.items() if name in about}
    return replace(options, **{k: v for k, v in said.items() if not getattr(options, k)})


def _of_file(weights: Weights, name: str, options: FileOptions) -> Network:
    """All but the strides and what `read_variant` assumes is in the names and shapes."""
    variant = read_variant(weights.state)
    variables = from_torch(variant.state, variant.naming, variant.form)
    params = variables['params']
    channels, stem = params['stem']['kernel'].shape[-2:]
    num_classes = params['head']['kernel'].shape[-1]
    sizes = _sizes(params, variant.form)
    strides = options.strides or (1, *(2,) * (len(sizes['stage_depths']) - 1))
    if len(strides) != len(sizes['stage_depths']):
        raise ValueError(f'has {len(sizes["stage_depths"])} stages: --strides must be as many')
    normalise = _normalisation(variant, options, num_classes, channels)
    model = ResidualNetwork(
        num_classes=num_classes, stem_channels=stem, strides=strides,
        activation=options.activation or variant.activation, padding=variant.padding,
        normalise=normalise, form=variant.form, **sizes,
    )  # fmt: skip
    is_silent = variant.mean is None and normalise is variant.assumed
    parts = [
        name,
        _which(weights),
        f'names without {variant.prefix!r}' if variant.prefix else '',
        _unusual(model.activation, variant.padding, variant.form),
        f'{normalise}{" (assumed: the file has no mu and sigma)" if is_silent else ""}',
    ]
    return Network(
        partial(forward.evaluate, model), variables, num_classes, channels,
        f'{model.title}, {", ".join(filter(None, parts))}',
        assumed=normalise if is_silent else None,
    )  # fmt: skip


def _sizes(params: Mapping[str, Any], form: Form) -> dict[str, Any]:
    """The fields of a `ResidualNetwork` that are in the shapes of its weights.

    Raises ValueError for stages that no family has.
    """
    stages = [params[f'stage{s}'] for s in range(1, 1 + sum(n.startswith('stage') for n in params))]
    name = f'{form.block}_resnet' if form.block == 'bottleneck' else 'resnet'
    if form.is_preactivated:
        name = 'wide_resnet' if len(stages) == 3 else 'preact_resnet'
    family = FAMILIES[name]
    if len(stages) != len(family.widths):
        raise ValueError(f'has {len(stages)} stages: a {family.name} has {len(family.widths)}')
    channels = [stage['block0']['conv1']['kernel'].shape[-1] for stage in stages]
    factors = [width / base for width, base in zip(channels, family.widths, strict=True)]
    depths = tuple(map(len, stages))
    return {
        'family': name,
        'depth': family.depth(depths),
        'widen_factor': factors[0],
        'stage_depths': depths,
        'stage_widths': tuple(f / factors[0] for f in factors) if len(set(factors)) > 1 else (),
    }


def _which(weights: Weights) -> str:
    beside = f' (beside {", ".join(weights.others)})' if weights.others else ''
    return f'its {weights.name}{beside}' if weights.name else ''


def _unusual(activation: str | Pssilu, padding: str, form: Form) -> str:
    named = [] if activation == 'relu' else [str(activation)]
    named += [] if padding == 'torch' else [f'the padding of {padding}']
    if form.is_preactivated and not form.projects_activated:
        named.append('projections of what is not activated')
    named += ['no norm before the pool'] if form.is_preactivated and not form.has_last_norm else []
    named += ['cosines for logits'] if form.is_cosine else []
    return ' and '.join(named)


def _normalisation(
    variant: Variant, options: FileOptions, num_classes: int, channels: int
) -> Normalisation:
    """The user's word goes before the file's, and that before what is assumed."""
    if options.normalize == 'per_image':
        return PER_IMAGE
    mean, std = options.mean or variant.mean, options.std or variant.std
    if mean is None and std is None:
        if variant.assumed is None:
            raise ValueError(
                f'normalises its input, how is not known for {num_classes} classes: give '
                '--input_mean and --input_std'
            )
        return variant.assumed
    if mean is None or std is None:
        known, other = ('deviation', 'mean') if mean is None else ('mean', 'deviation')
        raise ValueError(
            f'normalises its input by a {known}, but by no {other} that is known: give both '
            '--input_mean and --input_std'
        )
    for flag, numbers in (('mean', mean), ('std', std)):
        if len(numbers) not in (1, channels):
            raise ValueError(
                f'has images of {channels} channels: --input_{flag} must be as many numbers, or '
                f'one, not {len(numbers)}'
            )
    return Normalisation(mean, std)


def _of_run(path: Path) -> Network:
    found = best_network(path, '--checkpoint')
    averaged = ', its moving average' if found.config.ema_decay else ''
    return Network(
        partial(forward.evaluate, found.model), jax.tree.map(np.asarray, found.variables),
        found.num_classes, found.channels,
        f'{network_name(asdict(found.config.model))}, {path} at step {found.step}{averaged}',
        found.config,
    )  # fmt: skip
