"""Reasons to doubt a robust accuracy: signs that an attack was misled, each a sentence.

    for sentence in doubts(ensemble, curve): print('warning:', sentence)

After Carlini et al. 2019 ("On evaluating adversarial robustness") and the checks of AutoAttack.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from war_jax.attacks.square import Square
from war_jax.data.sources import balanced_subset
from war_jax.models.normalisation import Normalisation, usual
from war_jax.robustness.ensemble import Ensemble

NUM_CHECKED = 256  # images for the checks that call the network again
SQUARE_SHARE = 0.002  # of all examples, that Square may break after the white-box attacks
LEFT_AT_LARGEST = 0.01  # robust accuracy at the largest epsilon of the curve
NUM_NORMALISED = 512  # images that are normalised in other ways
GAIN = 0.01  # of natural accuracy on them, beyond chance, that speaks for another way


class Curve(NamedTuple):
    epsilons: Sequence[float]
    robust: Sequence[float]  # accuracy
    stable: Sequence[float]
    num_examples: int
    attack: str


def doubts(
    ensemble: Ensemble, curve: Curve | None, assumed: Normalisation | None = None
) -> list[str]:
    """Sentences, none if all is well. Calls the network on a few images.

    assumed: how the network normalises its images, if nobody said so.
    """
    few_classes = ensemble.clean_logits.shape[-1] < 4
    return [
        *_of_logits(ensemble),
        *(_of_normalisation(ensemble, assumed) if assumed is not None else ()),
        *_of_gradients(ensemble),
        *_of_square(ensemble),
        *(_of_curve(curve) if curve is not None else ()),
        *(_of_classes(ensemble) if few_classes else ()),
    ]


def _of_logits(ensemble: Ensemble) -> Iterator[str]:
    images, logits = ensemble.images[:NUM_CHECKED], ensemble.clean_logits
    if count := int((~ensemble.is_predicted).sum()):
        yield (
            f'logits of {count} clean images are not numbers; they count as misclassified and as '
            'not stable'
        )
    if count := int((np.isinf(logits).any(-1) & ensemble.is_predicted).sum()):
        yield f'logits of {count} clean images are not finite; they count as they are predicted'
    if (logits >= 0).all() and np.allclose(logits.sum(-1), 1, atol=1e-4):
        yield (
            'outputs look like probabilities: attacks need logits, since the gradients of a '
            'softmax vanish where the network is certain'
        )
    first = logits[: len(images)]
    is_finite = np.isfinite(first).all(-1)
    # Of the two likeliest classes: a masked one is so far below that its scale would hide all else.
    likeliest = np.argsort(first, -1)[:, -2:]
    once, again, backwards = (
        np.take_along_axis(values, likeliest, -1)[is_finite]
        for values in (first, ensemble.logits(images), ensemble.logits(images[::-1])[::-1])
    )
    scale = np.abs(once).max(initial=0)
    if np.abs(again - once).max(initial=0) > 1e-3 * scale:
        yield (
            'the network gave other logits for the same images: it is not deterministic, and '
            'every number here is of one draw; average its gradients (EOT) before you attack it'
        )
    if np.abs(backwards - again).max(initial=0) > 1e-2 * scale:
        yield (
            'logits depend on which images are in a batch, as with BatchNorm in training mode: '
            'no attack on single images means anything then'
        )


def _of_normalisation(ensemble: Ensemble, assumed: Normalisation) -> Iterator[str]:
    """A normalisation in a network's code is not in its file: others are tried on clean images."""
    chosen = balanced_subset(ensemble.labels, NUM_NORMALISED)
    images, right = jnp.asarray(ensemble.images[chosen]), ensemble.natural[chosen]
    least, best = GAIN * len(chosen), None
    for other in usual(images.shape[-1]):
        # What the network as it was read makes the image that the other way would have made.
        given = np.asarray(assumed.inverse(other(images)))
        also_right = ensemble.logits(given).argmax(-1) == ensemble.labels[chosen]
        won, lost = int((also_right & ~right).sum()), int((right & ~also_right).sum())
        if won - lost > max(least, 2 * np.sqrt(won + lost)):
            least, best = won - lost, (other, float(also_right.mean()))
    if best is not None:
        yield (
            f'natural accuracy on {len(chosen)} images is {right.mean():.1%} as the network was '
            f'read, {assumed}, but {best[1]:.1%} with {best[0].flags}: its file does not say how '
            'its code normalises images; evaluate it with that flag if it does so'
        )


def _of_gradients(ensemble: Ensemble) -> Iterator[str]:
    for what, meaning in (
        ('no_gradient', 'a gradient of exactly 0, where an attack by gradients cannot go on'),
        ('not_finite', 'logits or a gradient that are not finite'),
    ):
        for result in ensemble.results:
            withstood = result.seen & ~result.search.broken
            count = int(getattr(result.search, what)[withstood].sum())
            if count:
                whose = f'of the {int(withstood.sum())} examples that withstood it'
                yield f'{result.name}: {count} {whose} met {meaning}'
    for result in ensemble.results:
        if count := int(result.search.no_answer.sum()):
            yield (
                f'{result.name}: {count} of the examples that it broke have logits there that are '
                'not numbers; they count as misclassified'
            )


def _of_square(ensemble: Ensemble) -> Iterator[str]:
    for number, (attack, result) in enumerate(
        zip(ensemble.attacks, ensemble.results, strict=False)
    ):
        count = int((result.search.broken & ensemble.natural).sum())
        if isinstance(attack, Square) and number and count > SQUARE_SHARE * len(result.seen):
            yield (
                f'square broke {count} examples that the attacks before it could not, without '
                'using gradients: those may be masked'
            )


def _of_curve(curve: Curve) -> Iterator[str]:
    if curve.robust[-1] > LEFT_AT_LARGEST:
        yield (
            f'robust accuracy is still {curve.robust[-1]:.1%} at epsilon = '
            f'{curve.epsilons[-1]:g}, under {curve.attack}: it should fall to 0'
        )


def _of_classes(ensemble: Ensemble) -> Iterator[str]:
    names = [a.name for a in ensemble.attacks if a.name in ('apgd-dlr', 'apgd-t')]
    if names:
        yield (
            f'{" and ".join(names)}: with {ensemble.clean_logits.shape[-1]} classes the DLR loss '
            'is not defined or its targeted form is not; the margin was climbed instead'
        )
