"""What a study of convergence finds: gaps to the best loss, exponents, its claims and its page.

    report = run(EXPERIMENT, settings, Path('runs/convergence'), command)  # war_jax.lab.experiment
    mean(results, 'softplus', 'gap', width=256, radius=8.0)                # Estimate over seeds

Gao et al. 2019: training near the start comes as close as one likes to the best robust loss there,
with any attack, if the network is wide and the training long enough. That it does not is therefore
said only of a loss that no longer falls: over the last half of the steps, by PLATEAU at most. That
it does needs no such thing, as the least loss so far can only fall further.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ntk.studies.convergence.bench import Bench
from ntk.studies.convergence.pictures import (
    MEASURED,
    NAMES,
    Found,
    draw,
    gaps_over_time,
    has_diverged,
    samples,
    titled,
)
from ntk.studies.convergence.settings import Cell, DesignName, Settings
from war_jax.lab import page
from war_jax.lab.estimates import Estimate, Samples, over_seeds, power
from war_jax.lab.experiment import Experiment
from war_jax.lab.page import Section
from war_jax.lab.tables import Column, estimated, write_table
from war_jax.lab.verdicts import CONTRADICTED, Claim, Range, claim, judge, near

TOLERANCE = 0.02  # of a loss, log 2 = 0.69 being that of no movement
PLATEAU = 0.005  # a quarter of it
REACHED = Range(float('-inf'), TOLERANCE)
FLAT = 0.1  # of an exponent
LINEARISATION = Range(-1.0, -0.4)  # powers of m


def mean(results: Found, design: DesignName, key: str, width: int, **where: Any) -> Estimate | None:
    """Over seeds, at one width; None before there is one, and if a training diverged."""
    found = samples(results, design, key, width=width, **where)
    return over_seeds(list(found.get(width, {}).values()))


def claims(results: Found) -> Iterator[Claim]:
    """In the order of the paper: convergence in the ball, without it, movement, linearisation."""
    settings = results.settings
    grid, base = settings.grid, settings.base
    for design in grid.designs:
        for radius in grid.radii:
            where = f'projected on B({radius:g})' if radius else 'without projection'
            yield _reaches_best(
                results, f'converges-{design}-R{radius:g}', f'{titled(design)}, {where}',
                f'the best robust loss in B({radius or grid.radii[-1]:g})',
                design, settings.widths(design)[-1], radius=radius,
            )  # fmt: skip
    for attack in grid.attacks:
        yield _reaches_best(
            results, f'attack-{attack}',
            f'{titled(base.design)}, B({base.radius:g}), attack A = {attack}',
            'the best robust loss', base.design, base.width, attack=attack,
        )  # fmt: skip
    for design in grid.designs if 0.0 in grid.radii else ():
        for key, predicted, text in (
            ('movement', 0.0, '‖U‖ does not depend on width'),
            ('row_movement', -0.5, 'the largest movement of a row goes as m^−0.5'),
        ):
            if design == 'deep' and key == 'row_movement':
                continue  # 1/sqrt(m) is in its units
            yield claim(
                f'{key}-{design}', f'{titled(design)}, without projection: {text}',
                power(samples(results, design, key, radius=0.0)), near(predicted, FLAT),
                'power of m', how=f'At the end of training; of theory, within {FLAT:g}.',
            )  # fmt: skip
    for design in grid.designs:
        for radius in grid.radii:
            where = f'in B({radius:g})' if radius else 'without projection'
            low, high = (f'−{-bound:g}' for bound in LINEARISATION)
            yield claim(
                f'linearisation-{design}-R{radius:g}',
                f'{titled(design)}, {where}: the linearisation error falls as a power of m between '
                f'{low} and {high}',
                power(samples(results, design, 'linearisation_error', radius=radius)),
                LINEARISATION, 'power of m', how='‖f − f_lin‖ / ‖f_lin‖ on adversarial points.',
            )  # fmt: skip


def _reaches_best(
    results: Found, name: str, of: str, best: str, design: DesignName, width: int, **where: Any
) -> Claim:
    """That the gap is at most TOLERANCE; that it is not is left undecided while the loss falls."""
    gap = mean(results, design, 'gap', width, **where)
    fall = mean(results, design, 'late_fall', width, **where)
    unless = ''
    if fall is not None and fall.value > PLATEAU and judge(gap, REACHED).word == CONTRADICTED:
        unless = f'the loss still falls, by {fall.value:.2g} in the last half of the steps.'
    return claim(
        name, f'{of}: min_t L_A is at most {TOLERANCE:g} above {best}', gap, REACHED, 'loss',
        how=f'm = {width}, {results.settings.training.num_steps} steps. Contradicted only by a '
        f'loss that no longer falls: by {PLATEAU:g} at most, in the mean over seeds, in the last '
        'half of the steps.',
        unless=unless,
    )  # fmt: skip


_ASKED = (
    'Does adversarial training near its start come to the best robust loss that there is in the '
    'ball, whatever the width and the attack? (Gao et al. 2019)'
)


def answer(found: Sequence[Claim]) -> str:
    """A paragraph: how many of which claims hold."""
    low, high = (f'm^−{-bound:g}' for bound in LINEARISATION)
    sentences = []
    for kind, text in (
        ('converges', f'that training comes within {TOLERANCE:g} of the best in the ball'),
        ('attack', 'that it does so with any attack'),
        ('movement', 'that movement does not depend on width'),
        ('linearisation', f'that the linearisation error falls as {low} to {high}'),
    ):
        some = [claim for claim in found if claim.name.split('-')[0] == kind]
        sentences.append(f'Of {len(some)} claims {text}: {page.verdict_counts(some)}.')
    return ' '.join(sentences)


def losses_table(results: Found) -> tuple[list[Column], list[dict[str, Any]]]:
    keys = ('least', 'best', 'gap', 'robust_loss', 'movement', 'linearisation_error')
    columns = [
        Column('design', 'Design', align='l'),
        Column('m', 'm'),
        Column('ball', 'R', align='l'),
        *(Column(key, MEASURED[key].title, estimated) for key in keys),
    ]
    rows = []
    for design in results.settings.grid.designs:
        width = results.settings.widths(design)[-1]
        for radius in results.settings.grid.radii:
            row: dict[str, Any] = {'design': NAMES[design], 'm': width}
            row['ball'] = f'{radius:g}' if radius else 'none'
            for key in keys:
                effect = mean(results, design, key, width, radius=radius)
                row[key] = effect and effect[:3]
            rows.append({**row, **({} if radius else {'best': None})})
    return columns, rows


def exponents_table(results: Found) -> tuple[list[Column], list[dict[str, Any]]]:
    columns = [
        Column('design', 'Design', align='l'),
        Column('quantity', 'Quantity', align='l'),
        Column('against', 'Against', align='l'),
        Column('where', 'Where', align='l'),
        Column('power', 'Power (95 % interval)', estimated),
    ]
    rows = []
    for design, key, against, where, found in _compared(results):
        effect = power(found)
        if effect is not None:
            rows.append({
                'design': NAMES[design], 'quantity': key, 'against': against, 'where': where,
                'power': effect[:3],
            })  # fmt: skip
    return columns, rows


def _compared(results: Found) -> Iterator[tuple[DesignName, str, str, str, Samples]]:
    """(design, quantity, x, where, its samples) of each exponent."""
    base, grid = results.settings.base, results.settings.grid
    balls = {radius: f'R = {radius:g}' if radius else 'no projection' for radius in grid.radii}
    swept = ('best', 'least', 'movement', 'linearisation_error')
    for design in grid.designs:
        for radius, where in balls.items():
            for key in ('least', 'movement', 'row_movement', 'linearisation_error'):
                yield design, key, 'm', where, samples(results, design, key, radius=radius)
        m = results.settings.widths(design)[-1]
        for key in swept:
            by_radius = samples(results, design, key, over='radius', width=m)
            projected = {radius: values for radius, values in by_radius.items() if radius}
            yield design, key, 'R', f'm = {m}', projected
        for radius, where in balls.items():
            gaps = gaps_over_time(results, design, radius)
            yield design, 'gap', 'steps', f'm = {m}, {where}', gaps
    for key in swept:
        by_cap = samples(results, base.design, key, over='epsilon', width=base.width)
        yield base.design, key, 'ε', f'm = {base.width}, R = {base.radius:g}', by_cap


def describe_base(settings: Settings) -> str:
    base = settings.base
    return f'{NAMES[base.design]}, m = {base.width}, R = {base.radius:g}, A = {base.attack}'


def how(results: Found) -> Section:
    settings = results.settings
    training, strong = settings.training, settings.strong
    return page.how_section([
        ('Data', results.provenance['data']),
        ('Seeds', ', '.join(map(str, settings.grid.seeds))),
        ('Base', f'{describe_base(settings)}, ε = {settings.base.epsilon:g}'),
        ('Quantities', '; '.join(f'{of.key}: {of.meaning}' for of in MEASURED.values())),
        ('Start', 'Two halves of equal weights, subtracted: f is 0'),
        ('Deep', f'{training.deep_layers} trained layers between fixed ones'),
        (
            'Training',
            f'{training.num_steps} steps of full-batch gradient descent on the logistic loss, '
            f'learning rate {training.learning_rate:g} (deep: {training.deep_learning_rate:g}) in '
            'units of U',
        ),
        (
            'L_*, and the linearised optimum’s cuts',
            f'PGD-{strong.num_steps} from x and {strong.restarts} random starts',
        ),
        (
            'Best in the ball',
            f'cutting planes, dual by L-BFGS-B; bounds within {strong.tolerance:g} or 12 rounds',
        ),
        ('Precision', 'float32; the convex problem in float64'),
        *page.provenance_cells(results.provenance),
    ])  # fmt: skip


def sections(results: Found, found: Sequence[Claim], workdir: Path) -> Iterable[Section]:
    tables = workdir / 'tables'
    yield Section('', list(_warnings(results)))
    yield page.opening(_ASKED, answer(found), found)
    yield page.claims_section(found, tables)
    yield from page.picture_sections(draw(results, workdir / 'figures'))
    yield Section('Losses at the widest network', [
        write_table(tables, 'losses', *losses_table(results)),
        'Mean over seeds and its 95 % interval. `best` is the certified lower bound of the best '
        'robust loss of the linearised network in the ball; at the start the loss is log 2.',
    ])  # fmt: skip
    yield Section('Exponents', [
        write_table(tables, 'exponents', *exponents_table(results)),
        'Against m in each ball; against R at the widest network; against ε at the base network '
        f'({describe_base(results.settings)}); against the number of steps at the widest, for min '
        'L_A − best as long as it exceeds the tolerance to which the best is known.',
    ])  # fmt: skip
    yield how(results)


def _warnings(results: Found) -> list[str]:
    trainings = [cell for cell in results.rows if isinstance(cell, Cell)]
    diverged = [cell.name for cell in trainings if has_diverged(results, cell)]
    if not diverged:
        return []
    return [
        f'> **Warning.** {", ".join(diverged)} diverged: nothing is fitted there. A lower '
        'training.learning_rate may help.'
    ]


EXPERIMENT = Experiment(
    'ntk.studies.convergence.findings', Settings, lambda settings: settings.cells, Bench, claims,
    lambda results: 'Convergence of adversarial training near its start (Gao et al. 2019)',
    sections, folders={'cells': 'trainings', 'optima': 'best in the ball'},
)  # fmt: skip
