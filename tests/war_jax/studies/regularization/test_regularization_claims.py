"""Verdicts and the report, from planted networks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.war_jax.studies.regularization.planted import LAYERS, networks
from war_jax.studies.regularization.claims import (
    axes,
    correlations,
    evaluate,
    falling_layers,
    trends,
)
from war_jax.studies.regularization.measure import OF_LAYERS, SCALARS
from war_jax.studies.regularization.report import write_report

ABOUT = {
    'config': {
        'data': {'name': 'digits'}, 'model': {'depth': 10}, 'objective': {'name': 'madry'},
        'optimizer': {'epochs': 3}, 'threat': {'norm': 'linf', 'epsilon': 0.1},
    },
    'measure': {
        'num_train': 9, 'num_test': 3, 'num_distance': 3, 'epsilon': 0.1, 'attack_steps': 2,
        'search_steps': 4, 'directions': 5,
    },
    'provenance': {
        'data': 'Three images.', 'commit': 'abc', 'num_devices': 1, 'device': 'cpu',
        'versions': {'jax': '0.10.2'}, 'python': '3.11', 'platform': 'cpu',
    },
    'command': 'python -m war_jax.studies.regularization',
}  # fmt: skip


def test_claims_follow_the_planted_directions():
    claims = {claim.name: claim for claim in evaluate(networks(), 'epsilon')}
    assert claims['margin_with_epsilon'].verdict == 'supported'
    assert claims['margin_with_epsilon'].interval == (-1, -1)
    assert claims['margin_with_epsilon_matched'].verdict == 'contradicted'
    assert claims['confidence_with_epsilon'].effect == 0
    assert claims['confidence_with_epsilon'].verdict == 'undecided'  # it does not change
    gap = claims['loss_gap_with_epsilon']
    assert gap.effect == pytest.approx(1 / 3) and gap.verdict == 'undecided'  # 1, -1, 1
    assert claims['loss_train_with_epsilon'].verdict == 'contradicted'
    assert 'loss_train_with_epsilon_matched' not in claims
    assert claims['std_with_epsilon'].effect == pytest.approx(2 / 3)
    assert claims['std_with_epsilon'].verdict == 'supported'  # two of three layers
    one = {claim.name: claim for claim in evaluate(networks(seeds=(0,)), 'epsilon')}
    assert {claim.verdict for claim in one.values()} == {'undecided'}


def test_what_else_differs_is_averaged_and_must_be_complete():
    full = networks(lams=(1.0, 3.0))
    assert axes(full) == ['epsilon', 'lam']
    assert correlations(full, 'epsilon', 'final', 'margin') == {0: -1, 1: -1, 2: -1}
    assert correlations(full, 'lam', 'final', 'margin') == {0: 0, 1: 0, 2: 0}  # the same for both
    incomplete = [n for n in full if n.conditions[2:] != (3.0, 1)]
    assert correlations(incomplete, 'epsilon', 'final', 'margin') == {0: -1, 2: -1}
    shares = falling_layers(incomplete, 'epsilon', 'final', 'std')
    assert shares == {0: pytest.approx(2 / 3), 2: pytest.approx(2 / 3)}
    full[0].final['distance'] = None  # no boundary found for any image
    assert correlations(full, 'epsilon', 'final', 'distance') == {1: -1, 2: -1}


def test_trends_have_every_quantity_and_layer():
    found = {trend.name: trend.verdict for trend in trends(networks(), 'epsilon')}
    assert len(found) == 2 * (len(SCALARS) + len(OF_LAYERS) * len(LAYERS))
    assert (
        found['margin_with_epsilon'] == 'falls' and found['margin_with_epsilon_matched'] == 'rises'
    )
    assert found['head:std_with_epsilon'] == 'rises' and found['stem:std_with_epsilon'] == 'falls'


def test_the_report_and_its_verdicts(tmp_path: Path):
    report = write_report(tmp_path, networks(), ABOUT).read_text()
    assert 'holds on 18 of 18 images; the distance is at least 25 times its bound' in report
    assert '| margin of logits | 2.01' in report and '## Against ε' in report
    files = {path.name for path in (tmp_path / 'figures').iterdir()}
    assert {name for name in files if f'figures/{name}' in report} == files and len(files) == 5
    verdicts = {row['name']: row for row in json.loads((tmp_path / 'verdicts.json').read_text())}
    margin = verdicts['margin_with_epsilon']
    assert (margin['effect'], margin['low'], margin['high'], margin['seeds']) == (-1, -1, -1, 3)
    assert margin['commit'] == 'abc' and margin['data'] == 'Three images.'
    assert 'holds on 9 of 18' in write_report(tmp_path, networks(broken=True), ABOUT).read_text()


def test_a_report_against_lambda_alone(tmp_path: Path):
    report = write_report(tmp_path, networks((0.1,), lams=(1.0, 3.0)), ABOUT).read_text()
    assert '## Against λ' in report and '## Against ε' not in report


def test_widths_need_not_have_the_same_layers(tmp_path: Path):
    """A block whose width is the stem's has no projection; that layer is compared nowhere."""
    thin, wide = networks(), networks()
    wide = [replace(n, conditions=n.conditions._replace(width=1.0)) for n in wide]
    for network in thin:
        for row in (network.final, network.matched):
            row['layers'] |= {'stage1/block0/shortcut': dict.fromkeys(OF_LAYERS, 1.0)}
    for order in ([*thin, *wide], [*wide, *thin]):
        names = [trend.name for trend in trends(order, 'width')]
        assert len(names) == 2 * (len(SCALARS) + len(OF_LAYERS) * len(LAYERS))
        assert falling_layers(order, 'width', 'final', 'std') == {0: 0, 1: 0, 2: 0}
        assert '## Against width' in write_report(tmp_path, order, ABOUT).read_text()
