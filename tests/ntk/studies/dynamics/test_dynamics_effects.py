"""Change with width from planted numbers. Oracles: the planted power laws, SciPy's t interval."""

import math

import numpy as np
import pytest
from scipy import stats

from ntk.studies.dynamics.effects import at_start, by_epoch, by_width, effects, initial, trained
from ntk.studies.dynamics.tabulate import KEYS
from tests.ntk.studies.dynamics.planted_probes import study
from war_jax.lab.quantities import band, quantity

FROM_START = {'kernel_drift', 'kernel_alignment', 'weight_movement'}


def found(rows, key, place):
    """(mean, low, high), number of seeds."""
    effect = effects(rows, key)[place]
    assert effect is not None
    return (effect.value, *effect.interval), effect.num_seeds


def interval(values):
    """Student's t at 95 %, as SciPy has it."""
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return np.mean(values), low, high


def test_exponents_of_planted_power_laws():
    """q = 3 k^(p + seed shift) lambda^0.5, with p different for each lambda."""
    power = {1.0: -0.5, 9.0: 0.75}
    shift = {0: -0.02, 1: 0.0, 2: 0.05}
    rows = study(
        truths={
            'kernel_drift': lambda k, lam, seed: 3.0 * k ** (power[lam] + shift[seed]) * lam**0.5
        }
    )
    for lam, p in power.items():
        effect, num_seeds = found(rows, 'kernel_drift', f'lambda_{lam:g}')
        assert effect == pytest.approx(interval([p + s for s in shift.values()]))
        assert num_seeds == 3
    mean, _ = found(rows, 'kernel_drift', 'mean')
    assert mean == pytest.approx(interval([0.125 + s for s in shift.values()]))


def test_at_the_start_lambda_does_not_count():
    power = {0: 0.3, 1: 0.4, 2: 0.5}
    rows = study(starts={'output_gradient_test': lambda k, lam, seed: 2.0 * k ** power[seed]})
    effect, num_seeds = found(rows, 'output_gradient_test', 'start')
    assert effect == pytest.approx(interval(list(power.values())))
    assert num_seeds == 3
    assert {key for key in KEYS if effects(rows, key)['start'] is None} == FROM_START
    assert len(initial(rows)) == 3 * 3


def test_cosines_and_rates_change_by_so_much_per_doubling():
    rows = study(
        truths={'label_alignment': lambda k, lam, seed: 0.4 + (0.03 + 0.01 * seed) * math.log2(k)}
    )
    effect, _ = found(rows, 'label_alignment', 'lambda_9')
    assert effect == pytest.approx(interval([0.03, 0.04, 0.05]))


def test_only_trained_networks_of_constant_lambda_count():
    rows = study(lams=(1.0,))
    with_war = study(lams=(9.0,), method='trajectory')
    unfinished = study(lams=(3.0,), steps=(0, 10))
    everything = [*rows, *with_war, *unfinished]
    assert trained(everything) == trained(rows) == [row for row in rows if row['step'] == 20]
    assert list(effects(everything, 'kernel_drift')) == ['start', 'lambda_1', 'mean']
    assert effects(everything, 'kernel_drift') == effects(rows, 'kernel_drift')


def test_seeds_that_lack_a_width_are_left_out():
    rows = study(skip=lambda k, lam, seed: (k, lam, seed) == (4.0, 1.0, 2))
    counts = [found(rows, 'kernel_drift', place)[1] for place in ('lambda_1', 'lambda_9', 'mean')]
    assert counts == [2, 3, 2]
    # Where a lambda lacks a width of the others, none of its seeds is whole, and the mean is over
    # those lambdas that have one.
    effect = effects(study(skip=lambda k, lam, seed: (k, lam) == (4.0, 1.0)), 'kernel_drift')
    assert effect['lambda_1'] is None and effect['mean'] == effect['lambda_9'] is not None
    assert not any(effects(study(widths=(1.0,)), 'kernel_drift').values())
    assert effects([], 'kernel_drift') == {'start': None, 'mean': None}


@pytest.mark.parametrize('value', [0.0, None])
def test_a_network_without_a_logarithm_is_not_passed_over(value):
    """Those that did not diverge would otherwise speak for it; at other lambdas all is well."""
    rows = study(
        truths={
            'spectral_product': lambda k, lam, seed: value if (k, lam, seed) == (2, 1, 0) else k,
            'label_alignment': lambda k, lam, seed: None if seed == 0 else 0.1 * math.log2(k),
        },
        starts={'spectral_product': lambda k, lam, seed: k},
    )
    effect = effects(rows, 'spectral_product')
    assert effect['lambda_1'] is None and effect['start'] is not None
    assert found(rows, 'spectral_product', 'lambda_9') == (pytest.approx((1.0, 1.0, 1.0)), 3)
    assert found(rows, 'label_alignment', 'lambda_1') == (pytest.approx((0.1, 0.1, 0.1)), 2)


def test_means_over_seeds_are_geometric_for_what_differs_by_factors():
    rows = study(truths={'local_lipschitz_test': lambda k, lam, seed: k * 4.0**seed})
    line = by_width(rows, 'local_lipschitz_test')[9.0]
    logs = interval([0.0, math.log(4), math.log(16)])
    assert list(line.x) == [1.0, 2.0, 4.0]
    assert (line.mean[1], line.lower[1], line.upper[1]) == pytest.approx(
        tuple(2 * math.exp(bound) for bound in logs)
    )


def test_lines_before_training():
    rows = study(starts={'spectral_product': lambda k, lam, seed: 5.0 * k})
    line = band(at_start(rows, 'spectral_product'), quantity('spectral_product'))
    assert line is not None and list(line.mean) == pytest.approx([5.0, 10.0, 20.0])
    assert at_start(rows, 'kernel_drift') == at_start(rows, 'kernel_alignment') == {}


def test_lines_over_the_epochs():
    """Planted: straight lines; a drift of 0 at the start is a gap of its logarithmic axis."""
    rows = study(truths={'kernel_drift': lambda k, lam, seed: 2.0**seed})
    with_war = study(lams=(5.0,), method='trajectory')
    lines = by_epoch([*rows, *with_war], 2.0, 'kernel_drift')
    assert list(lines) == [1.0, 9.0], 'constant lambda only'
    line = lines[9.0]
    assert list(line.x) == [0.0, 5.0, 10.0]
    assert math.isnan(line.mean[0])
    assert (line.mean[2], line.lower[2], line.upper[2]) == pytest.approx((2.0, 1.0, 4.0))
    assert line.mean[1] == pytest.approx(1.0)
