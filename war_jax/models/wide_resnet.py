"""Pre-activation WideResNet-d-k: images in [0, 1] to logits.

The function is that of the TRADES and WAR authors' PyTorch networks (Zagoruyko & Komodakis 2016,
with a global average pool), so that their weights and ours are interchangeable
(`war_jax.models.torch_io`):

    model = WideResNet(depth=34, widen_factor=10, num_classes=10)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    logits = model.apply(variables, images, train=False)            # (b, h, w, c) -> (b, classes)

There are three stages of (d - 4) / 6 blocks of two convolutions; stage s = 0, 1, 2 has
round(16 * 2**s * k) channels.
"""

from war_jax.models.residual import ResidualNetwork


class WideResNet(ResidualNetwork):
    """WideResNet-depth-widen_factor: the defaults of `ResidualNetwork` are its own."""
