"""Rows of probes whose truth is known: invented numbers, as ntk.studies.dynamics has them.

    rows = study(widths=(1.0, 2.0), truths={'kernel_drift': lambda k, lam, seed: k**-0.5})
    rows = single(steps=(0, 10, 20))
    folder = write(tmp_path, rows)                   # study.json and rows.csv

A truth is the value after training as a function of width, lambda and seed; at step t of T it is
that times t / T for what is 0 at the start, and between `at_start` and it for the others.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs import digits, ntk_run
from ntk.studies.dynamics.effects import FROM_START
from ntk.studies.dynamics.findings import Probe
from ntk.studies.dynamics.tabulate import KEYS
from war_jax.config import resolve, to_dict
from war_jax.lab.experiment import rows_text
from war_jax.lab.quantities import quantity

COMMAND = 'python -m ntk.main --config=configs/ntk_run.py --run=runs/x'
LAST = 20
Truth = Callable[[float, float, int], float | None]
Rows = list[dict[str, Any]]


def truth(key: str) -> Truth:
    """One that differs by key, width, lambda and seed."""
    number = KEYS.index(key) + 1
    if quantity(key).by_factors:
        return lambda k, lam, seed: number * k ** (0.1 * number - 1) * lam**0.2 * (1 + 0.02 * seed)
    return lambda k, lam, seed: 0.5 + 0.01 * number * k + 0.001 * lam + 0.002 * seed


def at_start(key: str) -> Truth:
    """Of lambda it knows nothing."""
    return lambda k, lam, seed: None if (end := truth(key)(k, 1.0, seed)) is None else 0.8 * end


def study(
    *,
    widths: Sequence[float] = (1.0, 2.0, 4.0),
    lams: Sequence[float] = (1.0, 9.0),
    seeds: Sequence[int] = (0, 1, 2),
    steps: Sequence[int] = (0, 10, LAST),
    truths: Mapping[str, Truth] | None = None,
    starts: Mapping[str, Truth] | None = None,
    skip: Callable[[float, float, int], bool] = lambda k, lam, seed: False,
    method: str = 'fixed',
) -> Rows:
    return [
        make_row(k, lam, seed, method, step, truths or {}, starts or {})
        for k in widths
        for lam in lams
        for seed in seeds
        if not skip(k, lam, seed)
        for step in steps
    ]


def single(steps: Sequence[int] = (0, 10, LAST), **truths: Truth) -> Rows:
    return [make_row(1.0, 3.0, 0, 'fixed', step, truths, {}) for step in steps]


def write(
    folder: Path, rows: Rows, is_study: bool = True, missing: Mapping[str, str] | None = None
) -> Path:
    config = ntk_run.get_config().to_dict()
    del config['experiment']
    about = {
        'experiment': 'ntk.studies.dynamics.findings',
        'config': config,
        'provenance': {
            'commit': '0123456789ab', 'data': '1,797 handwritten digits.', 'checksum': '5e1f',
            'command': COMMAND,
        },
        'about': {
            'folder': 'runs/x', 'is_study': is_study, 'missing': dict(missing or {}),
            'training': to_dict(resolve(digits.get_config())),
        },
    }  # fmt: skip
    (folder / 'study.json').write_text(json.dumps(about))
    named = {Probe(row['run'], str(row['step'])): row for row in rows}
    (folder / 'rows.csv').write_text(rows_text(named))
    return folder


def make_row(
    k: float,
    lam: float,
    seed: int,
    method: str,
    step: int,
    truths: Mapping[str, Truth],
    starts: Mapping[str, Truth],
) -> dict[str, Any]:
    share = step / LAST
    values: dict[str, Any] = {}
    for key in KEYS:
        end = truths.get(key, truth(key))(k, lam, seed)
        start = starts.get(key, at_start(key))(k, lam, seed)
        if key in FROM_START:
            start = 0.0 if quantity(key).by_factors else 1.0
        values[key] = start if step == 0 else None
        if step and start is not None and end is not None:
            values[key] = (1 - share) * start + share * end
    return {
        'run': f'k{k:g}-{method}-lam{lam:g}-seed{seed}',
        'method': method,
        'depth': 10,
        'widen_factor': k,
        'seed': seed,
        'lambda': lam,
        'step': step,
        'epoch': step / 2,
        'last_step': LAST,
        **values,
        'num_train': 64,
        'num_test': 128,
        'epsilon': 0.2,
        'norm': 'linf',
        'digest': 'd2',
        'seconds': 1.5,
        'device': '2 × cpu',
        'commit': '0123456789ab',
    }
