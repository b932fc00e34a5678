"""Probes of a small real run, found, measured, interrupted and measured again. Oracles: the run's
own files, the folders made here, and the same measurement made in one go."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from configs import digits, ntk_run
from ntk.spectral.bound import LipschitzBound
from ntk.studies.dynamics import measure
from ntk.studies.dynamics.bench import find_runs, run_dynamics, thinned
from ntk.studies.dynamics.measure import NetworkMeasures
from ntk.studies.dynamics.settings import Settings
from war_jax.config import ConfigError, resolve, to_dict
from war_jax.lab.experiment import read_rows
from war_jax.lab.settings import read
from war_jax.records.files import ReportError, read_json, read_json_lines
from war_jax.records.probes import list_probes, read_probe, write_probe
from war_jax.records.provenance import lock_workdir
from war_jax.run import train

COMMAND = 'python -m ntk.main ...'


@pytest.fixture(autouse=True, scope='module')
def quick_bound():
    """Compiling the norms of all layers takes most of the time; they have tests of their own."""
    patch = pytest.MonkeyPatch()
    patch.setattr(measure, 'lipschitz_bound', lambda *_: LipschitzBound(2.0, {}))
    yield
    patch.undo()


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """Six steps with probes at 0, 4 and 6."""
    config = digits.get_config('smoke')
    config.update_from_flattened_dict(
        {
            'ntk.every': 4,
            'log.tensorboard': False,
            'evaluation.num_steps': 1,
            'evaluation.test_examples': 32,
        }
    )
    workdir = tmp_path_factory.mktemp('trained')
    train(resolve(config), workdir)
    return workdir


def run(run_dir: Path, workdir: Path, **changes) -> list[dict]:
    """The rows of rows.csv, without what a clock put there."""
    config = ntk_run.get_config().to_dict()
    config |= {'num_train': 4, 'num_test': 6, 'attack_steps': 0, 'batch_norm': 'inference'}
    settings = read(Settings, {**config, **changes})
    assert run_dynamics(settings, run_dir, workdir, COMMAND) == workdir / 'report.md'
    rows = read_rows(workdir / 'rows.csv').values()
    return [{k: v for k, v in row.items() if k not in ('seconds', 'commit')} for row in rows]


@pytest.fixture(scope='module')
def whole(trained, tmp_path_factory):
    """(workdir, rows) of one uninterrupted measurement."""
    workdir = tmp_path_factory.mktemp('whole')
    return workdir, run(trained, workdir)


@pytest.fixture
def forbidden(monkeypatch):
    def measured_again(*_):
        raise AssertionError('measured again')

    monkeypatch.setattr(NetworkMeasures, 'measure', measured_again)


def test_a_row_for_each_probe(trained, whole):
    workdir, rows = whole
    assert [row['step'] for row in rows] == [0, 4, 6]
    assert [row['epoch'] for row in rows] == [0.0, pytest.approx(4 / 3), 2.0]
    assert {row['last_step'] for row in rows} == {6}
    about = {(row['run'], row['method'], row['lambda'], row['seed']) for row in rows}
    assert about == {(trained.name, 'fixed', 3.0, 0)}
    assert {(row['num_train'], row['num_test'], row['device']) for row in rows} == {
        (4, 6, '4 × cpu')
    }
    assert rows[0]['kernel_drift'] == 0.0 < rows[1]['kernel_drift']
    # Oracle: the files, in NumPy.
    weights = []
    for path in list_probes(trained).values():
        with np.load(path) as found:
            names = sorted(name for name in found if name.startswith('params/'))
            weights.append(np.concatenate([found[name].ravel() for name in names]))
    movement = np.linalg.norm(weights[2] - weights[0]) / np.linalg.norm(weights[0])
    assert rows[2]['weight_movement'] == pytest.approx(movement, rel=1e-5)
    report = (workdir / 'report.md').read_text()
    assert 'In 6 steps' in report and (workdir / 'figures/curves.png').exists()
    study = read_json(workdir / 'study.json')
    assert study['experiment'] == 'ntk.studies.dynamics.findings'
    assert study['provenance']['checksum'] == find_runs(trained).runs[0].checksum


@pytest.mark.usefixtures('forbidden')
def test_a_second_call_only_draws(trained, whole):
    workdir, rows = whole
    before = (workdir / 'report.md').read_bytes()
    (workdir / 'report.md').unlink()
    assert run(trained, workdir) == rows
    assert (workdir / 'report.md').read_bytes() == before
    assert run(trained, workdir, max_probes=2) == [rows[0], rows[2]]


def test_interrupted_it_goes_on_where_it_stopped(trained, whole, tmp_path, monkeypatch):
    real, done = NetworkMeasures.measure, []

    def signalled(self, variables, *rest):
        done.append(len(done))
        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGTERM)  # noticed between two parts of this probe
        return real(self, variables, *rest)

    monkeypatch.setattr(NetworkMeasures, 'measure', signalled)
    with pytest.raises(SystemExit) as stopped:
        run(trained, tmp_path)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert [row['step'] for row in read_json_lines(tmp_path / 'measured.jsonl')] == [0]
    assert run(trained, tmp_path) == whole[1]
    assert len(done) == 2 + 2


def test_other_settings_stand_beside(trained, whole, tmp_path, monkeypatch):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    real, kernels = NetworkMeasures.kernel, []
    monkeypatch.setattr(
        NetworkMeasures, 'kernel', lambda *arguments: kernels.append(0) or real(*arguments)
    )
    others = run(trained, tmp_path, num_test=3)
    assert [row['num_test'] for row in others] == [3] * 3
    assert len(kernels) == 3, 'the first one serves twice'
    assert len(read_json_lines(tmp_path / 'measured.jsonl')) == 6
    assert run(trained, tmp_path) == whole[1]


def test_a_study_is_measured_run_by_run(trained, whole, tmp_path):
    """Runs a and b share their probes, c has none."""
    first, second, third = (tmp_path / 'study' / 'runs' / name for name in 'abc')
    for path in (first, second, third):
        shutil.copytree(trained, path)
    about = json.loads((second / 'config.json').read_text())
    about['config']['seed'] = 1
    (second / 'config.json').write_text(json.dumps(about))
    shutil.rmtree(third / 'probes')
    rows = run(tmp_path / 'study', tmp_path / 'out')
    assert [(row['run'], row['step']) for row in rows] == [
        (name, step) for name in 'ab' for step in (0, 4, 6)
    ]
    for name in ('kernel_drift', 'output_gradient_test'):
        expected = [row[name] for row in whole[1]]
        assert [row[name] for row in rows[:3]] == expected
        assert [row[name] for row in rows[3:]] == expected
    report = (tmp_path / 'out' / 'report.md').read_text()
    assert '- c: no probes; train it' in report
    assert (tmp_path / 'out' / 'figures/width.png').exists()


@pytest.mark.usefixtures('forbidden')
def test_other_images_are_refused(trained, tmp_path):
    shutil.copytree(trained, tmp_path / 'run')
    path = tmp_path / 'run' / 'config.json'
    about = json.loads(path.read_text())
    about['provenance']['checksum'] = 'abc'
    path.write_text(json.dumps(about))
    with pytest.raises(ConfigError, match=r'was trained on other images') as error:
        run(tmp_path / 'run', tmp_path / 'out')
    assert '\n' not in str(error.value)


@pytest.mark.usefixtures('forbidden')
def test_what_cannot_be_is_refused(trained, whole, tmp_path):
    with pytest.raises(ConfigError, match=r'must be the folder of a run'):
        run(tmp_path, tmp_path / 'a')
    assert not (tmp_path / 'a').exists()
    with lock_workdir(tmp_path / 'b'), pytest.raises(ConfigError, match='another process'):
        run(trained, tmp_path / 'b')
    shutil.copytree(whole[0], tmp_path / 'c')
    with (tmp_path / 'c' / 'measured.jsonl').open('a') as file:
        file.write('{"run": \n')
    with pytest.raises(ReportError, match=r'measured\.jsonl: unreadable'):
        run(trained, tmp_path / 'c')


def test_a_damaged_probe_is_named(trained, tmp_path):
    shutil.copytree(trained, tmp_path / 'run')
    path = list_probes(tmp_path / 'run')[4]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ReportError, match=r'step-00000004\.npz: unreadable'):
        run(tmp_path / 'run', tmp_path / 'out')
    assert [row['step'] for row in read_json_lines(tmp_path / 'out/measured.jsonl')] == [0]
    assert read_probe(list_probes(tmp_path / 'run')[0])['params']


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
    assert found.missing == {}
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
