"""The best lambda, its growth with width, and costs, in studies whose truth is planted.

Oracles: peaks planted or worked by hand, NumPy's own least squares, and how often intervals cover
on made-up curves.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.war_jax.studies.width.planted import make_study
from war_jax.studies.width import costs, parabola, tuning
from war_jax.studies.width.results import Row, collect

LAMS = (1.0, 2.0, 4.0, 8.0, 16.0)
IMAGES = parabola.Images([])  # how many is not known


def study(tmp_path: Path, **changes: Any) -> list[Row]:
    return collect(make_study(tmp_path, **changes) / 'runs')[0]


def sweep(accuracies: np.ndarray, widths: Any, lams: Any, images: int | None) -> list[Row]:
    """Rows with what tuning looks at; accuracies: (widths, seeds, lambdas)."""
    return [
        {
            'method': 'fixed', 'widen_factor': k, 'lambda': lam, 'seed': seed,
            'validation_robust_accuracy': float(accuracies[i, seed, j]), 'num_validation': images,
        }
        for i, k in enumerate(widths)
        for seed in range(accuracies.shape[1])
        for j, lam in enumerate(lams)
    ]  # fmt: skip


def test_a_parabola_worked_by_hand() -> None:
    """At z = 0, 1, 2 the means are .60, .70, .65: 0.60 + 0.175 z - 0.075 z^2, whose peak is 7 / 6.

    The two seeds stand 10 points apart, which is no part of it.
    """
    lams = np.exp([0.0, 1.0, 2.0])
    seeds = np.array([[0.55, 0.65, 0.60], [0.65, 0.75, 0.70]])
    [peak] = tuning.peaks(sweep(seeds[None], [1.0], lams, None))
    assert peak.peak_lambda[0] == pytest.approx(math.exp(7 / 6))
    assert peak.peak_lambda == pytest.approx([peak.peak_lambda[0]] * 3)  # the seeds agree on it
    assert (peak.grid_lambda, peak.num_seeds, peak.at_edge) == (lams[1], 2, 0.0)


def test_one_parabola_is_fitted_to_all_lambdas_and_seeds() -> None:
    """Oracle: least squares with a column of ones for each seed."""
    rng = np.random.default_rng(3)
    z = np.log(LAMS)
    y = 0.6 - 0.03 * (z - 1.1) ** 2 + rng.normal(0.0, 0.01, (3, 5))
    y += np.array([[0.0], [0.2], [0.1]])
    blocks = np.kron(np.eye(3), np.ones((5, 1)))
    design = np.column_stack([blocks, np.tile(z, 3), np.tile(z**2, 3)])
    b, c = np.linalg.lstsq(design, y.ravel(), rcond=None)[0][3:]
    [peak] = tuning.peaks(sweep(y[None], [1.0], LAMS, 300))
    assert peak.peak_lambda[0] == pytest.approx(math.exp(-b / (2 * c)))
    low, high = peak.peak_lambda[1:]
    assert low < peak.peak_lambda[0] < high


def peak_at(exponent: float, start: float = 2.0):
    """Validation accuracy: a parabola in log lambda around start * k ** exponent(seed)."""

    def truth(k: float, lam: float, seed: int) -> float:
        return 0.7 - 0.02 * math.log(lam / (start * k ** (exponent + 0.1 * (seed - 1)))) ** 2

    return truth


def test_the_exponent_is_that_planted(tmp_path: Path) -> None:
    """Seeds differ: 2 k^p with p = 0.4, 0.5, 0.6, whose mean curve has its peak at 2 k^0.5."""
    rows = study(
        tmp_path, widths=(1.0, 2.0, 4.0), lams=LAMS, validation_robust_accuracy=peak_at(0.5)
    )
    for peak in tuning.peaks(rows):
        assert peak.peak_lambda[0] == pytest.approx(2.0 * peak.widen_factor**0.5)
    growth = tuning.fit_growth(rows)
    assert growth is not None and growth.widths == [1.0, 2.0, 4.0]
    assert growth.exponent.value == pytest.approx(0.5)
    assert growth.exponent.low < 0.4 and growth.exponent.high > 0.6
    assert growth.exponent.num_seeds == 3
    assert growth.swept[0] == pytest.approx(4.0)
    assert growth.predicted is not None and growth.predicted[0] == pytest.approx(4.0)
    assert tuning.fit_growth(rows) == growth  # the same numbers are drawn again


def test_the_prediction_does_not_see_the_widest(tmp_path: Path) -> None:
    def truth(k: float, lam: float, seed: int) -> float:
        best = {1.0: 2.0, 2.0: 4.0, 4.0: 4.0}[k]  # the power law through the first two says 8
        return 0.7 - 0.02 * math.log(lam / best) ** 2

    growth = tuning.fit_growth(study(tmp_path, lams=LAMS, validation_robust_accuracy=truth))
    assert growth is not None
    assert growth.predicted == pytest.approx([8.0] * 3)
    assert growth.swept == pytest.approx([4.0] * 3)
    assert growth.exponent.interval == pytest.approx((0.5, 0.5))  # log2 of 2, 4, 4 against 0, 1, 2


@pytest.mark.parametrize(('start', 'edge'), [(0.1, 1.0), (99.0, 16.0)])
def test_a_peak_beyond_the_grid_is_at_its_edge(tmp_path: Path, start: float, edge: float) -> None:
    truth = peak_at(0.0, start)
    rows = study(tmp_path, widths=(1.0, 2.0), lams=LAMS, validation_robust_accuracy=truth)
    for peak in tuning.peaks(rows):
        assert peak.peak_lambda == pytest.approx([edge] * 3) and peak.at_edge == 1.0
    growth = tuning.fit_growth(rows)
    assert growth is not None and growth.at_edge == 1.0
    assert growth.exponent.value == pytest.approx(0.0, abs=1e-12)
    assert growth.predicted is None  # one thinner width makes no power law


@pytest.mark.parametrize('curve', [[0.5, 0.5, 0.5], [0.6, 0.5, 0.55], [0.5, 0.4, 0.6]])
def test_a_curve_without_a_maximum_has_no_peak_in_the_grid(curve: list[float]) -> None:
    y = np.array([[curve] * 2])
    [peak] = tuning.peaks(sweep(y, [1.0], [1.0, 3.0, 9.0], None))
    better = 9.0 if curve[-1] > curve[0] else 1.0
    assert peak.peak_lambda == pytest.approx([better] * 3) and peak.at_edge == 1.0


@pytest.mark.parametrize('curve', [[0.5, 0.5, 0.5], [0.6, 0.4, 0.6], [0.4, 0.5, 0.6]])
def test_rounding_decides_nothing(curve: list[float]) -> None:
    """Level, with two edges that are equally good, straight: moved by the last digit."""
    found = set()
    for moved in range(3):
        for towards in (0.0, 1.0):
            near = np.array(curve)
            near[moved] = np.nextafter(near[moved], towards)
            fit = parabola.Fit({0: dict(zip((1.0, 3.0, 9.0), near, strict=True))}, IMAGES)
            found.add((round(math.exp(fit.peak), 6), bool(fit.inside[0])))
    assert found == {(9.0 if curve[-1] > curve[0] else 1.0, False)}


@pytest.mark.parametrize(
    ('num_seeds', 'images', 'known', 'spread'),
    [(3, 300, True, 0.005), (3, 1000, True, 0.02), (4, 1000, False, 0.01)],
)
def test_intervals_of_the_exponent_cover(
    num_seeds: int, images: int, known: bool, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up sweeps: lambda* = 4 k^0.3, seeds that differ in level, tilt and at each lambda.

    Of 200 intervals of 95 %, 190 should hold 0.3; fewer than 180 would be too narrow ones.
    """
    monkeypatch.setattr(parabola, '_NUM_RESAMPLES', 300)  # for the time's sake
    covered = 0
    for _, rows in made_up(200, num_seeds, images, known, spread):
        growth = tuning.fit_growth(rows)
        assert growth is not None
        covered += growth.exponent.low < 0.3 < growth.exponent.high
    assert covered >= 180


