"""Means and speed. Oracle: arithmetic on a clock that the test sets."""

import pytest

from war_jax.records import meter as module
from war_jax.records.meter import Meter


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, 'perf_counter', lambda: now[0])
    return now


def test_means_and_speed_without_the_first_step_and_pauses(clock):
    meter = Meter()
    for seconds, loss in ((50, 1.0), (2, 2.0), (2, 6.0)):
        clock[0] += seconds
        meter.add({'loss': loss})
    assert meter.close() == ({'loss': 3.0}, 0.5)
    clock[0] += 4
    meter.add({'loss': 5.0})
    meter.pause()
    clock[0] += 1000
    meter.add({'loss': 7.0})  # starts the clock again
    assert meter.close() == ({'loss': 6.0}, 0.25)


def test_sums_carry_over_an_interruption(clock):
    whole, first = Meter(), Meter()
    for value in (0.1, 0.2):
        clock[0] += 1
        whole.add({'loss': value})
        first.add({'loss': value})
    second = Meter(first.sums)
    whole.add({'loss': 0.7})
    second.add({'loss': 0.7})
    assert second.close() == (whole.close()[0], None)
