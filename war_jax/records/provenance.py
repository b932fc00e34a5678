"""Where a run's numbers come from: config.json, written once, and a row for each of its sessions.

    with lock_workdir(workdir):
        claim_workdir(workdir, to_dict(config), data='1,797 handwritten digits ...',
                      checksum='5e1f...', command='python -m war_jax.main ...', devices=devices)
        log.write(session(0, devices))           # once for every time the run is started

A workdir belongs to one configuration and one set of images: another run in it is refused, not
mixed in. What may differ from session to session is the machine and the program, and each session
says which it had.
"""

import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax

from war_jax.config import Config, ConfigError
from war_jax.config_rules import absent_values, check_is_local
from war_jax.processes import check_same, on_first
from war_jax.records.files import plain, write_json

# Keys that change no result: a run may go on with others. References and data count by what they
# hold; `smoke`, which a study may have in `base`, is absent from an old config.json.
_FREE = (
    'smoke', 'base.smoke', 'data.data_dir', 'data.extra_path', 'data.placement', 'log.',
    'checkpoint.', 'ntk.', 'war.reference',
)  # fmt: skip
# What a config.json from before there were certain keys did without saying so; a study has its
# runs' in `base`.
_OLDER = plain(absent_values(Config) | absent_values(Config, 'base.'))
_LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'orbax-checkpoint', 'scikit-learn')
_KEPT = (':(top,exclude)docs/studies', ':(top,exclude)docs/findings.md')
_SOURCE = Path(__file__).resolve().parents[2]
# What flock says on a file system that has no locks, as some of clusters have none.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def claim_workdir(
    workdir: Path,
    config: Mapping[str, Any],
    data: str,
    checksum: str,
    command: str | None,
    devices: Sequence[Any],
    reference: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write config.json, or check that the one there is of this configuration and these images.

    Returns the provenance in it: that of the run's first session.

    Args:
      workdir: made if it is not there.
      config: nested mappings, as `war_jax.config.to_dict` gives them.
      data: one sentence on the data, for the report.
      checksum: of the images and labels, see `war_jax.data.sources.checksum`.
      command: the command line that started the run; None if Python code did.
      devices: the JAX devices that it runs on.
      reference: the contents of the war.json that it is held to, if it is.

    Raises ConfigError, one line: for a workdir that cannot be written to, a config.json that cannot
    be read, a run of another configuration (the first keys that differ are named; those that
    change no result may differ) or of other images; where the processes of the job do not have the
    same of these.
    """
    check_same('configuration and data', [plain(config), checksum, plain(reference)])

    def claim() -> dict[str, Any]:
        return _claim(workdir, config, data, checksum, command, devices, reference)

    return on_first(claim)


def _claim(
    workdir: Path,
    config: Mapping[str, Any],
    data: str,
    checksum: str,
    command: str | None,
    devices: Sequence[Any],
    reference: Mapping[str, Any] | None,
) -> dict[str, Any]:
    path = workdir / 'config.json'
    _make(workdir)
    if not path.exists():
        about = {**provenance(devices), 'command': command, 'data': data, 'checksum': checksum}
        contents = {'config': config, 'provenance': about, 'reference': reference}
        try:
            write_json(path, contents)
        except OSError as error:
            raise _cannot_write(workdir, error) from error
        return about
    recorded, about, recorded_reference = _read(workdir, path)
    theirs, ours = dict(_flatten(recorded)), dict(_flatten(plain(config)))
    theirs |= {key: _OLDER[key] for key in (ours.keys() & _OLDER.keys()) - theirs.keys()}
    changed = [
        f'{key} = {ours.get(key)!r} (there {theirs.get(key)!r})'
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key) and not key.startswith(_FREE)
    ]
    if changed:
        raise ConfigError(
            f'--workdir={workdir}: holds a run of another configuration, which differs in '
            f'{"; ".join(changed[:4])}{"; ..." if changed[4:] else ""}: use a new workdir, also '
            'to train for longer or to evaluate differently'
        )
    if plain(reference) != recorded_reference:
        raise ConfigError(
            f'--workdir={workdir}: holds a run with another war.reference: the file has changed '
            'since it began, or there was none; use a new workdir'
        )
    if checksum != about['checksum']:
        raise ConfigError(
            f'--workdir={workdir}: holds a run on other images or labels than {data.rstrip(".")}: '
            'the data have changed since it began; restore them, or use a new workdir'
        )
    return about


class WorkdirInUse(ConfigError):
    """Another process is running in it."""


@contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """While it lasts, no other job gets the lock of the same workdir, which is made if absent.

    The lock is on the file workdir/.lock and ends with the process, however that ends. The file
    stays: removing it could take it from a process that has just opened it. On a file system
    without locks there is none, and two jobs are not told apart. Process 0 holds it for its job.

    Raises WorkdirInUse if another process holds it, ConfigError if the workdir cannot be written
    to; one line each.
    """
    with ExitStack() as held:
        on_first(lambda: held.enter_context(_locked(workdir)))
        yield


@contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    _make(workdir)
    try:
        descriptor = os.open(workdir / '.lock', os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _cannot_write(workdir, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkdirInUse(
                f'--workdir={workdir}: another process is running in it; wait for it, or use '
                'another workdir'
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)


def session(step: int, devices: Sequence[Any]) -> dict[str, Any]:
    """The row of metrics.jsonl that says what goes on from `step` (0: begins) on what machine."""
    return {'kind': 'session', 'step': step, **_circumstances(devices)}


def provenance(devices: Sequence[Any]) -> dict[str, Any]:
    """Commit, versions and devices of this process."""
    return {
        **_circumstances(devices),
        'platform': jax.default_backend(),
        'python': platform.python_version(),
    }


def _circumstances(devices: Sequence[Any]) -> dict[str, Any]:
    """What may change between two sessions of a run, and then its last bits."""
    return {
        'commit': commit(),
        'versions': {name: importlib.metadata.version(name) for name in _LIBRARIES},
        'device': devices[0].device_kind,
        'num_devices': len(devices),
    }


def commit(root: Path = _SOURCE) -> str:
    """The commit of the source tree, '+' behind it if files differ from it; or 'unknown'.

    What `make findings` writes does not count: no run reads it, and one study after another is
    kept there.
    """
    git = ['git', '-C', str(root)]
    try:
        head = subprocess.run(
            [*git, 'rev-parse', '--short=12', 'HEAD'], capture_output=True, text=True, check=True
        )
        changes = subprocess.run(
            [*git, 'status', '--porcelain', '--', ':/', *_KEPT],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'  # not a checkout, or no git: an installed package
    return head.stdout.strip() + ('+' if changes.stdout.strip() else '')


def _make(workdir: Path) -> None:
    check_is_local(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(workdir, error) from error


def _cannot_write(workdir: Path, error: OSError) -> ConfigError:
    return ConfigError(f'--workdir={workdir}: cannot be written to: {error.strerror or error}')


def _read(workdir: Path, path: Path) -> tuple[Mapping[str, Any], dict[str, Any], Any]:
    """Configuration, provenance (with a checksum) and reference of the run in `workdir`."""
    try:
        contents = json.loads(path.read_text('utf-8'))
        config, about, reference = (
            contents[name] for name in ('config', 'provenance', 'reference')
        )
        about['checksum']
        if not isinstance(config, Mapping):
            raise TypeError('its configuration is no group of keys')
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise ConfigError(
            f'--workdir={workdir}: its config.json is not one that this program can read '
            f'({reason}): use a new workdir'
        ) from error
    return config, about, reference


def _flatten(tree: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f'{prefix}{key}.')
        else:
            yield prefix + key, value
