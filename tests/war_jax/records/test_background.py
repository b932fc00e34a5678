"""Pieces of work that wait for events. Oracle: the order in which they say that they are done."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from war_jax.records.background import Background


def test_two_pieces_are_ahead_and_all_are_done_in_order():
    behind, go, done = Background(), threading.Event(), []

    def piece(number: int) -> None:
        assert go.wait(60)
        time.sleep(0.02 / number)  # the later, the quicker
        done.append(number)

    for number in (1, 2):
        behind.start(lambda number=number: piece(number))
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(behind.start, lambda: piece(3))
        time.sleep(0.1)
        assert not third.done() and done == []
        go.set()
        third.result(60)
        assert done[0] == 1
    behind.close()
    assert done == [1, 2, 3]


def test_what_fails_is_raised_once_and_nothing_is_done_behind_it():
    behind, go, done = Background(), threading.Event(), []

    def fail() -> None:
        assert go.wait(60)
        raise OSError('the disk is full')

    behind.start(fail)
    behind.start(lambda: done.append('behind it'))
    go.set()
    with pytest.raises(OSError, match='the disk is full'):
        behind.wait()
    behind.start(lambda: done.append('later'))
    behind.close()
    assert done == ['later']


def test_a_failure_is_raised_at_the_next_start():
    behind = Background()

    def fail() -> None:
        raise OSError('the disk is full')

    behind.start(fail)
    wait(behind._pieces)
    with pytest.raises(OSError, match='the disk is full'):
        behind.start(lambda: None)
    behind.close()
