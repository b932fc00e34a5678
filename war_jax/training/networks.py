"""The network of a configuration, and the best one of a run that is over.

    model = make_model(config, num_classes=10)
    found = best_network(Path('runs/demo'), '--checkpoint')         # its data may be gone
    logits = forward.evaluate(found.model, found.variables, images)
"""

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from war_jax.config import Config, ConfigError, resolve
from war_jax.config_keys import BatchNormConfig
from war_jax.config_model import constants
from war_jax.config_rules import convert
from war_jax.mesh import AXIS, make_mesh
from war_jax.models.normalisation import Normalisation
from war_jax.models.residual import PreActResNet, ResidualNetwork
from war_jax.models.wide_resnet import WideResNet
from war_jax.training.checkpoint import Checkpoints

NETWORKS = {'wide_resnet': WideResNet, 'preact_resnet': PreActResNet}


class Finished(NamedTuple):
    """A run's best network, as it is measured: in the type of its weights."""

    model: ResidualNetwork
    variables: Any  # on every device
    num_classes: int
    channels: int  # of its images
    step: int
    config: Config


def make_model(config: Config, num_classes: int) -> ResidualNetwork:
    """Raises ConfigError for batch statistics that are neither global nor per device."""
    kind = get_type_hints(BatchNormConfig)['statistics']
    convert('batch_norm.statistics', config.batch_norm.statistics, kind)
    return NETWORKS[config.model.name](
        depth=config.model.depth,
        widen_factor=config.model.widen_factor,
        num_classes=num_classes,
        stem_channels=config.model.stem_channels,
        strides=tuple(config.model.strides),
        axis_name=AXIS if config.batch_norm.statistics == 'global' else None,
        dtype=jnp.dtype(config.model.compute_dtype),
        param_dtype=jnp.dtype(config.model.param_dtype),
        remat=config.model.remat,
        activation=config.model.activation,
        stage_depths=config.model.stage_depths,
        stage_widths=config.model.stage_widths,
        normalise=Normalisation(*constants(config.model.normalization)),
    )


def best_network(path: Path, key: str) -> Finished:
    """From the run's configuration and its best checkpoint alone.

    key: what named the folder, for the errors. Raises ConfigError for what is no run's folder, and
    UnreadableError for a damaged checkpoint.
    """
    try:
        config = resolve(json.loads((path / 'config.json').read_text('utf-8'))['config'])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f'{key}={path}: must be the folder of a run of war_jax.main ({error})'
        ) from error
    checkpoints = Checkpoints(path / 'checkpoints', config.checkpoint.keep)
    try:
        step = checkpoints.best_step()
        if step is None:
            raise ConfigError(f'{key}={path}: this run has no checkpoint yet')
        saved = checkpoints.best_shapes(step)['params']
        num_classes, channels = saved['head']['kernel'].shape[-1], saved['stem']['kernel'].shape[-2]
        model = make_model(config, num_classes)
        variables = checkpoints.restore_best(step, like=_shapes(model, channels))
    finally:
        checkpoints.close()
    # As in training's own evaluation: attacks in bfloat16 meet rounding as large as their steps.
    model = model.clone(dtype=model.param_dtype, axis_name=None)
    return Finished(model, variables, num_classes, channels, step, config)


def _shapes(model: ResidualNetwork, channels: int) -> Any:
    """Of its variables, each to lie on every device."""
    image = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)
    everywhere = NamedSharding(make_mesh(), P())
    return jax.tree.map(lambda leaf: leaf.update(sharding=everywhere), shapes)
