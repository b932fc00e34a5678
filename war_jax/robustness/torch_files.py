"""Networks in files of PyTorch's tensors, read and written without PyTorch.

    network = load_torch('trades_wrn34_10.pt', mean=(0.5,), std=(0.25,))
    result = war_jax.evaluate(network, images, labels, ball)
    save_torch(network.params, 'copy.safetensors')
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as as_safetensors

from war_jax.config_rules import ConfigError
from war_jax.models.torch_io import to_torch
from war_jax.records.files import replacing, write_npz
from war_jax.robustness.network import FileOptions, Network, read_network
from war_jax.robustness.weight_files import DESCRIPTION

WRITTEN = ('.npz', '.pt', '.safetensors')


def load_torch(path: str | Path, **options: Any) -> Network:
    """A residual network in a .pt, .pth, .safetensors or .npz file, or that of a run's folder.

    options: of `war_jax.robustness.network.FileOptions`, for what the file does not say: strides,
    mean, std, normalize, activation, weights. Tensors alone are read; no code in the file is run.
    Raises ConfigError, one line, for a file that holds no network that can be read.
    """
    return read_network(str(path), FileOptions(**options))


def save_torch(variables: Mapping[str, Any], path: str | Path) -> None:
    """Writes {'params': ..., 'batch_stats': ...} of a network under PyTorch's names.

    Those of a WideResNet are the TRADES authors', without the `sub_block1` that their class asks
    for and does not use (`war_jax.export` writes it, too, and how images are normalised); those of
    a PreActResNet or ResNet are RobustBench's. path: ends with .safetensors or
    .npz, or with .pt where PyTorch is installed. Raises ConfigError for another end, ValueError for
    variables of another network.

    >>> import jax, tempfile, war_jax
    >>> from war_jax.models.wide_resnet import WideResNet
    >>> model = WideResNet(depth=10, widen_factor=0.125, num_classes=2)
    >>> image = jax.numpy.zeros((1, 8, 8, 3))
    >>> variables = jax.jit(lambda key: model.init(key, image, train=False))(jax.random.key(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     war_jax.save_torch(variables, f'{folder}/net.safetensors')
    ...     war_jax.load_torch(f'{folder}/net.safetensors').description
    'WRN-10-0.125, net.safetensors, images not normalised (assumed: ...)'
    """
    write_state(to_torch(variables), Path(path))


def write_state(
    state: Mapping[str, np.ndarray], path: Path, about: Mapping[str, Any] | None = None
) -> None:
    """Writes a state dict; about: what `weight_files.read_description` reads of a .safetensors
    file, which alone has a place for it. Raises ConfigError as `save_torch` does."""
    if path.suffix not in WRITTEN:
        rule = f'must end with one of {", ".join(WRITTEN)}'
        raise ConfigError(f'path = {path}: {rule}; nearest: {path.with_suffix(".safetensors")}')
    state = {name: np.ascontiguousarray(array) for name, array in state.items()}
    if path.suffix == '.npz':
        write_npz(path, state)
        return
    with replacing(path) as temporary:
        if path.suffix == '.safetensors':
            described = {} if about is None else {DESCRIPTION: json.dumps(about)}
            temporary.write_bytes(as_safetensors(state, {'format': 'pt', **described}))
        else:
            _save_by_torch(state, temporary)


def _save_by_torch(state: Mapping[str, np.ndarray], path: Path) -> None:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ConfigError(
            ".pt is written by PyTorch: pip install 'war-jax[torch]', or save as .safetensors"
        ) from error
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, path)
