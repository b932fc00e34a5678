"""The claims of Wen et al. 2020, held against networks trained at several epsilons (or lambdas).

    write_report(workdir, networks)                                 # report.md and all beside it
    claims, provenance = decide(Path('docs/studies/epsilon'))       # of study.json and rows.csv

For each seed, networks are ranked by a quantity along epsilon; what is tested is whether the ranks
rise or fall (Page), for "in most layers" layer by layer. Everything is told twice: at the end of
training, and where all networks had the same training loss. Nothing is measured here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from war_jax.families import network_name
from war_jax.lab import page
from war_jax.lab.estimates import Trend, trend
from war_jax.lab.page import Section
from war_jax.lab.quantities import centre
from war_jax.lab.tables import Column, decimal, factor_mean, markdown, small, write_table
from war_jax.lab.verdicts import (
    CONTRADICTED,
    SUPPORTED,
    Claim,
    claim_of_layers,
    claim_of_trend,
    write_verdicts,
)
from war_jax.records.files import ReportError, read_file, read_json, require
from war_jax.records.pages import write_page
from war_jax.report import conditions
from war_jax.report.figures import NORMS
from war_jax.studies.regularization import pictures
from war_jax.studies.regularization.measure import OF_LAYERS, SCALARS
from war_jax.studies.regularization.results import (
    AXES,
    WHEN,
    Axis,
    Network,
    When,
    axes,
    bounds_and_distances,
    common_layers,
    read_networks,
    samples,
    write_networks,
)

NAME = 'war_jax.studies.regularization.findings'

# key -> (statement, claimed sign); of scalars.
CLAIMED = {
    'accuracy_test': ('test accuracy falls', -1),
    'loss_train': ('training loss grows', 1),
    'loss_gap': ('the gap between test and training loss shrinks', -1),
    'confidence': ('confidence falls', -1),
    'margin': ('the margin of the logits falls', -1),
    'distance': ('test images come nearer to the boundary', -1),
}
# Of layers: all are claimed to fall, in most of them.
CLAIMED_OF_LAYERS = {
    'std': 'the spread of the singular values falls',
    'spread': 'the spread of the singular values falls, relative to their mean',
    'random_cv': 'the gain of random perturbations varies less',
    'adversarial_cv': 'the gain of adversarial perturbations varies less',
    'random_gain': 'the gain of random perturbations falls',
    'adversarial_gain': 'the gain of adversarial perturbations falls',
}
_SOURCES = {
    'epsilon': 'the claims of Wen et al. 2020',
    'lam': 'the same claims, asked of λ (ours)',
    'width': 'asked of width (ours; nothing was claimed)',
}


def decide(folder: Path) -> tuple[list[Claim], Mapping[str, Any]]:
    """Claims, and provenance with 'commit', 'data' and 'command', from study.json and rows.csv.

    Raises ReportError, one line, for files that cannot be read.
    """
    found = claims(read_networks(folder))
    return list(chain.from_iterable(found.values())), read_study(folder)['provenance']


def claims(networks: Sequence[Network]) -> dict[Axis, list[Claim]]:
    """By everything that differs but width, of which nothing was claimed."""
    return {axis: list(_claims(networks, axis)) for axis in axes(networks) if axis != 'width'}


def _claims(networks: Sequence[Network], axis: Axis) -> Iterator[Claim]:
    for when, where in WHEN.items():
        how = _how_computed(networks, axis, when)
        for key, (statement, sign) in CLAIMED.items():
            if (key, when) == ('loss_train', 'matched'):
                continue
            text = f'As {AXES[axis]} grows, {statement} ({where})'
            found = trend(samples(networks, axis, when, key))
            yield claim_of_trend(_name(key, axis, when), text, found, sign, how)
        for key, statement in CLAIMED_OF_LAYERS.items():
            text = f'As {AXES[axis]} grows, {statement} in most layers ({where})'
            by_layer = layer_trends(networks, axis, when, key)
            yield claim_of_layers(_name(key, axis, when), text, by_layer, -1, how)


def trends(networks: Sequence[Network], axis: Axis) -> Iterator[dict[str, Any]]:
    """Of every quantity, whatever was claimed: the fields of a claim, its verdict being 'rises',
    'falls' or 'undecided'."""
    words = {SUPPORTED: 'rises', CONTRADICTED: 'falls'}
    for when, where in WHEN.items():
        found = {
            key: (of.title, trend(samples(networks, axis, when, key)))
            for key, of in SCALARS.items()
        }
        found |= {
            f'{layer}:{key}': (f'{layer}: {of.title}', of_layer)
            for key, of in OF_LAYERS.items()
            for layer, of_layer in layer_trends(networks, axis, when, key).items()
        }
        for key, (title, one) in found.items():
            claim = claim_of_trend(_name(key, axis, when), f'{title} ({where})', one, 1)
            yield {**vars(claim), 'verdict': words.get(claim.verdict, claim.verdict)}


def layer_trends(
    networks: Sequence[Network], axis: Axis, when: When, key: str
) -> dict[str, Trend | None]:
    """Of the layers that all networks have."""
    return {
        layer: trend(samples(networks, axis, when, key, layer)) for layer in common_layers(networks)
    }


def _name(key: str, axis: Axis, when: When) -> str:
    return f'{key}_with_{axis}{"_matched" if when == "matched" else ""}'


def _how_computed(networks: Sequence[Network], axis: Axis, when: When) -> str:
    values = sorted({getattr(network.cell, axis) for network in networks})
    parts = [f'{AXES[axis]} = {_listed(values)}.']
    if len(values) < 3:
        parts.append('The test needs three of these.')
    if when == 'matched':
        loss = f'{networks[0].matched_loss:.4g}'
        parts.append(f'Interpolated between probes to the training loss {loss}.')
    others = [AXES[other] for other in axes(networks) if other != axis]
    if others:
        parts.append(f'For each seed, the mean over {" and ".join(others)}.')
    return ' '.join(parts)


def read_study(workdir: Path) -> dict[str, Any]:
    """study.json: config (of a run), measure, provenance. Raises ReportError for another file."""
    path = workdir / 'study.json'
    if not path.is_file():
        raise ReportError(f'{workdir}: missing study.json, which its experiment writes first')
    study = read_file(path, read_json)
    require(path, study, ('config', 'measure', 'provenance'))
    require(path, study['provenance'], ('commit', 'data', 'command'))
    return study


def write_report(workdir: Path, networks: Sequence[Network]) -> Path:
    """Draws figures/*, writes rows.csv, verdicts.json, tables/ and report.md; returns its path.

    workdir: with a study.json.
    """
    study = read_study(workdir)
    found = claims(networks)
    provenance, command = study['provenance'], study['provenance']['command']
    write_networks(workdir, networks)
    listed = chain.from_iterable(found.values())
    write_verdicts(workdir / 'verdicts.json', listed, provenance, command)
    title = f'Adversarial robustness as regularization: {study["config"]["data"]["name"]}'
    sections = _sections(networks, found, study, workdir)
    smoke = study['config'].get('smoke', False)
    write_page(workdir / 'report.md', page.text(title, list(sections), [], command, smoke))
    return workdir / 'report.md'


def _sections(
    networks: Sequence[Network],
    found: Mapping[Axis, Sequence[Claim]],
    study: Mapping[str, Any],
    workdir: Path,
) -> Iterator[Section]:
    tables, varied = workdir / 'tables', axes(networks)
    answers = [_answer(axis, of_axis) for axis, of_axis in found.items()]
    claimed = list(chain.from_iterable(found.values()))
    yield page.opening(_ASKED, ' '.join([*answers, _bound_holds(networks)]), claimed)
    if not varied:
        yield Section('', ['> All networks were trained alike: there is nothing to compare.'])
    for axis in varied:
        yield Section(f'Against {AXES[axis]}: {_SOURCES[axis]}', [])
        if axis in found:
            yield page.claims_section(found[axis], tables, f'{axis}_claims')
        yield from page.picture_sections(pictures.draw(networks, axis, workdir / 'figures'), 3)
        means = write_table(tables, f'{axis}_means', *_means(networks, axis))
        yield Section('Means over seeds', [means], 3)
        listed = write_table(tables, f'{axis}_trends', *_trends(networks, axis))
        if axis == 'width':
            yield Section('All trends', [listed], 3)
    yield Section('What was measured', [_measured()])
    yield _how(networks, study)


_ASKED = (
    'Does adversarial training regularize a network: smaller margins and confidence, more even '
    'layers, a smaller gap? (Wen et al. 2020)'
)


def _answer(axis: Axis, found: Sequence[Claim]) -> str:
    names = {claim.name: claim for claim in found}
    parts = []
    for key, text in (
        ('margin', 'margins'), ('confidence', 'confidence'), ('random_cv', 'variation of gains'),
        ('std', 'spread of singular values'),
    ):  # fmt: skip
        final, matched = (names[_name(key, axis, when)].verdict for when in WHEN)
        parts.append(f'{text}: {final}, at the same training loss {matched}')
    return (
        f'Claims of a fall as {AXES[axis]} grows: {"; ".join(parts)}.'
    )


def _bound_holds(networks: Sequence[Network]) -> str:
    pairs = bounds_and_distances(networks)
    if not pairs:
        return 'No boundary was found within the box.'
    holds = sum(low <= distance * (1 + 1e-4) for low, distance in pairs)
    ratio = min((distance / low for low, distance in pairs if low), default=math.inf)
    return (
        f'Distance ≥ margin / (√2 · product of spectral norms) holds on {holds} of {len(pairs)} '
        f'images; the distance is at least {ratio:.3g} times its bound.'
    )


def _means(networks: Sequence[Network], axis: Axis) -> tuple[list[Column], list[dict[str, Any]]]:
    rows = []
    for key, of in SCALARS.items():
        by_value = samples(networks, axis, 'final', key)
        means = {f'{x:g}': centre(by_seed.values(), of) for x, by_seed in by_value.items()}
        rows.append({'quantity': of.title, **means})
    values = sorted({getattr(network.cell, axis) for network in networks})
    columns = [Column(f'{x:g}', f'{AXES[axis]} = {x:g}', factor_mean) for x in values]
    return [Column('quantity', 'Quantity', align='l'), *columns], rows


def _trends(networks: Sequence[Network], axis: Axis) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('verdict', 'Trend', align='l'),
        Column('statement', 'Quantity', align='l'),
        Column('effect', 'Rank correlation', decimal),
        Column('p_value', 'p, two-sided', small),
        Column('num_seeds', 'Seeds'),
    ]
    rows = [{**row, 'num_seeds': row['num_seeds'] or None} for row in trends(networks, axis)]
    return columns, rows


def _measured() -> str:
    listed = [(of.title, of.unit, of.meaning) for of in (*SCALARS.values(), *OF_LAYERS.values())]
    return markdown(('Quantity', 'Unit', 'Meaning'), listed, 'lll')


def _how(networks: Sequence[Network], study: Mapping[str, Any]) -> Section:
    config, measure, provenance = study['config'], study['measure'], study['provenance']
    norm = NORMS[config['threat']['norm']]
    epsilons, widths, lams, seeds = (
        _listed(sorted({getattr(network.cell, key) for network in networks}))
        for key in ('epsilon', 'width', 'lam', 'seed')
    )
    return page.how_section([
        ('Data', provenance['data']),
        ('Networks', f'{network_name(config["model"], width="k")}, k = {widths}, '
                     f'{conditions.OBJECTIVES[config["objective"]["name"]]}, '
                     f'{config["optimizer"]["epochs"]} epochs'),
        ('ε of training', f'{epsilons} ({norm})'),
        ('λ', lams),
        ('Seeds', seeds),
        ('Measured on', f'{measure["num_train"]} training and {measure["num_test"]} test images; '
                        f'distances on {measure["num_distance"]} of these'),
        ('Perturbations', f'{norm} ε = {measure["epsilon"]:g} for all networks: PGD-'
                          f'{measure["attack_steps"]} on the cross-entropy, and '
                          f'{measure["directions"]} uniform draws from the ball per image'),
        ('Distances', f'L2, in the box; FAB towards every class, {measure["search_steps"]} steps '
                      'each, then bisection: upper bounds'),
        ('Same training loss', f'{networks[0].matched_loss:.4g}, the smallest that all come down '
                               'to; quantities interpolated in log loss between two probes'),
        *page.provenance_cells(provenance),
    ])  # fmt: skip


def _listed(values: Sequence[float]) -> str:
    return ', '.join(f'{value:g}' for value in values)
