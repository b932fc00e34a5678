"""Robust accuracy of your own Flax model: here a small one, trained on scikit-learn's digits."""

import flax.linen as nn
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

import war_jax

digits = load_digits()
images, labels = np.float32(digits.images[..., None] / 16), digits.target  # (n, 8, 8, 1) in [0, 1]
model = nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(64), nn.relu, nn.Dense(10)])
params, adam = model.init(jax.random.key(0), images[:1]), optax.adam(0.01)


def loss(params):
    logits = model.apply(params, images[200:])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[200:]).mean()


state, gradient = adam.init(params), jax.jit(jax.grad(loss))
for _ in range(100):
    updates, state = adam.update(gradient(params), state)
    params = optax.apply_updates(params, updates)

f, ball = lambda x: model.apply(params, x), war_jax.ThreatModel('linf', 0.1)
result = war_jax.evaluate(f, images[:200], labels[:200], ball, 'apgd-ce')  # AutoAttack by default
print(f'natural {result["natural_accuracy"]:.1%}, robust {result["robust_accuracy"]:.1%}')
print('doubts:', result['doubts'] or 'none')
