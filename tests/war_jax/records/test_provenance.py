"""A workdir and its run. Oracles: the file written, git, and a second process."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from configs import digits
from war_jax.config import Config, ConfigError, resolve, to_dict
from war_jax.config_rules import absent_values
from war_jax.records import provenance
from war_jax.records.provenance import claim_workdir, lock_workdir, session

ROOT = Path(__file__).parents[3]
COMMAND = 'python -m war_jax.main --config=configs/digits.py'
DEVICES = jax.devices()


@pytest.fixture
def config() -> dict[str, Any]:
    return to_dict(resolve(digits.get_config('smoke')))


def refusal(*arguments: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        claim_workdir(*arguments)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_the_first_claim_writes_where_the_run_comes_from(tmp_path: Path, config) -> None:
    workdir = tmp_path / 'new' / 'run'
    claim_workdir(workdir, config, 'digits.', 'abc', COMMAND, DEVICES)
    found = json.loads((workdir / 'config.json').read_text())
    about = found['provenance']
    assert resolve(found['config']) == resolve(config)
    assert (about['data'], about['checksum'], about['command']) == ('digits.', 'abc', COMMAND)
    assert about['num_devices'] == 4
    assert about['versions']['jax'] == jax.__version__
    git = ['git', '-C', str(ROOT), 'rev-parse', 'HEAD']
    head = subprocess.run(git, capture_output=True, text=True)
    commit = about['commit'].rstrip('+')
    assert head.stdout.startswith(commit) if head.returncode == 0 else commit == 'unknown'


def test_a_commit_says_whether_files_differ_but_for_kept_studies(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        known = ['-c', 'user.name=A', '-c', 'user.email=a@b.c']
        done = subprocess.run(
            ['git', '-C', str(tmp_path), *known, *arguments], capture_output=True, text=True
        )
        return done.stdout.strip()

    assert provenance.commit(tmp_path) == 'unknown'
    git('init')
    for folder in ('docs/studies', 'docs/examples', 'war_jax'):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / 'first').write_text('1')
    git('add', '.')
    git('commit', '-m', 'first')
    head = git('rev-parse', 'HEAD')[:12]
    (tmp_path / 'docs' / 'studies' / 'first').write_text('2')
    (tmp_path / 'docs' / 'studies' / 'new').write_text('2')
    (tmp_path / 'docs' / 'findings.md').write_text('2')
    assert provenance.commit(tmp_path) == head
    assert provenance.commit(tmp_path / 'war_jax') == head  # from wherever the code lies
    for program in ('war_jax/new', 'docs/examples/new'):
        (tmp_path / program).write_text('2')
        assert provenance.commit(tmp_path) == provenance.commit(tmp_path / 'docs') == f'{head}+'
        (tmp_path / program).unlink()
    (tmp_path / 'war_jax' / 'first').write_text('2')
    assert provenance.commit(tmp_path) == f'{head}+'


def test_a_run_started_from_python_has_no_command(tmp_path: Path, config) -> None:
    claim_workdir(tmp_path, config, 'digits.', 'abc', None, DEVICES)
    about = json.loads((tmp_path / 'config.json').read_text())['provenance']
    assert about['command'] is None


def test_a_reference_counts_by_its_contents_not_by_its_path(tmp_path: Path, config) -> None:
    held_to = {'lam': 3.0, 'zeta': 2.5, 'trajectory': (3.5, 2.5)}
    claim_workdir(tmp_path, config, 'digits.', 'abc', None, DEVICES, held_to)
    moved = copy.deepcopy(config)
    moved['war']['reference'] = 'elsewhere/war.json'
    claim_workdir(tmp_path, moved, 'digits.', 'abc', None, DEVICES, held_to)
    for other in (None, {**held_to, 'zeta': 2.6}):
        line = refusal(tmp_path, config, 'digits.', 'abc', None, DEVICES, other)
        assert 'another war.reference' in line and 'use a new workdir' in line


def test_a_run_from_before_there_was_the_key_smoke_goes_on(tmp_path: Path, config) -> None:
    old = copy.deepcopy(config)
    del old['smoke']
    pairs = {'run': (old, config), 'sweep': ({'base': old}, {'base': config})}
    for name, (before, now) in pairs.items():
        claim_workdir(tmp_path / name, before, 'digits.', 'abc', COMMAND, DEVICES)
        claim_workdir(tmp_path / name, now, 'digits.', 'abc', COMMAND, DEVICES)


def test_a_run_from_before_there_were_rules_of_war_goes_on_with_the_first(
    tmp_path: Path, config
) -> None:
    old, other = copy.deepcopy(config), copy.deepcopy(config)
    for key in ('rule', 'step', 'start'):
        del old['war'][key]
    other['war']['rule'] = 'fixed_step'
    wrap = {'run': lambda tree: tree, 'sweep': lambda tree: {'base': tree}}
    for name, put in wrap.items():
        claim_workdir(tmp_path / name, put(old), 'digits.', 'abc', COMMAND, DEVICES)
        claim_workdir(tmp_path / name, put(config), 'digits.', 'abc', COMMAND, DEVICES)
        line = refusal(tmp_path / name, put(other), 'digits.', 'abc', COMMAND, DEVICES)
        assert "war.rule = 'fixed_step' (there 'integral')" in line


def test_a_second_claim_may_differ_in_what_changes_no_result(tmp_path: Path, config) -> None:
    claim_workdir(tmp_path, config, 'digits.', 'abc', COMMAND, DEVICES)
    before = (tmp_path / 'config.json').read_bytes()
    other = copy.deepcopy(config)
    other['data'].update(data_dir='/elsewhere', extra_path='more.npz', placement='host')
    other['log'].update(every_steps=7, tensorboard=False)
    other['checkpoint'].update(every_steps=7, keep=9)
    other['ntk']['every'] = 7
    claim_workdir(tmp_path, other, 'digits.', 'abc', None, DEVICES)
    assert (tmp_path / 'config.json').read_bytes() == before


def test_a_run_from_before_there_were_probes_goes_on(tmp_path: Path, config) -> None:
    older = {group: value for group, value in config.items() if group != 'ntk'}
    claim_workdir(tmp_path, older, 'digits.', 'abc', COMMAND, DEVICES)
    claim_workdir(tmp_path, config, 'digits.', 'abc', COMMAND, DEVICES)
    config['ntk']['every'] = 7
    claim_workdir(tmp_path, config, 'digits.', 'abc', COMMAND, DEVICES)


def test_a_run_from_before_there_were_all_keys_that_may_be_absent_goes_on(
    tmp_path: Path, config
) -> None:
    older = copy.deepcopy(config)
    for name in absent_values(Config):
        group, _, key = name.rpartition('.')
        del (older[group] if group else older)[key]
    claim_workdir(tmp_path, older, 'digits.', 'abc', COMMAND, DEVICES)
    claim_workdir(tmp_path, config, 'digits.', 'abc', COMMAND, DEVICES)


@pytest.mark.parametrize(
    ('group', 'key', 'value', 'shown'),
    [
        ('objective', 'lam', 5.0, 'objective.lam = 5.0 (there 3.0)'),
        ('optimizer', 'epochs', 3, 'optimizer.epochs = 3 (there 2)'),
        ('evaluation', 'restarts', 9, 'evaluation.restarts = 9 (there 2)'),
        ('data', 'num_validation', 33, 'data.num_validation = 33 (there 32)'),
    ],
)
def test_another_configuration_is_refused(
    tmp_path: Path, config, group: str, key: str, value: object, shown: str
) -> None:
    claim_workdir(tmp_path, config, 'digits.', 'abc', COMMAND, DEVICES)
    other = copy.deepcopy(config)
    other[group][key] = value
    line = refusal(tmp_path, other, 'digits.', 'abc', COMMAND, DEVICES)
    assert line.startswith(f'--workdir={tmp_path}: holds a run of another configuration')
    assert f'differs in {shown}: use a new workdir, also to train for longer or to evalu' in line


def test_other_images_are_refused(tmp_path: Path, config) -> None:
    claim_workdir(tmp_path, config, 'digits.', 'abc', COMMAND, DEVICES)
    line = refusal(tmp_path, config, 'digits.', 'abd', COMMAND, DEVICES)
    assert 'the data have changed' in line and 'use a new workdir' in line


@pytest.mark.parametrize(
    'content', [b'', b'{"config": {"se', b'[]', b'3', b'{"config": 1, "provenance": {}}', b'\xff']
)
def test_an_unreadable_config_json_is_refused(tmp_path: Path, config, content: bytes) -> None:
    (tmp_path / 'config.json').write_bytes(content)
    line = refusal(tmp_path, config, 'digits.', 'abc', COMMAND, DEVICES)
    assert line.startswith(f'--workdir={tmp_path}: its config.json is not one')
    assert (tmp_path / 'config.json').read_bytes() == content


def test_a_workdir_that_cannot_be_made_is_refused(tmp_path: Path, config) -> None:
    (tmp_path / 'file').touch()
    workdir = tmp_path / 'file' / 'below'
    line = refusal(workdir, config, 'digits.', 'abc', COMMAND, DEVICES)
    assert line == f'--workdir={workdir}: cannot be written to: Not a directory'
    with pytest.raises(ConfigError, match='cannot be written to: Not a directory'):
        lock_workdir(workdir).__enter__()


def test_a_full_disk_is_one_line(tmp_path: Path, config, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(provenance, 'write_json', full)
    line = refusal(tmp_path, config, 'digits.', 'abc', COMMAND, DEVICES)
    assert line == f'--workdir={tmp_path}: cannot be written to: No space left on device'


def test_only_one_process_gets_the_lock(tmp_path: Path) -> None:
    """The other one is a process of its own, which may have it once this one is done."""
    workdir = tmp_path / 'run'
    script = (
        'import sys\n'
        'from pathlib import Path\n'
        'from war_jax.records.provenance import lock_workdir\n'
        'try:\n'
        '    with lock_workdir(Path(sys.argv[1])): print("locked")\n'
        'except ValueError as error: print(error)\n'
    )

    def other() -> str:
        command = [sys.executable, '-c', script, str(workdir)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    with lock_workdir(workdir):
        line = other()
        assert line.startswith(f'--workdir={workdir}: another process is running in it')
        assert line.count('\n') == 1
    assert other() == 'locked\n'
    with pytest.raises(KeyError), lock_workdir(workdir):  # an error within gives it back too
        raise KeyError
    with lock_workdir(workdir):
        assert os.listdir(workdir) == ['.lock']


def test_a_session_says_where_it_ran(tmp_path: Path, config) -> None:
    """Oracle: the provenance of a run that the same process begins."""
    claim_workdir(tmp_path, config, 'digits.', 'abc', COMMAND, DEVICES)
    about = json.loads((tmp_path / 'config.json').read_text())['provenance']
    shared = {key: about[key] for key in ('commit', 'versions', 'device', 'num_devices')}
    assert session(12, DEVICES) == {'kind': 'session', 'step': 12, **shared}
