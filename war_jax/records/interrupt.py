"""SIGINT and SIGTERM as a question asked between two batches, so that nothing is half-written.

    with signals() as stop:
        for batch in batches:
            ...
            if stop.poll():                       # save, then leave with 128 + stop.poll()
                break

Of several processes, each may get the signal; they all hear of it at the same call of `poll`.
"""

import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from war_jax.processes import agree


class Stop:
    """signum is that of the signal that came to this process, 0 before one did."""

    def __init__(self) -> None:
        self.signum = 0
        self._agreed = 0
        self._asked: deque[Any] = deque()

    def poll(self, ahead: int = 0) -> int:
        """The number of a signal that came to any process of the job, or 0.

        All processes make the same calls, with the same `ahead`, and get the same answers. Each
        call asks, and returns the answer to the one that was made `ahead` calls before: devices
        then need not be waited for.
        """
        if jax.process_count() == 1:
            return self.signum
        self._asked.append(agree(self.signum))
        while len(self._asked) > ahead:
            self._agreed = max(self._agreed, int(self._asked.popleft()))
        return self._agreed

    def leave_if_told(self) -> None:
        """Raises SystemExit(128 + signal number) once there was one; what is finished is kept."""
        if self.signum:
            print('Stopped; the same command again goes on from the last finished piece of work.')
            raise SystemExit(128 + self.signum)

    @property
    def name(self) -> str:
        return signal.Signals(self.signum).name


class Interrupted(Exception):
    """Raised to leave a piece of work that is repeated later."""


@contextmanager
def signals() -> Iterator[Stop]:
    """Both signals set a flag; a second one ends the process as soon as what is being written of a
    checkpoint is on disk."""
    stop = Stop()

    def note(signum: int, _: object) -> None:
        if stop.signum:
            raise KeyboardInterrupt
        stop.signum = signum
        print(f'\n{stop.name}: writing a checkpoint, then leaving.')

    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python delivers signals to the main thread alone
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
