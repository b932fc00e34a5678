"""Timing two or more functions against each other on a machine whose speed is not constant.

    timings = interleave({'ours': our_step, 'baseline': their_step}, repeats=7)
    ratio = timings['baseline'].median / timings['ours'].median

A shared machine slows down and recovers within seconds. Timed one after the other, one function
gets the slow half; timed in turn (A B, B A, A B, ...) both get the same share of it, and reversing
every other round keeps a steady drift from favouring whoever comes first.

That does not help where other processes want the same cores all the time, for frameworks suffer
from it unequally. PyTorch's threads spin while they wait for each other: two busy neighbours on two
cores slowed its WRN-10-1 step from 0.3 to 10 s, and JAX's from 0.3 to 1.2 s. So measure that too:

    before = cpu_usage()
    ...
    share = others_share(before, cpu_usage())          # 0.0 on a quiet machine
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

PROC_STAT = Path('/proc/stat')
QUIET = 0.05  # share of the cores' time that other processes may take from a comparison


@dataclass(frozen=True)
class Timing:
    """The seconds of each repeat, in the order in which they were taken (at least one)."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile, interpolated linearly between the sorted repeats."""
        if len(self.seconds) == 1:
            return self.seconds[0], self.seconds[0]
        first, _, third = statistics.quantiles(self.seconds, n=4, method='inclusive')
        return first, third

    def per(self, count: int) -> 'Timing':
        """Of one among the `count` equal pieces of work that each repeat did."""
        return Timing(tuple(seconds / count for seconds in self.seconds))


def interleave(
    functions: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    warmup: int = 1,
    settle_seconds: float = 0.05,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, Timing]:
    """Calls every function `warmup` + `repeats` times, in turn, and times the last `repeats`.

    A function must return only when its work is done: JAX and GPU code must block on the result.
    Before each call the machine rests for `settle_seconds`, because the worker threads of one
    framework keep spinning for a while after its last operation, on the other one's time.

    Raises ValueError if there is nothing to time.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f'repeats must be >= 1 and warmup >= 0, not {repeats} and {warmup}')
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warmup + repeats):
        order = list(functions) if turn % 2 == 0 else list(functions)[::-1]
        for name in order:
            sleep(settle_seconds)
            started = clock()
            functions[name]()
            elapsed = clock() - started
            if turn >= warmup:
                seconds[name].append(elapsed)
    return {name: Timing(tuple(taken)) for name, taken in seconds.items()}


class CpuUsage(NamedTuple):
    """Seconds up to one moment; only differences mean anything."""

    wall: float
    machine: float  # CPU time of everything on the machine, all cores together
    own: float  # CPU time of this process, all threads together


def cpu_usage() -> CpuUsage | None:
    """This moment's usage; None where the system has no /proc/stat (it is Linux's)."""
    if not PROC_STAT.exists():
        return None
    machine = busy_seconds(PROC_STAT.read_text(), os.sysconf('SC_CLK_TCK'))
    return CpuUsage(time.perf_counter(), machine, time.process_time())


def busy_seconds(stat: str, ticks_per_second: int) -> float:
    """CPU time of a /proc/stat text: all that is not idle, other virtual machines' share included.

    Source: proc_stat(5); its first line sums over the cores.
    """
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / ticks_per_second


def others_share(before: CpuUsage | None, after: CpuUsage | None) -> float | None:
    """Fraction of all cores' time between two moments that went to other processes.

    At least 0; None where it is not known.
    """
    if before is None or after is None:
        return None
    others = (after.machine - before.machine) - (after.own - before.own)
    return max(0.0, others / ((after.wall - before.wall) * (os.cpu_count() or 1)))
