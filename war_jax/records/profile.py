"""A trace of some training steps: what the devices did when, and what they waited for.

    with Profile(workdir / 'profile', first=3, steps=10) as profile:
        for step in ...:
            profile.before(step, finish)
            ...

TensorBoard's profile plugin (xprof) and Perfetto show it. Of several processes, each traces its own
devices.
"""

from collections.abc import Callable
from pathlib import Path

import jax


class Profile:
    """Traces `steps` steps (0: none), the first of them number `first`."""

    def __init__(self, folder: Path, first: int, steps: int):
        self._folder, self._first, self._end = folder, first, first + steps
        self._is_on = False

    def before(self, step: int, finish: Callable[[], object]) -> None:
        """To be called before each step is given to the devices.

        finish: returns when the devices have done what they were given, so that all of it is seen.
        """
        if step == self._first < self._end:
            finish()
            jax.profiler.start_trace(self._folder)
            self._is_on = True
        elif step == self._end:
            finish()
            self._stop()

    def _stop(self) -> None:
        if self._is_on:
            self._is_on = False
            jax.profiler.stop_trace()

    def __enter__(self) -> 'Profile':
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
