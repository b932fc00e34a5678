"""Empirical NTK of an NNX module: how far training moves it from its kernel at the start."""

import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import ntk

pixels, labels = load_digits(return_X_y=True)
images = pixels.astype(np.float32) / 16
first, second = nnx.Linear(64, 256, rngs=nnx.Rngs(0)), nnx.Linear(256, 10, rngs=nnx.Rngs(1))
module = nnx.Sequential(first, nnx.relu, second)
optimizer = nnx.Optimizer(module, optax.sgd(0.5), wrt=nnx.Param)


@nnx.jit
def step(module, optimizer):
    def loss(module):
        return optax.softmax_cross_entropy_with_integer_labels(module(images), labels).mean()

    optimizer.update(module, nnx.grad(loss)(module))


before = ntk.empirical_ntk(module, None, images[:100])  # (100, 100), the mean over the outputs
for _ in range(100):
    step(module, optimizer)
after = ntk.empirical_ntk(module, None, images[:100])
print(f'drift: {np.linalg.norm(after - before) / np.linalg.norm(before):.2f} of the kernel')
print(f'largest input gradients: {ntk.input_gradient_norms(module, None, images).max(0).round(1)}')
