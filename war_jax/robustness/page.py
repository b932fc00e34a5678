"""evaluation.json, the page that one reads, and its figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from war_jax.attacks.threat import ThreatModel
from war_jax.lab.plots import EPSILON
from war_jax.lab.tables import markdown, percent
from war_jax.measures.accuracy import Counts
from war_jax.measures.network import intervals, rates
from war_jax.measures.statistics import binomial_interval
from war_jax.records import pages
from war_jax.report.figures import NORMS, stability_curve
from war_jax.robustness.doubts import Curve
from war_jax.robustness.ensemble import Ensemble


def contents(
    ensemble: Ensemble, threat: ThreatModel, curve: Curve | None, doubts: Sequence[str]
) -> dict[str, Any]:
    """What evaluation.json holds of the numbers. Cumulative: after this attack and all before."""
    total = len(ensemble.labels)
    stands = ensemble.is_predicted & (ensemble.natural | ensemble.stability)
    attacks = []
    for result in ensemble.results:
        stands = stands & ~result.search.broken
        robust = int((stands & ensemble.natural).sum())
        attacks.append(
            {
                'name': result.name,
                'num_seen': int(result.seen.sum()),
                'num_broken': int(result.search.broken.sum()),
                'num_not_confirmed': result.search.withdrawn,
                'robust_accuracy': robust / total,
                'robust_accuracy_interval': binomial_interval(robust, total),
                'perturbation_stability': float(stands.mean()) if ensemble.stability else None,
                'seconds': result.seconds,
                'steps': result.steps,
            }
        )
    sets = (ensemble.natural, ensemble.stable, ensemble.robust)
    counts = Counts(total, *(int(members.sum()) for members in sets))
    numbers: dict[str, Any] = {**rates(counts), 'intervals': intervals(counts)}
    if not ensemble.stability:
        # Stability is of all examples, and those that are misclassified were not attacked.
        del numbers['perturbation_stability'], numbers['intervals']['perturbation_stability']
    return {
        **numbers,
        'num_examples': total,
        'images': ensemble.origin_of_images,
        'norm': threat.norm,
        'epsilon': float(threat.epsilon),
        'attacks': attacks,
        'doubts': list(doubts),
        'curve': None if curve is None else curve._asdict(),
    }


def write_page(workdir: Path, result: dict[str, Any]) -> None:
    """evaluation.md, evaluation.html and figures/stability_curve.png."""
    blocks = [
        f'# {result["settings"]["network"]}',
        sentence(result),
        *(f'**Doubt:** {doubt}.' for doubt in result['doubts']),
        '' if result['doubts'] else 'No sign of masked gradients was found.',
        attacks_table(result),
        'Each attack sees only what the ones before it left standing; accuracies are those under '
        'all of them up to there. Intervals are Wilson’s at 95 % over the images.',
    ]
    if result['curve'] is not None:
        _draw(workdir / 'figures' / 'stability_curve.png', result)
        attack, count = result['curve']['attack'], result['curve']['num_examples']
        blocks += [
            '![Accuracies against epsilon](figures/stability_curve.png)',
            f'Lines: {attack} on {count} images, every iterate counted. Stars: all attacks '
            'together, on all images.',
        ]
    origin = result['origin']
    versions = ', '.join(f'{name} {number}' for name, number in origin['versions'].items())
    blocks += [
        f'{origin["data"]} Seed {result["settings"]["seed"]}, {origin["num_devices"]} x '
        f'{origin["device"]}, commit {origin["commit"]}, {versions}.',
        f'    {origin["command"]}',
    ]
    pages.write_page(workdir / 'evaluation.md', '\n\n'.join(filter(None, blocks)) + '\n')


def sentence(result: dict[str, Any]) -> str:
    parts = [
        f'{name} {result[key]:.2%} ({low:.2%} to {high:.2%})'
        for key, name in (
            ('natural_accuracy', 'natural accuracy'),
            ('robust_accuracy', 'robust accuracy'),
            ('perturbation_stability', 'perturbation stability'),
        )
        if key in result
        for low, high in [result['intervals'][key]]
    ]
    threat = f'{NORMS[result["norm"]]} ε = {result["epsilon"]:.4g}'
    return f'{", ".join(parts)}, on {result["num_examples"]:,} images, {threat}.'


def attacks_table(result: dict[str, Any]) -> str:
    rows = [
        [
            attack['name'],
            f'{attack["num_seen"]}',
            f'{attack["num_broken"]}',
            percent(attack['robust_accuracy']),
            percent(attack['perturbation_stability']),
            f'{attack["seconds"]:.0f}',
        ]
        for attack in result['attacks']
    ]
    header = ('Attack', 'Saw', 'Broke', 'Robust accuracy', 'Stability', 'Seconds')
    return markdown(header, rows, align='lrrrrr')


def _draw(path: Path, result: dict[str, Any]) -> None:
    curve, count = result['curve'], result['curve']['num_examples']
    lines = {
        'natural_accuracy': [curve['robust'][0]] * len(curve['epsilons']),
        'perturbation_stability': curve['stable'],
        'robust_accuracy': curve['robust'],
    }
    bands = {
        name: [binomial_interval(round(rate * count), count) for rate in values]
        for name, values in lines.items()
    }
    stability_curve(
        path, curve['epsilons'], lines, bands, epsilon=result['epsilon'], norm=result['norm'],
        mark=EPSILON, points={name: result[name] for name in list(lines)[1:] if name in result},
    )  # fmt: skip
