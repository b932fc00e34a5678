"""The best lambda, its growth with width and its cost, in studies whose truth is planted."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.war_jax.studies.width.planted import make_study
from war_jax.studies.width import tuning
from war_jax.studies.width.results import Row, collect

LAMS = (1.0, 2.0, 4.0, 8.0, 16.0)


def study(tmp_path: Path, **changes: Any) -> list[Row]:
    return collect(make_study(tmp_path, **changes) / 'runs')[0]


def peak_at(exponent: float, start: float = 2.0):
    """Validation accuracy: a parabola in log lambda around start * k ** exponent(seed)."""

    def truth(k: float, lam: float, seed: int) -> float:
        return 0.7 - 0.02 * math.log(lam / (start * k ** (exponent + 0.1 * (seed - 1)))) ** 2

    return truth


def test_peaks_and_exponents_are_those_planted(tmp_path: Path) -> None:
    """The parabola is exact in log lambda, so its peak is: 2 k^p with p = 0.4, 0.5, 0.6."""
    rows = study(
        tmp_path, widths=(1.0, 2.0, 4.0), lams=LAMS, validation_robust_accuracy=peak_at(0.5)
    )
    for optimum in tuning.optima(rows):
        p = 0.5 + 0.1 * (optimum.seed - 1)
        assert optimum.peak_lambda == pytest.approx(2.0 * optimum.widen_factor**p, rel=1e-9)
        assert optimum.place == tuning.INSIDE
        # the nearest of the grid, in logarithms
        distance = {lam: abs(math.log(lam / optimum.peak_lambda)) for lam in LAMS}
        assert optimum.grid_lambda == min(LAMS, key=distance.__getitem__)
    law = tuning.power_law(rows)
    assert law.exponents == pytest.approx({0: 0.4, 1: 0.5, 2: 0.6}, abs=1e-9)
    assert law.swept == pytest.approx({seed: 2 * 4**p for seed, p in enumerate((0.4, 0.5, 0.6))})
    assert law.predicted == pytest.approx(law.swept)
    assert (law.widths, law.num_at_edges) == ([1.0, 2.0, 4.0], 0)


def test_the_prediction_does_not_see_the_widest(tmp_path: Path) -> None:
    def truth(k: float, lam: float, seed: int) -> float:
        best = {1.0: 2.0, 2.0: 4.0, 4.0: 4.0}[k]  # the power law through the first two says 8
        return 0.7 - 0.02 * math.log(lam / best) ** 2

    rows = study(tmp_path, lams=LAMS, seeds=(0,), validation_robust_accuracy=truth)
    law = tuning.power_law(rows)
    assert law.predicted == pytest.approx({0: 8.0})
    assert law.swept == pytest.approx({0: 4.0})
    assert law.exponents == pytest.approx({0: 0.5})  # log2 of 2, 4, 4 against 0, 1, 2


@pytest.mark.parametrize(
    ('start', 'place', 'edge'),
    [(0.1, tuning.LOWER_EDGE, 1.0), (99.0, tuning.UPPER_EDGE, 16.0)],
)
def test_an_optimum_at_an_edge_says_so(
    tmp_path: Path, start: float, place: str, edge: float
) -> None:
    truth = peak_at(0.0, start)
    rows = study(tmp_path, widths=(1.0, 2.0), lams=LAMS, validation_robust_accuracy=truth)
    assert {(x.place, x.peak_lambda) for x in tuning.optima(rows)} == {(place, edge)}
    law = tuning.power_law(rows)
    assert law.num_at_edges == 6
    assert law.exponents == {0: 0.0, 1: 0.0, 2: 0.0}
    assert law.predicted == {}  # one thinner width makes no power law


def test_best_by_mean_over_seeds_not_by_any_seed(tmp_path: Path) -> None:
    """Means .50, .52, .49; single seeds prefer 9, 9 and 1. Of equals, the smallest."""
    accuracy = {1.0: (0.40, 0.40, 0.70), 3.0: (0.52, 0.52, 0.52), 9.0: (0.53, 0.53, 0.41)}
    rows = study(
        tmp_path / 'a', widths=(1.0,),
        validation_robust_accuracy=lambda k, lam, seed: accuracy[lam][seed],
    )  # fmt: skip
    assert tuning.best_lambdas(rows) == {1.0: 3.0}
    assert [optimum.grid_lambda for optimum in tuning.optima(rows)] == [9.0, 9.0, 1.0]
    rows = study(tmp_path / 'b', widths=(1.0,), validation_robust_accuracy=lambda *_: 0.5)
    assert tuning.best_lambdas(rows) == {1.0: 1.0}
    # 0.1 + 0.2 is 0.30000000000000004, and still no better than 0.0 + 0.3
    shares = {1.0: (0.0, 0.3), 3.0: (0.1, 0.2), 9.0: (0.0, 0.0)}
    rows = study(
        tmp_path / 'c', widths=(1.0,), seeds=(0, 1),
        validation_robust_accuracy=lambda k, lam, seed: shares[lam][seed],
    )  # fmt: skip
    assert tuning.best_lambdas(rows) == {1.0: 1.0}


def test_test_accuracy_plays_no_part(tmp_path: Path) -> None:
    rows = study(
        tmp_path, widths=(1.0,), robust_accuracy=lambda k, lam, seed: lam / 100,
        validation_robust_accuracy=lambda k, lam, seed: -lam / 100,
    )  # fmt: skip
    assert tuning.best_lambdas(rows) == {1.0: 1.0}


def test_a_seed_without_all_lambdas_has_no_say(tmp_path: Path) -> None:
    """Seed 0 lacks lambda = 9, which is the best of seed 1 alone."""
    rows = study(
        tmp_path, widths=(1.0, 2.0), seeds=(0, 1),
        skip=lambda method, k, lam, seed: (k, lam, seed) == (1.0, 9.0, 0),
        validation_robust_accuracy=lambda k, lam, seed: lam / 10 if seed == 1 else 0.99 - lam / 10,
    )  # fmt: skip
    assert tuning.best_lambdas(rows)[1.0] == 9.0
    assert [x.seed for x in tuning.optima(rows) if x.widen_factor == 1.0] == [1]
    assert set(tuning.power_law(rows).exponents) == {1}


def test_costs_are_those_of_median_runs(tmp_path: Path) -> None:
    """Two devices; 60 k seconds a run, but the first seed's take ten times as long: they compile.

    3 x 480 seconds of the sweep over 3 x 120 + 480 of WAR.
    """
    rows = study(
        tmp_path, targets=('trajectory', 'constant'),
        seconds=lambda k, lam, seed: 60.0 * k * (10.0 if (lam, seed) == (1.0, 0) else 1.0),
    )  # fmt: skip
    times = [(time.widen_factor, time.num_runs, time.median) for time in tuning.run_times(rows)]
    assert times == [(1.0, 9, 120.0), (2.0, 15, 240.0), (4.0, 15, 480.0)]
    cost = tuning.cost(rows)
    assert cost is not None
    assert (cost.num_lambdas, cost.sweep, cost.thin_sweep, cost.war) == (3, 1440.0, 360.0, 480.0)
    assert cost.ratio == pytest.approx(1440 / 840)


def test_war_runs_count_as_runs_of_their_width(tmp_path: Path) -> None:
    """At width 2, 3 runs of 240 device-seconds and 6, with WAR, of 200."""
    rows = study(
        tmp_path, widths=(1.0, 2.0), lams=(1.0, 3.0), targets=('trajectory', 'constant'),
        skip=lambda method, k, lam, seed: method == 'fixed' and (k, lam) == (2.0, 3.0),
        war_seconds=lambda *_: 100.0,
    )  # fmt: skip
    assert [time.median for time in tuning.run_times(rows)] == [120.0, 200.0]
    cost = tuning.cost(rows)
    assert cost is not None and cost.num_lambdas == 2  # of the study, finished there or not
    assert cost.ratio == pytest.approx(400 / 440)
    assert tuning.cost([row for row in rows if row['method'] == 'fixed']) is None
    assert tuning.cost([row for row in rows if row['widen_factor'] == 2.0]) is None


def test_nothing_is_enough_to_cope_with(tmp_path: Path) -> None:
    assert tuning.best_lambdas([]) == {} and tuning.optima([]) == []
    assert tuning.power_law([]).exponents == {} and tuning.cost([]) is None
    rows = study(tmp_path, widths=(1.0,), lams=(3.0,), seeds=(0,), targets=('trajectory',))
    assert tuning.best_lambdas(rows) == {1.0: 3.0}
    assert tuning.power_law(rows).exponents == {} and tuning.cost(rows) is None


def test_interval_is_geometric() -> None:
    assert tuning.interval([]) is None
    found = tuning.interval([2.0, 8.0])
    assert found is not None and found[0] == pytest.approx(4.0)
    assert found[1] * found[2] == pytest.approx(16.0)
