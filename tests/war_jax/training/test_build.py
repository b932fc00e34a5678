"""What runs share. Oracles: the size of the compiled cache, and interpolation by hand."""

from contextlib import nullcontext
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from war_jax.config import ConfigError, resolve
from war_jax.data.batches import train_plan
from war_jax.data.device import DeviceData
from war_jax.data.sources import load
from war_jax.mesh import make_mesh
from war_jax.records.reference import Reference, make_reference
from war_jax.training.build import _quickly, build, make_rule, precision, targets
from war_jax.training.step import Metrics

CONFIG = resolve(digits.get_config('smoke'))


def reference(*ratios: float) -> Reference:
    made = make_reference(CONFIG, 'digest', ratios, {})
    assert made is not None
    return made


def test_seeds_lambdas_and_rules_share_one_program():
    splits = load(CONFIG.data)
    first = build(CONFIG, splits, make_mesh(jax.devices()[:1]))
    changed = replace(
        CONFIG,
        seed=1,
        objective=replace(CONFIG.objective, lam=9.0),
        war=replace(CONFIG.war, reference='thin', target='constant', gain=1.0),
    )
    others = [
        first.rerun(changed, reference(5.0, 2.0)),
        first.rerun(replace(CONFIG, war=replace(CONFIG.war, averaging_epochs=0.1)), None),
        first.rerun(
            replace(
                CONFIG, war=replace(CONFIG.war, reference='thin', rule='fixed_step', start=0.5)
            ),
            reference(5.0, 2.0),
        ),
    ]
    data = DeviceData(first.mesh, splits.train)
    plan = train_plan(0, 0, len(data), CONFIG.optimizer.batch_size)
    lams = []
    for parts in (first, *others):
        _, metrics = parts.step(
            parts.create_state(), parts.key, parts.rule, data.batch(plan.indices[0], plan.mask[0])
        )
        lams.append(float(Metrics(*metrics).lam))
    assert lams == [3.0, 3.0, 3.0, 0.5]  # the second one starts at its reference's
    assert first.step._cache_size() == 1  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match='only seed'):
        first.rerun(replace(CONFIG, threat=replace(CONFIG.threat, epsilon=0.1)), None)


def test_a_hole_as_large_as_the_image_is_refused():
    config = replace(CONFIG, augment=replace(CONFIG.augment, cutout=8))
    with pytest.raises(ConfigError, match=r'augment.cutout = 8: must be below .*, 8 pi.*rest: 4$'):
        build(config, load(config.data), make_mesh(jax.devices()[:1]))


@pytest.mark.parametrize(
    ('epochs', 'expected'),
    [
        (2, [8, 2]),
        (1, [2]),
        (4, [8, 8, 4, 2]),  # flat before the first recorded point, then a line in the logarithm
        (3, [8, 8 / 4 ** (1 / 3), 2]),
    ],
)
def test_a_trajectory_of_two_epochs_read_at_other_lengths(epochs, expected):
    np.testing.assert_allclose(targets(reference(8.0, 2.0), 'trajectory', epochs), expected)
    np.testing.assert_allclose(targets(reference(8.0, 2.0), 'constant', epochs), 2.0)


@pytest.mark.parametrize(('averaging_epochs', 'decay'), [(1.0, 2 / 3), (10.0, 29 / 30), (0.1, 0.0)])
def test_averages_look_back_over_the_configured_epochs(averaging_epochs, decay):
    """192 examples in batches of 64: three steps per epoch, six in all."""
    config = replace(CONFIG, war=replace(CONFIG.war, averaging_epochs=averaging_epochs))
    rule = build(config, load(config.data), make_mesh(jax.devices()[:1]), reference(5.0)).rule
    np.testing.assert_allclose(rule.decay, decay, rtol=1e-6)
    assert rule.total_steps == 6
    np.testing.assert_allclose(rule.gain, config.war.gain / 6, rtol=1e-6)
    np.testing.assert_allclose([rule.lam_start, rule.lam_min, rule.lam_max], [3.0, 3.0, 30.0])


def test_the_fixed_step_follows_the_ratio_at_the_end_and_has_no_cap():
    war = replace(CONFIG.war, rule='fixed_step', target='trajectory', step=0.25, start=0.5)
    rule = make_rule(replace(CONFIG, war=war), reference(8.0, 2.0), steps_per_epoch=3)
    assert (rule.lam_start, rule.step, rule.lam_min, rule.lam_max) == (0.5, 0.25, 0.0, np.inf)
    np.testing.assert_allclose(np.exp(rule.log_zeta), [2.0, 2.0], rtol=1e-6)


def test_without_a_reference_no_rule_moves_lambda():
    rule = make_rule(replace(CONFIG, war=replace(CONFIG.war, gain=9.0)), None, steps_per_epoch=3)
    assert (rule.lam_start, rule.lam_min, rule.lam_max) == (3.0, 3.0, 3.0)
    assert (rule.gain, rule.step) == (0.0, 0.0)


def test_a_run_says_what_it_is_and_where_it_stands():
    """Without a step, and with some; at a constant lambda, and with WAR and what it is held to."""
    splits = load(CONFIG.data)
    parts = build(CONFIG, splits, make_mesh(jax.devices()[:1]))
    war = replace(CONFIG.war, reference='runs/thin', target='constant')
    adjusted = parts.rerun(replace(CONFIG, war=war), reference(5.0, 2.0))
    assert 'trades with λ = 3, on 1 x cpu; digits: ' in parts.describe(splits)
    assert 'λ from 3 on by WAR (constant, held to runs/thin)' in adjusted.describe(splits)
    state = parts.create_state()
    assert parts.position(state).startswith('6 steps (3 per epoch)')
    assert parts.position(state.replace(step=jnp.int32(4))).startswith('after step 4 of 6 ')


@pytest.mark.parametrize('outer', [False, True])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_precision_leaves_jax_as_it_was(outer, dtype):
    config = digits.get_config('smoke')
    config.model.update(param_dtype=dtype, compute_dtype=dtype)
    before = jnp.ones(()).dtype
    with jax.enable_x64(True) if outer else nullcontext():
        with precision(resolve(config)):
            assert jnp.ones(()).dtype == np.float64 or (dtype, outer) == ('float32', False)
    assert jnp.ones(()).dtype == before == np.float32


def test_a_normalisation_of_other_channels_is_refused():
    """Digits are grey."""
    config = replace(CONFIG, model=replace(CONFIG.model, normalization='cifar10'))
    words = r"model\.normalization = 'cifar10': has 3 channels, images of digits have 1; nearest"
    with pytest.raises(ConfigError, match=words):
        build(config, load(config.data), make_mesh())


@pytest.mark.parametrize(('told', 'options'), [(False, True), (True, False)])
def test_a_fresh_state_heeds_that_jax_is_told_to_optimise_less(told, options):
    before = jax.config.read('jax_disable_most_optimizations')
    jax.config.update('jax_disable_most_optimizations', told)
    try:
        assert bool(_quickly()) == options
    finally:
        jax.config.update('jax_disable_most_optimizations', before)
