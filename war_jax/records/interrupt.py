"""SIGINT and SIGTERM as a question asked between two batches, so that nothing is half-written.

    with signals() as stop:
        for batch in batches:
            ...
            if stop.signum:                       # save, then leave with 128 + stop.signum
                break
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """signum is that of the signal that came, 0 before one did."""

    signum: int = 0

    @property
    def name(self) -> str:
        return signal.Signals(self.signum).name


class Interrupted(Exception):
    """Raised to leave a piece of work that is repeated later."""


@contextmanager
def signals() -> Iterator[Stop]:
    """Both signals set a flag; a second one ends the process at once (checkpoints are whole)."""
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
