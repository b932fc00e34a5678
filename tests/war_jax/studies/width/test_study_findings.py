"""Claims in studies whose truth is planted: effects, intervals, and verdicts in all directions."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.war_jax.studies.width.planted import make_study
from war_jax.lab.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED, Claim
from war_jax.studies.width import findings
from war_jax.studies.width.study import read_study

T2 = 4.3026527297  # two-sided 95 % quantile of Student's t with two degrees of freedom
TARGETS = ('trajectory', 'constant')


def evaluate(tmp_path: Path, **changes: Any) -> dict[str, Claim]:
    found = findings.evaluate(read_study(make_study(tmp_path, **changes)))
    assert len({claim.name for claim in found}) == len(found)
    return {claim.name: claim for claim in found}


def line(start: float, *slopes: float, by_lambda: float = 0.0) -> Callable[..., float]:
    """An accuracy with its own slope per doubling for each seed, and more of it at larger lambda.

    The seeds also start 10 points apart, which is no part of any effect.
    """

    def truth(k: float, lam: float, seed: int) -> float:
        slope = slopes[seed % len(slopes)] + by_lambda * (math.log(lam, 3) - 1)
        return start + 0.1 * seed + slope * math.log2(k) - 0.01 * lam

    return truth


def power(start: float, *exponents: float) -> Callable[..., float]:
    return lambda k, lam, seed: start * (1 + seed) * k ** exponents[seed % len(exponents)] / lam


@pytest.mark.parametrize(
    ('key', 'sign'),
    [('natural_accuracy', 1), ('perturbation_stability', -1), ('robust_accuracy', -1)],
)
def test_slopes_of_accuracies(tmp_path: Path, key: str, sign: int) -> None:
    """Planted: 1, 2, 3 points per doubling; mean 2, s = 1, half an interval 4.303 / sqrt(3)."""
    half = T2 / math.sqrt(3)  # 2.48: undecided
    name = f'{key}_with_width'
    wide = evaluate(tmp_path / 'a', **{key: line(0.3, 0.01, 0.02, 0.03, by_lambda=0.001)})[name]
    assert wide.effect == pytest.approx(2.0)
    assert wide.interval == pytest.approx((2.0 - half, 2.0 + half))
    assert (wide.num_seeds, wide.verdict) == (3, UNDECIDED)
    assert wide.unit == 'points per doubling of the width'
    assert 'widths 1, 2, 4' in wide.how and 'λ = 1, λ = 3, λ = 9' in wide.rule
    up = evaluate(tmp_path / 'b', **{key: line(0.3, 0.019, 0.02, 0.021)})[name]
    down = evaluate(tmp_path / 'c', **{key: line(0.3, -0.019, -0.02, -0.021)})[name]
    assert up.effect == pytest.approx(2.0) and down.effect == pytest.approx(-2.0)
    verdicts = (SUPPORTED, CONTRADICTED)
    assert (up.verdict, down.verdict) == (verdicts if sign > 0 else verdicts[::-1])


@pytest.mark.parametrize(
    ('key', 'sign'),
    [('local_lipschitz', 1), ('lipschitz_by_margin', 1), ('risk_ratio', -1)],
)
def test_exponents(tmp_path: Path, key: str, sign: int) -> None:
    name = f'{key}_with_width'
    wide = evaluate(tmp_path / 'a', **{key: power(4.0, 0.1, 0.2, 0.3)})[name]
    half = 0.1 * T2 / math.sqrt(3)
    assert wide.effect == pytest.approx(0.2)
    assert wide.interval == pytest.approx((0.2 - half, 0.2 + half))
    assert (wide.unit, wide.verdict) == ('exponent of the width', UNDECIDED)
    up = evaluate(tmp_path / 'b', **{key: power(4.0, 0.24, 0.25)})[name]
    down = evaluate(tmp_path / 'c', **{key: power(4.0, -0.24, -0.25)})[name]
    verdicts = (SUPPORTED, CONTRADICTED)
    assert (up.verdict, down.verdict) == (verdicts if sign > 0 else verdicts[::-1])


@pytest.mark.parametrize(
    ('by_lambda', 'verdict', 'where'),
    # Slopes of 1 at lambda = 3, and of 1 -+ by_lambda at 1 and 9, in points per doubling.
    [(0.03, UNDECIDED, 'supported at λ = 1; contradicted at λ = 3, λ = 9'),
     (0.005, CONTRADICTED, 'contradicted at λ = 1, λ = 3, λ = 9'),
     (0.01, CONTRADICTED, 'contradicted at λ = 3, λ = 9')],
)  # fmt: skip
def test_each_lambda_is_decided_alone(
    tmp_path: Path, by_lambda: float, verdict: str, where: str
) -> None:
    truth = line(0.3, 0.0099, 0.01, 0.0101, by_lambda=by_lambda)
    claim = evaluate(tmp_path, robust_accuracy=truth)['robust_accuracy_with_width']
    assert (claim.verdict, claim.where) == (verdict, where)
    assert claim.effect == pytest.approx(1.0)  # the mean, whatever it hides


def test_widths_need_not_be_powers_of_two(tmp_path: Path) -> None:
    truth = line(0.5, 0.02)
    found = evaluate(tmp_path, widths=(1.0, 5.0, 10.0), natural_accuracy=truth)
    assert found['natural_accuracy_with_width'].effect == pytest.approx(2.0)


@pytest.mark.parametrize(
    ('exponents', 'verdict'),
    [((0.5, 0.52, 0.54), SUPPORTED), ((-0.4, -0.41, -0.42), CONTRADICTED),
     ((0.2, -0.2, 0.06), UNDECIDED)],
)  # fmt: skip
def test_the_best_lambda_grows(tmp_path: Path, exponents: tuple[float, ...], verdict: str) -> None:
    """The mean of parabolas of one curvature has its peak at the geometric mean of theirs."""
    def truth(k: float, lam: float, seed: int) -> float:
        return 0.7 - 0.01 * math.log(lam / (4.0 * k ** exponents[seed])) ** 2

    lams = (1.0, 2.0, 4.0, 8.0, 16.0)
    claim = evaluate(tmp_path, lams=lams, validation_robust_accuracy=truth)['best_lambda_grows']
    assert claim.effect == pytest.approx(sum(exponents) / 3)
    assert (claim.verdict, claim.num_seeds) == (verdict, 3)
    assert 'in 0\u00a0% of these fits' in claim.how


def test_a_best_lambda_beyond_the_grid_decides_nothing(tmp_path: Path) -> None:
    """Planted: 3, 6 and 30, of a grid that ends at 16; all seeds agree."""
    best = {1.0: 3.0, 2.0: 6.0, 4.0: 30.0}
    claim = evaluate(
        tmp_path, lams=(1.0, 2.0, 4.0, 8.0, 16.0), num_validation=100_000,
        validation_robust_accuracy=lambda k, lam, seed: 0.7 - 0.02 * math.log(lam / best[k]) ** 2,
    )['best_lambda_grows']  # fmt: skip
    assert claim.interval is not None and claim.interval[0] > 0
    assert claim.verdict == UNDECIDED
    assert 'the grid has to be extended' in claim.rule and 'in 100\u00a0%' in claim.how
    assert 'the 100000 validation images' in claim.how


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    found = evaluate(tmp_path, seeds=(4,), targets=TARGETS)
    assert len(found) == 9 + 1 + 2 * len(TARGETS) + 1
    del found['war_costs_less']  # which is not over seeds
    for claim in found.values():
        assert claim.verdict == UNDECIDED and claim.num_seeds == 1
        assert claim.effect is not None and claim.interval is not None
        assert not math.isfinite(claim.interval[1])


def test_only_whole_rows_of_the_grid_count(tmp_path: Path) -> None:
    """Seed 1 lacks one cell: its other lambda still has a slope, but it has no mean over them."""
    found = evaluate(
        tmp_path, lams=(1.0, 3.0), natural_accuracy=line(0.5, 0.01, 0.5, 0.03),
        skip=lambda method, k, lam, seed: (k, lam, seed) == (2.0, 3.0, 1),
    )  # fmt: skip
    claim = found['natural_accuracy_with_width']
    assert claim.num_seeds == 2 and claim.effect == pytest.approx(2.0)


def test_a_lambda_tried_at_one_width_only_is_not_at_equal_lambda(tmp_path: Path) -> None:
    found = evaluate(
        tmp_path, natural_accuracy=line(0.5, 0.02),
        skip=lambda method, k, lam, seed: lam == 9.0 and k < 4.0,
    )  # fmt: skip
    claim = found['natural_accuracy_with_width']
    assert claim.effect == pytest.approx(2.0) and claim.where == 'supported at λ = 1, λ = 3'


def test_a_ratio_that_was_not_measured_is_left_out(tmp_path: Path) -> None:
    found = evaluate(
        tmp_path / 'one',
        risk_ratio=lambda k, lam, seed: None if seed == 0 else 3.0 / k * (1 + seed / 9),
    )
    assert found['risk_ratio_with_width'].num_seeds == 2


@pytest.mark.parametrize('unusable', [None, 0.0])
def test_a_ratio_without_a_logarithm_decides_nothing(
    tmp_path: Path, unusable: float | None
) -> None:
    none = evaluate(
        tmp_path, risk_ratio=lambda k, lam, seed: unusable if unusable is None or seed == 0 else 2.0
    )['risk_ratio_with_width']
    assert (none.effect, none.interval, none.verdict) == (None, None, UNDECIDED)
    assert 'no seed has a usable value' in none.how


@pytest.mark.parametrize(
    ('skip', 'reason'),
    [
        (lambda method, k, lam, seed: True, 'no run of the variant at the widest'),
        (lambda method, k, lam, seed: method != 'fixed', 'no run of the variant at the widest'),
        (lambda method, k, lam, seed: (method, k, lam) == ('fixed', 4, 3),
         'no seed has the thin network’s λ'),
        # WAR with seed 1 only, which alone lacks lambda = 9, the best of the others
        (lambda method, k, lam, seed: (method, k, lam, seed) == ('fixed', 4, 9, 1)
         if method == 'fixed' else seed != 1, 'no seed has both its run and λ'),
        (lambda method, k, lam, seed: (method, k, lam) == ('fixed', 4, (1, 3, 9)[seed]),
         'no seed has all λ of the widest'),
        (lambda method, k, lam, seed: (method, k, lam) == ('fixed', 1, (1, 3, 9)[seed]),
         'no seed has all λ of the grid at every width'),
    ],
)  # fmt: skip
def test_what_is_missing_is_the_reason(
    tmp_path: Path, skip: Callable[..., bool], reason: str
) -> None:
    """WAR started from 9, the thin network's best, or from 3 where that is asked of."""
    lam = 3.0 if 'thin' in reason else 9.0
    found = evaluate(
        tmp_path, targets=('trajectory',), skip=skip, thin_lambda=lam,
        validation_robust_accuracy=lambda k, tried, seed: -abs(tried - lam),
    )  # fmt: skip
    told = [claim for claim in list(found.values())[-6:] if reason in claim.how]
    assert told and all((claim.effect, claim.verdict) == (None, UNDECIDED) for claim in told)


def test_one_width_or_none_says_nothing_about_width(tmp_path: Path) -> None:
    found = evaluate(tmp_path / 'one', widths=(1.0,), targets=TARGETS)
    found |= {
        f'{name}_none': claim
        for name, claim in evaluate(
            tmp_path / 'none', widths=(1.0, 2.0), targets=TARGETS, skip=lambda *_: True
        ).items()
    }
    for claim in found.values():
        assert (claim.effect, claim.verdict, claim.num_seeds) == (None, UNDECIDED, 0)
        assert claim.how.startswith('Not evaluated')
