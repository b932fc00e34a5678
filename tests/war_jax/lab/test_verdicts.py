"""Verdicts. Oracles: the interval's place, worked by hand; how often rules err on made-up data."""

import json
import math

import numpy as np
import pytest

from war_jax.lab.estimates import LEVEL, Estimate, Trend, over_seeds, trend
from war_jax.lab.verdicts import (
    ABOVE,
    BELOW,
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    after_holm,
    claim,
    claim_at_each,
    claim_of_layers,
    claim_of_ratio,
    claim_of_trend,
    judge,
    judge_each,
    judge_layers,
    judge_trend,
    near,
    no_worse,
    read_verdicts,
    write_verdicts,
)
from war_jax.records.files import ReportError


def estimate(low: float, high: float, seeds: int = 3) -> Estimate:
    return Estimate((low + high) / 2, low, high, seeds, (high - low) / 8, seeds - 1)


@pytest.mark.parametrize(
    ('effect', 'supported', 'word'),
    [
        (estimate(0.1, 0.2), ABOVE, SUPPORTED),
        (estimate(-0.2, -0.1), ABOVE, CONTRADICTED),
        (estimate(-0.1, 0.2), ABOVE, UNDECIDED),
        (estimate(0.0, 0.2), ABOVE, UNDECIDED),  # no effect is not excluded
        (estimate(-0.2, -0.1), BELOW, SUPPORTED),
        (estimate(0.1, 0.2, seeds=2), ABOVE, UNDECIDED),
        (estimate(-math.inf, math.inf, seeds=1), ABOVE, UNDECIDED),
        (None, ABOVE, UNDECIDED),
        (estimate(0.95, 1.05), near(1.0, 0.1), SUPPORTED),
        (estimate(0.85, 1.05), near(1.0, 0.1), UNDECIDED),
        (estimate(1.15, 1.3), near(1.0, 0.1), CONTRADICTED),
        (estimate(0.5, 0.8), near(1.0, 0.1), CONTRADICTED),
        # As good as, within 2: a small loss is none, and a loss that may be small is no refutation.
        (estimate(-1.9, -0.5), no_worse(2.0), SUPPORTED),
        (estimate(-3.0, -0.5), no_worse(2.0), UNDECIDED),
        (estimate(-5.0, -2.1), no_worse(2.0), CONTRADICTED),
    ],
)
def test_the_whole_interval_decides(effect, supported, word):
    assert judge(effect, supported).word == word


def test_p_value_is_the_level_at_which_it_is_just_decided():
    effect = over_seeds([0.3, 0.5, 0.2, 0.6])
    assert effect is not None
    p_value = judge(effect, ABOVE).p_value
    assert p_value is not None and p_value < LEVEL
    # The bound that the 95 % interval just touches has just that level.
    assert judge(effect, near(effect.value, effect.value - effect.low)).p_value == pytest.approx(
        LEVEL
    )


def test_trends():
    rises, falls = Trend(0.9, 0.001, 0.999, 3), Trend(-0.9, 0.999, 0.001, 3)
    assert judge_trend(rises, 1).word == judge_trend(falls, -1).word == SUPPORTED
    assert judge_trend(rises, -1).word == CONTRADICTED
    assert judge_trend(Trend(0.5, 0.03, 0.97, 3), 1).word == UNDECIDED  # two-sided
    assert judge_trend(rises._replace(num_seeds=2), 1).word == UNDECIDED
    assert judge_trend(None, 1).word == UNDECIDED


def test_most_layers():
    falls, level = Trend(-1.0, 1.0, 1e-4, 5), Trend(0.0, 1.0, 1.0, 5)
    rises = Trend(1.0, 1e-4, 1.0, 5)

    def layers(*trends):
        return {f'layer{number}': each for number, each in enumerate(trends)}

    found = judge_layers(layers(falls, falls, level), -1)
    assert (found.word, found.where) == (SUPPORTED, '2 of 3 layers')
    assert judge_layers(layers(rises, rises, level), -1).word == CONTRADICTED
    assert judge_layers(layers(falls, rises, level), -1).word == UNDECIDED
    # Half is not most; and a trend must hold after the correction for the number of layers.
    assert judge_layers(layers(falls, falls, level, level), -1).word == UNDECIDED
    weak = falls._replace(p_falls=0.012)
    assert judge_layers(layers(weak, weak, level), -1).word == UNDECIDED
    assert judge_layers(layers(falls, falls, None), -1).word == UNDECIDED


