"""The network to be evaluated: of a run of war_jax.main, or in a file of PyTorch's.

    network = read_network('runs/demo')                     # its best checkpoint
    network = read_network('trades_wrn34_10.pt')            # or .pth, .safetensors, .npz
    logits = network.classify(network.params, images)
"""

import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from war_jax.attacks.machine import Classifier
from war_jax.config import Config, ConfigError, resolve
from war_jax.data.sources import load
from war_jax.mesh import make_mesh
from war_jax.models import forward
from war_jax.models.torch_io import from_torch
from war_jax.models.variants import Numbers, read_variant
from war_jax.models.wide_resnet import WideResNet
from war_jax.training.build import build, make_model
from war_jax.training.checkpoint import Checkpoints

TENSOR_FILES = ('.npz', '.pt', '.pth', '.safetensors')


@dataclass(frozen=True)
class Network:
    classify: Classifier
    params: Any
    num_classes: int
    channels: int
    description: str
    config: Config | None  # of the run that trained it


@dataclass(frozen=True)
class Untold:
    """What a file of tensors does not tell of its network; a run does.

    strides: of the three stages. mean, std: it is given (images - mean) / std; one number per
    channel or one for all. Empty: what its kind of network has (1, 2, 2; `models.variants`).
    """

    strides: tuple[int, ...] = ()
    mean: Numbers = ()
    std: Numbers = ()


UNTOLD = Untold()


def read_network(checkpoint: str, untold: Untold = UNTOLD) -> Network:
    """Raises ConfigError, one line, for a path that holds no network that can be read.
    """
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        if untold != UNTOLD:
            raise ConfigError(
                f'--checkpoint={checkpoint}: a run says what its network is; --strides, '
                '--input_mean and --input_std are for files'
            )
        return _of_run(path)
    if not path.is_file():
        raise ConfigError(f'--checkpoint={checkpoint}: there is no such file or folder')
    if path.suffix not in TENSOR_FILES:
        rule = f'must be the folder of a run, or a file of {", ".join(TENSOR_FILES)}'
        raise ConfigError(f'--checkpoint={checkpoint}: {rule}')
    try:
        return _of_file(state_dict(read_tensors(path)), path.name, untold)
    except ValueError as error:
        raise ConfigError(f'--checkpoint={checkpoint}: {error}') from error


def _of_file(state: Mapping[str, Any], name: str, untold: Untold) -> Network:
    """All but the strides and the normalisation is in the names and shapes."""
    variant = read_variant(state)
    variables = from_torch(variant.state)
    params = variables['params']
    num_blocks = len(params['stage1'])
    width = params['stage1']['block0']['conv1']['kernel'].shape[-1]
    channels, stem = params['stem']['kernel'].shape[-2:]
    num_classes = params['head']['kernel'].shape[-1]
    model = WideResNet(
        6 * num_blocks + 4, width / 16, num_classes, stem, untold.strides or (1, 2, 2),
        activation=variant.activation, padding=variant.padding,
    )  # fmt: skip
    mean, std = untold.mean or variant.mean, untold.std or variant.std
    if mean is None or std is None:
        raise ValueError(
            f'normalises its input, how is not known for {num_classes} classes: give --input_mean '
            'and --input_std'
        )
    for flag, numbers in (('mean', mean), ('std', std)):
        if len(numbers) not in (1, channels):
            raise ValueError(
                f'has images of {channels} channels: --input_{flag} must be as many numbers, or '
                f'one, not {len(numbers)}'
            )
    if variant.activation != 'relu':
        name += f', {variant.activation} and the padding of {variant.padding}'
    network = _network(model, variables, channels, name, None)
    return _normalised(network, mean, std)


def _normalised(network: Network, mean: Numbers, std: Numbers) -> Network:
    if not any(mean) and set(std) == {1.0}:
        return network
    classify = network.classify

    def normalise_and_classify(params: Any, images: Array) -> Array:
        shift, scale = (jnp.array(v, images.dtype).reshape(1, 1, 1, -1) for v in (mean, std))
        return classify(params, (images - shift) / scale)

    numbers = ' and '.join(', '.join(f'{v:.4g}' for v in values) for values in (mean, std))
    return replace(
        network,
        classify=normalise_and_classify,
        description=f'{network.description}, images normalised by {numbers}',
    )


def _network(
    model: WideResNet, variables: Mapping[str, Any], channels: int, name: str,
    config: Config | None,
) -> Network:  # fmt: skip
    description = f'WRN-{model.depth}-{model.widen_factor:g}, {name}'
    classify = partial(forward.evaluate, model)
    return Network(
        classify, dict(variables), model.num_classes, channels, description, config
    )


def _of_run(path: Path) -> Network:
    try:
        config = resolve(json.loads((path / 'config.json').read_text('utf-8'))['config'])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f'--checkpoint={path}: must be the folder of a run of war_jax.main ({error})'
        ) from error
    splits = load(config.data)
    parts = build(config, splits, make_mesh())
    checkpoints = Checkpoints(path / 'checkpoints', config.checkpoint.keep)
    try:
        step = checkpoints.best_step()
        if step is None:
            raise ConfigError(f'--checkpoint={path}: this run has no checkpoint yet')
        variables = checkpoints.restore_best(step, like=parts.create_state().evaluated)
    finally:
        checkpoints.close()
    model = make_model(config, splits.num_classes)
    # As in training's own evaluation: attacks in bfloat16 meet rounding as large as their steps.
    model = model.clone(dtype=model.param_dtype, axis_name=None)
    channels = splits.test.images.shape[-1]
    variables = jax.tree.map(np.asarray, variables)
    return _network(model, variables, channels, f'{path} at step {step}', config)


def read_tensors(path: Path) -> Any:
    """The contents of a file of tensors, without running any code that may be in it.

    Raises ValueError for a file that cannot be read, and where a library is missing.
    """
    readers = {'.npz': _read_npz, '.safetensors': _read_safetensors}
    try:
        return readers.get(path.suffix, _read_torch)(path)
    except ModuleNotFoundError as error:
        raise ValueError(f"needs {error.name}: pip install 'war-jax[torch]'") from error
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'
        raise ValueError(f'cannot be read ({reason})') from error


def _read_npz(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError  # pyright: ignore[reportMissingImports]
    from safetensors.numpy import load_file  # pyright: ignore[reportMissingImports]

    try:
        return load_file(path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _read_torch(path: Path) -> Any:
    from pickle import UnpicklingError  # what PyTorch raises where it refuses to run code

    import torch  # pyright: ignore[reportMissingImports]

    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except UnpicklingError as error:
        raise OSError(str(error)) from error


def state_dict(contents: Any) -> Mapping[str, Any]:
    """The state dict in what training scripts save: itself, or under a name beside other things.

    Raises ValueError if there is none.
    """
    if not isinstance(contents, Mapping):
        raise ValueError(f'holds a {type(contents).__name__}: must be a state dict')
    if any(re.search(r'(^|\.)(init_)?conv1?\.weight$', str(name)) for name in contents):
        return contents
    inner = {name: value for name, value in contents.items() if isinstance(value, Mapping)}
    for name in ('state_dict', 'model_state_dict', 'model', 'net', 'ema'):
        if name in inner:
            return inner[name]
    raise ValueError(f'has the keys {", ".join(map(str, list(contents)[:10]))}: no state dict')
