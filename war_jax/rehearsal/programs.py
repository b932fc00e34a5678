"""The programs of a run, lowered for a mesh of devices that need not be there.

    for name, lowered in programs(config, mesh).items():     # 'step', 'measure', 'attack'
        compiled = lowered().compile()

Nothing is computed and no data are read: arrays are shapes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from war_jax.attacks.threat import ThreatModel
from war_jax.config import Config, ConfigError
from war_jax.config_rules import nearest
from war_jax.data.arrays import Dataset
from war_jax.data.batches import Batch
from war_jax.data.sources import Splits
from war_jax.mesh import AXIS, check_divisible
from war_jax.models import forward
from war_jax.robustness.ensemble import make_attacks
from war_jax.robustness.pool import Examples, make_programs
from war_jax.training.build import Parts, build, make_rule

# Name -> training images, test images, image, classes.
DATA = {
    'cifar10': (50_000, 10_000, (32, 32, 3), 10),
    'cifar100': (50_000, 10_000, (32, 32, 3), 100),
    'svhn_cropped': (73_257, 26_032, (32, 32, 3), 10),
    'digits': (1297, 500, (8, 8, 1), 10),
}
Lowered = Callable[[], Any]


def programs(config: Config, mesh: Mesh) -> dict[str, Lowered]:
    """'step': of training; 'measure': an attack of validation; 'attack': a step of APGD in
    AutoAttack's pool. Each is lowered when it is called.

    Raises ConfigError for data of unknown shape and for batches that the devices cannot share.
    """
    splits = shapes_of(config)
    optimizer, evaluation = config.optimizer, config.evaluation
    check_divisible(mesh, 'optimizer.batch_size', optimizer.batch_size, optimizer.accumulation)
    check_divisible(mesh, 'evaluation.batch_size', evaluation.batch_size)
    parts = build(config, splits, mesh)
    rule = jax.eval_shape(lambda: make_rule(config, None, parts.steps_per_epoch))
    state = jax.eval_shape(parts.fresh_state, jax.random.key(0), rule)
    key = jax.eval_shape(lambda: jax.random.key(0))
    whole = partial(_placed, mesh, P())
    trained = _batch(mesh, splits, optimizer.batch_size)
    measured = _batch(mesh, splits, evaluation.batch_size)
    scale = jax.ShapeDtypeStruct((), jnp.float32)
    attack = parts.measures.attacks['ce']

    def measure() -> Any:
        program = jax.jit(lambda *arguments: attack(*arguments))
        return program.lower(*whole((state.variables, key)), measured, whole(scale))

    return {
        'step': lambda: parts.step.lower(  # type: ignore[attr-defined]
            whole(state), whole(key), whole(rule), trained
        ),
        'measure': measure,
        'attack': lambda: _strong_attack(parts, splits, state, mesh),
    }


def shapes_of(config: Config) -> Splits:
    """A data set's sizes; its pixels take no memory. Raises ConfigError for one not in DATA."""
    name = config.data.name
    if name not in DATA:
        rule = f'must be one of {", ".join(DATA)} in a rehearsal, which reads no data'
        raise ConfigError(f'data.name = {name!r}: {rule}; nearest: {nearest(name, DATA)!r}')
    num_train, num_test, image, classes = DATA[name]
    held_out = config.data.num_validation
    num_train = config.data.max_train_examples or num_train - held_out

    def images(count: int) -> Dataset:
        pixels = np.broadcast_to(np.uint8(0), (count, *image))
        return Dataset(pixels, np.broadcast_to(np.int32(0), (count,)))

    return Splits(name, classes, images(num_train), images(held_out), images(num_test), None, '')


def _strong_attack(parts: Parts, splits: Splits, state: Any, mesh: Mesh) -> Any:
    config = parts.config
    image = splits.test.images.shape[1:]
    threat = ThreatModel(config.threat.norm, config.threat.epsilon)
    (apgd,) = make_attacks('apgd-ce', threat, (image[0], image[1], image[2]))
    model = parts.model.clone(dtype=parts.model.param_dtype, axis_name=None)
    pool = make_programs(apgd, partial(forward.evaluate, model), mesh, most_steps=1)
    size = config.evaluation.batch_size
    shaped: Any = Examples  # of shapes in place of arrays
    examples = shaped(
        jax.ShapeDtypeStruct((size, *image), jnp.float32),
        jax.ShapeDtypeStruct((size,), jnp.int32),
        jax.ShapeDtypeStruct((size, splits.num_classes), jnp.float32),
    )
    numbers = jax.ShapeDtypeStruct((size,), jnp.int32)
    flags = jax.ShapeDtypeStruct((size,), jnp.bool_)
    key, epsilon = jax.random.key(0), jnp.float32(0)
    slots = jax.eval_shape(pool.enter, key, epsilon, examples, None, numbers, numbers, flags)
    whole = partial(_placed, mesh, P())
    radius = jax.ShapeDtypeStruct((), jnp.float32)
    return pool.step.lower(  # type: ignore[attr-defined]
        whole(state.variables), whole(radius), _placed(mesh, P(AXIS), slots)
    )


def _batch(mesh: Mesh, splits: Splits, size: int) -> Batch:
    image = splits.train.images.shape[1:]
    shapes = Batch(
        jax.ShapeDtypeStruct((size, *image), jnp.uint8),
        jax.ShapeDtypeStruct((size,), jnp.int32),
        jax.ShapeDtypeStruct((size,), jnp.bool_),
        jax.ShapeDtypeStruct((size,), jnp.int32),
    )
    return _placed(mesh, P(AXIS), shapes)


def _placed(mesh: Mesh, spec: P, tree: Any) -> Any:
    """Shapes that lie on the mesh."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )
