"""Augmentation on the device, inside the jitted training step: crop, flip, Cutout, CutMix.

Each example is moved by its own key alone. The augmented image is therefore the same whatever the
batch around it, the number of devices or the slot it sits in:

    epoch_key = jax.random.fold_in(jax.random.key(seed), epoch)
    keys = jax.vmap(lambda i: jax.random.fold_in(epoch_key, i))(batch.ids)
    images = crop_flip(keys, batch.images, pad=4, flip=True)

CutMix needs a second image, and takes it from the whole batch: it depends on which examples those
are, and on nothing else. `augmented` is all of it in order; RandAugment is in randaugment.py.
"""

import jax
import jax.numpy as jnp
from jax import Array

from war_jax.config_data import AugmentConfig
from war_jax.data.batches import Batch
from war_jax.data.device import as_unit_interval
from war_jax.data.randaugment import randaugment
from war_jax.mesh import AXIS

# Folded into an example's key, of which crop_flip makes the first two numbers' own.
_RANDAUGMENT, _CUTOUT, _CUTMIX = 2, 3, 4


def augmented(
    keys: Array,
    batch: Batch,
    *,
    pad: int,
    flip: bool,
    augment: AugmentConfig,
    num_classes: int,
    dtype: jnp.dtype,
) -> Batch:
    """Inside `shard_map`: the batch with its images as training sees them, in [0, 1] of `dtype`.

    In this order: crop and flip, RandAugment, Cutout, CutMix. With CutMix the labels become
    distributions (b, num_classes).
    """

    def derived(number: int) -> Array:
        return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)

    images = as_unit_interval(crop_flip(keys, batch.images, pad=pad, flip=flip), dtype)
    if augment.randaugment:
        images = randaugment(
            derived(_RANDAUGMENT), images, count=augment.randaugment, magnitude=augment.magnitude
        )
    if augment.cutout:
        images = cutout(derived(_CUTOUT), images, side=augment.cutout)
    batch = batch._replace(images=images)
    if augment.cutmix:
        batch = cutmix(
            derived(_CUTMIX),
            batch,
            probability=augment.cutmix,
            alpha=augment.cutmix_alpha,
            num_classes=num_classes,
        )
    return batch


def crop_flip(keys: Array, images: Array, *, pad: int, flip: bool) -> Array:
    """Pads by `pad` zeros on each side, crops back at a random offset, flips at random.

    This is `RandomCrop(size, padding=pad)` and `RandomHorizontalFlip()` of the public TRADES and
    WAR training code: offsets uniform over {0, ..., 2 pad}^2, flips with probability 1/2.

    Args:
      keys: (b,) PRNG keys.
      images: (b, h, w, c), any dtype; 0 is black.
      pad: pixels, >= 0; 0 leaves the image where it is.
      flip: whether images are mirrored left to right.

    Returns:
      (b, h, w, c), the dtype of `images`.
    """

    def one(key: Array, image: Array) -> Array:
        offset_key, flip_key = jax.random.split(key)
        if pad:
            top, left = jax.random.randint(offset_key, (2,), 0, 2 * pad + 1, dtype=jnp.int32)
            # Under vmap this is one gather of windows. Batch 128 of 32x32x3 on two CPU cores: 0.14
            # ms, of which the random draws take 0.1; gathering rows and columns by index 0.23 ms,
            # one-hot products 0.5, selecting among the 2 pad + 1 shifts 6.
            padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
            corner = (top, left, jnp.zeros_like(top))
            image = jax.lax.dynamic_slice(padded, corner, image.shape)
        if flip:
            image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
        return image

    return jax.vmap(one)(keys, images)


def cutout(keys: Array, images: Array, *, side: int) -> Array:
    """A black square of `side` pixels in each image (DeVries & Taylor 2017), (b, h, w, c) -> same.

    Its centre is uniform over the pixels, so that it may reach over the border. Theirs is 0 after
    the normalisation of the images, which is the mean colour; ours is that of the padding.
    """

    def one(key: Array, image: Array) -> Array:
        centre = jax.random.randint(key, (2,), 0, jnp.asarray(image.shape[:2]), dtype=jnp.int32)
        hole = _box(centre, jnp.full(2, side), image.shape)
        return jnp.where(hole[..., None], 0, image)

    return jax.vmap(one)(keys, images)


def cutmix(
    keys: Array,
    batch: Batch,
    *,
    probability: float,
    alpha: float,
    num_classes: int,
    axis_name: str = AXIS,
) -> Batch:
    """Inside `shard_map`: a box of another image in each, labels mixed by area (Yun et al. 2019).

    With lambda ~ Beta(alpha, alpha) the box has sqrt(1 - lambda) of the image's height and width
    and a centre uniform over the pixels; what reaches over the border is cut off, and the labels
    are weighted by what is left. The other image is any real one of the global batch, drawn
    uniformly, augmented as it is there. Each image has a box, a lambda and a partner of its own,
    whereas the authors draw one lambda and one box for a batch.

    Args:
      keys: (b,) PRNG keys of this device's examples.
      batch: this device's rows: images (b, h, w, c) floats, labels (b,) integers.
      probability: with which an image is mixed at all.
      alpha: > 0; 1 makes lambda uniform.
      num_classes: of the distributions that the labels become.
    """
    # Partners planned by the host would be gathered and augmented a second time, while all images
    # of a batch are a few megabytes; only devices that are in the same `shard_map` meet here.
    everyone: Batch = jax.lax.all_gather(batch, axis_name, tiled=True)
    # By number and not by slot, real ones first: padding and its place must change nothing.
    last = jnp.iinfo(everyone.ids.dtype).max
    order = jnp.argsort(jnp.where(everyone.mask, everyone.ids, last), stable=True)
    count = everyone.mask.sum()

    def one(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        partner_key, ratio_key, centre_key, whether_key = jax.random.split(key, 4)
        partner = order[jax.random.randint(partner_key, (), 0, count)]
        kept = jax.random.beta(ratio_key, alpha, alpha, dtype=image.dtype)
        sides = jnp.asarray(image.shape[:2])
        size = jnp.floor(jnp.sqrt(1 - kept) * sides.astype(image.dtype)).astype(jnp.int32)
        centre = jax.random.randint(centre_key, (2,), 0, sides, dtype=jnp.int32)
        box = _box(centre, size, image.shape)
        box &= jax.random.bernoulli(whether_key, probability)
        share = box.mean(dtype=image.dtype)
        own, other = (
            jax.nn.one_hot(of, num_classes, dtype=image.dtype)
            for of in (label, everyone.labels[partner])
        )
        mixed = jnp.where(box[..., None], everyone.images[partner], image)
        return mixed, (1 - share) * own + share * other

    images, labels = jax.vmap(one)(keys, batch.images, batch.labels)
    return batch._replace(images=images, labels=labels)


def _box(centre: Array, size: Array, shape: tuple[int, ...]) -> Array:
    """(2,), (2,) integers, (h, w, c) -> (h, w) bool: a rectangle, cut off at the border."""
    start = centre - size // 2
    rows, columns = (
        (at >= first) & (at < first + length)
        for at, first, length in zip(
            (jnp.arange(shape[0]), jnp.arange(shape[1])), start, size, strict=True
        )
    )
    return rows[:, None] & columns[None, :]
