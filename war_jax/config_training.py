"""The keys of a run's training: attack, objective, lambda, optimizer, weight perturbation.

    Config().optimizer.learning_rate           # 0.1, the default
    AttackConfig(num_steps=7, step_size=2 / 255)

Written as in war_jax/config_keys.py, whose `Config` they are groups of.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from war_jax.config_rules import above, at_least, at_most, below, increasing, key
from war_jax.config_types import AboveZero, Count, Fraction, NonNegative, Positive


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """The attack inside the training step: projected gradient ascent."""

    num_steps: Positive = key(10, 'Gradient evaluations per example and step.')
    step_size: AboveZero = key(0.007, 'Length of each, in the norm of the threat.')
    init: Literal['gaussian', 'uniform', 'none'] = key(
        'gaussian', 'Start: x + init_scale * N(0, 1), uniform in init_scale * the ball, or x.'
    )
    init_scale: AboveZero = key(0.001, 'Standard deviation, or fraction of the ball.')
    project_start: bool = key(
        False,
        'The start, too, is put back to where steps end (so FGSM-RS and N-FGSM; TRADES does not).',
        absent=False,
    )
    projection: Literal['ball', 'box'] = key(
        'ball',
        'Where steps end. ball: in the threat, which is cut to pixels in [0, 1]. box: in [0, 1] '
        'alone, however far from x (N-FGSM).',
        absent='ball',
    )
    batch_norm: Literal['eval', 'train'] = key(
        'eval',
        "BatchNorm in the attack. eval: by the running statistics, as in TRADES' code. train: by "
        'those of the attacked batch, as in single-step training; they do not enter the running '
        'ones.',
        absent='eval',
    )
    early_stop: Annotated[int, at_least(-1)] = key(
        -1,
        'How many steps an image still takes after it is misclassified for the first time '
        '(Friendly Adversarial Training: tau, 0 to 3). -1: all of them.',
        absent=-1,
    )
    warmup_epochs: NonNegative = key(
        0.0,
        'Over this many epochs, which need not be whole, epsilon and step size grow linearly to '
        'what they are. 0: no warm-up.',
        absent=0.0,
    )


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is minimised: natural risk + lam * robust regularization."""

    name: Literal[
        'natural', 'adversarial', 'madry', 'madry_per_example', 'trades', 'trades_ce', 'mart'
    ] = key(
        'trades',
        'Which robust regularization, and how it is attacked. natural and adversarial have none, '
        'and are the cross-entropy of clean or of adversarial images. madry takes the '
        'positive part of the difference of the batch means (lambda 1 is then the training of '
        "Madry et al.), madry_per_example of each example's difference, as the WAR authors do. "
        'trades_ce is trades, attacked by the cross-entropy in the place of the divergence.',
    )
    lam: NonNegative = key(
        6.0, "lambda, the weight of the robust regularization (beta in TRADES' code)."
    )
    grad_align: NonNegative = key(
        0.0,
        "Weight of GradAlign's penalty, which lambda does not weigh: 1 - the cosine of the input "
        'gradients at x and at a random point of the ball (Andriushchenko & Flammarion 2020: 0.2 '
        'for CIFAR-10 at 8/255). 0: none.',
        absent=0.0,
    )
    helper: str = key(
        '',
        "Folder of a finished run with objective.name = 'natural' on the same images: the standard "
        'network of helper-based adversarial training (HAT; Rade & Moosavi-Dezfooli 2022). Empty: '
        'none.',
        absent='',
    )
    helper_weight: AboveZero = key(
        0.5,
        "Of HAT's cross-entropy, which lambda does not weigh (theirs, with lambda 2.5).",
        absent=0.5,
    )
    helper_reach: AboveZero = key(
        2.0,
        'Where that is taken: at x + so many times the perturbation, with the class that the '
        'standard network sees at x + once of it.',
        absent=2.0,
    )
    label_smoothing: Fraction = key(
        0.0,
        'Mass moved from the label to all classes alike, in every cross-entropy of the loss: that '
        'of the clean images (natural, trades), of both (madry, madry_per_example), of the '
        'adversarial ones (mart). Not in the attack.',
    )


