"""Catastrophic overfitting (Wong et al. 2020): training by a weak attack that a network has learnt
to withstand without withstanding any other.

    if is_catastrophic(best, now):
        print(warning(step, best_step, best, now))

From one epoch to the next the robust accuracy under PGD then falls to almost nothing, while the
accuracy on training's own adversarial images rises. Robust overfitting (Rice et al. 2020), in which
the former falls slowly, is not meant.
"""

from typing import NamedTuple

FALL = 0.2  # of the robust accuracy; Wong et al.'s code stops training at such a fall


class Accuracies(NamedTuple):
    """robust: under PGD, on the examples that select the best network. trained: on the adversarial
    images of the training steps before."""

    robust: float
    trained: float


def is_catastrophic(best: Accuracies, now: Accuracies) -> bool:
    """best: when the robust accuracy was at its highest so far."""
    return best.robust - now.robust > FALL and now.trained > best.trained


def warning(step: int, best_step: int, best: Accuracies, now: Accuracies) -> str:
    """One line: what was seen, what is kept, what to do."""
    return (
        f'step {step}: catastrophic overfitting: since step {best_step} robust accuracy fell from '
        f'{best.robust:.1%} to {now.robust:.1%}, and that on training’s own adversarial images '
        f'rose from {best.trained:.1%} to {now.trained:.1%}; the network of step {best_step} is '
        'kept as the best one; try, in a new workdir, a larger attack.num_steps, a smaller '
        'attack.step_size, or objective.grad_align'
    )
