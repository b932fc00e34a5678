"""Which runs and probes are found. Oracles: the folders made here, and the settings typed wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs import digits, ntk_run
from ntk.studies.dynamics.runs import find_runs, thinned
from ntk.studies.dynamics.settings import resolve_along
from war_jax.config import ConfigError, resolve, to_dict
from war_jax.records.files import ReportError
from war_jax.records.probes import write_probe


def make(workdir: Path, steps=(0, 5, 10), reference=None, **changes) -> Path:
    values = digits.get_config('smoke')
    values.update_from_flattened_dict(changes)
    about = {
        'config': to_dict(resolve(values)),
        'provenance': {'data': 'digits.', 'checksum': 'abc'},
        'reference': reference,
    }
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / 'config.json').write_text(json.dumps(about))
    for step in steps:
        write_probe(workdir, step, {'params': {'w': np.ones(2)}})
    return workdir


def test_a_single_run(tmp_path: Path):
    found = find_runs(make(tmp_path / 'run', seed=4, **{'objective.lam': 2.0}))
    [run] = found.runs
    assert not found.is_study and found.missing == {}
    assert (run.name, run.method, run.lam, run.config.seed) == ('run', 'fixed', 2.0, 4)
    assert (run.data, run.checksum) == ('digits.', 'abc')
    assert list(run.probes) == [0, 5, 10]
    assert run.probes[5] == tmp_path / 'run' / 'probes' / 'step-00000005.npz'


def test_a_study(tmp_path: Path):
    """In the order of width and lambda; a study's own folder holds a config.json as well."""
    make(tmp_path, steps=())
    runs = tmp_path / 'runs'
    make(runs / 'a', **{'model.widen_factor': 2.0, 'objective.lam': 9.0})
    make(runs / 'b', **{'model.widen_factor': 2.0, 'objective.lam': 1.0})
    make(runs / 'c', **{'model.widen_factor': 1.0})
    reference = {'lam': 4.5, 'widen_factor': 1.0}
    make(runs / 'd', reference=reference, **{'war.reference': 'x', 'war.target': 'constant'})
    make(runs / 'e', steps=())
    make(runs / 'f', steps=(5, 10))
    (runs / 'g').mkdir()
    found = find_runs(tmp_path)
    assert [run.name for run in found.runs] == ['d', 'c', 'b', 'a']
    assert (found.runs[0].method, found.runs[0].lam) == ('constant', 4.5)
    assert found.missing == {'e': 'no probes', 'f': 'no probe of step 0'}
    assert found.is_study


def test_a_run_from_before_there_were_probes(tmp_path: Path):
    """It went on with them, and its config.json stayed as it was."""
    path = make(tmp_path / 'run') / 'config.json'
    about = json.loads(path.read_text())
    del about['config']['ntk']
    path.write_text(json.dumps(about))
    assert find_runs(tmp_path / 'run').runs[0].config.ntk.every == 0


@pytest.mark.parametrize(
    ('at_most', 'expected'),
    [
        (0, list(range(0, 100, 10))),
        (99, list(range(0, 100, 10))),
        (2, [0, 90]),
        (4, [0, 30, 60, 90]),
        (3, [0, 40, 90]),
    ],
)
def test_thinned_keeps_the_first_and_the_last(tmp_path: Path, at_most: int, expected: list[int]):
    probes = {step: tmp_path / str(step) for step in range(0, 100, 10)}
    assert list(thinned(probes, at_most)) == expected
    make(tmp_path / 'run', steps=(0, 1, 2, 3))
    assert len(find_runs(tmp_path / 'run', at_most).runs[0].probes) == min(at_most or 4, 4)


def test_what_holds_no_probes_is_refused_in_one_line(tmp_path: Path):
    make(tmp_path / 'run', steps=())
    make(tmp_path / 'study' / 'runs' / 'a', steps=())
    for name in ('run', 'study'):
        with pytest.raises(ConfigError, match=r'train it, .*--config\.ntk\.every=N') as error:
            find_runs(tmp_path / name)
        assert '\n' not in str(error.value) and f'--run={tmp_path / name}: ' in str(error.value)
    (tmp_path / 'empty' / 'runs').mkdir(parents=True)
    for name in ('nothing', 'empty'):
        with pytest.raises(ConfigError, match=r'must be the folder of a run') as error:
            find_runs(tmp_path / name)
        assert '\n' not in str(error.value)


def test_unreadable_runs_are_named(tmp_path: Path):
    path = make(tmp_path / 'run') / 'config.json'
    text = path.read_text()
    path.write_text(text[:100])
    with pytest.raises(ReportError, match=r'config\.json: unreadable'):
        find_runs(tmp_path / 'run')
    path.write_text(text.replace('"epsilon": 0.2', '"epsilon": -1'))
    with pytest.raises(ConfigError, match=r'config\.json: threat\.epsilon = -1\.0: must be'):
        find_runs(tmp_path / 'run')
    path.write_text(json.dumps({'config': {}, 'provenance': {}}))
    with pytest.raises(ReportError, match=r'config\.json: no reference'):
        find_runs(tmp_path / 'run')


def test_runs_are_told_apart_by_what_they_are(tmp_path: Path):
    runs = {
        name: find_runs(make(tmp_path / name, **changes)).runs[0]
        for name, changes in {
            'a': {},
            'b': {},
            'c': {'seed': 1},
            'd': {'optimizer.learning_rate': 0.2},
        }.items()
    }
    assert runs['a'].digest == runs['b'].digest
    assert len({run.digest for run in runs.values()}) == 3


def test_settings():
    settings = resolve_along(ntk_run.get_config())
    assert (settings.num_train, settings.num_test, settings.batch_norm) == (64, 128, 'batch')
    values = ntk_run.get_config().to_dict()
    same = resolve_along({**values, 'block_size': 3, 'max_probes': 4})
    assert same.digest == settings.digest
    others = [{'num_train': 32}, {'num_test': 32}, {'attack_steps': 3}, {'batch_norm': 'inference'}]
    digests = {resolve_along({**values, **other}).digest for other in others}
    assert len(digests | {settings.digest}) == 5


@pytest.mark.parametrize(
    ('key', 'value', 'line'),
    [
        ('num_train', 1, 'num_train = 1: must be 0 or at least 2; nearest: 2'),
        ('max_probes', 1, 'max_probes = 1: must be 0 or at least 2; nearest: 2'),
        ('num_test', -1, 'num_test = -1: must be at least 0'),
        ('batch_norm', 'train', "batch_norm = 'train': must be one of 'inference', 'batch'"),
        ('experiment', 'width', "experiment = 'width': must be 'run' here"),
        ('num_trian', 3, 'num_trian = 3: no such key; nearest: num_train'),
    ],
)
def test_refused_settings(key: str, value: object, line: str):
    with pytest.raises(ConfigError) as error:
        resolve_along({**ntk_run.get_config().to_dict(), key: value})
    assert line in str(error.value)


def test_the_config_file_explains_every_key():
    lines = [line.strip() for line in Path(ntk_run.__file__).read_text().splitlines()]
    keys = [i for i, line in enumerate(lines) if line.startswith("'") and ': ' in line]
    assert len(keys) == len(ntk_run.DEFAULTS) == 7
    assert not [lines[i] for i in keys if not lines[i - 1].startswith('#')]
