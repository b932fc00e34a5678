"""The report of a study of Adv-NTK: report.md, verdicts.json, tables/, figures/ in its folder.

    write_report(Path('runs/adv-ntk'), command='python -m ntk.main ...')

Nothing is measured anew; a study that is not finished is reported as far as it is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ntk.studies.adversarial.claims import Claim, by_seed, evaluate, read_rows
from ntk.studies.adversarial.settings import INFINITE, METHODS, Settings, resolve_adversarial
from war_jax.lab import plots
from war_jax.lab.plots import BLUE, STYLE, VERMILION
from war_jax.lab.tables import (
    Column,
    decimal,
    decimal_interval,
    markdown,
    percent_mean,
    write_table,
)
from war_jax.lab.verdicts import write_verdicts
from war_jax.measures.statistics import mean_interval
from war_jax.records.files import read_file, read_json, write_text
from war_jax.report import conditions

_LOOKS = {'natural': (BLUE, 'o'), 'adversarial': (VERMILION, 's')}
_RATES = {'natural_accuracy': 'natural', 'robust_accuracy': 'robust'}


def write_report(workdir: Path, command: str) -> Path:
    """Returns the path of report.md. Raises ReportError for unreadable files."""
    about = read_file(workdir / 'study.json', read_json)
    settings = resolve_adversarial({**about['config'], 'grid': about['grid']})
    rows = read_rows(workdir, settings)
    provenance = about['provenance']
    claims = evaluate(rows)
    write_verdicts(workdir / 'verdicts.json', claims, provenance, command)
    draw(rows, settings, workdir / 'figures' / 'accuracy.png')
    missing = len(settings.cells) - len(rows)
    blocks = [
        f'# Adv-NTK: adversarial training at infinite width, on {settings.data.name}',
        *([f'> **Not finished.** {missing} predictors are missing.'] if missing else []),
        write_table(workdir / 'tables', 'claims', *_claims_table(claims)),
        '## Accuracy against width',
        '![Accuracy against width](figures/accuracy.png)',
        'Test images. Lines: means over seeds; bars: their 95 % intervals (Student’s t). On the '
        'right, infinite width: the NTK without an adversary, and Adv-NTK.',
        write_table(workdir / 'tables', 'accuracy', *_accuracy_table(rows, settings)),
        'In percent, ± half of the 95 % interval over seeds. Times: at which rate Adv-NTK lets its '
        'training examples be learned, median over examples and seeds, in units of 1 / (mean '
        'diagonal of the NTK).',
        '## How the numbers were obtained',
        _how(settings, provenance),
        '## To run it again',
        f'    {command}',
    ]
    text = '\n\n'.join(block.rstrip('\n') for block in blocks) + '\n'
    write_text(workdir / 'report.md', text)
    return workdir / 'report.md'


def draw(rows: Sequence[Mapping[str, Any]], settings: Settings, path: Path) -> None:
    widths = list(settings.grid.widths)
    beyond = widths[-1] * 4.0  # where infinite width is drawn
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.5), layout='constrained')
        for axes, (key, title) in zip(figure.subplots(1, 2), _RATES.items(), strict=True):
            for method in METHODS:
                colour, marker = _LOOKS[method]
                found = {
                    width: mean_interval([v / 100 for v in values.values()])
                    for width in (*widths, INFINITE)
                    if (values := by_seed([*map(dict, rows)], width, method, key))
                }
                for group in ([w for w in widths if w in found], [w for w in (0,) if w in found]):
                    if not group:
                        continue
                    x = [width or beyond for width in group]
                    mean, lower, upper = map(np.array, zip(*(found[w] for w in group), strict=True))
                    half = np.where(np.isfinite(upper), upper - mean, 0)
                    axes.errorbar(
                        x, mean, half, color=colour, marker=marker, capsize=2,
                        label=method if group[0] else None,
                    )  # fmt: skip
                    del lower
            axes.set_title(f'{title.capitalize()} accuracy')
            axes.set_xscale('log', base=2)
            axes.set_xticks([*widths, beyond], [*map(str, widths), '∞'])
            axes.minorticks_off()
            axes.set_xlabel('width')
            plots.percent_axis(axes)
            plots.legend(axes)
        plots.save(figure, path)


def _claims_table(claims: Sequence[Claim]) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('verdict', 'Verdict', align='l'),
        Column('statement', 'Claim', align='l'),
        Column('effect', 'Effect', decimal),
        Column('interval', '95 % interval', decimal_interval),
        Column('unit', 'Unit', align='l'),
        Column('num_seeds', 'Seeds'),
    ]
    return columns, [vars(claim) for claim in claims]


def _accuracy_table(
    rows: Sequence[dict[str, Any]], settings: Settings
) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('width', 'Width', align='l'),
        Column('method', 'Training', align='l'),
        Column('natural_accuracy', 'Natural', percent_mean),
        Column('robust_accuracy', 'Robust', percent_mean),
        Column('times', 'Times', '{:.3g}'.format),
    ]
    lines = []
    for width in (*settings.grid.widths, INFINITE):
        for method in METHODS:
            values = {key: by_seed(rows, width, method, key) for key in _RATES}
            if not values['robust_accuracy']:
                continue
            times = [
                row['times'][1]
                for row in rows
                if (row['width'], row['method']) == (INFINITE, 'adversarial')
            ]
            adv_ntk = (width, method) == (INFINITE, 'adversarial')
            lines.append({
                'width': width or '∞', 'method': method,
                **{key: mean_interval([v / 100 for v in of.values()]) for key, of in
                   values.items()},
                'times': float(np.median(times)) if adv_ntk else None,
            })  # fmt: skip
    return columns, lines


def _how(settings: Settings, about: Mapping[str, Any]) -> str:
    data, network, training = settings.data, settings.network, settings.training
    budget = settings.budget(settings.attack.num_steps)
    cells = [
        ('Data', about['data']),
        ('Images', f'{data.num_train} to train on and {data.num_validation} to validate on, which '
                   f'is which by seed; {data.num_test} test images'),
        ('Networks', f'fully connected, {network.num_layers} layers, {network.activation}, NTK '
                     'parametrization, f − f₀; squared loss, centred one-hot targets'),
        ('Finite width', f'{training.num_steps} steps of gradient descent, learning rate '
                         f'{training.speed:g} × n / (largest eigenvalue of the NTK), momentum '
                         f'{training.momentum:g}; the best of every {training.every} steps on '
                         'validation images'),
        ('Infinite width', 'natural: fully learned; adversarial: Adv-NTK (Fu & Wang 2024), '
                           f'{settings.kernel.num_steps} steps of Adam '
                           f'({settings.kernel.learning_rate:g}) on log rates, from '
                           f'{settings.kernel.initial_time:g}, on attacked validation images'),
        ('Attack', f'{conditions.ball(vars(settings.threat))}, PGD-{settings.attack.num_steps} on '
                   f'the margin in training, step {budget.step_size:.3g}; PGD-'
                   f'{settings.attack.measure_steps} for the numbers here: upper bounds'),
        ('Seeds', ', '.join(map(str, settings.grid.seeds))),
        ('Precision', 'float32; the kernel on training images in float64'),
        ('Commit', about['commit']),
        ('Device', f'{about["num_devices"]} × {about["device"]}'),
        ('Versions', conditions.versions(about)),
    ]  # fmt: skip
    return markdown(('What', 'How'), cells, 'll')
