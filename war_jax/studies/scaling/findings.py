"""The page of a study of size and compute: does it help, by which law, and where that ends.

    report = run(EXPERIMENT, settings, Path('runs/scaling'), command)    # war_jax.lab.experiment
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from war_jax.config import to_dict
from war_jax.lab import page
from war_jax.lab.experiment import Experiment
from war_jax.lab.page import Section
from war_jax.lab.quantities import RATES, centre, quantity
from war_jax.lab.tables import Column, duration, estimated, factor_mean, rate_mean, write_table
from war_jax.lab.verdicts import Claim
from war_jax.report import conditions
from war_jax.report.conditions import OBJECTIVES
from war_jax.studies.scaling import pictures
from war_jax.studies.scaling.bench import Bench
from war_jax.studies.scaling.claims import claims
from war_jax.studies.scaling.law import Point, can_fit, estimates, fit
from war_jax.studies.scaling.results import (
    SIZES,
    START,
    Found,
    compute,
    law_points,
    name_of,
    of_the_network,
    sizes,
    switchings,
)
from war_jax.studies.scaling.settings import AXES, Settings, cells, described

_SMALL_GAIN = 0.01  # of a doubling, beyond which a size is called saturated
Table = tuple[list[Column], list[dict[str, Any]]]


def asked(results: Found) -> str:
    varied = ', '.join(AXES[axis].title for axis in results.settings.varied)
    key = quantity(results.settings.measure.rank_by).title.lower()
    law = ', by which law, and where does that end' if sizes(results) else ''
    return f'How does {key} change with {varied}{law}?'


def answer(found: Sequence[Claim]) -> str:
    """Each claim that has a number, in a sentence."""
    said = [
        f'{claim.statement}: {estimated((claim.effect, *claim.interval))} {claim.unit} '
        f'({claim.verdict})'
        for claim in found if claim.effect is not None and claim.interval is not None
    ]  # fmt: skip
    return f'{". ".join(said)}.' if said else 'Not enough is finished to say.'


def accuracy_table(results: Found) -> Table:
    """Means over seeds of each combination of the axes, with operations of a training."""
    varied = [axis for axis in AXES if axis in results.settings.varied]
    rate = {
        key: quantity(key).title
        for key in (*RATES, 'robust_accuracy_all', 'autoattack_accuracy')
    }
    if not results.settings.measure.autoattack_examples:
        del rate['autoattack_accuracy']
    ratios = {'local_lipschitz': 'Local Lipschitzness'}
    if of_the_network(results):
        ratios[START] = 'At the start'
    columns = [
        *(Column(axis, AXES[axis].letter, described) for axis in varied),
        Column('parameters', 'Parameters', '{:,}'.format),
        Column('compute', 'Operations', '{:.2g}'.format),
        *(Column(key, title, rate_mean) for key, title in rate.items()),
        Column('robust_overfitting', 'Best − last', rate_mean),
        *(Column(key, title, factor_mean) for key, title in ratios.items()),
    ]
    by_point: dict[Any, list[dict[str, Any]]] = {}
    for cell, row in results.rows.items():
        by_point.setdefault(cell.point, []).append(row)
    rows = []
    for point, some in by_point.items():
        means = {
            key: centre([row[key] for row in some if key in row], quantity(key))
            for key in (*rate, 'robust_overfitting', *ratios)
        }
        of = {'parameters': some[0]['parameters'], 'compute': compute(some[0])}
        rows.append({**dict(point), **of, **means})
    return columns, rows


def law_table(results: Found) -> Table:
    """The numbers of the law of each combination of the switches, where it can be fitted."""
    columns = [
        Column('where', 'Runs', align='l'),
        Column('number', 'Number', align='l'),
        Column('value', 'Estimate (95 % interval)', estimated),
    ]
    rows = []
    names = [SIZES[size] for size in sizes(results)]
    listed = ['error that is left when all sizes have grown without end, points']
    listed += [f'power of the {name}' for name in names]
    listed += [f'next doubling of the {name}, points gained' for name in names]
    for switching in switchings(results):
        points = law_points(results, switching)
        if not can_fit(points):
            continue
        for number, value in zip(listed, estimates(points, _numbers), strict=True):
            # At the edge of what the law may be, all fits agree: that is no certainty.
            at_edge = value is not None and value.low == value.high
            interval = (-math.inf, math.inf) if at_edge else value and value.interval
            shown = value and interval and (value.value, *interval)
            rows.append({'where': name_of(results, switching), 'number': number, 'value': shown})
    return columns, rows


def _numbers(points: Sequence[Point]) -> list[float]:
    """In the order of `law_table`; doublings are of the largest sizes measured."""
    law = fit(points)
    top = [max(point.x[i] for point in points) for i in range(len(law.exponents))]
    gains = [
        term * (1.0 - 2.0**-exponent)
        for term, exponent in zip(law.terms(top), law.exponents, strict=True)
    ]
    return [100.0 * law.floor, *law.exponents, *(100.0 * gain for gain in gains)]


def saturation(results: Found) -> str:
    """From which size on a doubling gains less than a point, in words."""
    said = []
    for switching in switchings(results):
        points = law_points(results, switching)
        columns = sizes(results)
        if not can_fit(points):
            continue
        law, where = fit(points), name_of(results, switching)
        for which, size in enumerate(columns):
            end, top = law.ends_at(which, _SMALL_GAIN), max(point.x[which] for point in points)
            at = f'{end:.2g} {SIZES[size]}'
            if end <= min(point.x[which] for point in points):
                text = f'even the smallest number of {SIZES[size]} gains less by a doubling'
            elif end <= top:
                text = f'a doubling of the {SIZES[size]} gains less than a point already at {at}'
            elif end <= 100 * top:
                text = f'a doubling of the {SIZES[size]} gains a point up to about {at}'
            else:
                text = (
                    f'a doubling of the {SIZES[size]} still gains a point a hundred times beyond '
                    'what was measured, where the law says nothing'
                )
            said.append(text if where == 'everywhere' else f'{text} ({where})')
    return f'By the law, {"; ".join(said)}.' if said else ''


def sections(results: Found, found: Sequence[Claim], workdir: Path) -> Iterator[Section]:
    tables = workdir / 'tables'
    yield page.opening(asked(results), answer(found), found)
    yield page.claims_section(found, tables)
    yield from page.picture_sections(pictures.draw(results, workdir / 'figures'))
    columns, rows = law_table(results)
    text = write_table(tables, 'law', columns, rows)
    if rows:
        note = (
            'Error = floor + a power of each size, fitted by least squares to the means over '
            'seeds; intervals by leaving one seed out at a time. Exponents and floor trade against '
            'each other: an interval beyond what can be (below 0 or above 100 points) says that '
            'these sizes do not tell. Without an interval, a number is at the edge of what the law '
            'may be.'
        )
        yield Section('The law', [text, note, saturation(results)])
    blocks = [write_table(tables, 'accuracy', *accuracy_table(results))]
    measured = sum(START in row for row in results.rows.values())
    if 0 < measured < len(results.rows):
        blocks.append(
            f'Local Lipschitzness at the start is there for {measured} of {len(results.rows)} '
            'networks: the others are of an earlier version of this program.'
        )
    yield Section('All networks', blocks)
    yield _how(results)


def _how(results: Found) -> Section:
    settings, config = results.settings, to_dict(results.settings.base)
    seconds = sum(row['device_seconds'] for row in results.rows.values())
    axes = '; '.join(
        f'{AXES[axis].title}: {", ".join(map(described, getattr(settings.grid, axis)))}'
        for axis in settings.varied
    )
    return page.how_section([
        ('Data', results.provenance['data']),
        ('Axes', axes),
        ('Seeds', ', '.join(map(str, settings.grid.seeds))),
        ('Training', conditions.training(config, 'what the axes say')),
        ('Optimizer', conditions.optimizer(config)),
        ('Attack of validation and headline',
         conditions.headline_attack(config['evaluation'], config['threat'])),
        ('Checkpoint', 'the best robust accuracy on validation images; test images are measured '
         'once, with it, and robust accuracy once more with the last network'),
        ('Operations of a training', 'of a forward pass, as XLA counts them unoptimised, times '
         'images × epochs × passes, reckoned: one for TRADES’ clean images, two for each attack '
         'step, three for each of the two passes of the update, six for weight perturbation; extra '
         'images count'),
        ('Intervals', '95 %, Student’s t over seeds; those of the law by the jackknife over seeds'),
        ('Device time', f'{duration(seconds)} in {len(results.rows)} runs'),
        *page.provenance_cells(results.provenance),
    ])  # fmt: skip


def title(results: Found) -> str:
    varied = ', '.join(AXES[axis].title for axis in results.settings.varied)
    objective = OBJECTIVES[results.settings.base.objective.name]
    return f'{objective} training against {varied}'


EXPERIMENT: Experiment[Settings] = Experiment(
    name='war_jax.studies.scaling.findings',
    settings=Settings,
    cells=cells,
    bench=Bench,
    claims=claims,
    title=title,
    sections=sections,
    folders={'cells': 'networks'},
)
