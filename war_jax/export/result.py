"""A result in the form of RobustBench's model_info/DATASET/NORM/NAME.json.

    result = robustbench_result(config, summary, evaluation)

The fields are those of the files there (commit 78fcc9e); rates are percentages in text, with two
decimals. What a run cannot know is null, for people to fill in: link, name, authors, venue.
"""

from collections.abc import Mapping
from typing import Any

from war_jax.families import network_name

AUTOATTACK = {'apgd-ce', 'apgd-t', 'fab-t', 'square'}


def is_autoattack(evaluation: Mapping[str, Any]) -> bool:
    """Whether all four attacks of the standard AutoAttack were run (Croce & Hein 2020)."""
    return {attack['name'] for attack in evaluation['attacks']} >= AUTOATTACK


def robustbench_result(
    config: Mapping[str, Any],
    summary: Mapping[str, Any] | None,
    evaluation: Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """None where neither a summary.json nor an AutoAttack says how accurate the network is.

    config: of the run's config.json. evaluation: the contents of evaluation.json; used only if it
    is of AutoAttack on the test images of the data set and in the ball of the training, as
    RobustBench's numbers are. `reported` is the accuracy under all attacks of the run's own report.
    """
    threat, data = config['threat'], config['data']['name']
    if evaluation is not None:
        its_ball = (evaluation['norm'], evaluation['epsilon'])
        is_comparable = its_ball == (threat['norm'], threat['epsilon'])
        is_comparable &= evaluation['settings']['data'] == data and is_autoattack(evaluation)
        evaluation = evaluation if is_comparable else None
    clean = evaluation or summary
    if clean is None:
        return None
    return {
        'link': None,
        'name': None,
        'authors': None,
        'additional_data': bool(config['data'].get('extra_path')),
        'number_forward_passes': 1,
        'dataset': data,
        'venue': None,
        'architecture': network_name(config['model']).replace('WRN', 'WideResNet'),
        'eps': _radius(threat['epsilon']),
        'clean_acc': _percent(clean['natural_accuracy']),
        'reported': summary and _percent(all_attacks(summary)['robust_accuracy']),
        'autoattack_acc': evaluation and _percent(evaluation['robust_accuracy']),
        'footnote': _footnote(evaluation),
        'unreliable': bool(evaluation and evaluation['doubts']),
    }


def all_attacks(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """Accuracies of a summary.json under all its attacks together, the strictest there are."""
    return summary['attacks'].get('all', summary)


def _footnote(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return 'Not evaluated by AutoAttack.'
    doubts = ''.join(f' {doubt}.' for doubt in evaluation['doubts'])
    return f'AutoAttack of war_jax on {evaluation["num_examples"]} test images.{doubts}'


def _percent(rate: float) -> str:
    return f'{100 * rate:.2f}'


def _radius(epsilon: float) -> str:
    """'8/255' for a number of grey levels that is no short decimal number; else '0.031'."""
    levels = round(255 * epsilon)
    is_levels = abs(levels - 255 * epsilon) < 1e-6 and abs(epsilon - round(epsilon, 3)) > 1e-6
    return f'{levels}/255' if is_levels else f'{epsilon:g}'