def test_layers_without_a_trend_are_hardly_ever_decided():
    """Eleven layers of noise, 200 studies: the rule must not find what is not there."""
    rng = np.random.default_rng(3)
    decided = 0
    for _ in range(200):
        layers = {
            str(layer): trend({float(x): dict(enumerate(rng.normal(size=3))) for x in range(6)})
            for layer in range(11)
        }
        decided += judge_layers(layers, -1).word != UNDECIDED
    assert decided <= 200 * LEVEL


def test_at_each_lambda():
    strong, against = estimate(4.0, 5.0, 5), estimate(-5.0, -4.0, 5)
    nothing = estimate(-1.0, 1.0, 5)
    found = judge_each({'λ = 1': strong, 'λ = 3': nothing}, ABOVE)
    assert (found.word, found.where) == (SUPPORTED, 'supported at λ = 1')
    mixed = judge_each({'λ = 1': strong, 'λ = 3': against}, ABOVE)
    assert mixed.word == UNDECIDED
    assert mixed.where == 'supported at λ = 1; contradicted at λ = 3'
    # One interval that just excludes 0 among several does not survive the correction.
    values = [1.0, 1.1, 0.2, 0.3, 0.9]
    shifted = over_seeds([value - 0.15 for value in values])
    assert judge(shifted, ABOVE).word == SUPPORTED
    places = {f'λ = {k}': shifted if k == 1 else nothing for k in range(1, 5)}
    found = judge_each(places, ABOVE)
    assert found.word == UNDECIDED and found.where.startswith('at none of λ = 1')


def test_a_family_is_corrected_for_its_number():
    claims = [(SUPPORTED, 0.01), (SUPPORTED, 0.04), (UNDECIDED, 0.5), (SUPPORTED, None)]
    assert after_holm(claims) == [SUPPORTED, UNDECIDED, UNDECIDED, SUPPORTED]


def test_claims_say_their_rule():
    grows = claim('a', 'It grows', estimate(0.1, 0.2), ABOVE, 'power of m')
    assert grows.rule == 'The whole interval lies above 0.'
    falling = claim('a', 'It grows', estimate(0.1, 0.2), ABOVE, 'm', unless='the loss still falls.')
    assert (falling.verdict, falling.rule) == (UNDECIDED, 'Undecided: the loss still falls.')
    ranks = claim_of_trend('b', 'It falls', Trend(-0.9, 0.99, 0.001, 3), -1)
    assert (ranks.verdict, ranks.effect, ranks.interval) == (SUPPORTED, -0.9, None)
    layers = claim_of_layers('c', 'Most fall', {'a': Trend(-1.0, 1.0, 0.001, 3)}, -1)
    assert (layers.verdict, layers.effect, layers.where) == (SUPPORTED, 1.0, '1 of 1 layers')
    places = {'λ = 1': estimate(1, 2), 'λ = 3': estimate(-1, 2)}
    each = claim_at_each('d', 'x', places, estimate(1, 2), ABOVE, 'points')
    assert 'Holm' in each.rule and each.where == 'supported at λ = 1'
    alone = claim_at_each('d', 'x', {'λ = 1': estimate(1, 2)}, estimate(1, 2), ABOVE, 'points')
    assert alone == claim('d', 'x', estimate(1, 2), ABOVE, 'points'), 'nothing to correct for'
    # No seed in common, hence no mean, but a verdict at one place.
    apart = claim_at_each('d', 'x', places, None, ABOVE, 'points')
    assert (apart.effect, apart.num_seeds, apart.verdict) == (None, 0, SUPPORTED)
    costs = [claim_of_ratio('e', 'x', ratio).verdict for ratio in (1.2, 1.05, 0.8, None)]
    assert costs == [SUPPORTED, UNDECIDED, CONTRADICTED, UNDECIDED]


def test_written_and_read(tmp_path):
    provenance = {'commit': 'abc', 'data': 'digits'}
    found = claim('a', 'It grows', estimate(0.1, 0.2), ABOVE, 'power of m', how='m = 2, 4.')
    write_verdicts(tmp_path / 'verdicts.json', [found], provenance, 'python -m x')
    (record,) = read_verdicts(tmp_path / 'verdicts.json')
    assert (record.low, record.high, record.verdict) == (0.1, 0.2, SUPPORTED)
    assert (record.rule, record.how, record.p_value) == (found.rule, found.how, found.p_value)
    rows = json.loads((tmp_path / 'verdicts.json').read_text())
    del rows[0]['rule']
    (tmp_path / 'verdicts.json').write_text(json.dumps(rows))
    with pytest.raises(ReportError, match='verdict 0 has no rule; draw the report again'):
        read_verdicts(tmp_path / 'verdicts.json')
