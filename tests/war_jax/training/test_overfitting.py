"""Oracle: histories made up as catastrophic overfitting looks, and as other things do."""

from types import SimpleNamespace

import pytest

from war_jax.training.checkpoint import Progress
from war_jax.training.loop import Run
from war_jax.training.overfitting import Accuracies, is_catastrophic

# (robust accuracy on validation, accuracy on training's adversarial images) at each validation.
COLLAPSE = [(0.30, 0.33), (0.42, 0.45), (0.45, 0.50), (0.02, 0.85), (0.00, 0.97)]
RECOVERY = [(0.45, 0.50), (0.05, 0.80), (0.35, 0.52), (0.10, 0.90)]
HARMLESS = {
    'robust overfitting': [(0.50, 0.55), (0.48, 0.62), (0.45, 0.75), (0.42, 0.88)],
    'divergence': [(0.45, 0.50), (0.10, 0.12), (0.10, 0.10)],
    'a hard epoch': [(0.45, 0.50), (0.33, 0.52), (0.46, 0.53)],
    'steady': [(0.30, 0.35), (0.40, 0.42), (0.50, 0.51)],
}


def warned(history: list[tuple[float, float]], uses_attack: bool = True) -> list[int]:
    """The validations, from 1 on, at which a run warns."""
    said, rows = [], []
    run = SimpleNamespace(
        parts=SimpleNamespace(
            objective=SimpleNamespace(uses_attack=uses_attack), steps_per_epoch=10
        ),
        display=SimpleNamespace(say=said.append),
    )
    log = SimpleNamespace(write=rows.append)
    progress, best = Progress(), -1.0
    for epoch, (robust, trained) in enumerate(history, 1):
        if robust > best:  # as `Run.validate` does
            best = robust
            progress = Progress(
                best_step=10 * epoch, best_score=best, best_trained_score=trained
            )
            continue
        progress = Progress(**{**vars(progress), 'trained_score': trained})
        progress = Run.watch(run, 10 * epoch, robust, progress, log)  # type: ignore[arg-type]
    assert [row['text'] for row in rows] == said
    assert all(row['kind'] == 'warning' and '\n' not in row['text'] for row in rows)
    return [round(row['epoch']) for row in rows]


def test_a_collapse_is_said_once_each_time():
    assert warned(COLLAPSE) == [4]
    assert warned(RECOVERY) == [2, 4]


@pytest.mark.parametrize('history', HARMLESS.values(), ids=HARMLESS)
def test_nothing_else_is_called_so(history):
    assert warned(history) == []


def test_without_an_adversary_there_is_none():
    assert warned(COLLAPSE, uses_attack=False) == []


def test_an_old_checkpoint_that_does_not_know_raises_no_alarm():
    best = Progress()
    assert not is_catastrophic(
        Accuracies(0.5, best.best_trained_score), Accuracies(0.0, 0.99)
    )
