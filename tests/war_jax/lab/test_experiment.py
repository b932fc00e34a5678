"""The frame, by a toy study whose answer is known: value = size^2, a little apart by seed."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.war_jax.lab import toy_study
from tests.war_jax.lab.toy_settings import Settings
from tests.war_jax.lab.toy_study import EXPERIMENT as TOY
from war_jax.config import ConfigError
from war_jax.lab.experiment import decide, read_results, run
from war_jax.lab.settings import read
from war_jax.lab.verdicts import SUPPORTED, read_verdicts
from war_jax.records.files import ReportError, read_json, write_json

CONFIG = {'power': 2.0, 'grid': {'sizes': (2, 4, 8), 'seeds': (0, 1, 2)}}
COMMAND = 'python -m toy'


def settings(**changes) -> Settings:
    return read(Settings, {**CONFIG, **changes})


def test_two_short_files_make_a_study(tmp_path: Path):
    report = run(TOY, settings(), tmp_path, COMMAND)
    text = report.read_text()
    assert text.startswith('# A toy\n') and '![Values](figures/values.png)' in text
    assert f'    {COMMAND}' in text and 'Not finished' not in text
    (verdict,) = read_verdicts(tmp_path / 'verdicts.json')
    assert (verdict.verdict, verdict.seeds) == (SUPPORTED, 3)
    assert verdict.effect == pytest.approx(2.0)
    assert read_json(tmp_path / 'cells' / 'size4-seed1.json')['value'] == pytest.approx(16.16)


def test_what_is_there_is_not_made_again_and_the_grid_may_grow(tmp_path: Path, monkeypatch):
    run(TOY, settings(), tmp_path, COMMAND)
    made = []
    make = toy_study.Bench.make

    def note(self, cell, stop):
        made.append(cell.name)
        return make(self, cell, stop)

    monkeypatch.setattr(toy_study.Bench, 'make', note)
    run(TOY, settings(grid={'sizes': (2, 4, 8), 'seeds': (0, 1, 2, 3)}), tmp_path, 'again')
    assert made == ['size2-seed3', 'size4-seed3', 'size8-seed3']
    (verdict,) = read_verdicts(tmp_path / 'verdicts.json')
    assert (verdict.seeds, verdict.command) == (4, 'again')
    with pytest.raises(ConfigError, match='holds a run of another configuration'):
        run(TOY, settings(power=3.0), tmp_path, COMMAND)


def test_a_signal_keeps_what_is_finished(tmp_path: Path, monkeypatch):
    make = toy_study.Bench.make

    def told(self, cell, stop):
        if cell.name == 'size4-seed0':
            os.kill(os.getpid(), signal.SIGTERM)
        return make(self, cell, stop)

    with monkeypatch.context() as patch:
        patch.setattr(toy_study.Bench, 'make', told)
        with pytest.raises(SystemExit) as left:
            run(TOY, settings(), tmp_path, COMMAND)
    assert left.value.code == 128 + signal.SIGTERM
    kept = {path.stem for path in (tmp_path / 'cells').iterdir()}
    everything = {cell.name for cell in settings().cells}
    assert {'size2-seed0', 'size2-seed1', 'size2-seed2'} <= kept < everything
    assert not (tmp_path / 'report.md').exists()
    run(TOY, settings(), tmp_path, COMMAND)
    assert read_verdicts(tmp_path / 'verdicts.json')[0].seeds == 3


def test_rows_are_kept_in_one_small_file(tmp_path: Path):
    """study.json and rows.csv alone give the results, and so the claims, of the whole workdir."""
    run(TOY, settings(), tmp_path / 'work', COMMAND)
    kept = tmp_path / 'kept'
    kept.mkdir()
    for name in ('study.json', 'rows.csv'):
        shutil.copy(tmp_path / 'work' / name, kept)
    whole, small = (read_results(TOY, folder) for folder in (tmp_path / 'work', kept))
    assert whole == small and len(small.rows) == 9
    assert list(TOY.claims(whole)) == list(TOY.claims(small))


def test_unfinished_and_incomplete(tmp_path: Path):
    run(TOY, settings(), tmp_path, COMMAND)
    (tmp_path / 'cells' / 'size2-seed0.json').unlink()
    results = read_results(TOY, tmp_path)
    assert [cell.name for cell in results.missing] == ['size2-seed0']
    strict = replace(TOY, is_complete=lambda settings, cell, row: row['note'] == 'remade')
    assert len(read_results(strict, tmp_path).missing) == 9
    write_json(tmp_path / 'study.json', {'config': {}})
    with pytest.raises(ReportError, match=r'no grid, provenance'):
        read_results(TOY, tmp_path)
    with pytest.raises(ReportError, match=r'missing study\.json'):
        read_results(TOY, tmp_path / 'nowhere')


def test_what_is_known_of_the_data_may_stand_on_top_as_it_once_did(tmp_path: Path):
    run(TOY, settings(), tmp_path, COMMAND)
    study = read_json(tmp_path / 'study.json')
    assert study.pop('about') == {}
    write_json(tmp_path / 'study.json', {**study, 'shape': [8, 8]})
    assert read_results(TOY, tmp_path).about['shape'] == [8, 8]


def test_settings_are_checked():
    with pytest.raises(ConfigError, match=r'grid\.sizes = \(2, 2\): must not name one twice'):
        settings(grid={'sizes': (2, 2), 'seeds': (0,)})
    with pytest.raises(ConfigError, match=r'grid\.seeds'):
        settings(grid={'sizes': (2,), 'seeds': (1, 1)})


def test_two_small_files_are_enough_to_decide_again(tmp_path: Path):
    run(TOY, settings(), tmp_path / 'work', COMMAND)
    (tmp_path / 'kept').mkdir()
    for name in ('study.json', 'rows.csv'):
        shutil.copy(tmp_path / 'work' / name, tmp_path / 'kept')
    claims, provenance = decide(TOY, tmp_path / 'kept')
    assert [(claim.name, claim.verdict) for claim in claims] == [('value_grows', SUPPORTED)]
    assert (provenance['command'], provenance['data']) == (COMMAND, 'no data at all')
