"""The model card: what a stranger has to know before using the weights, in one page of Markdown.

    text = card(network, model, target, 'demo.safetensors', origin, run, evaluation, ...)

What the network is, how it is loaded and what it is to be given, what was measured on it and by
which attacks, on which data and at which commit it was trained, and its whole configuration.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from war_jax.export.layouts import Target
from war_jax.export.result import all_attacks
from war_jax.families import network_name
from war_jax.lab import tables
from war_jax.models.residual import ResidualNetwork
from war_jax.report import conditions
from war_jax.report.run_files import Run
from war_jax.robustness.network import Network


def card(
    network: Network,
    model: ResidualNetwork,
    target: Target,
    file_name: str,
    origin: Mapping[str, Any],
    run: Run | None,
    evaluation: Mapping[str, Any] | None,
    *,
    notes: Sequence[str],
    differences: Sequence[str],
    result: Path | None,
) -> str:
    """The page. origin: the contents of config.json; run: None if it has not ended; evaluation: the
    contents of evaluation.json; notes: further sentences on what was measured; differences: from
    the target's class; result: the file of RobustBench's form beside it."""
    config = origin['config']
    objective = conditions.OBJECTIVES[config['objective']['name']]
    title = f'{network_name(config["model"])}, {objective} training on {config["data"]["name"]}'
    blocks = [
        f'# {tables.markdown_text(title)}',
        *conditions.smoke_warning(config),
        # Of the description only the step, since the rest is a path on some machine.
        f'`{file_name}`: the network at step {network.description.rpartition(" at step ")[2]}, in '
        f'the names of `{target.module}.{target.name}` of {target.repository}.',
        '## How it is called',
        _call(network, model),
        '## How to load it',
        _load(model, target, file_name, differences),
        '## What was measured',
        *_measured(run, evaluation, notes),
        '## How it was trained',
        _training(origin, run),
    ]
    if result is not None:
        blocks += [
            '## RobustBench',
            f'`{result.name}` has the fields of its model_info/{config["data"]["name"]}/'
            f'{"Linf" if config["threat"]["norm"] == "linf" else "L2"}/NAME.json; link, name, '
            'authors and venue are for its authors to fill in.',
        ]
    whole = json.dumps(config, indent=2, ensure_ascii=False)
    blocks.append(
        f'<details><summary>Configuration</summary>\n\n```json\n{whole}\n```\n\n</details>'
    )
    return '\n\n'.join(block.rstrip('\n') for block in blocks) + '\n'


def _call(network: Network, model: ResidualNetwork) -> str:
    rows = [
        ('Input', _input(model)),
        ('Channels of the images', network.channels),
        ('Output', f'logits of {network.num_classes} classes'),
        ('Depth, widen factor', f'{model.depth}, {model.widen_factor:g}'),
        ('Blocks of the stages', ', '.join(map(str, model.blocks))),
        ('Channels of the stages', ', '.join(map(str, model.channels))),
        ('Activation', model.activation),
        ('Strides of the stages', ', '.join(map(str, model.strides))),
        ('BatchNorm', 'with its running statistics: inference mode'),
    ]  # fmt: skip
    return tables.markdown(('What', 'How'), rows, 'll')


def _input(model: ResidualNetwork) -> str:
    if model.normalise.is_identity:
        return 'images in [0, 1], not normalised: no mean is to be subtracted'
    return f'images in [0, 1]; the network itself normalises them: {model.normalise}'


def _load(
    model: ResidualNetwork, target: Target, file_name: str, differences: Sequence[str]
) -> str:
    """Code for war_jax and, if it computes the same, for the class of the target."""
    is_torch = file_name.endswith('.pt')
    strides = tuple(model.strides)
    told = f', strides={strides}' if is_torch and strides != (1, *(2,) * (len(strides) - 1)) else ''
    told += f", activation='{model.activation}'" if is_torch and model.activation != 'relu' else ''
    ours = [
        '```python',
        'import war_jax',
        f"network = war_jax.load_torch('{file_name}'{told})",
        'logits = network.classify(network.params, images)  # (n, h, w, channels)',
        '```',
    ]
    if differences:
        return '\n'.join(
            [*ours, '', 'The class as published computes something else from these weights: '
             f'{"; ".join(differences)}. Use it only after changing that.']
        )  # fmt: skip
    read = "torch.load('{}', weights_only=True)" if is_torch else "load_file('{}')"
    theirs = [
        '```python',
        'import torch' if is_torch else 'from safetensors.torch import load_file',
        f'from {target.module} import {target.imported()}  # {target.repository}',
        f'model = {target.constructor(model)}',
        f'model.load_state_dict({read.format(file_name)})',
        'logits = model.eval()(images)  # (n, channels, h, w)',
        '```',
    ]
    return '\n'.join([*ours, '', *theirs])


def _measured(
    run: Run | None, evaluation: Mapping[str, Any] | None, notes: Sequence[str]
) -> list[str]:
    rows = []
    if run is not None:
        summary = run.summary
        together = all_attacks(summary)
        attacks = ', '.join(name for name in summary['attacks'] if name != 'all')
        attacks += f'; {conditions.ball(summary)}'
        images = f'{summary["num_examples"]:,} {summary["split"]}'
        rows += [
            _row('Natural accuracy', summary, 'natural_accuracy', '—', images),
            _row('Robust accuracy', together, 'robust_accuracy', attacks, images),
        ]
        if summary['selected_on'] == 'test':
            notes = [*notes, 'The checkpoint was selected on test images: the run’s own numbers '
                             'are optimistic.']  # fmt: skip
    if evaluation is not None:
        attacks = ', '.join(attack['name'] for attack in evaluation['attacks'])
        attacks += f'; {conditions.ball(evaluation)}'
        images = f'{evaluation["num_examples"]:,} test'
        rows += [
            _row('Natural accuracy', evaluation, 'natural_accuracy', '—', images),
            _row('Robust accuracy', evaluation, 'robust_accuracy', attacks, images),
        ]
        notes = [*notes, *(f'Doubt: {doubt}.' for doubt in evaluation['doubts'])]
    if not rows:
        return ['Nothing: the run had not ended.', *notes]
    header = ('Measure', 'Rate', '95 % interval', 'Attacks, of which the worst counts', 'Images')
    return [
        tables.markdown(header, rows, 'lrrll'),
        'Intervals are Wilson’s over the images and know nothing of other seeds; an attack may '
        'miss adversarial examples, so that robust accuracies are upper bounds.',
        *notes,
    ]


def _row(name: str, found: Mapping[str, Any], key: str, attacks: str, images: str) -> list[str]:
    interval = tables.percent_interval(found['intervals'][key])
    return [name, tables.percent(found[key]), interval, attacks, images]


def _training(origin: Mapping[str, Any], run: Run | None) -> str:
    if run is not None:
        return conditions.table(run)
    config, about = origin['config'], origin['provenance']
    lam = 'λ' if origin['reference'] else f'λ = {config["objective"]["lam"]:g}'
    rows = [
        ('Data', about['data']),
        ('SHA-256 of the data', about['checksum']),
        ('Training, as planned', conditions.training(config, lam)),
        ('Optimizer', conditions.optimizer(config)),
        ('Training images', conditions.images(config)),
        ('Seed', config['seed']),
        ('Commit', about['commit']),
        ('Versions', conditions.versions(about)),
    ]
    return tables.markdown(('What', 'How'), rows, 'll')
