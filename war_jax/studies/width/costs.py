"""What finding a lambda for the widest network costs, by its sweep and by WAR.

    cost = tuning_cost(rows, num_devices=2)         # None without WAR
    cost and cost.ratio                             # the sweep's cost in those of WAR
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from war_jax.lab.probes import FIXED
from war_jax.studies.width.results import Row, lambdas, widths


@dataclass(frozen=True)
class RunTime:
    """What a run of one width takes, whatever its lambda and whether WAR moves that."""

    widen_factor: float
    num_runs: int  # behind the median
    median: float  # device-seconds


@dataclass(frozen=True)
class Cost:
    """Device-seconds for one seed's tuned lambda at the widest network, by sweep and by WAR."""

    num_lambdas: int
    thinnest: RunTime
    widest: RunTime

    @property
    def sweep(self) -> float:
        """All lambdas at the widest."""
        return self.num_lambdas * self.widest.median

    @property
    def thin_sweep(self) -> float:
        """All lambdas at the thinnest: WAR needs the best one there."""
        return self.num_lambdas * self.thinnest.median

    @property
    def war(self) -> float:
        """The one run at the widest."""
        return self.widest.median

    @property
    def ratio(self) -> float:
        return self.sweep / (self.thin_sweep + self.war)


def run_times(rows: Sequence[Row], num_devices: int) -> list[RunTime]:
    """Of the widths at which lambda was swept, the thinnest first.

    The seconds of a run hold its compilation, which the runs of one width and device have in
    common: of each width, the first run on each device does not count, unless there is no other.
    The order is that in which they are started, by seed and lambda and with WAR last.

    num_devices: of the study; a run takes as many as the column `device` says, '2 × cpu'.
    """
    times = []
    for width in widths(rows):
        runs = sorted(
            (row for row in rows if row['widen_factor'] == width),
            key=lambda row: (row['method'] != FIXED, row['seed'], row['lambda']),
        )
        at_once = max(1, num_devices // int(runs[0]['device'].split()[0]))
        counted = [row['device_seconds'] for row in runs[at_once:] or runs]
        times.append(RunTime(width, len(counted), statistics.median(counted)))
    return times


def tuning_cost(rows: Sequence[Row], num_devices: int) -> Cost | None:
    """None if lambda was swept at fewer than two widths, or no WAR run is finished."""
    times = run_times(rows, num_devices)
    if len(times) < 2 or all(row['method'] == FIXED for row in rows):
        return None
    return Cost(len(lambdas(rows)), times[0], times[-1])
