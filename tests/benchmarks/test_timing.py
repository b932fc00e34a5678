"""Oracles: a clock that only the timed functions move, and quartiles counted by hand."""

import os

import pytest

from benchmarks.timing import CpuUsage, Timing, busy_seconds, interleave, others_share


class FakeMachine:
    """Time passes only by `work` and `sleep`; `calls` lists who worked and when."""

    def __init__(self):
        self.now = 1000.0
        self.calls: list[str] = []
        self.slept: list[float] = []

    def work(self, name: str, seconds: float) -> None:
        self.calls.append(name)
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


def test_turns_alternate_and_reverse_and_only_work_after_the_warm_up_counts():
    machine = FakeMachine()
    durations = iter([100.0, 200.0, 2.0, 1.0, 4.0, 8.0])
    timings = interleave(
        {name: lambda name=name: machine.work(name, next(durations)) for name in 'ab'},
        repeats=2,
        warmup=1,
        settle_seconds=0.5,
        clock=machine.clock,
        sleep=machine.sleep,
    )
    assert ''.join(machine.calls) == 'ab' + 'ba' + 'ab'
    assert timings == {'a': Timing((1.0, 4.0)), 'b': Timing((2.0, 8.0))}
    assert machine.slept == [0.5] * 6


def test_two_equal_functions_take_equal_time_on_a_machine_that_slows_down():
    """Each call takes one second more than the one before; a fixed order would favour 'a'."""
    machine = FakeMachine()

    def run(name: str) -> None:
        machine.work(name, 1.0 + len(machine.calls))

    timings = interleave(
        {'a': lambda: run('a'), 'b': lambda: run('b')},
        repeats=4,
        warmup=0,
        clock=machine.clock,
        sleep=machine.sleep,
        settle_seconds=0.0,
    )
    assert timings['a'].seconds == (1.0, 4.0, 5.0, 8.0)
    assert timings['b'].seconds == (2.0, 3.0, 6.0, 7.0)
    assert timings['a'].median == timings['b'].median == 4.5


def test_a_step_among_several_takes_its_share():
    assert Timing((2.0, 8.0)).per(4) == Timing((0.5, 2.0))


def test_median_and_quartiles_ignore_the_order_and_an_outlier():
    timing = Timing((3.0, 1.0, 4.0, 900.0, 2.0))
    assert timing.median == 3.0
    assert timing.quartiles == (2.0, 4.0)
    assert Timing((1.0, 2.0, 3.0, 4.0)).quartiles == (1.75, 3.25)
    assert Timing((7.0,)).quartiles == (7.0, 7.0)


@pytest.mark.parametrize('repeats, warmup', [(0, 1), (1, -1)])
def test_nothing_to_time_is_an_error(repeats, warmup):
    with pytest.raises(ValueError, match='repeats must be >= 1'):
        interleave({'a': lambda: None}, repeats=repeats, warmup=warmup)


def test_busy_time_is_all_but_idle_and_waiting_for_the_disk():
    """The guest columns (9, 10) are part of user time and must not count twice."""
    stat = 'cpu  1 2 4 1000 2000 8 16 32 4000 8000\ncpu0 9 9 9 9 9 9 9 9 9 9\nctxt 5\n'
    assert busy_seconds(stat, ticks_per_second=100) == (1 + 2 + 4 + 8 + 16 + 32) / 100


def test_share_of_other_processes():
    cores = os.cpu_count() or 1
    before = CpuUsage(wall=100.0, machine=50.0, own=10.0)
    # In 4 s this process used 3 s and the others one second per core: a quarter of the machine.
    after = CpuUsage(wall=104.0, machine=50.0 + 3.0 + cores, own=13.0)
    assert others_share(before, after) == pytest.approx(0.25)
    # Clock ticks round the machine's time: a quiet machine must not come out below zero.
    assert others_share(before, CpuUsage(104.0, 52.99, 13.0)) == 0.0
    assert others_share(None, after) is None
