"""Where a run's numbers come from: config.json, written once before anything else.

    claim_workdir(Path('runs/demo'), to_dict(config), data='1,797 handwritten digits ...')

A workdir belongs to one configuration: a second run with another one is refused, not mixed in.
"""

import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from war_jax.config import ConfigError
from war_jax.records.files import plain, write_json

_LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'orbax-checkpoint', 'scikit-learn')


def claim_workdir(workdir: Path, config: Mapping[str, Any], data: str) -> None:
    """Write config.json, or check that the one there is of this configuration.

    Raises ConfigError, naming the first keys that differ, for a workdir of another run.
    """
    path = workdir / 'config.json'
    if not path.exists():
        write_json(path, {'config': config, 'provenance': provenance(data)})
        return
    theirs = dict(_flatten(json.loads(path.read_text())['config']))
    ours = dict(_flatten(plain(config)))
    changed = [
        f'{key} = {ours.get(key)!r} (there {theirs.get(key)!r})'
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]
    if changed:
        raise ConfigError(
            f'--workdir={workdir}: holds a run of another configuration, which differs in '
            f'{"; ".join(changed[:4])}{"; ..." if changed[4:] else ""}: use a new workdir'
        )


def provenance(data: str) -> dict[str, Any]:
    """Commit, versions, devices and command of this process."""
    return {
        'commit': commit(),
        'versions': {name: importlib.metadata.version(name) for name in _LIBRARIES},
        'device': jax.devices()[0].device_kind,
        'platform': jax.default_backend(),
        'num_devices': jax.device_count(),
        'python': platform.python_version(),
        'command': shlex.join(['python', '-m', 'war_jax.main', *sys.argv[1:]]),
        'data': data,
    }


def commit() -> str:
    """The commit of the source tree, '+' behind it if files differ from it; or 'unknown'."""
    root = Path(__file__).resolve().parents[2]
    git = ['git', '-C', str(root)]
    try:
        head = subprocess.run(
            [*git, 'rev-parse', '--short=12', 'HEAD'], capture_output=True, text=True, check=True
        )
        changes = subprocess.run(
            [*git, 'status', '--porcelain'], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'  # not a checkout, or no git: an installed package
    return head.stdout.strip() + ('+' if changes.stdout.strip() else '')


def _flatten(tree: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f'{prefix}{key}.')
        else:
            yield prefix + key, value