def made_up(
    number: int, num_seeds: int, images: int, known: bool, spread: float
) -> Iterator[tuple[np.random.Generator, list[Row]]]:
    """Sweeps at four widths, and the generator that drew them."""
    rng = np.random.default_rng(5)
    widths, lams = np.array([0.5, 1.0, 2.0, 4.0]), np.array([1.0, 3.0, 9.0, 27.0])
    z = np.log(lams)
    for _ in range(number):
        level = rng.normal(0.0, 0.03, (num_seeds, 1))
        apart = rng.normal(0.0, spread, (num_seeds, 1)) * (z - z.mean())
        best = np.log(4.0 * widths**0.3)[:, None, None]
        rate = 0.55 - 0.04 * (z - best) ** 2 + level + apart
        rate = rate + rng.normal(0.0, spread, rate.shape)
        accuracies = rng.binomial(images, np.clip(rate, 0.0, 1.0)) / images
        yield rng, sweep(accuracies, widths, lams, images if known else None)


@pytest.mark.parametrize(('by_lambda', 'by_width'), [(1.0, -0.5), (2.0, -0.25), (1.7, -0.6)])
def test_the_premise_follows_from_both_powers(
    tmp_path: Path, by_lambda: float, by_width: float
) -> None:
    """Planted: lambda* = 2 k^0.5 and a ratio of 3 lambda^a k^b (1 + seed), so 2^a 3 k^(a/2 + b)."""
    rows = study(
        tmp_path, lams=LAMS, validation_robust_accuracy=peak_at(0.5),
        risk_ratio=lambda k, lam, seed: 3.0 * lam**by_lambda * k**by_width * (1 + seed),
    )  # fmt: skip
    premise = tuning.fit_premise(rows)
    assert premise is not None and premise.widths == [1.0, 2.0, 4.0]
    assert premise.exponent.value == pytest.approx(by_lambda / 2 + by_width)
    assert premise.by_lambda is not None and premise.by_lambda.value == pytest.approx(by_lambda)
    level = 3.0 * 2.0**by_lambda * 6.0 ** (1 / 3)  # (1 * 2 * 3)^(1/3), the mean over seeds
    assert [ratio[0] for ratio in premise.ratios] == pytest.approx(
        [level * k ** (by_lambda / 2 + by_width) for k in (1, 2, 4)]
    )


