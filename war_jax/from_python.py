"""Training from Python: a configuration, or NumPy arrays, and single keys by name.

    summary = train('digits', 'runs/demo')
    summary = train('wrn:34-10,lambda=6', 'runs/wide', epsilon='8/255')
    summary = train(
        workdir='runs/mine', images=x, labels=y, test_images=x_test, test_labels=y_test,
        depth=10, widen_factor=1, epochs=20,
    )

Called again, with the same arguments, it goes on where it stopped.
"""

import importlib.util
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from war_jax import run
from war_jax.command_line import check_workdir, config_file
from war_jax.config import Config, ConfigError, resolve, to_dict
from war_jax.config_rules import nearest, number
from war_jax.data.sources import NPZ_KEYS
from war_jax.records.files import write_npz

ARRAYS = 'data.npz'


def train(
    config: Any = 'default',
    workdir: str | Path = '',
    *,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    test_images: np.ndarray | None = None,
    test_labels: np.ndarray | None = None,
    **keys: Any,
) -> dict[str, Any]:
    """Trains and evaluates one network in `workdir`; returns the contents of its summary.json.

    config: what may stand behind --config= ('digits:smoke', 'wrn:34-5', a file of one's own), a
    ConfigDict or mapping, or a `war_jax.config.Config`; the default has WRN-34-10 and TRADES.
    images, labels, test_images, test_labels: (n, h, w, c) uint8 or floats in [0, 1], and (n,) whole
    numbers; all four or none. They are kept in the workdir, as data.npz, and a tenth of the
    training images, 1,000 at most, is held out for validation unless `num_validation` is given.
    keys: of war_jax/config_keys.py, by their last name where that is the only one (epochs=20,
    widen_factor=2), else in full: **{'attack.num_steps': 5}.

    Raises ConfigError for what cannot be, with the key, the rule and what to do, and whatever
    `war_jax.run.train` raises.

    >>> import tempfile, war_jax
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     war_jax.train('digits:smoke', folder, no_such_key=1)
    Traceback (most recent call last):
    ...
    war_jax.config_rules.ConfigError: no_such_key: no such key; nearest: ...
    """
    if not str(workdir):
        raise ConfigError("workdir: must be given; it is written to, or continued from: 'runs/x'")
    folder = Path(check_workdir(str(workdir)))
    values = to_dict(resolve(_values(config)))
    given = dict(zip(NPZ_KEYS, (images, labels, test_images, test_labels), strict=True))
    missing = [name for name, array in given.items() if array is None]
    if 0 < len(missing) < len(given):
        raise ConfigError(f'{missing[0]}: must be given with the other arrays')
    if not missing:
        values['data']['name'] = f'npz:{folder / ARRAYS}'
        values['data']['num_validation'] = min(1000, len(np.asarray(images)) // 10)
    for name, value in keys.items():
        _set(values, name, value)
    resolved = resolve(values)
    if not missing:
        _keep(folder / ARRAYS, {name: np.asarray(array) for name, array in given.items()})
    with suppress(RuntimeError):  # JAX has started already, and keeps the devices that it has
        run.spread(resolved)
    return run.train(resolved, folder)


def _values(config: Any) -> Any:
    """Of `config` in any of its forms: a mapping or a ConfigDict."""
    if is_dataclass(config):
        return to_dict(config)  # type: ignore[arg-type]
    if not isinstance(config, str | os.PathLike):
        return config
    path, _, argument = os.fspath(config).partition(':')
    file = config_file(path)
    if not os.path.isfile(file):
        raise ConfigError(f"config = {path!r}: no such file or configuration; nearest: 'digits'")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument) if argument else module.get_config()


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    """values[group][key] = value, for the key that `name` stands for. Raises ConfigError."""
    known = _keys(values)
    found = [key for key in known if key == name or key.rpartition('.')[2] == name]
    found = [name] if name in known else found
    if not found:
        raise ConfigError(f'{name}: no such key; nearest: {nearest(name, known)}')
    if len(found) > 1:
        ways = ' or '.join(f"**{{'{key}': ...}}" for key in found)
        raise ConfigError(f'{name}: is a key of several groups; give {ways}')
    group, _, key = found[0].rpartition('.')
    of = values[group] if group else values
    of[key] = number(value) if isinstance(value, str) and isinstance(of[key], float) else value


def _keys(values: Mapping[str, Any]) -> list[str]:
    """Their full names: 'optimizer.epochs'."""
    groups = {f.name for f in fields(Config) if isinstance(values[f.name], dict)}
    single = [name for name in values if name not in groups]
    return [*single, *(f'{group}.{key}' for group in sorted(groups) for key in values[group])]


def _keep(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ConfigError where other arrays are kept already."""
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            same = all(
                name in kept and np.array_equal(kept[name], array)
                for name, array in arrays.items()
            )
        if not same:
            raise ConfigError(
                f'workdir = {path.parent}: holds a run on other arrays; take another workdir'
            )
        return
    write_npz(path, arrays)
