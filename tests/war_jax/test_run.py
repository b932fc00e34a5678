"""A run in its workdir, and what a thin one hands to a wide one. Oracle: lambda and the averaged
ratio of every step, worked out in NumPy from the risks that the run itself logged."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from configs import digits
from war_jax.config import Config, ConfigError, resolve
from war_jax.run import train
from war_jax.training import loop

pytestmark = pytest.mark.usefixtures('undrawn')


def config(**changes) -> Config:
    values = digits.get_config('smoke')
    values.log.tensorboard = False
    values.update_from_flattened_dict(changes)
    return resolve(values)


def steps(workdir: Path) -> list[dict]:
    """The training rows; with log.every_steps = 1, one for each step."""
    lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    return [row for row in lines if row['kind'] == 'train']


def averaged_ratios(rows: list[dict], decay: float) -> np.ndarray:
    natural = np.array([row['natural_risk'] for row in rows])
    robust = np.array([row['robust_regularization'] for row in rows])
    n = np.arange(len(rows))
    weights = np.tril(decay ** np.maximum(n[:, None] - n, 0))
    return (weights @ natural) / (weights @ robust)


@pytest.fixture(scope='module')
def thin(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('thin')
    train(config(**{'objective.lam': 2.0}), workdir)
    return workdir


def test_a_finished_run_hands_on_its_risk_ratios(thin):
    """Three steps per epoch, averaged over one epoch: decay 2/3."""
    found = json.loads((thin / 'war.json').read_text())
    ratios = averaged_ratios(steps(thin), 2 / 3)
    np.testing.assert_allclose(found['trajectory'], ratios[[2, 5]], rtol=1e-4)
    assert found['zeta'] == found['trajectory'][-1]
    assert (found['lam'], found['widen_factor'], found['conditions']['threat.epsilon']) == (
        2.0,
        0.25,
        0.2,
    )
    assert found['provenance']['checksum'] == found['checksum']
    logged = [row['averaged_risk_ratio'] for row in steps(thin)]
    np.testing.assert_allclose(logged, ratios, rtol=1e-4)


@pytest.mark.parametrize('target', ['trajectory', 'constant'])
def test_a_wide_run_is_held_to_it(thin, tmp_path, target):
    changes = {
        'model.widen_factor': 0.5,
        'objective.lam': 99.0,  # not used
        'war.reference': str(thin),
        'war.target': target,
        'war.gain': 3.0,
    }
    summary = train(config(**changes), tmp_path)
    rows, reference = steps(tmp_path), json.loads((thin / 'war.json').read_text())
    ratios = averaged_ratios(rows, 2 / 3)
    first, last = np.log(reference['trajectory'])
    if target == 'trajectory':  # of two epochs: flat up to the end of the first, then a line
        targets = np.interp(np.arange(1, 7), [3, 6], [first, last])
    else:
        targets = np.full(6, last)
    lam, expected = 2.0, []
    for ratio, log_target in zip(ratios, targets, strict=True):
        expected.append(lam)
        lam = np.clip(lam * np.exp(3.0 / 6 * (log_target - np.log(ratio))), 2.0, 20.0)
    np.testing.assert_allclose([row['lambda'] for row in rows], expected, rtol=1e-4)
    np.testing.assert_allclose(summary['lambda'], lam, rtol=1e-4)
    assert summary['lambda_start'] == 2.0 and summary['lambda'] > 2.0
    assert not (tmp_path / 'war.json').exists()
    assert json.loads((tmp_path / 'config.json').read_text())['reference'] == reference
    report = (tmp_path / 'report.md').read_text()
    assert 'rule integral' in report and 'WRN-10-0.25' in report and 'λ = 99' not in report


FIXED_STEP = {'war.rule': 'fixed_step', 'war.step': 0.5, 'war.start': 0.25}


@pytest.mark.parametrize(('step', 'rule'), [(1, {'war.gain': 3.0}), (4, FIXED_STEP)])
def test_interrupted_it_moves_lambda_as_if_it_had_not_been(
    thin, tmp_path, monkeypatch, step, rule
):
    held = config(**{'war.reference': str(thin), **rule})
    whole = train(held, tmp_path / 'whole')
    real_batches = loop.Run.batches

    def batches_with_a_signal(self, done, data):
        for i, batch in enumerate(real_batches(self, done, data)):
            if i == step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(loop.Run, 'batches', batches_with_a_signal)
    with pytest.raises(SystemExit):
        train(held, tmp_path / 'cut')
    monkeypatch.undo()
    cut = train(held, tmp_path / 'cut')
    clocks = ('seconds', 'images_per_second')
    rows = [
        [{k: v for k, v in row.items() if k not in clocks} for row in steps(tmp_path / name)]
        for name in ('whole', 'cut')
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 6
    assert len({row['lambda'] for row in rows[0]}) > 1  # or there is nothing to resume
    assert {**cut, 'seconds': 0} == {**whole, 'seconds': 0}
    if rule is FIXED_STEP:
        zeta = json.loads((thin / 'war.json').read_text())['zeta']
        ups = [row['natural_risk'] / row['robust_regularization'] < zeta for row in rows[0]]
        lams = [0.25]
        for up in ups:
            lams.append(lams[-1] + 0.5 if up else max(lams[-1] - 0.5, 0.0))
        assert [row['lambda'] for row in rows[0]] == lams[:-1] and whole['lambda'] == lams[-1]
        assert whole['lambda_start'] == 0.25
        report = (tmp_path / 'whole' / 'report.md').read_text()
        assert 'rule fixed\\_step: λ up by 0.5' in report and 'averages over' not in report


def test_a_reference_of_another_kind_is_refused_before_anything_is_written(thin, tmp_path):
    changes = {'war.reference': str(thin), 'threat.epsilon': 0.1}
    with pytest.raises(ConfigError, match=r'threat\.epsilon = 0\.1 \(there 0\.2\)'):
        train(config(**changes), tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


def test_a_run_goes_on_with_a_reference_that_has_moved(thin, tmp_path):
    (tmp_path / 'moved').mkdir()
    (tmp_path / 'moved' / 'war.json').write_bytes((thin / 'war.json').read_bytes())
    first = train(config(**{'war.reference': str(thin)}), tmp_path / 'run')
    again = train(config(**{'war.reference': str(tmp_path / 'moved')}), tmp_path / 'run')
    assert again == first
    with pytest.raises(ConfigError, match=r'another war\.reference'):
        train(config(), tmp_path / 'run')


def test_natural_training_hands_on_nothing(tmp_path):
    changes = {'objective.name': 'natural', 'objective.lam': 0.0, 'optimizer.epochs': 1}
    train(config(**changes), tmp_path)
    assert (tmp_path / 'summary.json').exists() and not (tmp_path / 'war.json').exists()
