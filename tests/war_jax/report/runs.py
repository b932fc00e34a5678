"""Folders of finished runs, as the training loop leaves them; the numbers are invented."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from war_jax.measures.statistics import binomial_interval


def summary(total: int, epsilon: float, selected_on: str) -> dict[str, Any]:
    natural, stable, robust = round(0.98 * total), round(0.76 * total), round(0.75 * total)
    factors = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
    stability = [1.0, 0.91, 0.76, 0.55, 0.34, 0.09, 0.01]
    robustness = [0.98, 0.89, 0.75, 0.53, 0.32, 0.08, 0.01]
    counted = {
        key: [round(rate * total) / total for rate in rates]
        for key, rates in {
            'natural_accuracy': [0.98] * len(factors),
            'robust_accuracy': robustness,
            'perturbation_stability': stability,
        }.items()
    }
    return {
        'natural_accuracy': natural / total,
        'robust_accuracy': robust / total,
        'perturbation_stability': stable / total,
        'perturbation_stability_kl': round(0.74 * total) / total,
        'local_lipschitz': 41.27,
        'local_lipschitz_kl_gradient': 3.412,
        'natural_risk': 0.1873,
        'robust_regularization': 0.0621,
        'lambda': 6.0,
        'risk_ratio': 3.016,
        'epsilon': epsilon,
        'norm': 'linf',
        'num_examples': total,
        'split': 'test',
        'best_step': 1650,
        'best_epoch': 25.0,
        'selected_on': selected_on,
        'selected_by': 'robust_accuracy',
        'seconds': 192.4,
        'intervals': {
            'natural_accuracy': binomial_interval(natural, total),
            'robust_accuracy': binomial_interval(robust, total),
            'perturbation_stability': binomial_interval(stable, total),
            'perturbation_stability_kl': binomial_interval(round(0.74 * total), total),
        },
        'attacks': {
            'pgd20': attack(robust, stable, total),
            'cw20': attack(round(0.74 * total), round(0.75 * total), total),
            'kl20': attack(round(0.745 * total), round(0.74 * total), total),
            'all': attack(round(0.73 * total), round(0.735 * total), total),
        },
        'curve': {
            'epsilon': [factor * epsilon for factor in factors],
            **counted,
            'intervals': {
                key: [binomial_interval(round(rate * total), total) for rate in rates]
                for key, rates in counted.items()
            },
            'num_examples': total,
        },
    }


def attack(robust: int, stable: int, total: int) -> dict[str, Any]:
    return {
        'robust_accuracy': robust / total,
        'perturbation_stability': stable / total,
        'intervals': {
            'robust_accuracy': binomial_interval(robust, total),
            'perturbation_stability': binomial_interval(stable, total),
        },
        'restarts': 1,
    }


def session(step: int, **changes: Any) -> dict[str, Any]:
    row = {
        'kind': 'session',
        'step': step,
        'commit': '0123456789ab',
        'versions': {'jax': '0.10.2', 'flax': '0.12.8'},
        'device': 'cpu',
        'num_devices': 1,
    }
    return {**row, **changes}


def config(data: str, depth: int, widen_factor: float, epsilon: float) -> dict[str, Any]:
    return {
        'seed': 0,
        'data': {'name': data},
        'model': {'depth': depth, 'widen_factor': widen_factor, 'compute_dtype': 'float32'},
        'threat': {'norm': 'linf', 'epsilon': epsilon},
        'attack': {
            'num_steps': 10,
            'step_size': epsilon / 4,
            'init': 'gaussian',
            'init_scale': 0.001,
        },
        'objective': {'name': 'trades', 'lam': 6.0, 'label_smoothing': 0.0},
        'optimizer': {
            'epochs': 30,
            'batch_size': 64,
            'learning_rate': 0.1,
            'momentum': 0.9,
            'weight_decay': 2e-4,
            'schedule': 'piecewise',
        },
        'ema_decay': 0.0,
        'awp': {'gamma': 0.0, 'warmup_epochs': 0},
        'evaluation': {
            'num_steps': 20,
            'step_size': epsilon / 8,
            'init': 'uniform',
            'init_scale': 1.0,
            'restarts': 1,
        },
    }


def metrics(rng: np.random.Generator, epochs: int, steps: int) -> list[dict[str, Any]]:
    """One validation row per epoch, one train row every six steps, learning curves that bend."""
    rows: list[dict[str, Any]] = [session(0)]
    for step in range(6, epochs * steps + 1, 6):
        epoch = step / steps
        noise = np.exp(0.15 * rng.standard_normal(2))
        rows.append(
            {
                'kind': 'train',
                'step': step,
                'epoch': epoch,
                'natural_risk': float((0.15 + 2.0 * math.exp(-epoch / 3)) * noise[0]),
                'robust_regularization': float((0.05 + 0.1 * math.exp(-epoch / 9)) * noise[1]),
                'lambda': 6.0,
            }
        )
        if step % steps == 0:
            progress = 1 - math.exp(-epoch / 4)
            stable = 0.3 + 0.48 * progress + 0.01 * rng.standard_normal()
            rows.append(
                {
                    'kind': 'validation',
                    'step': step,
                    'epoch': epoch,
                    'natural_accuracy': 0.2 + 0.78 * progress,
                    'robust_accuracy': min(stable - 0.01, 0.15 + 0.62 * progress),
                    'perturbation_stability': stable,
                    'local_lipschitz': 20 + 25 * progress,
                    'local_lipschitz_kl_gradient': 1 + 3 * progress,
                    'num_examples': 180,
                }
            )
    return rows


def images(rng: np.random.Generator, size: int, channels: int, epsilon: float) -> dict[str, Any]:
    """Smooth blobs, attacked with the sign of noise; m = 12 is more than the figure shows."""
    grid = np.linspace(0, 1, size)
    centre = rng.uniform(0.2, 0.8, (12, channels, 2))
    square = (grid[None, None, :, None] - centre[..., None, None, 0]) ** 2 + (
        grid[None, None, None, :] - centre[..., None, None, 1]
    ) ** 2
    clean = np.exp(-square / 0.08).transpose(0, 2, 3, 1).astype(np.float32)
    sign = np.sign(rng.standard_normal(clean.shape)).astype(np.float32)
    labels = rng.integers(0, 10, 12, dtype=np.int32)
    wrong = np.arange(12) % 3 == 0
    return {
        'clean': clean,
        'adversarial': np.clip(clean + np.float32(epsilon) * sign, 0, 1),
        'labels': labels,
        'clean_predictions': labels,
        'adversarial_predictions': np.where(wrong, (labels + 1) % 10, labels).astype(np.int32),
    }


def make_run(workdir: Path, *, colour: bool = False, selected_on: str = 'validation') -> Path:
    """Fills a new folder with one run's four files; returns it."""
    rng = np.random.default_rng(0)
    epsilon = 8 / 255 if colour else 0.2
    about = {
        'commit': '0123456789abcdef0123456789abcdef01234567',
        'versions': {'jax': '0.10.2', 'flax': '0.12.8'},
        'device': 'cpu',
        'num_devices': 1,
        'python': '3.11.9',
        'command': 'python -m war_jax.main --config=configs/digits.py --workdir=runs/demo',
        'data': 'digits: handwritten digits, 8×8, embedded in scikit-learn.',
        'checksum': 'ab' * 32,
    }
    chosen = config('cifar10', 34, 10, epsilon) if colour else config('digits', 10, 2, epsilon)
    workdir.mkdir(parents=True)
    contents = {'config': chosen, 'provenance': about, 'reference': None}
    (workdir / 'config.json').write_text(json.dumps(contents))
    rows = metrics(rng, epochs=30, steps=66)
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    total = 10_000 if colour else 360
    (workdir / 'summary.json').write_text(json.dumps(summary(total, epsilon, selected_on)))
    size, channels = (32, 3) if colour else (8, 1)
    np.savez(workdir / 'examples.npz', **images(rng, size, channels, epsilon))
    return workdir
