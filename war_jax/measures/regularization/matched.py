"""Networks at the same training loss: where along training each of them had it.

    target = common_loss([[2.3, 0.9, 0.1], [2.3, 1.4, 0.6]])       # 0.6: all of them get there
    crossing = bracket([2.3, 0.9, 0.1], target)                    # before=1, after=2, share=...
    value = crossing.between(values[1], values[2])

A network trained against a stronger adversary fits worse at the end; what differs then may be the
fit and not the regularization.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Crossing(NamedTuple):
    """Between two probes; before == after where a probe has the loss itself."""

    before: int
    after: int
    share: float  # of the way from one to the other, in log loss

    def between(self, before: float, after: float) -> float:
        return before + self.share * (after - before)


def common_loss(losses: Sequence[Sequence[float]]) -> float:
    """The smallest loss that every one of these trainings comes down to at some probe, > 0."""
    return max(min(curve) for curve in losses)


def bracket(losses: Sequence[float], target: float) -> Crossing:
    """Where the loss first comes down to `target`, between two probes.

    Raises ValueError if it never does, or for losses that are not positive.
    """
    if not all(0 < loss < math.inf for loss in losses) or not min(losses) <= target:
        raise ValueError(f'losses {list(losses)}: expected positive ones that reach {target}')
    after = next(i for i, loss in enumerate(losses) if loss <= target)
    if after == 0 or losses[after] == target:
        return Crossing(after, after, 0.0)
    fall = math.log(losses[after - 1] / losses[after])
    return Crossing(after - 1, after, math.log(losses[after - 1] / target) / fall)
