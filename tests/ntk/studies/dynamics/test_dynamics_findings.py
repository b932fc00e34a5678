"""Change with width from planted numbers. Oracles: the planted power laws, SciPy's t interval."""

import math

import numpy as np
import pytest
from scipy import stats

from ntk.studies.dynamics.findings import (
    END,
    QUANTITIES,
    START,
    at_start,
    by_epoch,
    by_width,
    changes,
    initial,
    over_seeds,
    trained,
)
from tests.ntk.studies.dynamics.planted_probes import study


def found(rows, key, when, lam=None):
    [change] = [
        c for c in changes(rows) if (c.quantity, c.when, c.lam) == (key, when, lam)
    ]
    return change


def interval(values):
    """Student's t at 95 %, as SciPy has it."""
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return np.mean(values), low, high


def test_exponents_of_planted_power_laws():
    """q = 3 k^(p + seed shift) lambda^0.5, with p different for each lambda."""
    power = {1.0: -0.5, 9.0: 0.75}
    shift = {0: -0.02, 1: 0.0, 2: 0.05}
    _, rows = study(
        truths={
            'kernel_drift': lambda k, lam, seed: 3.0 * k ** (power[lam] + shift[seed]) * lam**0.5
        }
    )
    for lam, p in power.items():
        change = found(rows, 'kernel_drift', END, lam)
        assert change.effect == pytest.approx(interval([p + s for s in shift.values()]))
        assert (change.num_seeds, change.lams, change.unit) == (3, (lam,), 'exponent of the width')
    mean = found(rows, 'kernel_drift', END)
    assert mean.effect == pytest.approx(interval([0.125 + s for s in shift.values()]))
    assert mean.lams == (1.0, 9.0)


def test_at_the_start_lambda_does_not_count():
    power = {0: 0.3, 1: 0.4, 2: 0.5}
    _, rows = study(starts={'output_gradient_test': lambda k, lam, seed: 2.0 * k ** power[seed]})
    change = found(rows, 'output_gradient_test', START)
    assert change.effect == pytest.approx(interval(list(power.values())))
    assert (change.num_seeds, change.lams) == (3, ())
    starts = [c for c in changes(rows) if c.when == START]
    assert {c.quantity for c in starts} == {k for k, q in QUANTITIES.items() if not q.from_start}
    assert len(initial(rows)) == 3 * 3


def test_cosines_and_rates_change_by_so_much_per_doubling():
    _, rows = study(
        truths={'label_alignment': lambda k, lam, seed: 0.4 + (0.03 + 0.01 * seed) * math.log2(k)}
    )
    change = found(rows, 'label_alignment', END, 9.0)
    assert change.effect == pytest.approx(interval([0.03, 0.04, 0.05]))
    assert change.unit == 'per doubling of the width'


def test_only_trained_networks_of_constant_lambda_count():
    _, rows = study(lams=(1.0,))
    expected = changes(rows)
    _, with_war = study(lams=(9.0,), method='trajectory')
    _, unfinished = study(lams=(3.0,), steps=(0, 10))
    ends = [change for change in changes([*rows, *with_war, *unfinished]) if change.when == END]
    assert ends == [change for change in expected if change.when == END]
    assert {change.lam for change in ends} == {1.0}, 'one lambda has no mean of its own'
    assert all(row['step'] == 20 for row in trained([*rows, *unfinished]))


def test_seeds_that_lack_a_width_are_left_out():
    _, rows = study(skip=lambda k, lam, seed: (k, lam, seed) == (4.0, 1.0, 2))
    assert found(rows, 'kernel_drift', END, 1.0).num_seeds == 2
    assert found(rows, 'kernel_drift', END, 9.0).num_seeds == 3
    assert found(rows, 'kernel_drift', END).num_seeds == 2
    assert changes(study(widths=(1.0,))[1]) == []
    assert changes([]) == []


def test_values_without_a_logarithm_are_left_out():
    _, rows = study(
        truths={'kernel_drift': lambda k, lam, seed: [1.0, 0.0, None][seed]},
        starts={'loss_gradient_test': lambda k, lam, seed: 0.0 if seed else k},
    )
    assert found(rows, 'kernel_drift', END, 1.0).num_seeds == 1
    assert found(rows, 'loss_gradient_test', START).effect == (pytest.approx(1.0), -np.inf, np.inf)


def test_means_over_seeds_are_geometric_for_what_differs_by_factors():
    _, rows = study(
        truths={
            'local_lipschitz_test': lambda k, lam, seed: k * 4.0**seed,
            'natural_accuracy_test': lambda k, lam, seed: 0.1 * (seed + 1),
        }
    )
    band = by_width(rows, 'local_lipschitz_test')[9.0]
    logs = interval([0.0, math.log(4), math.log(16)])
    assert list(band.x) == [1.0, 2.0, 4.0]
    assert (band.mean[1], band.lower[1], band.upper[1]) == pytest.approx(
        tuple(2 * math.exp(bound) for bound in logs)
    )
    at_end = [row for row in trained(rows) if row['widen_factor'] == 1.0 and row['lambda'] == 1.0]
    assert over_seeds(at_end, 'natural_accuracy_test') == pytest.approx(interval([0.1, 0.2, 0.3]))


def test_lines_before_training():
    _, rows = study(starts={'spectral_product': lambda k, lam, seed: 5.0 * k})
    band = at_start(rows, 'spectral_product')
    assert band is not None and list(band.mean) == pytest.approx([5.0, 10.0, 20.0])
    assert at_start(rows, 'kernel_drift') is None
    assert at_start(rows, 'kernel_alignment') is None


def test_lines_over_the_epochs():
    """Planted: straight lines; a drift of 0 at the start is a gap of its logarithmic axis."""
    _, rows = study(truths={'kernel_drift': lambda k, lam, seed: 2.0**seed})
    _, with_war = study(lams=(5.0,), method='trajectory')
    lines = by_epoch([*rows, *with_war], 2.0, 'kernel_drift')
    assert list(lines) == [1.0, 9.0], 'constant lambda only'
    band = lines[9.0]
    assert list(band.x) == [0.0, 5.0, 10.0]
    assert math.isnan(band.mean[0])
    assert (band.mean[2], band.lower[2], band.upper[2]) == pytest.approx((2.0, 1.0, 4.0))
    assert band.mean[1] == pytest.approx(1.0)
