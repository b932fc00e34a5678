"""Robust training on your own NumPy arrays: here scikit-learn's digits."""

import numpy as np
from sklearn.datasets import load_digits

import war_jax

pixels, labels = load_digits(return_X_y=True)  # labels: (n,) whole numbers from 0 on
images = (pixels.reshape(-1, 8, 8, 1) / 16 * 255).astype(np.uint8)  # or floats in [0, 1]
summary = war_jax.train(
    'digits:smoke',  # TRADES, as short as can be; 'digits' takes two minutes and is robust
    'runs/mine',  # started again, it goes on there
    images=images[500:724],
    labels=labels[500:724],
    test_images=images[:500],
    test_labels=labels[:500],
    num_validation=32,  # any key of the configuration can be given
    max_train_examples=0,  # all
)
for name in ('natural_accuracy', 'robust_accuracy'):
    low, high = summary['intervals'][name]
    print(f'{name}: {summary[name]:.1%} ({low:.1%} to {high:.1%})')
print('more in runs/mine/report.md; for PyTorch: war-jax export runs/mine --to=mine.safetensors')
