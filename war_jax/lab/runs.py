"""A finished run of war_jax.main, as studies read it out of its folder.

    run = read_run(Path('runs/study/runs/k0.25-lam3-seed0'))
    run.about['config'], run.summary['robust_accuracy'], run.curves['validation'][-1]['epoch']
    run.measured                                   # the numbers by which networks are compared
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from war_jax.lab.quantities import RATES
from war_jax.records.files import ReportError, read_file, read_json, read_json_lines, require

# Taken from summary.json as they are.
_MEASURED = (
    'natural_accuracy', 'robust_accuracy', 'perturbation_stability', 'local_lipschitz',
    'local_lipschitz_kl_gradient', 'margin', 'lipschitz_by_margin', 'natural_risk',
    'robust_regularization', 'risk_ratio', 'best_epoch', 'num_examples', 'epsilon', 'norm',
)  # fmt: skip
_SUMMARY = (
    *_MEASURED, 'lambda', 'lambda_start', 'attacks', 'best_step', 'seconds', 'train', 'last',
)  # fmt: skip
_CONFIG = ('model', 'objective', 'optimizer', 'seed', 'war')


@dataclass(frozen=True)
class FinishedRun:
    workdir: Path
    about: Mapping[str, Any]  # config.json
    summary: Mapping[str, Any]  # summary.json
    curves: Mapping[str, Sequence[Mapping[str, Any]]]  # metrics.jsonl: 'train' and 'validation'

    @property
    def measured(self) -> dict[str, Any]:
        """Of the best network on validation images: everything but what it was trained with.

        Raises ReportError for metrics that lack the validation of that network.
        """
        summary, provenance = self.summary, self.about['provenance']
        step = summary['best_step']
        selected = [row for row in self.curves['validation'] if row['step'] == step]
        if not selected:
            raise ReportError(f'{self.workdir}/metrics.jsonl: no validation at step {step}')
        together = summary['attacks']['all']
        return {
            **{key: summary[key] for key in _MEASURED},
            'robust_accuracy_all': together['robust_accuracy'],
            'perturbation_stability_all': together['perturbation_stability'],
            **{f'{key}_train': summary['train'][key] for key in RATES},
            'robust_accuracy_last': summary['last']['robust_accuracy'],
            'robust_overfitting': summary['robust_accuracy'] - summary['last']['robust_accuracy'],
            'final_lambda': summary['lambda'],
            'validation_robust_accuracy': selected[-1]['robust_accuracy'],
            'num_validation': selected[-1].get('num_examples'),
            'device_seconds': summary['seconds'] * provenance['num_devices'],
            'device': f'{provenance["num_devices"]} × {provenance["device"]}',
            'commit': provenance['commit'],
        }


def read_run(workdir: Path) -> FinishedRun:
    """Raises ReportError, one line, for a finished run whose files cannot be read."""
    about = read_file(workdir / 'config.json', read_json)
    require(workdir / 'config.json', about, ('config', 'provenance'))
    require(workdir / 'config.json: config', about['config'], _CONFIG)
    summary = read_file(workdir / 'summary.json', read_json)
    if 'last' not in summary:
        raise ReportError(
            f'{workdir}/summary.json: of an earlier version, without margins, training images '
            'and the last network; train the study anew, in another --workdir'
        )
    require(workdir / 'summary.json', summary, _SUMMARY)
    require(workdir / 'summary.json: attacks', summary['attacks'], ('all',))
    metrics = read_file(workdir / 'metrics.jsonl', read_json_lines)
    curves = {
        kind: [row for row in metrics if row['kind'] == kind] for kind in ('train', 'validation')
    }
    return FinishedRun(workdir, about, summary, curves)
