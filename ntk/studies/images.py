"""Images and targets as the experiments on image data take them.

    images, labels = balanced(splits.train, 64)              # (64, h, w, c) in [0, 1], (64,)
    targets = centred_targets(labels, num_outputs=10)        # (64, 10)
"""

import jax
import jax.numpy as jnp
from jax import Array

from war_jax.config_rules import refusal
from war_jax.data.device import as_unit_interval
from war_jax.data.sources import Dataset, balanced_subset


def balanced(dataset: Dataset, count: int) -> tuple[Array, Array]:
    """So many images in [0, 1], balanced over the classes, and their labels.

    Raises ConfigError if there are fewer.
    """
    if count > len(dataset.labels):
        rule = f'must be at most {len(dataset.labels)}, the number of images'
        raise refusal('data.num_train or data.num_test', count, rule, f'{len(dataset.labels)}')
    few = dataset.take(balanced_subset(dataset.labels, count))
    return as_unit_interval(jnp.asarray(few.images), jnp.dtype('float32')), jnp.asarray(few.labels)


def centred_targets(labels: Array, num_outputs: int) -> Array:
    """(n,) -> (n, outputs): one-hot minus 1 / outputs."""
    return jax.nn.one_hot(labels, num_outputs) - 1 / num_outputs
