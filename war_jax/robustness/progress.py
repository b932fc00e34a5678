"""Bars of a long evaluation: one for each attack, with the robust accuracy that is left.

    with bars(ensemble, Display()) as show:
        ensemble.run(show)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from war_jax.attacks.threat import ThreatModel
from war_jax.records.console import Display
from war_jax.robustness.curve import stability_curve
from war_jax.robustness.doubts import Curve
from war_jax.robustness.ensemble import Ensemble, OnStep, Result

CURVE_SCALES = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0)
CURVE_EXAMPLES = 500  # the curve's end is what tells of masked gradients


@contextmanager
def bars(ensemble: Ensemble, display: Display) -> Iterator[OnStep]:
    """What `Ensemble.run` is to call after every step."""
    bar: Any = None
    shown: Result | None = None
    before = 0

    def on_step(result: Result, remaining: int) -> None:
        nonlocal bar, shown, before
        if result is not shown:
            if bar is not None:
                bar.__exit__(None, None, None)
            shown, before = result, remaining
            bar = display.bar(result.name, total=remaining).__enter__()
        bar.update(max(before - remaining, 0))
        before = min(before, remaining)
        bar.set_postfix_str(f'robust accuracy at most {ensemble.robust.mean():.2%}')

    try:
        yield on_step
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)


def curve(
    ensemble: Ensemble, threat: ThreatModel, num_examples: int, display: Display | None
) -> Curve | None:
    """The stability curve over CURVE_SCALES; None for no examples. display: of its bar, if any."""
    if not num_examples:
        return None
    arguments = (ensemble, threat, CURVE_SCALES, num_examples)
    if display is None:
        return stability_curve(*arguments)
    with display.bar('curve', total=len(CURVE_SCALES)) as bar:
        return stability_curve(*arguments, bar.update)
