"""Verdicts and the report, from planted networks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.war_jax.studies.regularization.planted import LAYERS, networks, workdir
from war_jax.lab import plots
from war_jax.records.files import ReportError
from war_jax.studies.regularization import pictures
from war_jax.studies.regularization.findings import (
    claims,
    decide,
    layer_trends,
    trends,
    write_report,
)
from war_jax.studies.regularization.measure import OF_LAYERS, SCALARS

# Of three seeds all have one of the 3! orders: the probability by chance, in either direction.
SURE = 2 / 6**3


@pytest.fixture
def no_figures(monkeypatch):
    """Where they are not what is asked: they take seconds."""
    monkeypatch.setattr(pictures, 'draw', lambda networks, axis, folder: [])


def test_claims_follow_the_planted_directions():
    found = {claim.name: claim for claim in claims(networks())['epsilon']}
    margin = found['margin_with_epsilon']
    assert (margin.verdict, margin.num_seeds) == ('supported', 3)
    assert margin.effect == pytest.approx(-1)
    assert margin.p_value == pytest.approx(SURE)
    assert found['margin_with_epsilon_matched'].verdict == 'contradicted'
    assert found['confidence_with_epsilon'].effect == 0
    assert found['confidence_with_epsilon'].verdict == 'undecided'  # it does not change
    gap = found['loss_gap_with_epsilon']
    assert gap.effect == pytest.approx(1 / 3) and gap.verdict == 'undecided'  # 1, -1, 1
    assert found['loss_train_with_epsilon'].verdict == 'contradicted'
    assert 'loss_train_with_epsilon_matched' not in found
    std = found['std_with_epsilon']
    assert std.effect == pytest.approx(2 / 3)  # two of three layers
    assert (std.verdict, std.p_value) == ('supported', pytest.approx(len(LAYERS) * SURE))
    assert 'Interpolated' not in margin.how
    assert 'training loss 0.7.' in found['margin_with_epsilon_matched'].how


@pytest.mark.parametrize('few', [{'seeds': (0, 1)}, {'epsilons': (0.0, 0.1)}])
def test_two_seeds_or_two_epsilons_decide_nothing(few):
    found = claims(networks(**few))['epsilon']
    assert {claim.verdict for claim in found} == {'undecided'}
    assert ('The test needs three' in found[0].how) == ('epsilons' in few)


def test_a_seed_with_a_network_too_few_does_not_count():
    full = networks(lams=(1.0, 3.0))
    incomplete = [n for n in full if (n.cell.epsilon, n.cell.lam, n.cell.seed) != (0.1, 3.0, 1)]
    margin = next(c for c in claims(incomplete)['epsilon'] if c.name == 'margin_with_epsilon')
    assert (margin.num_seeds, margin.verdict) == (2, 'undecided')
    assert 'For each seed, the mean over λ.' in margin.how


def test_trends_have_every_quantity_and_layer():
    found = {row['name']: row['verdict'] for row in trends(networks(), 'epsilon')}
    assert len(found) == 2 * (len(SCALARS) + len(OF_LAYERS) * len(LAYERS))
    assert found['margin_with_epsilon'] == 'falls'
    assert found['margin_with_epsilon_matched'] == 'rises'
    assert found['confidence_with_epsilon'] == 'undecided'
    assert found['head:std_with_epsilon'] == 'rises' and found['stem:std_with_epsilon'] == 'falls'


def test_the_report_and_its_verdicts(tmp_path: Path):
    report = write_report(workdir(tmp_path), networks()).read_text()
    assert 'holds on 18 of 18 images; the distance is at least 25 times its bound' in report
    assert '| margin of logits | 0.51 (0.485 to 0.535) |' in report and '## Against ε' in report
    files = {path.name for path in (tmp_path / 'figures').glob('*.png')}
    assert {name for name in files if f'figures/{name}' in report} == files and len(files) == 6
    verdicts = {row['name']: row for row in json.loads((tmp_path / 'verdicts.json').read_text())}
    margin = verdicts['margin_with_epsilon']
    assert (margin['verdict'], margin['low'], margin['seeds']) == ('supported', None, 3)
    assert margin['commit'] == 'abc' and margin['data'] == 'Three images.'


def test_a_bound_that_fails_is_told(tmp_path: Path, no_figures):
    report = write_report(workdir(tmp_path), networks(broken=True)).read_text()
    assert 'holds on 9 of 18 images' in report


def test_two_small_files_decide_as_the_workdir_does(tmp_path: Path, no_figures):
    measured = networks(lams=(1.0, 2.0, 3.0))
    write_report(workdir(tmp_path / 'work'), measured)
    (tmp_path / 'kept').mkdir()
    for name in ('study.json', 'rows.csv'):
        shutil.copy(tmp_path / 'work' / name, tmp_path / 'kept')
    again, provenance = decide(tmp_path / 'kept')
    found = claims(measured)
    assert again == found['epsilon'] + found['lam'] and len(again) == 2 * 23
    assert provenance['command'] == 'python -m war_jax.studies.regularization'
    (tmp_path / 'kept' / 'study.json').unlink()
    with pytest.raises(ReportError, match=r'missing study\.json'):
        decide(tmp_path / 'kept')


def test_a_report_against_lambda_alone_of_one_seed(tmp_path: Path):
    planted = networks((0.1,), seeds=(0,), lams=(1.0, 3.0))
    report = write_report(workdir(tmp_path), planted).read_text()
    assert '## Against λ' in report and '## Against ε' not in report


def test_widths_need_not_have_the_same_layers(tmp_path: Path, no_figures):
    """A block whose width is the stem's has no projection; that layer is compared nowhere."""
    planted = networks(widths=(0.5, 1.0))
    for network in planted:
        if network.cell.width == 0.5:
            for row in (network.final, network.matched):
                row['layers'] |= {'stage1/block0/shortcut': dict.fromkeys(OF_LAYERS, 1.0)}
    for order in (planted, planted[::-1]):
        assert set(layer_trends(order, 'width', 'final', 'std')) == set(LAYERS)
        report = write_report(workdir(tmp_path), order).read_text()
        assert '## Against width' in report and '### All trends' in report
        assert not any('_with_width' in claim.name for claim in decide(tmp_path)[0])


def test_layers_stand_by_stage_coloured_by_depth_and_units_do_not_mix(monkeypatch, tmp_path: Path):
    made: dict[str, Figure] = {}
    monkeypatch.setattr(plots, 'save', lambda figure, path: made.update({path.name: figure}))
    pictures.draw(networks(), 'epsilon', tmp_path)
    assert [axes.get_ylabel() for axes in made['epsilon_fit.png'].axes] == [
        'share of the images', 'nats', 'difference of two shares', 'nats',
    ]  # fmt: skip
    gains = made['epsilon_gains.png'].axes
    assert [axes.get_title(loc='left') for axes in gains[:2]] == ['Ends', 'Stage 1']
    solid = {
        str(line.get_label()): float(np.asarray(line.get_color())[:3].sum())
        for axes in gains[:2]
        for line in axes.get_lines()
        if line.get_linestyle() == '-'
    }
    assert sorted(solid, key=lambda name: solid[name]) == ['stem', 'block0/conv1', 'head']
    assert len(gains[0].get_lines()) == 2 * 2, 'at the end, and at the same loss'
