"""What training minimises: natural risk + lambda * robust regularization (Wu et al. 2021).

    objective = Trades()
    loss_fn = lambda z: objective.attack_loss(predict(z), clean_logits, labels)      # the attack's
    terms = objective.risk(clean_logits, adv_logits, labels, jnp.mean)               # the update's
    loss = terms.natural + lam * terms.robust

The two terms are reported unweighted, and lambda is not known here: it lives in the training
state, where width adjusted regularization moves it. `mean` reduces per-example values (b,) to a
scalar; the training step passes the mean over the real examples of all devices.

Labels are integers (b,), or distributions over the classes (b, classes), as mixed images have them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from war_jax.attacks.losses import cross_entropy, kl_divergence

Mean = Callable[[Array], Array]  # (b,) -> ()


class RiskTerms(NamedTuple):
    natural: Array  # ()
    robust: Array  # () >= 0, not multiplied by lambda


class Objective(Protocol):
    """Natural risk and robust regularization, and the loss by which the attack looks for x_adv."""

    @property
    def uses_attack(self) -> bool: ...

    @property
    def regularizes(self) -> bool:
        """Whether there is a second term at all, for lambda to weigh."""
        ...

    def attack_loss(self, logits: Array, clean_logits: Array, labels: Array) -> Array:
        """(b, classes), (b, classes), labels -> (b,): what the adversary maximises."""
        ...

    def risk(
        self, clean_logits: Array, adv_logits: Array, labels: Array, mean: Mean
    ) -> RiskTerms: ...


@dataclass(frozen=True)
class Natural:
    """Plain cross-entropy: the regularization is 0 and no attack runs."""

    label_smoothing: float = 0.0
    uses_attack = False
    regularizes = False

    def attack_loss(self, logits: Array, clean_logits: Array, labels: Array) -> Array:
        del clean_logits
        return cross_entropy(logits, labels)

    def risk(
        self, clean_logits: Array, adv_logits: Array, labels: Array, mean: Mean
    ) -> RiskTerms:
        del adv_logits
        natural = mean(cross_entropy(clean_logits, labels, self.label_smoothing))
        return RiskTerms(natural, jnp.zeros_like(natural))


@dataclass(frozen=True)
class Adversarial(Natural):
    """Cross-entropy of the adversarial images alone (Madry et al. 2018), without a regularization.

    It is reported in the place of the natural risk. Single-step training needs this form: Madry's
    with a positive part does not follow an attack that lowers the loss, as one step may do.
    """

    uses_attack = True

    def risk(
        self, clean_logits: Array, adv_logits: Array, labels: Array, mean: Mean
    ) -> RiskTerms:
        return super().risk(adv_logits, clean_logits, labels, mean)


@dataclass(frozen=True)
class Madry:
    """Natural cross-entropy + lambda * (adversarial - natural)^+; lambda = 1 is Madry et al. 2018.

    The positive part is taken of the batch means: examples on which the attack failed count
    against the others.
    """

    label_smoothing: float = 0.0
    uses_attack = True
    regularizes = True

    def attack_loss(self, logits: Array, clean_logits: Array, labels: Array) -> Array:
        del clean_logits
        return cross_entropy(logits, labels)

    def risk(
        self, clean_logits: Array, adv_logits: Array, labels: Array, mean: Mean
    ) -> RiskTerms:
        natural = mean(cross_entropy(clean_logits, labels, self.label_smoothing))
        adversarial = mean(cross_entropy(adv_logits, labels, self.label_smoothing))
        return RiskTerms(natural, jax.nn.relu(adversarial - natural))


@dataclass(frozen=True)
class MadryPerExample(Madry):
    """Natural cross-entropy + lambda * the mean of each example's (adversarial - natural)^+.

    So in the WAR authors' code. An example on which the attack failed has no regularization, in
    the place of a negative one: with lambda = 1 the sum is the mean of the larger of the two losses
    of each example, not the adversarial loss of Madry et al. 2018.
    """

    def risk(
        self, clean_logits: Array, adv_logits: Array, labels: Array, mean: Mean
    ) -> RiskTerms:
        natural = cross_entropy(clean_logits, labels, self.label_smoothing)
        adversarial = cross_entropy(adv_logits, labels, self.label_smoothing)
        return RiskTerms(mean(natural), mean(jax.nn.relu(adversarial - natural)))


@dataclass(frozen=True)
class Trades:
    """Natural cross-entropy + lambda * KL(f(x) || f(x_adv)) (Zhang et al. 2019)."""

    label_smoothing: float = 0.0
    uses_attack = True
    regularizes = True

    def attack_loss(self, logits: Array, clean_logits: Array, labels: Array) -> Array:
        del labels
        return kl_divergence(clean_logits, logits)

    def risk(
        self, clean_logits: Array, adv_logits: Array, labels: Array, mean: Mean
    ) -> RiskTerms:
        natural = mean(cross_entropy(clean_logits, labels, self.label_smoothing))
        return RiskTerms(natural, mean(kl_divergence(clean_logits, adv_logits)))


@dataclass(frozen=True)
class TradesCrossEntropy(Trades):
    """TRADES' two terms, at images that maximise the cross-entropy to the label.

    The attack is not the regularization's own: Gowal et al. 2020 train so, too (section 4.1, inner
    maximization).
    """

    def attack_loss(self, logits: Array, clean_logits: Array, labels: Array) -> Array:
        del clean_logits
        return cross_entropy(logits, labels)


def likeliest(labels: Array) -> Array:
    """Integers (b,), or of distributions (b, classes) the class of the largest share -> (b,)."""
    return labels if labels.ndim == 1 else labels.argmax(-1)


def over_labels(values: Callable[[Array], Array], labels: Array) -> Array:
    """`values` of integer labels, (b,) -> (b,), or its mean over distributions (b, classes)."""
    if labels.ndim == 1:
        return values(labels)
    batch, classes = labels.shape
    of_each = jax.vmap(lambda label: values(jnp.full(batch, label)), out_axes=1)(
        jnp.arange(classes)
    )
    return jnp.sum(labels * of_each, -1)


@dataclass(frozen=True)
class Mart:
    """Boosted cross-entropy + lambda * KL weighted by natural uncertainty (Wang et al. 2020).

    The first term is MART's boosted cross-entropy of the *adversarial* images, reported in the
    place of the natural risk. With p = f(x), p' = f(x_adv) and a label y, the two terms are

        -log p'_y - log(1.0001 - max_{k != y} p'_k)   and   KL(p || p') (1 - p_y).

    Of a distribution q over labels each is its mean over y drawn from q: what it was where q is
    one-hot, and linear in q as cross-entropy is. MART has no form for mixed labels; this one is
    ours. Its boost stays what it is for: of two classes it is the cross-entropy to q once more (but
    for the 1.0001), least where the network's outputs are the mixture.
    """

    label_smoothing: float = 0.0
    uses_attack = True
    regularizes = True

    def attack_loss(self, logits: Array, clean_logits: Array, labels: Array) -> Array:
        del clean_logits
        return cross_entropy(logits, labels)

    def risk(
        self, clean_logits: Array, adv_logits: Array, labels: Array, mean: Mean
    ) -> RiskTerms:
        classes = adv_logits.shape[-1]

        def boost(labels: Array) -> Array:
            is_label = jax.nn.one_hot(labels, classes, dtype=bool)
            strongest_other = jnp.max(jnp.where(is_label, 0.0, jax.nn.softmax(adv_logits)), -1)
            # 1.0001 as in MART's code: finite where the network is certain and wrong.
            return -jnp.log(1.0001 - strongest_other)

        def probability(labels: Array) -> Array:
            is_label = jax.nn.one_hot(labels, classes, dtype=bool)
            return jnp.sum(jnp.where(is_label, jax.nn.softmax(clean_logits), 0.0), -1)

        smoothed = cross_entropy(adv_logits, labels, self.label_smoothing)
        boosted = smoothed + over_labels(boost, labels)
        label_probability = over_labels(probability, labels)
        regularization = kl_divergence(clean_logits, adv_logits) * (1 - label_probability)
        return RiskTerms(mean(boosted), mean(regularization))


OBJECTIVES = {
    'natural': Natural,
    'adversarial': Adversarial,
    'madry': Madry,
    'madry_per_example': MadryPerExample,
    'trades': Trades,
    'trades_ce': TradesCrossEntropy,
    'mart': Mart,
}
