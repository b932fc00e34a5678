"""A linear classifier, for which everything is known in closed form."""

from typing import Any

import jax.numpy as jnp
import numpy as np

SHAPE = (8, 8, 2)
NUM_CLASSES = 5


def weights(num_classes: int = NUM_CLASSES) -> np.ndarray:
    """(classes, 128), every entry of which matters."""
    return np.random.default_rng(0).normal(size=(num_classes, int(np.prod(SHAPE))))


def images(count: int) -> np.ndarray:
    """Far enough from the edges of the box for the balls of these tests."""
    return np.random.default_rng(1).uniform(0.4, 0.6, size=(count, *SHAPE)).astype(np.float32)


def classify(params: Any, x: Any) -> Any:
    return x.reshape(x.shape[0], -1) @ params.T


def predictions(num_classes: int, x: np.ndarray) -> np.ndarray:
    logits = x.reshape(len(x), -1).astype(np.float64) @ weights(num_classes).T
    return logits.argmax(-1).astype(np.int32)


def distances(num_classes: int, x: np.ndarray, labels: np.ndarray, norm: str) -> np.ndarray:
    """(n, classes): the smallest perturbation that makes the class as likely as the label.

    (z_y - z_c) over the dual norm of w_y - w_c; infinite for the label.
    """
    w = weights(num_classes)
    logits = x.reshape(len(x), -1).astype(np.float64) @ w.T
    gaps = logits[np.arange(len(x)), labels][:, None] - logits
    differences = w[labels][:, None] - w[None]
    lengths = np.linalg.norm(differences, 1 if norm == 'linf' else 2, axis=-1)
    with np.errstate(invalid='ignore'):
        return np.where(lengths > 0, gaps / np.where(lengths > 0, lengths, 1), np.inf)


def params(num_classes: int = NUM_CLASSES) -> Any:
    return jnp.asarray(weights(num_classes), jnp.float32)


def nearest(num_classes: int, x: np.ndarray, norm: str) -> np.ndarray:
    """(n,): to the nearest other class."""
    return distances(num_classes, x, predictions(num_classes, x), norm).min(1)


def median_distance(norm: str, count: int, num_classes: int = NUM_CLASSES) -> float:
    """About half of `images(count)` can be broken within it; none is at this very distance."""
    ordered = np.sort(nearest(num_classes, images(count), norm))
    gaps = ordered[1:] / ordered[:-1]
    quarter = count // 4
    widest = quarter + int(np.argmax(gaps[quarter : 3 * quarter]))
    assert gaps[widest] > 1.01
    return float(np.sqrt(ordered[widest] * ordered[widest + 1]))
