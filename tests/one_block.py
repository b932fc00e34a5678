"""A WideResNet of one block: all of its parts, compiled in half the time of the smallest real one.

    model = OneBlock(dtype=jnp.dtype('float64'))
    logits = model.apply(variables, images, train=False)        # (b, h, w, c) -> (b, num_classes)
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from war_jax.models.layers import BatchNorm, Convolution
from war_jax.models.residual import Stage


class OneBlock(nn.Module):
    """Stem, block with a stride of 2, norm and head; called as `WideResNet` is."""

    axis_name: str | None = None
    remat: bool = False
    dtype: jnp.dtype = jnp.dtype('float32')
    num_classes: int = 3

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool, mask: jax.Array | None = None):
        passes = images.shape[0] if images.ndim == 5 else None
        how = {'train': train, 'mask': mask, 'passes': passes}
        kind = ('relu', 'torch', self.axis_name, self.dtype, self.dtype)
        x = images.reshape(-1, *images.shape[-3:])
        x = Convolution(4, 3, 1, self.dtype, self.dtype, name='stem')(x)
        x = Stage(1, 6, 2, *kind, self.remat, name='stage1')(x, **how)
        x = BatchNorm(1e-5, *kind[2:], name='norm')(x, **how)
        logits = nn.Dense(self.num_classes, dtype=self.dtype, param_dtype=self.dtype, name='head')(
            nn.relu(x).mean((1, 2))
        )
        return logits.reshape(*images.shape[:-3], self.num_classes)
