"""Probes found, measured, interrupted and measured again. Oracles: the folders made here, and the
same measurement made in one go.

What is measured of a network has tests of its own; here it is a few sums, so that nothing compiles.
"""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import digits, ntk_run
from ntk.studies.dynamics import bench
from ntk.studies.dynamics.bench import find_runs, run_dynamics, thinned
from ntk.studies.dynamics.measure import Start
from ntk.studies.dynamics.settings import Settings
from ntk.studies.dynamics.tabulate import KEYS
from war_jax.config import ConfigError, resolve, to_dict
from war_jax.data.sources import checksum, load
from war_jax.lab.experiment import read_rows
from war_jax.lab.settings import read
from war_jax.records.files import ReportError, read_json, read_json_lines
from war_jax.records.probes import list_probes, write_probe
from war_jax.records.provenance import lock_workdir

COMMAND = 'python -m ntk.main ...'


class Sums:
    """In the place of NetworkMeasures: every quantity is a multiple of the sum of the weights."""

    def __init__(self, config: Any, splits: Any, settings: Settings, mesh: Any):
        del config, splits, mesh
        self.num_examples = {'train': settings.num_train, 'test': settings.num_test}

    def start(self, variables: Any, on_part: Callable[[], object]) -> Start:
        on_part()
        return Start(variables, np.eye(2))

    def measure(
        self, variables: Any, start: Start, key: Any, on_part: Callable[[], object]
    ) -> dict[str, float]:
        del start, key
        on_part()
        total = float(variables['params']['w'].sum())
        return {name: total * (1 + index) for index, name in enumerate(KEYS)}


@pytest.fixture(autouse=True, scope='module')
def sums() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, 'NetworkMeasures', Sums)
        patch.setattr(bench.findings.pictures, 'draw', lambda *_: [])
        yield


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on real digits, of two epochs of three steps, with probes at 0, 4 and 6."""
    digest = checksum(load(resolve(digits.get_config('smoke')).data))
    return make(tmp_path_factory.mktemp('trained'), steps=(0, 4, 6), digest=digest)


def make(
    workdir: Path, steps=(0, 5, 10), reference=None, digest: Any = 'abc', **changes: Any
) -> Path:
    """The folder of a run; the weights at a step are two of that number, plus one."""
    values = digits.get_config('smoke')
    values.update_from_flattened_dict(changes)
    about = {
        'config': to_dict(resolve(values)),
        'provenance': {'data': 'digits.', 'checksum': digest},
        'reference': reference,
    }
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / 'config.json').write_text(json.dumps(about))
    for step in steps:
        write_probe(workdir, step, {'params': {'w': np.full(2, step + 1.0)}})
    return workdir


def run(run_dir: Path, workdir: Path, **changes) -> list[dict]:
    """The rows of rows.csv, without what a clock put there."""
    config = ntk_run.get_config().to_dict()
    settings = read(Settings, {**config, 'num_train': 4, 'num_test': 6, **changes})
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

    monkeypatch.setattr(Sums, 'measure', measured_again)


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
    assert [row['kernel_drift'] for row in rows] == [2.0, 10.0, 14.0]
    assert 'In 6 steps' in (workdir / 'report.md').read_text()
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
    real, done = Sums.measure, []

    def signalled(self, variables, *rest):
        done.append(len(done))
        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGTERM)  # noticed between two parts of this probe
        return real(self, variables, *rest)

    monkeypatch.setattr(Sums, 'measure', signalled)
    with pytest.raises(SystemExit) as stopped:
        run(trained, tmp_path)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert [row['step'] for row in read_json_lines(tmp_path / 'measured.jsonl')] == [0]
    assert run(trained, tmp_path) == whole[1]
    assert len(done) == 2 + 2


def test_other_settings_stand_beside(trained, whole, tmp_path, monkeypatch):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    real, starts = Sums.start, []
    monkeypatch.setattr(Sums, 'start', lambda *given: starts.append(0) or real(*given))
    others = run(trained, tmp_path, num_test=3)
    assert [row['num_test'] for row in others] == [3] * 3
    assert len(starts) == 1, 'of one run for all its probes'
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
    assert '- c: no probes; train it' in (tmp_path / 'out' / 'report.md').read_text()
    assert len(read_json(tmp_path / 'out' / 'verdicts.json')) == 3


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
    fixed_step = {'war.rule': 'fixed_step', 'war.start': 0.5}
    make(runs / 'h', reference=reference, **{'war.reference': 'x', **fixed_step})
    make(runs / 'e', steps=())
    make(runs / 'f', steps=(5, 10))
    (runs / 'g').mkdir()
    found = find_runs(tmp_path)
    assert [run.name for run in found.runs if run.method == 'fixed'] == ['c', 'b', 'a']
    moved = {run.name: (run.method, run.lam) for run in found.runs if run.method != 'fixed'}
    assert moved == {'d': ('constant', 4.5), 'h': ('fixed_step', 0.5)}
    assert found.missing == {'e': 'no probes', 'f': 'no probe of step 0'}


def test_a_network_without_a_bound_is_refused_before_anything_is_measured(tmp_path: Path):
    make(tmp_path / 'run', **{'model.activation': 'swish'})
    with pytest.raises(ConfigError, match=r"model\.activation = 'swish': must be 'relu'"):
        find_runs(tmp_path / 'run')


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