@dataclass(frozen=True, kw_only=True)
class WarConfig:
    """Width adjusted regularization: lambda moves during training until the risk ratio (natural
    risk / robust regularization) is that of a tuned thin network."""

    reference: str = key(
        '',
        "The folder of the thin network's finished run, or its war.json. lambda then moves by the "
        'rule, and objective.lam is not used. Empty: lambda stays objective.lam.',
    )
    rule: Literal['integral', 'fixed_step'] = key(
        'integral',
        "integral: ours, an integral controller; lambda starts at the thin network's and never "
        'falls below it. fixed_step: our understanding of Algorithm 1 of the paper, whose text we '
        'could not read; lambda moves by a fixed step after every mini-batch, up where its ratio '
        "is below the thin network's at its end, else down. What is said to be of one rule is not "
        'used by the other.',
        absent='integral',  # in a config.json from before there was a choice
    )
    step: AboveZero = key(
        0.1, 'Of the fixed_step rule: what lambda changes by after a mini-batch.', absent=0.1
    )
    start: NonNegative = key(
        0.0, 'Of the fixed_step rule: lambda at the start of the training.', absent=0.0
    )
    target: Literal['trajectory', 'constant'] = key(
        'trajectory',
        "Of the integral rule: what the ratio is held to, the thin network's at the same share of "
        'training, or its end value throughout.',
    )
    gain: NonNegative = key(
        6.0,
        'Of the integral rule: over a whole training, log lambda grows by gain * the mean of (log '
        'target - log ratio). On digits the ratio follows its target at 6 and swings around it at '
        '30 (docs/results.md). 0: lambda is constant.',
    )
    averaging_epochs: AboveZero = key(
        1.0,
        'The ratio that is logged, and that the integral rule holds, is that of moving averages '
        'over this many epochs. What a reference was recorded with, a run that uses it must have '
        'too.',
    )
    max_factor: Annotated[float, at_least(1)] = key(
        10.0, "Of the integral rule: lambda is at most this many times the thin network's."
    )

    @property
    def variant(self) -> str:
        """The rule in one word: that of the fixed step, or else the integral one by its target."""
        return self.target if self.rule == 'integral' else self.rule


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Stochastic gradient descent."""

    epochs: Positive = key(76, 'Passes over the training examples.')
    batch_size: Positive = key(128, 'Examples per step, over all devices together.')
    accumulation: Positive = key(
        1,
        'Parts of a batch that each device works on one after the other, to save memory. The '
        'gradient is that of the whole batch, but BatchNorm sees one part at a time, as it sees '
        "one device's with batch_norm.statistics = 'per_device'.",
    )
    learning_rate: AboveZero = key(0.1, 'At its peak; see the schedule.')
    momentum: Fraction = key(0.9, 'Of the gradients.')
    nesterov: bool = key(False, "Nesterov's momentum instead of Polyak's.")
    weight_decay: NonNegative = key(
        2e-4, "Added to the gradient, times the weights (coupled, as in PyTorch's SGD)."
    )
    decay_norm_and_bias: bool = key(
        True, "Decay BatchNorm's scales and all biases too, as the papers' code does."
    )
    clip_norm: NonNegative = key(
        0.0,
        'A gradient that is longer is scaled to this length, all weights together and before the '
        'decay is added. The logged gradient_norm is that before it. 0: no clipping.',
        absent=0.0,
    )
    schedule: Literal['piecewise', 'halving', 'cosine', 'one_cycle', 'cyclic'] = key(
        'piecewise',
        'piecewise: times factor from each epoch of boundaries on (epochs count from 1). halving: '
        'from the one epoch in boundaries on, halved every epoch. cosine: to 0. one_cycle: from a '
        '25th of the peak up to it and down to almost 0 in half waves of a cosine, as '
        "PyTorch's OneCycleLR. cyclic: from 0 to the peak and back to 0, along straight lines.",
    )
    cycle_momentum: bool = key(
        False,
        'Of one_cycle: the momentum goes from 0.95 to 0.85 at the peak of the rate and back, as '
        "PyTorch's OneCycleLR makes it unless told not to; momentum is then not used.",
        absent=False,
    )
    rise: Annotated[float, above(0), below(1)] = key(
        0.25,
        'Of one_cycle and cyclic: the share of the steps before the peak (Rebuffi et al. 2021: '
        '0.25, Wang et al. 2023: 0.025; Wong et al. 2020: 0.5; Rice et al. 2020: 0.4).',
        absent=0.25,
    )
    boundaries: Annotated[tuple[Positive, ...], increasing()] = key(
        (75, 90, 100), 'Epochs of the schedule; may lie behind the last one.'
    )
    factor: Annotated[float, above(0), at_most(1)] = key(0.1, 'Of the piecewise schedule.')
    warmup_epochs: NonNegative = key(
        0.0, 'Linear warm-up over this many epochs, which need not be whole. 0: none.'
    )


@dataclass(frozen=True, kw_only=True)
class AwpConfig:
    """Adversarial weight perturbation (Wu et al. 2020)."""

    gamma: NonNegative = key(
        0.0,
        'Size of the perturbation, relative to the weights (theirs for TRADES: 0.005). 0: off.',
    )
    warmup_epochs: Count = key(10, 'Epochs trained without it first.')
