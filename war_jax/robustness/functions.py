"""Attacks on any JAX function of images, and the robust accuracy that is left under them.

    result = evaluate(f, images, labels, ThreatModel('linf', 8 / 255))    # AutoAttack
    result['robust_accuracy'], result['doubts']
    adversarial = attack(f, images, labels, ThreatModel('linf', 8 / 255), 'apgd-ce')
    nearby = pgd(f, images, labels, ThreatModel('linf', 8 / 255), key=jax.random.key(0))

f: images (b, h, w, c) in [0, 1] -> logits (b, k), traceable by JAX, each row on its own. A
normalisation belongs into it. A `Network` as `war_jax.load_torch` gives it may stand for f.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from war_jax.attacks import pgd as ascent
from war_jax.attacks.losses import cross_entropy
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.lowering import in_full_precision
from war_jax.mesh import check_divisible, make_mesh
from war_jax.records.console import Display
from war_jax.robustness.doubts import doubts
from war_jax.robustness.ensemble import Ensemble, make_attacks
from war_jax.robustness.inputs import image_shape, in_box, whole_labels
from war_jax.robustness.network import Network
from war_jax.robustness.page import contents
from war_jax.robustness.progress import CURVE_EXAMPLES, bars, curve

Function = Callable[[Array], Array]


def evaluate(
    f: Function | Network,
    images: np.ndarray,
    labels: np.ndarray,
    threat: ThreatModel,
    attack: str = 'autoattack',
    *,
    batch_size: int = 256,
    seed: int = 0,
    stability: bool = True,
    curve_examples: int = CURVE_EXAMPLES,
    mesh: Mesh | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    """Robust accuracy, perturbation stability and signs of masked gradients; writes nothing.

    images: (n, h, w, c) uint8, or floats in [0, 1]; labels: (n,) whole numbers in [0, k), k >= 2.
    attack: one or several of `war_jax.robustness.ensemble.NAMES`, separated by commas. stability:
    attack images that are misclassified anyway, too. curve_examples: for the curve over epsilon;
    0: none. verbose: a bar with the time left for each attack.

    Returns what evaluation.json holds, but for settings and origin. Weights that f has closed over
    become constants of the compiled programs; those of a Network do not.
    Raises ConfigError for an unknown attack, for a batch that the devices cannot share, and for
    images, labels or logits of another kind, with what to pass instead.

    >>> import jax, numpy as np, war_jax
    >>> images, labels = np.full((4, 2, 2, 1), 0.5, np.float32), np.array([0, 0, 0, 1])
    >>> def f(x):                                  # class 0 as long as the mean is above 0.4
    ...     above = x.mean((1, 2, 3)) - 0.4
    ...     return jax.numpy.stack([above, -above], 1)
    >>> ball = war_jax.ThreatModel('linf', 0.05)   # moves the mean by 0.05 at most
    >>> result = war_jax.evaluate(f, images, labels, ball, 'pgd20', batch_size=4, curve_examples=0)
    >>> result['natural_accuracy'], result['robust_accuracy'], result['perturbation_stability']
    (0.75, 0.75, 1.0)
    """
    display = Display() if verbose else None
    ensemble = _ensemble(
        f, images, labels, threat, attack, batch_size, seed, stability, mesh, display
    )
    found = curve(ensemble, threat, curve_examples, display)
    assumed = f.assumed if isinstance(f, Network) else None
    return contents(ensemble, threat, found, doubts(ensemble, found, assumed))


def attack(
    f: Function | Network,
    images: np.ndarray,
    labels: np.ndarray,
    threat: ThreatModel,
    attack: str = 'autoattack',
    *,
    batch_size: int = 256,
    seed: int = 0,
    mesh: Mesh | None = None,
    verbose: bool = False,
) -> np.ndarray:
    """Adversarial images (n, h, w, c) float32: the image itself where nothing else was found.

    Arguments and errors are those of `evaluate`. Each image is attacked away from the class that f
    gives it; every one that is returned has been checked by a plain forward pass.

    >>> import jax, numpy as np, war_jax
    >>> images, labels = np.full((4, 2, 2, 1), 0.5, np.float32), np.zeros(4, int)
    >>> def f(x):
    ...     above = x.mean((1, 2, 3)) - 0.4
    ...     return jax.numpy.stack([above, -above], 1)
    >>> ball = war_jax.ThreatModel('linf', 0.2)
    >>> moved = war_jax.attack(f, images, labels, ball, 'apgd-ce', batch_size=4)
    >>> bool((moved.mean((1, 2, 3)) < 0.4).all()), float(abs(moved - images).max()) < 0.2 + 1e-6
    (True, True)
    """
    display = Display() if verbose else None
    ensemble = _ensemble(f, images, labels, threat, attack, batch_size, seed, True, mesh, display)
    adversarial = ensemble.images.copy()
    for result in reversed(ensemble.results):  # of several attacks the first one that broke it
        for example, image in result.search.adversarial.items():
            adversarial[example] = image
    return adversarial


def pgd(
    f: Function | Network,
    images: Any,
    labels: Any,
    threat: ThreatModel,
    *,
    key: Array | int = 0,
    budget: Budget | None = None,
) -> Array:
    """Last iterates (n, h, w, c) of projected gradient ascent on the cross-entropy.

    images and labels as for `evaluate`. key: one for all images, or a seed. budget: None means
    20 steps of 2.5 epsilon / 20 from a uniform start (Madry et al. 2018). All images at once: in
    batches, and on several devices, `attack(..., 'pgd20')` does it. Compiled once for the same f,
    shapes, threat and budget, whatever the images and keys. Raises ConfigError as `evaluate` does.

    >>> import jax, numpy as np, war_jax
    >>> images, labels = np.full((4, 2, 2, 1), 0.5, np.float32), np.zeros(4, int)
    >>> moved = war_jax.pgd(
    ...     lambda x: x.reshape(len(x), -1)[:, :2], images, labels, war_jax.ThreatModel('l2', 0.1)
    ... )
    >>> bool(moved[0, 0, 0, 0] < 0.5 < moved[0, 0, 1, 0])      # away from class 0, towards class 1
    True
    """
    epsilon = float(threat.epsilon)
    if budget is None:
        budget = Budget(20, 2.5 * epsilon / 20, 'uniform', 1.0)
    x = jnp.asarray(in_box(images).values)
    classify, params = (f.classify, f.params) if isinstance(f, Network) else (f, None)
    num_classes = jax.eval_shape(partial(_logits, classify), params, x).shape[-1]
    y = jnp.asarray(whole_labels(labels, len(x), num_classes))
    key = jax.random.key(key) if isinstance(key, int) else key
    keys = jax.random.split(key, len(x))
    return _ascend(classify, ThreatModel(threat.norm, epsilon), budget, params, keys, x, y)


@partial(jax.jit, static_argnums=(0, 1, 2))
@in_full_precision
def _ascend(
    classify: Callable[..., Array], threat: ThreatModel, budget: Budget, params: Any, keys: Array,
    x: Array, y: Array,
) -> Array:  # fmt: skip
    def loss(z: Array) -> Array:
        return cross_entropy(_logits(classify, params, z), y)

    return ascent.pgd(keys, loss, x, threat, budget)


def _logits(classify: Callable[..., Array], params: Any, z: Array) -> Array:
    return classify(z) if params is None else classify(params, z)


def _ensemble(
    f: Function | Network, images: np.ndarray, labels: np.ndarray, threat: ThreatModel,
    attack: str, batch_size: int, seed: int, stability: bool, mesh: Mesh | None,
    display: Display | None,
) -> Ensemble:  # fmt: skip
    """That has run."""
    mesh = make_mesh() if mesh is None else mesh
    check_divisible(mesh, 'batch_size', batch_size)
    if isinstance(f, Network):
        classify, params = f.classify, f.params
    else:
        classify, params = (lambda _, z: f(z)), {}
    ensemble = Ensemble(
        classify, params, images, labels, make_attacks(attack, threat, image_shape(images)),
        float(threat.epsilon), mesh, batch_size, seed, stability,
    )  # fmt: skip
    if display is None:
        ensemble.run()
    else:
        with bars(ensemble, display) as show:
            ensemble.run(show)
    return ensemble