def test_without_a_ratio_there_is_no_premise(tmp_path: Path) -> None:
    rows = study(tmp_path, lams=LAMS, validation_robust_accuracy=peak_at(0.5))
    assert tuning.fit_premise(rows) is not None
    for unusable in (None, 0.0):
        assert tuning.fit_premise([{**rows[0], 'risk_ratio': unusable}, *rows[1:]]) is None
    assert tuning.fit_premise([]) is None


def test_intervals_of_the_premise_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up sweeps: lambda* = 4 k^0.3 and a ratio of lambda^2 k^-0.4, so k^0.2; seeds differ in
    level and in their power of the width. Of 150 intervals of 95 %, 143 should hold 0.2."""
    monkeypatch.setattr(parabola, '_NUM_RESAMPLES', 300)
    covered = 0
    for rng, rows in made_up(150, 5, 300, True, 0.005):
        level, slopes = rng.normal(0.0, 0.1, 5), rng.normal(-0.4, 0.1, 5)
        for row in rows:
            seed, k = row['seed'], row['widen_factor']
            noise = math.exp(level[seed] + rng.normal(0.0, 0.05))
            row['risk_ratio'] = row['lambda'] ** 2 * k ** slopes[seed] * noise
        premise = tuning.fit_premise(rows)
        assert premise is not None
        covered += premise.exponent.low < 0.2 < premise.exponent.high
    assert covered >= 135


def test_best_by_mean_over_seeds_not_by_any_seed(tmp_path: Path) -> None:
    """Means .50, .52, .49; single seeds prefer 9, 9 and 1. Of equals, the smallest."""
    accuracy = {1.0: (0.40, 0.40, 0.70), 3.0: (0.52, 0.52, 0.52), 9.0: (0.53, 0.53, 0.41)}
    rows = study(
        tmp_path / 'a', widths=(1.0,),
        validation_robust_accuracy=lambda k, lam, seed: accuracy[lam][seed],
    )  # fmt: skip
    assert tuning.best_lambdas(rows) == {1.0: 3.0}
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
    assert [peak.num_seeds for peak in tuning.peaks(rows)] == [1, 2]
    growth = tuning.fit_growth(rows)
    assert growth is not None and growth.exponent.num_seeds == 1
    assert growth.exponent.interval == (-math.inf, math.inf)


def test_the_number_of_validation_images_counts(tmp_path: Path) -> None:
    """Of few images, the interval is wider; a seed more or less agrees in all of these."""
    changes: dict[str, Any] = {'lams': LAMS, 'validation_robust_accuracy': peak_at(0.5)}
    widths = []
    for images in (100, 10_000):
        growth = tuning.fit_growth(study(tmp_path / str(images), num_validation=images, **changes))
        assert growth is not None and growth.num_images == images
        widths.append(growth.exponent.high - growth.exponent.low)
    assert widths[0] > 3.0 * widths[1]


def test_costs_are_those_of_median_runs_that_did_not_compile(tmp_path: Path) -> None:
    """Four devices and two a run: of each width, two runs compile, and take ten times as long.

    60 k seconds a run: 3 x 480 device-seconds of the sweep over 3 x 120 + 480 of WAR.
    """
    rows = study(
        tmp_path, seeds=(0,), targets=('trajectory', 'constant'),
        seconds=lambda k, lam, seed: 60.0 * k * (10.0 if lam in (1.0, 3.0) else 1.0),
        war_seconds=lambda k, lam, seed: 60.0 * k,
    )  # fmt: skip
    times = [(time.widen_factor, time.num_runs, time.median) for time in costs.run_times(rows, 4)]
    assert times == [(1.0, 1, 120.0), (2.0, 3, 240.0), (4.0, 3, 480.0)]
    cost = costs.tuning_cost(rows, 4)
    assert cost is not None
    assert (cost.num_lambdas, cost.sweep, cost.thin_sweep, cost.war) == (3, 1440.0, 360.0, 480.0)
    assert cost.ratio == pytest.approx(1440 / 840)
    # With as many devices as runs, all of them compiled, and there is nothing else to go by.
    assert [time.num_runs for time in costs.run_times(rows, 20)] == [3, 5, 5]


def test_war_runs_count_as_runs_of_their_width(tmp_path: Path) -> None:
    """At width 2, 2 runs of 240 device-seconds after the first, and 6, with WAR, of 200."""
    rows = study(
        tmp_path, widths=(1.0, 2.0), lams=(1.0, 3.0), targets=('trajectory', 'constant'),
        skip=lambda method, k, lam, seed: method == 'fixed' and (k, lam) == (2.0, 3.0),
        war_seconds=lambda *_: 100.0,
    )  # fmt: skip
    times = costs.run_times(rows, 2)
    assert [(time.num_runs, time.median) for time in times] == [(5, 120.0), (8, 200.0)]
    cost = costs.tuning_cost(rows, 2)
    assert cost is not None and cost.num_lambdas == 2  # of the study, finished there or not
    assert cost.ratio == pytest.approx(400 / 440)
    assert costs.tuning_cost([row for row in rows if row['method'] == 'fixed'], 2) is None
    assert costs.tuning_cost([row for row in rows if row['widen_factor'] == 2.0], 2) is None


def test_nothing_is_enough_to_cope_with(tmp_path: Path) -> None:
    assert tuning.best_lambdas([]) == {} and tuning.peaks([]) == []
    assert tuning.fit_growth([]) is None and costs.tuning_cost([], 2) is None
    rows = study(tmp_path, widths=(1.0,), lams=(3.0,), seeds=(0,), targets=('trajectory',))
    assert tuning.best_lambdas(rows) == {1.0: 3.0}
    assert tuning.peaks(rows) == [] and tuning.fit_growth(rows) is None
    assert costs.tuning_cost(rows, 2) is None
