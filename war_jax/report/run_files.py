"""What one finished run left in its folder, read and checked.

    run = read_run(Path('runs/demo'))
    run.summary['robust_accuracy'], run.validation[-1]['epoch'], run.config['threat']['epsilon']
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from war_jax.records.files import ReportError, read_file, read_json, read_json_lines, require

RATES = {
    'natural_accuracy': 'natural accuracy',
    'robust_accuracy': 'robust accuracy',
    'perturbation_stability': 'perturbation stability',
}
FILES = ('config.json', 'metrics.jsonl', 'summary.json', 'examples.npz')
ARRAYS = ('clean', 'adversarial', 'labels', 'clean_predictions', 'adversarial_predictions')
# Keys without which the page cannot be written; checked together, to be named together.
SUMMARY_KEYS = (
    *RATES, 'perturbation_stability_kl', 'local_lipschitz', 'local_lipschitz_kl_gradient',
    'natural_risk', 'robust_regularization', 'lambda', 'risk_ratio', 'epsilon', 'norm',
    'num_examples', 'split', 'best_step', 'best_epoch', 'selected_on', 'seconds', 'attacks',
    'selected_by', 'intervals', 'curve',
)  # fmt: skip
ATTACK_KEYS = ('robust_accuracy', 'perturbation_stability', 'intervals', 'restarts')
CURVE_KEYS = ('epsilon', *RATES, 'intervals', 'num_examples')
PROVENANCE_KEYS = (
    'commit', 'versions', 'device', 'num_devices', 'python', 'command', 'data', 'checksum',
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What one run left behind, read and checked; the keys are those of its files."""

    config: dict[str, Any]
    provenance: dict[str, Any]
    train: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    warnings: list[dict[str, Any]]  # what was said of it while it ran, each with a 'text'
    sessions: list[dict[str, Any]]  # those that added to the run; empty in a run without rows
    summary: dict[str, Any]
    examples: dict[str, np.ndarray]
    reference: dict[str, Any] | None  # of width adjusted regularization, if the run had one


def read_run(workdir: Path) -> Run:
    """The four files of a run. Raises ReportError as `write_report` does."""
    if not workdir.is_dir():
        raise ReportError(f'{workdir}: no such folder')
    missing = [name for name in FILES if not (workdir / name).is_file()]
    if missing:
        raise ReportError(
            f'{workdir}: missing {", ".join(missing)}; war_jax.main writes config.json first and '
            'summary.json and examples.npz after its final evaluation: let the run finish'
        )
    about = read_file(workdir / 'config.json', read_json)
    summary = read_file(workdir / 'summary.json', read_json)
    rows = read_file(workdir / 'metrics.jsonl', read_json_lines)
    arrays = read_file(workdir / 'examples.npz', _read_npz)
    require(workdir / 'config.json', about, ('config', 'provenance', 'reference'))
    require(workdir / 'config.json: provenance', about['provenance'], PROVENANCE_KEYS)
    require(workdir / 'summary.json', summary, SUMMARY_KEYS)
    for name, found in summary['attacks'].items():
        require(workdir / f'summary.json: attacks: {name}', found, ATTACK_KEYS)
    require(workdir / 'summary.json: curve', summary['curve'], CURVE_KEYS)
    require(workdir / 'examples.npz', arrays, ARRAYS)
    train, validation, warnings, starts = (
        [row for row in rows if row['kind'] == kind]
        for kind in ('train', 'validation', 'warning', 'session')
    )
    # A session that was stopped before its first checkpoint began where the next one did.
    sessions = list({row['step']: row for row in starts}.values())
    return Run(
        config=about['config'],
        provenance=about['provenance'],
        reference=about['reference'],
        train=train,
        validation=validation,
        warnings=warnings,
        sessions=sessions,
        summary=summary,
        examples=arrays,
    )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    # Opened here: np.load leaves the file open when it turns out to be no archive.
    with path.open('rb') as file, np.load(file, allow_pickle=False) as archive:
        return dict(archive)
