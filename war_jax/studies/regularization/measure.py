"""All that is measured of one network; programs are compiled once for all networks of a shape.

    measures = Measures(config, splits, settings.measure)
    losses = [measures.training_loss(read_probe(path)) for path in probes.values()]
    row = measures.of(read_probe(path), jax.random.key(0))

`row` has numbers by the names in SCALARS, lists of them per test image ('margins', 'confidences',
'distances', 'lower_bounds'), and 'layers': name -> numbers by the names in OF_LAYERS.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from war_jax.attacks.losses import cross_entropy
from war_jax.attacks.pgd import Budget, pgd
from war_jax.attacks.threat import ThreatModel
from war_jax.config import Config
from war_jax.data.device import as_unit_interval
from war_jax.data.sources import Dataset, Splits, balanced_subset
from war_jax.lab.quantities import NATS, NORM, RATE, RATIO, Quantity
from war_jax.measures.operators import (
    certified_bound,
    fold,
    singular_values,
    wide_resnet_layers,
)
from war_jax.measures.regularization.distance import make_search, nearest_boundary
from war_jax.measures.regularization.gains import (
    coefficient_of_variation,
    layer_gains,
    wide_resnet_hidden,
)
from war_jax.measures.regularization.margins import confidences, lower_bound, margins
from war_jax.models import forward
from war_jax.studies.regularization.settings import REACH, Measure
from war_jax.training.networks import make_model

# Means over seeds are arithmetic ones.
SCALARS = {
    key: Quantity(key, title, unit, False, meaning)
    for key, title, unit, meaning in (
        ('accuracy_train', 'accuracy, training images', RATE, 'f(x) = y'),
        ('accuracy_test', 'accuracy, test images', RATE, 'f(x) = y'),
        ('robust_accuracy_test', 'robust accuracy, test images', RATE, 'f(x) = f(x′) = y'),
        ('loss_train', 'loss, training images', NATS, 'mean cross-entropy'),
        ('loss_test', 'loss, test images', NATS, 'mean cross-entropy'),
        ('accuracy_gap', 'accuracy, training minus test', 'difference of shares', 'of the above'),
        ('loss_gap', 'loss, test minus training', NATS, 'of the above'),
        ('margin', 'margin of logits', 'logits', 'largest logit minus the second, mean'),
        ('confidence', 'confidence', RATE, 'largest probability, mean over images'),
        ('distance', 'L2 distance to the boundary', NORM, 'mean over images where it was found'),
        ('lipschitz_bound', 'product of spectral norms', NORM, 'above the Lipschitz constant'),
    )
}
OF_LAYERS = {
    key: Quantity(key, title, unit, False, meaning)
    for key, title, unit, meaning in (
        ('std', 'std of singular values', NORM, 'their standard deviation'),
        ('spread', 'std / mean of singular values', RATIO, 'their coefficient of variation'),
        ('norm', 'largest singular value', NORM, 'the spectral norm'),
        ('random_gain', 'gain, random', RATIO, 'mean over images and random perturbations'),
        ('random_cv', 'variation of gain, random', RATIO, 'standard deviation over this mean'),
        ('adversarial_gain', 'gain, adversarial', RATIO, 'mean over images, x to x′'),
        ('adversarial_cv', 'variation of gain, adversarial', RATIO, 'standard deviation over mean'),
    )
}
Row = dict[str, Any]
_RANDOM, _ATTACK = range(2)  # folded into the key


class Measures:
    """Compiled for the networks of one configuration, but for their weights."""

    def __init__(self, config: Config, splits: Splits, settings: Measure):
        model = make_model(config, splits.num_classes)
        # As war_jax measures: not in bfloat16, whose rounding is as large as a perturbation.
        self.model = model.clone(axis_name=None, dtype=model.param_dtype)
        self.settings = settings
        self.train = self._images(splits.train, settings.num_train)
        self.test = self._images(splits.test, settings.num_test)
        self.threat = ThreatModel(config.threat.norm, settings.epsilon)
        classify = partial(forward.evaluate, self.model)
        self.classify = jax.jit(classify)
        self.search = make_search(classify, settings.search_steps)
        self.attacked = jax.jit(self._attacked)
        self.gains = jax.jit(self._gains)

    def training_loss(self, variables: forward.Variables) -> float:
        """Mean cross-entropy of clean training images, BatchNorm in inference mode."""
        x, labels = self.train
        return float(cross_entropy(self.classify(variables, x), labels).mean())

    def of(self, variables: forward.Variables, key: Array) -> Row:
        of_split = {}
        for name, (x, labels) in (('train', self.train), ('test', self.test)):
            logits = self.classify(variables, x)
            of_split[f'accuracy_{name}'] = float((logits.argmax(-1) == labels).mean())
            of_split[f'loss_{name}'] = float(cross_entropy(logits, labels).mean())
        x, labels = self.test
        logits = self.classify(variables, x)
        moved, still_right = self.attacked(variables, jax.random.fold_in(key, _ATTACK), x, labels)
        layers = fold(wide_resnet_layers(self.model, variables))
        image_shape = tuple(x.shape[1:])
        bound = certified_bound(layers, image_shape).bound
        few = self.settings.num_distance
        distances, _ = nearest_boundary(self.search, variables, x[:few])
        of_images = {
            'margins': margins(logits),
            'confidences': confidences(logits),
            'distances': distances,
            'lower_bounds': lower_bound(margins(logits[:few]), bound),
        }
        finite = distances[np.isfinite(distances)]
        gains = self.gains(variables, jax.random.fold_in(key, _RANDOM), x, moved)
        return {
            **of_split,
            'robust_accuracy_test': float(still_right.mean()),
            'accuracy_gap': of_split['accuracy_train'] - of_split['accuracy_test'],
            'loss_gap': of_split['loss_test'] - of_split['loss_train'],
            'margin': float(of_images['margins'].mean()),
            'confidence': float(of_images['confidences'].mean()),
            'distance': float(finite.mean()) if len(finite) else None,
            'lipschitz_bound': bound,
            **{name: np.asarray(values).tolist() for name, values in of_images.items()},
            'layers': {
                name: {**of_spectrum(values), **jax.tree.map(float, gains[name])}
                for name, values in singular_values(layers, image_shape).items()
            },
        }

    def _images(self, dataset: Dataset, count: int) -> tuple[Array, Array]:
        few = dataset.take(balanced_subset(dataset.labels, min(count, len(dataset.labels))))
        # In an order of chance: the first few are to be balanced, too.
        order = np.random.default_rng(0).permutation(len(few.labels))
        images = as_unit_interval(jnp.asarray(few.images[order]), self.model.param_dtype)
        return images, jnp.asarray(few.labels[order])

    def _attacked(
        self, variables: forward.Variables, key: Array, x: Array, labels: Array
    ) -> tuple[Array, Array]:
        """PGD on the cross-entropy: images, and whether they are classified rightly still."""
        steps = self.settings.attack_steps
        budget = Budget(steps, REACH * self.settings.epsilon / steps, 'uniform', 1.0)

        def logits(z: Array) -> Array:
            return forward.evaluate(self.model, variables, z)

        keys = jax.random.split(key, len(x))
        moved = pgd(keys, lambda z: cross_entropy(logits(z), labels), x, self.threat, budget)
        both = (logits(z).argmax(-1) == labels for z in (x, moved))
        return moved, jnp.logical_and(*both)

    def _gains(
        self, variables: forward.Variables, key: Array, x: Array, moved: Array
    ) -> dict[str, dict[str, Array]]:
        """By layer: mean and variation over images, and over random directions."""
        hidden = wide_resnet_hidden(self.model, variables)
        times = self.settings.directions
        keys = jax.random.split(key, times * len(x))
        drawn = jax.vmap(lambda k: self.threat.sample(k, x.shape[1:], x.dtype))(keys)
        many = jnp.tile(x, (times, 1, 1, 1))
        found = {}
        for kind, (start, end) in {
            'random': (many, many + drawn),
            'adversarial': (x, moved),
        }.items():
            for name, gains in layer_gains(hidden, start, end).items():
                found.setdefault(name, {})[f'{kind}_gain'] = gains.mean()
                found[name][f'{kind}_cv'] = coefficient_of_variation(gains)
        return found


def of_spectrum(values: np.ndarray) -> dict[str, float]:
    """std, std / mean and the largest of singular values."""
    mean, std = float(values.mean()), float(values.std())
    return {'std': std, 'spread': std / mean if mean else 0.0, 'norm': float(values.max())}
