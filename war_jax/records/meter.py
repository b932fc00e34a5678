"""Means over the steps since the last row of metrics, and the speed of those steps.

    meter = Meter()
    meter.add({'loss': 0.7})                     # after every step; the clock starts at the first
    means, steps_per_second = meter.close()      # {'loss': 0.7}, None

`sums` is all that a resumed run needs in order to write the same means.
"""

import time
from collections.abc import Mapping
from typing import Any


class Meter:
    def __init__(self, sums: Mapping[str, float] | None = None):
        self.sums = dict(sums or {})
        self._steps_timed = 0
        self._seconds = 0.0
        self._since: float | None = None

    def add(self, metrics: Mapping[str, Any]) -> None:
        """One step's scalars.

        The first one after `pause` or construction only starts the clock: it may have compiled.
        """
        for name, value in {**metrics, 'steps': 1}.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        if self._since is None:
            self._since = time.perf_counter()
        else:
            self._tick()
            self._steps_timed += 1

    def pause(self) -> None:
        """What follows until the next step is not training."""
        self._since = None

    def close(self) -> tuple[dict[str, float], float | None]:
        """The means, and steps per second (None if no step was timed); both start anew."""
        steps = self.sums.pop('steps')
        means = {name: total / steps for name, total in self.sums.items()}
        speed = self._steps_timed / self._seconds if self._steps_timed else None
        self.sums, self._steps_timed, self._seconds = {}, 0, 0.0
        return means, speed

    def _tick(self) -> None:
        assert self._since is not None
        now = time.perf_counter()
        self._seconds += now - self._since
        self._since = now
