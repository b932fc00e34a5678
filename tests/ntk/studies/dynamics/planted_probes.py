"""Rows of probes whose truth is known: invented numbers, as ntk.studies.dynamics has them.

    found, rows = study(widths=(1.0, 2.0), truths={'kernel_drift': lambda k, lam, seed: k**-0.5})
    found, rows = single(steps=(0, 10, 20))

A truth is the value after training as a function of width, lambda and seed; at step t of T it is
that times t / T for what is 0 at the start, and between `at_start` and it for the others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs import digits, ntk_run
from ntk.studies.dynamics.findings import COLUMNS, QUANTITIES
from ntk.studies.dynamics.runs import Found, ProbedRun
from ntk.studies.dynamics.settings import resolve_along
from war_jax.config import resolve

Truth = Callable[[float, float, int], float | None]
SETTINGS = resolve_along(ntk_run.get_config())
LAST = 20


def truth(key: str) -> Truth:
    """One that differs by key, width, lambda and seed."""
    number = list(QUANTITIES).index(key) + 1
    if QUANTITIES[key].by_factors:
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
    missing: Mapping[str, str] | None = None,
    method: str = 'fixed',
) -> tuple[Found, list[dict[str, Any]]]:
    runs, rows = [], []
    for k in widths:
        for lam in lams:
            for seed in seeds:
                if not skip(k, lam, seed):
                    runs.append(make_run(k, lam, seed, steps, method))
                    rows += [
                        make_row(runs[-1], step, truths or {}, starts or {}) for step in steps
                    ]
    return Found(runs, dict(missing or {}), is_study=True), rows


def single(
    steps: Sequence[int] = (0, 10, LAST), **truths: Truth
) -> tuple[Found, list[dict[str, Any]]]:
    run = make_run(1.0, 3.0, 0, steps, 'fixed')
    return Found([run], {}, is_study=False), [make_row(run, t, truths, {}) for t in steps]


def make_run(k: float, lam: float, seed: int, steps: Sequence[int], method: str) -> ProbedRun:
    config = resolve(digits.get_config())
    name = f'k{k:g}-{method}-lam{lam:g}-seed{seed}'
    return ProbedRun(
        name=name,
        workdir=Path('runs') / name,
        config=replace(
            config,
            seed=seed,
            model=replace(config.model, widen_factor=k),
            objective=replace(config.objective, lam=lam),
        ),
        method=method,
        lam=lam,
        data='1,797 handwritten digits.',
        checksum='5e1f',
        digest='d1',
        probes={step: Path(f'step-{step:08d}.npz') for step in steps},
    )


def make_row(
    run: ProbedRun, step: int, truths: Mapping[str, Truth], starts: Mapping[str, Truth]
) -> dict[str, Any]:
    cell = run.config.model.widen_factor, run.lam, run.config.seed
    share = step / LAST
    values: dict[str, Any] = {}
    for key, quantity in QUANTITIES.items():
        end = truths.get(key, truth(key))(*cell)
        start = starts.get(key, at_start(key))(*cell)
        if quantity.from_start:
            start = 0.0 if quantity.by_factors else 1.0
        values[key] = None
        if start is not None and end is not None:
            values[key] = (1 - share) * start + share * end
    about = {
        'run': run.name,
        'method': run.method,
        'depth': 10,
        'widen_factor': cell[0],
        'seed': run.config.seed,
        'lambda': run.lam,
        'step': step,
        'epoch': step / 2,
        'last_step': LAST,
        'num_train': 64,
        'num_test': 128,
        'epsilon': 0.2,
        'norm': 'linf',
        'digest': 'd2',
        'seconds': 1.5,
        'device': '2 × cpu',
        'commit': '0123456789ab',
    }
    return {key: {**values, **about}[key] for key in COLUMNS}
