"""report.md, verdicts.json, tables/ and figures/ from the measured networks.

    write_report(workdir, networks, about)

Nothing is measured anew.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from war_jax.lab.tables import Column, decimal, decimal_interval, markdown, write_table
from war_jax.lab.verdicts import write_verdicts
from war_jax.measures.statistics import mean_interval
from war_jax.records.files import write_text
from war_jax.report import conditions
from war_jax.studies.regularization import pictures
from war_jax.studies.regularization.claims import AXES, Axis, Claim, axes, evaluate, trends
from war_jax.studies.regularization.measure import SCALARS
from war_jax.studies.regularization.work import Network
from war_jax.studies.width.claims import CONTRADICTED, SUPPORTED, UNDECIDED

_SOURCES = {
    'epsilon': 'the claims of Wen et al. 2020',
    'lam': 'the same claims, asked of λ (ours)',
    'width': 'asked of width (ours; nothing was claimed)',
}


def write_report(workdir: Path, networks: Sequence[Network], about: Mapping[str, Any]) -> Path:
    """about: config (of a run), measure, provenance, command. Returns the path of report.md."""
    varied = axes(networks)
    claims: dict[Axis, list[Claim]] = {
        axis: list(evaluate(networks, axis)) for axis in varied if axis != 'width'
    }
    config, provenance = about['config'], about['provenance']
    blocks = [
        f'# Adversarial robustness as regularization: {config["data"]["name"]}',
        *(_answer(axis, found) for axis, found in claims.items()),
        _sandwich(networks),
    ]
    for axis in varied:
        blocks += [f'## Against {AXES[axis]}: {_SOURCES[axis]}']
        if axis in claims:
            blocks.append(write_table(workdir / 'tables', f'{axis}_claims', *_table(claims[axis])))
        drawn = pictures.draw(networks, axis, workdir / 'figures')
        for picture in drawn:
            blocks += [
                f'### {picture.title}', f'![{picture.title}](figures/{picture.file})',
                picture.caption,
            ]  # fmt: skip
        means = write_table(workdir / 'tables', f'{axis}_means', *_means(networks, axis))
        blocks += ['### Means over seeds', means]
        found = list(trends(networks, axis))
        listed = write_table(workdir / 'tables', f'{axis}_trends', *_table(found))
        if axis == 'width':
            blocks += ['### All trends', listed]
    blocks += [
        'Effects are rank correlations (Spearman) computed seed by seed, or the share of the '
        'layers with a negative one; intervals are Student’s t over seeds, none widened for the '
        'number of claims. A claim is *supported* if its interval lies wholly on the claimed side '
        'of 0 (of one half, for shares), *contradicted* if wholly on the other, else *undecided*.',
        '## How the numbers were obtained',
        _how(networks, about),
        '## To run it again',
        f'    {about["command"]}',
        'Finished networks and measures are kept. `tables/` holds every table as CSV, Markdown and '
        'LaTeX, also the trends of each layer; `verdicts.json` the verdicts.',
    ]
    if len(networks) > 0 and not varied:
        blocks.insert(1, '> All networks were trained alike: there is nothing to compare.')
    write_verdicts(
        workdir / 'verdicts.json',
        [claim for found in claims.values() for claim in found],
        provenance,
        about['command'],
    )
    text = '\n\n'.join(block.rstrip('\n') for block in blocks) + '\n'
    write_text(workdir / 'report.md', text)
    return workdir / 'report.md'


def _answer(axis: Axis, found: Sequence[Claim]) -> str:
    by_verdict = {
        verdict: [claim for claim in found if claim.verdict == verdict]
        for verdict in (SUPPORTED, CONTRADICTED, UNDECIDED)
    }
    counts = ', '.join(f'{len(claims)} {verdict}' for verdict, claims in by_verdict.items())
    names = {claim.name: claim for claim in found}
    parts = []
    for key, text in (
        ('margin', 'margins'), ('confidence', 'confidence'), ('random_cv', 'variation of gains'),
        ('std', 'spread of singular values'),
    ):  # fmt: skip
        raw, matched = names[f'{key}_with_{axis}'], names[f'{key}_with_{axis}_matched']
        parts.append(f'{text}: {raw.verdict}, at the same training loss {matched.verdict}')
    return f'Claims of a fall as {AXES[axis]} grows: {counts}. Of these, {"; ".join(parts)}.'


def _sandwich(networks: Sequence[Network]) -> str:
    pairs = [
        (low, distance)
        for network in networks
        for low, distance in zip(
            network.final['lower_bounds'], network.final['distances'], strict=True
        )
        if distance is not None
    ]
    if not pairs:
        return 'No boundary was found within the box.'
    holds = sum(low <= distance * (1 + 1e-4) for low, distance in pairs)
    ratio = min(distance / low for low, distance in pairs if low)
    return (
        f'Distance ≥ margin / (√2 · product of spectral norms) holds on {holds} of {len(pairs)} '
        f'images; the distance is at least {ratio:.3g} times its bound.'
    )


def _table(found: Sequence[Claim]) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('verdict', 'Verdict', align='l'),
        Column('statement', 'Claim', align='l'),
        Column('effect', 'Effect', decimal),
        Column('interval', '95 % interval', decimal_interval),
        Column('unit', 'Unit', align='l'),
        Column('num_seeds', 'Seeds'),
    ]
    return columns, [vars(claim) for claim in found]


def _means(networks: Sequence[Network], axis: Axis) -> tuple[list[Column], list[dict[str, Any]]]:
    def shown(value: tuple[float, float, float]) -> str:
        mean, lower, upper = value
        half = (upper - lower) / 2
        return f'{mean:.3g}' + (f' ± {half:.2g}' if half < float('inf') else '')

    values = sorted({getattr(network.conditions, axis) for network in networks})
    columns = [Column('quantity', 'Quantity', align='l')]
    columns += [Column(f'{value:g}', f'{AXES[axis]} = {value:g}', shown) for value in values]
    rows = []
    for key, text in SCALARS.items():
        row: dict[str, Any] = {'quantity': text}
        for value in values:
            found = [n.final[key] for n in networks if getattr(n.conditions, axis) == value]
            found = [number for number in found if number is not None]
            row[f'{value:g}'] = mean_interval(found) if found else None
        rows.append(row)
    return columns, rows


def _how(networks: Sequence[Network], about: Mapping[str, Any]) -> str:
    config, measure, provenance = about['config'], about['measure'], about['provenance']
    seeds = sorted({network.conditions.seed for network in networks})
    widths = sorted({network.conditions.width for network in networks})
    norm = 'L∞' if config['threat']['norm'] == 'linf' else 'L2'
    cells = [
        ('Data', provenance['data']),
        ('Networks', f'WRN-{config["model"]["depth"]}-k, k = {_listed(widths)}, '
                     f'{conditions.OBJECTIVES[config["objective"]["name"]]}, '
                     f'{config["optimizer"]["epochs"]} epochs'),
        ('ε of training', _listed(sorted({n.conditions.epsilon for n in networks})) + f' ({norm})'),
        ('λ', _listed(sorted({n.conditions.lam for n in networks}))),
        ('Seeds', _listed(seeds)),
        ('Measured on', f'{measure["num_train"]} training and {measure["num_test"]} test images; '
                        f'distances on {measure["num_distance"]} of these'),
        ('Perturbations', f'{norm} ε = {measure["epsilon"]:g} for all networks: PGD-'
                          f'{measure["attack_steps"]} on the cross-entropy, and '
                          f'{measure["directions"]} uniform draws from the ball per image'),
        ('Distances', f'L2, in the box; FAB towards every class, {measure["search_steps"]} steps '
                      'each, then bisection: upper bounds'),
        ('Same training loss', f'{networks[0].matched_loss:.4g}, the smallest that all come down '
                               'to; quantities interpolated in log loss between two probes'),
        ('Commit', provenance['commit']),
        ('Device', f'{provenance["num_devices"]} × {provenance["device"]}'),
        ('Versions', conditions.versions(provenance)),
    ]  # fmt: skip
    return markdown(('What', 'How'), cells, 'll')


def _listed(values: Sequence[float]) -> str:
    return ', '.join(f'{value:g}' for value in values)
