"""Work that a thread does while its owner goes on, one piece after the other.

behind = Background()
behind.start(lambda: write(path, snapshot))     # returns at once
behind.wait()                                   # until all is done; what failed is raised here
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Background:
    """One piece is worked on while at most one other waits for its turn.

    What was started behind a piece that failed is not done: it may build on it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._pieces: deque[Future[None]] = deque()

    def start(self, work: Callable[[], None]) -> None:
        """Returns once the piece is next; raises what one before it failed with."""
        while len(self._pieces) > 1 or (self._pieces and self._pieces[0].done()):
            self._finish_first()
        before = self._pieces[-1] if self._pieces else None

        def unless_it_failed() -> None:
            if before is None or before.exception() is None:
                work()

        self._pieces.append(self._thread.submit(unless_it_failed))

    def wait(self) -> None:
        """Returns when all pieces are done; raises what the first of them failed with."""
        while self._pieces:
            self._finish_first()

    def close(self) -> None:
        """Waits, raises likewise, and ends the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _finish_first(self) -> None:
        # A signal may interrupt it, and it is then still to be waited for.
        wait([self._pieces[0]])
        self._pieces.popleft().result()
