"""Robust accuracy of your own Flax model: here a small one, trained on scikit-learn's digits."""

import flax.linen as nn
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

import war_jax

pixels, labels = load_digits(return_X_y=True)
images = pixels.reshape(-1, 8, 8, 1).astype(np.float32) / 16  # in [0, 1]
model = nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(64), nn.relu, nn.Dense(10)])
params, adam = model.init(jax.random.key(0), images[:1]), optax.adam(0.01)
apply, x, y = jax.jit(model.apply), images[200:], labels[200:]


def loss(params):
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y).mean()


state, gradient = adam.init(params), jax.jit(jax.grad(loss))
for _ in range(100):
    updates, state = adam.update(gradient(params), state)
    params = optax.apply_updates(params, updates)

f, ball = lambda images: apply(params, images), war_jax.ThreatModel('linf', 0.1)
result = war_jax.evaluate(f, images[:200], labels[:200], ball, 'apgd-ce')  # AutoAttack by default
print(f'natural {result["natural_accuracy"]:.1%}, robust {result["robust_accuracy"]:.1%}')
print('doubts:', result['doubts'] or 'none')
