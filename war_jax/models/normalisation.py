"""How a network normalises the images that it is given, and how published ones do.

normalised = Normalisation((0.5,), (0.5,))(images)             # (images - 0.5) / 0.5
for other in usual(channels=3): ...
"""

from collections.abc import Iterator
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from war_jax.config_model import CONSTANTS, Numbers


@dataclass(frozen=True)
class Normalisation:
    """images (b, h, w, c) -> (images - mean) / std, or each by its own mean and deviation.

    mean, std: one number per channel, or one for all. Raises ValueError for a std that is not
    positive, and for what is not finite.
    per_image: over all pixels and channels of an image, its deviation unbiased, as PyTorch's, and
    at least that of one pixel, 1/sqrt(h w c), as in TensorFlow. mean and std are then not used.
    """

    mean: Numbers = (0.0,)
    std: Numbers = (1.0,)
    per_image: bool = False

    def __post_init__(self) -> None:
        for what, numbers, holds in (
            ('a mean', self.mean, np.isfinite(self.mean).all()),
            ('a deviation (sigma)', self.std, all(0 < value < np.inf for value in self.std)),
        ):
            if not holds:
                rule = 'must be finite' + (', and above 0' if numbers is self.std else '')
                raise ValueError(f'normalises its input by {what} of {_listed(numbers)}: {rule}')

    def __call__(self, images: Array) -> Array:
        if self.per_image:
            axes = (1, 2, 3)
            mean, std = images.mean(axes, keepdims=True), images.std(axes, ddof=1, keepdims=True)
            return (images - mean) / jnp.maximum(std, 1 / np.sqrt(np.prod(images.shape[1:])))
        if self.is_identity:
            return images
        shift, scale = self._of_channels(images)
        return (images - shift) / scale

    def inverse(self, normalised: Array) -> Array:
        """The images that `self` makes `normalised`. Raises ValueError for per_image."""
        if self.per_image:
            raise ValueError('the mean and the deviation of each image are lost')
        shift, scale = self._of_channels(normalised)
        return normalised * scale + shift

    def _of_channels(self, images: Array) -> Iterator[Array]:
        """mean and std, each (1, 1, 1, channels), or 1 for all channels."""
        return (jnp.array(v, images.dtype).reshape(1, 1, 1, -1) for v in (self.mean, self.std))

    @property
    def is_identity(self) -> bool:
        return not (self.per_image or any(self.mean)) and set(self.std) == {1.0}

    @property
    def flags(self) -> str:
        """Of war_jax.evaluate, for a network in a file."""
        if self.per_image:
            return '--normalize=per_image'
        mean, std = (','.join(f'{v:g}' for v in values) for values in (self.mean, self.std))
        return f'--input_mean={mean} --input_std={std}'

    def __str__(self) -> str:
        if self.per_image:
            return 'each image normalised by its own mean and deviation'
        if self.is_identity:
            return 'images not normalised'
        return f'images normalised by {_listed(self.mean)} and {_listed(self.std)}'


def _listed(numbers: Numbers) -> str:
    return ', '.join(f'{value:.4g}' for value in numbers)


IDENTITY = Normalisation()
PER_IMAGE = Normalisation(per_image=True)
# By the number of classes.
CIFAR = {
    10: Normalisation(*CONSTANTS['cifar10']),
    100: Normalisation(*CONSTANTS['cifar100']),
}


def usual(channels: int) -> tuple[Normalisation, ...]:
    """Those of published networks, for images of so many channels."""
    of_colours = tuple(CIFAR.values()) if channels == 3 else ()
    return (IDENTITY, Normalisation((0.5,), (0.5,)), *of_colours, PER_IMAGE)
