"""The report of one run: figures and a page that says what was measured, and how.

    report = write_report('runs/demo')               # runs/demo/report.md, runs/demo/figures/*.png

    python -m war_jax.report.run_report runs/demo    # the same from the shell, to redraw a run

Reads what the run left in its folder: config.json, metrics.jsonl, summary.json, examples.npz.
Nothing is measured anew, so that a report can be redrawn anywhere, without data or accelerator.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from war_jax.families import network_name
from war_jax.lab import tables
from war_jax.records.files import ReportError
from war_jax.records.pages import write_page
from war_jax.report import conditions, figures
from war_jax.report.run_files import ARRAYS, RATES, Run, read_run

HEADLINE = {**RATES, 'perturbation_stability_kl': 'perturbation stability, label-free attack'}
ATTACK_LOSSES = {
    'pgd': conditions.HEADLINE_LOSS,
    'cw': 'largest wrong logit − logit of the label (Carlini and Wagner)',
    'kl': 'KL(f(x) ‖ f(x′)), label-free',
}


def write_report(workdir: str | Path) -> Path:
    """Draws figures/*.png, writes report.md, returns its path.

    Raises ReportError, before anything is written, if a file of the run is missing or unreadable.
    """
    workdir = Path(workdir)
    run = read_run(workdir)
    curve, threat = run.summary['curve'], run.config['threat']
    figures.training_curves(
        workdir / 'figures/training_curves.png',
        run.train,
        run.validation,
        selected_epoch=run.summary['best_epoch'],
        split=run.summary['selected_on'],
    )
    figures.examples(workdir / 'figures/examples.png', *(run.examples[name] for name in ARRAYS))
    figures.stability_curve(
        workdir / 'figures/stability_curve.png',
        curve['epsilon'],
        {key: curve[key] for key in RATES},
        {key: curve['intervals'][key] for key in RATES},
        epsilon=threat['epsilon'],
        norm=threat['norm'],
    )
    write_page(workdir / 'report.md', page(run))
    return workdir / 'report.md'


def page(run: Run) -> str:
    """report.md as text."""
    config, data = run.config, run.config['data']['name']
    objective = conditions.OBJECTIVES[config['objective']['name']]
    title = f'{objective} training of {network_name(config["model"])} on {data}'
    blocks = [
        f'# {tables.markdown_text(title)}',
        *conditions.smoke_warning(config),
        *_warnings(run.summary),
        *(f'> **Warning.** {tables.markdown_text(row["text"])}.' for row in run.warnings),
        *conditions.session_warnings(run.sessions),
        *_headline(run),
        '## Attacks',
        _attacks(run),
        '## Local Lipschitzness and risks',
        _measures(run.summary),
        '## How the numbers were obtained',
        conditions.table(run),
        *conditions.sessions(run.sessions),
        '## Training',
        f'![{run.summary["selected_on"].capitalize()} accuracies and local Lipschitzness, training '
        'risks, against the epoch]'
        '(figures/training_curves.png)',
        'Dotted line: the checkpoint that this page is about. The training risks are means over '
        'the batches between two log lines, as training met them.',
        '## Stability against the radius of the attack',
        '![Natural accuracy, robust accuracy and stability against epsilon]'
        '(figures/stability_curve.png)',
        'One run of the attack of the headline at each radius, its step size in proportion, on '
        f'{run.summary["curve"]["num_examples"]:,} {run.summary["split"]} images; bands are 95 % '
        'intervals. Robust accuracy has to fall towards 0 % as ε grows: where it does not, the '
        'attack fails, not the network resists.',
        '## Examples',
        '![Clean images, adversarial images and their difference](figures/examples.png)',
        'The difference, adversarial − clean, is amplified by the factor beside it; mid-grey is 0.',
        '## To run it again',
        *_command(run.provenance['command']),
        '`config.json` holds the whole configuration. `python -m war_jax.report.run_report` with '
        'this folder draws the report again.',
    ]
    return '\n\n'.join(block.rstrip('\n') for block in blocks) + '\n'


def _warnings(summary: Mapping[str, Any]) -> list[str]:
    warnings = []
    if summary['selected_on'] == 'test':
        warnings.append(
            '> **Warning.** The checkpoint was selected on the test images, as in the papers’ '
            'code, and then measured on them: every number below is optimistic. Compare it only '
            'with numbers selected in the same way.'
        )
    natural, robust, stable = (summary[key] for key in RATES)
    if not natural + stable - 1.0 - 1e-6 <= robust <= min(natural, stable) + 1e-6:
        warnings.append(
            '> **Warning.** These three rates cannot come from one attack on one set of images: '
            'natural + stable − 1 ≤ robust ≤ min(natural, stable) does not hold. Do not use them.'
        )
    for key, (lower, upper) in summary['intervals'].items():
        if not lower <= summary[key] <= upper:
            warnings.append(
                f'> **Warning.** The {HEADLINE[key]} of {tables.percent(summary[key])} lies '
                f'outside its own interval, {tables.percent_interval((lower, upper))}. Do not '
                'use it.'
            )
    return warnings


def _headline(run: Run) -> list[str]:
    summary, total = run.summary, run.summary['num_examples']
    header = ('Measure', 'Rate', '95 % interval', 'Images')
    rows = [
        (
            name.capitalize(),
            tables.percent(summary[key]),
            tables.percent_interval(summary['intervals'][key]),
            f'{round(summary[key] * total):,} of {total:,}',
        )
        for key, name in HEADLINE.items()
    ]
    return [
        tables.markdown(header, rows, 'lrrr'),
        f'Measured on {total:,} {summary["split"]} images under PGD-'
        f'{run.config["evaluation"]["num_steps"]} in the {conditions.ball(summary)}; all '
        'conditions are [below](#how-the-numbers-were-obtained).',
        'An image counts as *natural* if f(x) = y, as *stable* if f(x′) = f(x), and as *robust* '
        'if f(x′) = y, for every x′ that the attack ends on, x itself included. Hence, image by '
        'image, **robust = natural ∩ stable**. An attack may miss adversarial examples: robust '
        'accuracy and stability are upper bounds. The intervals are Wilson’s, for the draw of the '
        'images; they know nothing of other seeds.',
        '<details><summary>The table in LaTeX</summary>',
        f'```latex\n{tables.latex(header, rows, "lrrr")}```',
        '</details>',
    ]


def _attacks(run: Run) -> str:
    found = dict(run.summary['attacks'])
    together = found.pop('all', None)
    rows = [_attack_row(*_attack_names(name), attack) for name, attack in found.items()]
    if together is not None:
        runs = sum(attack['restarts'] for attack in found.values())
        name = 'All of the above together'
        rows.append(_attack_row(name, 'the worst counts', {**together, 'restarts': runs}))
    header = ('Attack', 'Loss it raises', 'Runs', 'Robust', '95 %', 'Stable', '95 %')
    return tables.markdown(header, rows, 'llrrrrr') + (
        '\nEach is an upper bound, and the smallest the best one. An attack on the label has no '
        'reason to change the prediction of an image that is already misclassified; the label-free '
        'attack has, but may be the weaker one elsewhere.'
    )


def _attack_names(key: str) -> tuple[str, str]:
    """'kl20' -> how the attack is called, and the loss that it raises."""
    parts = re.fullmatch(r'([a-z]+)(\d+)', key)
    kind, steps = parts.groups() if parts else (key, '')
    shown = ('PGD' if kind == 'kl' else kind.upper()) + (f'-{steps}' if steps else '')
    return shown, ATTACK_LOSSES.get(kind, '—')


def _attack_row(name: str, loss: str, found: Mapping[str, Any]) -> list[object]:
    cells: list[object] = [name, loss, found['restarts']]
    for key in ('robust_accuracy', 'perturbation_stability'):
        low_high = found['intervals'][key]
        cells += [tables.percent(found[key]), tables.percent_interval(low_high)]
    return cells


def _measures(summary: Mapping[str, Any]) -> str:
    norm = '‖x − x′‖' + ('∞' if summary['norm'] == 'linf' else '₂')
    rows = [
        (
            'Local Lipschitzness, output ratio',
            summary['local_lipschitz'],
            f'mean over images of max ‖f(x) − f(x′)‖₁ / {norm} over {norm} ≤ ε, f the '
            'logits, found by PGD (Yang et al. 2020)',
        ),
        (
            'Local Lipschitzness, KL gradient',
            summary['local_lipschitz_kl_gradient'],
            'mean over images of max over the attack’s steps of ‖∇ KL(f(x) ‖ f(x′))‖₁, gradient '
            'in x′ (Wu et al. 2021; their code sums over a batch)',
        ),
        (
            'Natural risk',
            summary['natural_risk'],
            'moving average over the last training steps, in nats',
        ),
        ('Robust regularization', summary['robust_regularization'], 'likewise, not weighted by λ'),
        ('λ', summary['lambda'], 'weight of the robust regularization at the end of training'),
        ('Risk ratio', summary['risk_ratio'], 'natural risk / robust regularization'),
    ]
    cells = [(name, tables.number(value), meaning) for name, value, meaning in rows]
    return tables.markdown(('Measure', 'Value', 'Definition'), cells, 'lrl')


def _command(text: str | None) -> list[str]:
    if text is None:
        return ['The run was started from Python, by `war_jax.run.train`.']
    # Indented: a code block that no character of the text can end.
    return ['\n'.join(f'    {line}' for line in text.splitlines())]


def main() -> None:
    """Command line: draws the report of one folder; exit code 2 and one line if it cannot."""
    parser = argparse.ArgumentParser(description='Draw the report of a run again.')
    parser.add_argument('workdir', type=Path, help='folder of a run of war_jax.main')
    try:
        print(write_report(parser.parse_args().workdir))
    except (ReportError, OSError) as error:
        print(f'run_report: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    main()
