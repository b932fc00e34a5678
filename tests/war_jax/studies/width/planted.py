"""Folders of studies whose truth is known: what a finished study leaves, with invented numbers.

    make_study(tmp_path, widths=(1, 2, 4), lams=(1, 3, 9), seeds=(0, 1, 2),
               natural_accuracy=lambda k, lam, seed: 0.7 + 0.03 * math.log2(k) + 0.001 * seed)

A truth is a function of width, lambda and seed; the ones not given are below.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.war_jax.report import runs
from war_jax.studies.width.results import collect
from war_jax.studies.width.tasks import FROM_TWO, Task, grid, variants
from war_jax.studies.width.variants import tasks_of

Truth = Callable[[float, float, int], Any]

TRUTHS: dict[str, Truth] = {
    'natural_accuracy': lambda k, lam, seed: 0.80 + 0.02 * math.log2(k) - 0.02 * math.log(lam),
    'robust_accuracy': lambda k, lam, seed: validation(k, lam, seed) - 0.02,
    'perturbation_stability': lambda k, lam, seed: validation(k, lam, seed) + 0.02,
    'robust_accuracy_all': lambda k, lam, seed: validation(k, lam, seed) - 0.03,
    'perturbation_stability_all': lambda k, lam, seed: validation(k, lam, seed) + 0.01,
    'local_lipschitz': lambda k, lam, seed: 20.0 * k**0.25 / lam**0.5 * (1 + 0.05 * (seed % 3)),
    'local_lipschitz_kl_gradient': lambda k, lam, seed: 2.0 * k**0.5 / lam,
    'margin': lambda k, lam, seed: 4.0 * k**0.125,
    'lipschitz_by_margin': lambda k, lam, seed: 5.0 * k**0.125 / lam**0.5,
    'natural_accuracy_train': lambda k, lam, seed: 0.99,
    'robust_accuracy_train': lambda k, lam, seed: validation(k, lam, seed) + 0.1,
    'perturbation_stability_train': lambda k, lam, seed: validation(k, lam, seed) + 0.12,
    'robust_accuracy_last': lambda k, lam, seed: validation(k, lam, seed) - 0.04,
    'natural_risk': lambda k, lam, seed: 0.5 / k**0.5,
    'robust_regularization': lambda k, lam, seed: 0.2 / lam,
    'risk_ratio': lambda k, lam, seed: 2.5 * lam / k**0.5 * (1 + 0.03 * (seed % 3)),
    'validation_robust_accuracy': lambda k, lam, seed: validation(k, lam, seed),
    'seconds': lambda k, lam, seed: 60.0 * k,
    'final_lambda': lambda k, lam, seed: lam * k**0.4,
}


def validation(k: float, lam: float, seed: int) -> float:
    """A parabola in log lambda with its peak at 3 sqrt(k): the best lambda has the exponent 0.5."""
    distance = math.log(lam / (3.0 * math.sqrt(k)))
    return 0.60 + 0.03 * math.log2(k) - 0.04 * distance**2 + 0.01 * math.sin(seed)


def make_study(
    workdir: Path,
    *,
    widths: Sequence[float] = (1.0, 2.0, 4.0),
    lams: Sequence[float] = (1.0, 3.0, 9.0),
    seeds: Sequence[int] = (0, 1, 2),
    targets: Sequence[str] = (),
    thin_lambda: float = 3.0,
    skip: Callable[[str, float, float, int], bool] = lambda method, k, lam, seed: False,
    num_validation: int | None = None,
    **truths: Truth,
) -> Path:
    """Fills a new folder with study.json and the runs, but for those to skip; returns it.

    The variants' runs have the same truths at thin_lambda (that of 'power_law' and what holds to
    two networks: by the grid's rows), with 'war_' in front of the name where given.
    """
    plan = {'widths': widths, 'lams': lams, 'seeds': seeds, 'war': targets, 'devices_per_run': 1}
    about = {**provenance(), 'command': 'python -m war_jax.studies.width --config=a.py --workdir=b'}
    write(workdir / 'study.json', {'config': config(), 'study': plan, 'provenance': about})
    held_to = ((widths[0], thin_lambda),)

    def make(tasks: Sequence[Task]) -> None:
        for task in tasks:
            method, k, lam, seed = task.method, task.width, task.lam, task.seed
            if skip(method, k, lam, seed):
                continue
            chosen = {**TRUTHS, **truths}
            if method != 'fixed':
                chosen.update({name: chosen.get(f'war_{name}', chosen[name]) for name in TRUTHS})
            values = {name: chosen[name](k, lam, seed) for name in TRUTHS}
            folder = workdir / 'runs' / task.name
            make_run(folder, method, k, lam, seed, values, widths[0], num_validation)

    make(grid(plan))
    for method, k in variants(plan):
        if method in FROM_TWO:
            make(tasks_of(method, k, plan, collect(workdir / 'runs')[0]))
        else:
            make([Task(k, thin_lambda, method, seed, held_to) for seed in seeds])
    return workdir


def make_run(
    workdir: Path,
    method: str,
    k: float,
    lam: float,
    seed: int,
    values: dict[str, Any],
    thin: float,
    num_validation: int | None = None,
) -> None:
    """One finished run of two epochs of ten steps; the second one's checkpoint is the best.

    thin: width of the network to which WAR holds.
    """
    is_fixed = method in ('fixed', 'power_law')
    settings = {**config(), 'seed': seed}
    settings['model'] = {**settings['model'], 'widen_factor': k}
    settings['objective'] = {**settings['objective'], 'lam': lam}
    settings['war'] = {
        **settings['war'],
        'reference': '' if is_fixed else f'runs/k{thin:g}-lam{lam:g}-seed{seed}',
        'target': 'trajectory' if is_fixed or method == 'trajectory' else 'constant',
        'rule': 'fixed_step' if method == 'fixed_step' else 'integral',
    }
    reference = {'lam': lam, 'zeta': 5.0, 'trajectory': [8.0, 5.0], 'widen_factor': thin}
    contents = {'config': settings, 'provenance': provenance()}
    contents['reference'] = None if is_fixed else reference
    write(workdir / 'config.json', contents)
    final = lam if is_fixed else values['final_lambda']
    summary = {
        **{name: values[name] for name in TRUTHS if not name.endswith(('_all', '_train', '_last'))},
        'train': {name: values[f'{name}_train'] for name in RATES},
        'last': {**dict.fromkeys(RATES, 0.5), 'robust_accuracy': values['robust_accuracy_last']},
        'lambda': final,
        'lambda_start': lam,
        'attacks': {'all': {name: values[f'{name}_all'] for name in ALL}},
        'best_step': 20,
        'best_epoch': 2.0,
        'num_examples': 1000,
        'epsilon': 0.2,
        'norm': 'linf',
    }
    write(workdir / 'summary.json', summary)
    rows: list[dict[str, Any]] = [runs.session(0)]
    for epoch in (1, 2):
        rows.append(
            {
                'kind': 'train',
                'step': 10 * epoch,
                'epoch': float(epoch),
                'loss': (2.0, values['natural_risk'])[epoch - 1],
                'lambda': lam + (final - lam) * epoch / 2,
                'averaged_risk_ratio': values['risk_ratio'] if values['risk_ratio'] else None,
            }
        )
        rows.append(
            {
                'kind': 'validation',
                'step': 10 * epoch,
                'epoch': float(epoch),
                'natural_accuracy': values['natural_accuracy'] - 0.1 * (2 - epoch),
                'robust_accuracy': values['validation_robust_accuracy'] - 0.1 * (2 - epoch),
                'perturbation_stability': values['perturbation_stability'] - 0.1 * (2 - epoch),
                **({} if num_validation is None else {'num_examples': num_validation}),
            }
        )
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))


RATES = ('natural_accuracy', 'robust_accuracy', 'perturbation_stability')
ALL = ('robust_accuracy', 'perturbation_stability')


def config() -> dict[str, Any]:
    war = {'reference': '', 'target': 'trajectory', 'gain': 0.25, 'averaging_epochs': 1.0}
    chosen = runs.config('digits', 10, 1.0, 0.2)
    chosen['evaluation']['select_on'] = 'validation'
    chosen['optimizer']['epochs'] = 2
    return {**chosen, 'war': {**war, 'step': 0.1, 'max_factor': 10.0}}


def provenance() -> dict[str, Any]:
    return {
        'commit': '0123456789ab',
        'versions': {'jax': '0.10.2', 'flax': '0.12.8'},
        'device': 'cpu',
        'num_devices': 2,
        'python': '3.11.9',
        'command': None,
        'data': 'digits: handwritten digits, 8×8, embedded in scikit-learn.',
        'checksum': 'ab' * 32,
    }


def write(path: Path, contents: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(contents))


def edit(path: Path, change: Any) -> None:
    contents = json.loads(path.read_text())
    change(contents)
    path.write_text(json.dumps(contents))
