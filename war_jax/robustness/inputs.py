"""What a robust accuracy is computed of: images in the box, whole labels, logits of classes.

    given = in_box(images)                          # float32 images in [0, 1], and how they came
    labels = whole_labels(labels, len(images), num_classes)
    classify = with_checked_logits(classify)        # a refusal while it is traced, not a pass

Perturbations are cut to the pixel box [0, 1] and measured in its units. Images of another range
would be moved by next to nothing, or torn to pieces, and the accuracy would mean nothing: hence
every refusal here says what to pass instead. All of them are ConfigErrors of one line.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from war_jax.attacks.losses import finite_where_masked
from war_jax.attacks.machine import Classifier
from war_jax.config_rules import ConfigError, refusal
from war_jax.data.device import unit_interval

ROUNDING = 1e-3  # beyond the box by no more than this, images were in it before something rounded
SMALLEST_SIDE = 5  # from which on two last axes behind 1 or 3 channels are height and width


class Images(NamedTuple):
    values: np.ndarray  # (n, h, w, c) float32 in [0, 1]
    origin: str  # a phrase for the report: how they were given


def image_shape(images: Any) -> tuple[int, int, int]:
    """(h, w, c) of images (n, h, w, c). Raises ConfigError for other shapes, channels first too."""
    shape = tuple(np.shape(images))
    key, rule = 'images.shape', 'must be (n, h, w, c), n at least 1'
    if len(shape) == 3:
        raise refusal(key, shape, f'{rule}; for images of one channel pass images[..., None]')
    if len(shape) != 4 or 0 in shape:
        raise refusal(key, shape, rule)
    _, first, second, last = shape
    if first in (1, 3) and min(second, last) >= SMALLEST_SIDE:
        raise refusal(
            key, shape, 'must be (n, h, w, c), these have their channels first: pass '
            'numpy.transpose(images, (0, 2, 3, 1)) and, for a network f that wants channels first, '
            'lambda x: f(jax.numpy.transpose(x, (0, 3, 1, 2)))',
        )  # fmt: skip
    return first, second, last


def in_box(images: Any) -> Images:
    """images: (n, h, w, c), uint8 or any float type in [0, 1]. Raises ConfigError."""
    image_shape(images)
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return Images(unit_interval(np.dtype('float32'))[images], 'uint8, divided by 255')
    if not jnp.issubdtype(images.dtype, jnp.floating):
        rule = "must be uint8, or floats in [0, 1]; pass images.astype('uint8') for 0 to 255"
        raise refusal('images.dtype', str(images.dtype), rule)
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        raise refusal('range of images', (low, high), 'must be in [0, 1], without NaN or infinity')
    values = images.astype(np.float32)
    if values.min() < 0 or values.max() > 1:
        raise refusal('range of images', (low, high), f'must be in [0, 1]: {_remedy(low, high)}')
    return Images(values, 'floats in [0, 1]')


def _remedy(low: float, high: float) -> str:
    """What to pass in place of images in low..high, which reaches out of [0, 1]."""
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return 'pass numpy.clip(images, 0, 1)'
    if low >= 0 and high <= 255:
        return (
            'pass images / 255 with epsilon in the same units, as 8/255, and for a network f that '
            'wants 0 to 255 lambda x: f(255 * x)'
        )
    if low >= -1 and high <= 1:
        return (
            'pass (images + 1) / 2 with epsilon in the same units, half of that in [-1, 1], and '
            'put the normalisation inside f: lambda x: f(2 * x - 1)'
        )
    return (
        'these look standardised: pass images * std + mean with epsilon in the same units, and put '
        'the normalisation inside f: lambda x: f((x - mean) / std)'
    )


def whole_labels(labels: Any, num_images: int, num_classes: int) -> np.ndarray:
    """(n,) int32 in [0, num_classes), from whole numbers of any type. Raises ConfigError."""
    labels = np.asarray(labels)
    rule = 'must be (n,), a class number for each image'
    if labels.ndim == 2 and labels.shape[1] == 1:
        raise refusal('labels.shape', labels.shape, f'{rule}; pass labels[:, 0]')
    if labels.ndim == 2 and labels.shape[1] == num_classes:
        rule += '; these look one-hot: pass labels.argmax(-1)'
        raise refusal('labels.shape', labels.shape, rule)
    if labels.shape != (num_images,):
        raise refusal('labels.shape', labels.shape, rule, f'({num_images},)')
    is_float = jnp.issubdtype(labels.dtype, jnp.floating)
    if not is_float and not jnp.issubdtype(labels.dtype, jnp.integer):
        rule = 'must be whole numbers; pass labels.astype(int) if they are class numbers'
        raise refusal('labels.dtype', str(labels.dtype), rule)
    fractions = labels[labels != np.floor(labels)] if is_float else labels[:0]  # NaN is one
    if len(fractions):
        raise refusal('labels', float(fractions[0]), 'must be whole numbers, one class each')
    low, high = int(labels.min()), int(labels.max())
    if low >= 1 and high == num_classes:
        rule = f'must be in 0..{num_classes - 1}; these count from 1: pass labels - 1'
        raise refusal('range of labels', (low, high), rule)
    if low < 0 or high >= num_classes:
        rule = f'must be in 0..{num_classes - 1}, as the network has {num_classes} outputs'
        raise refusal('range of labels', (low, high), f'{rule}; leave unlabelled images out')
    return labels.astype(np.int32)


def with_checked_logits(classify: Classifier) -> Classifier:
    """The same network, with classes masked by -infinity as finite logits.

    Raises ConfigError, while it is traced, for what is no array (b, classes >= 2) of floats.
    """

    def logits(params: Any, images: Array) -> Array:
        outputs = classify(params, images)
        if not isinstance(outputs, jax.Array | np.ndarray):
            raise refusal(
                'outputs of the network', type(outputs).__name__,
                'must be one array of logits (b, classes); return the logits alone',
            )  # fmt: skip
        _check_logits(outputs, len(images))
        return finite_where_masked(outputs)

    return logits


def _check_logits(outputs: Array, batch_size: int) -> None:
    shape, key = outputs.shape, 'outputs of the network'
    rule = f'must be logits (b, classes), here b = {batch_size}'
    if shape in ((batch_size,), (batch_size, 1)):
        z = 'f(x)' if len(shape) == 2 else 'f(x)[:, None]'
        raise ConfigError(
            f'{key} = shape {shape}: {rule}, of at least 2 classes; for one output, positive for '
            f'class 1, pass lambda x: jax.numpy.pad({z}, ((0, 0), (1, 0)))'
        )
    if len(shape) != 2 or shape[0] != batch_size:
        raise ConfigError(f'{key} = shape {shape}: {rule}')
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ConfigError(f'{key} = {outputs.dtype}: must be floats, which attacks can climb')
