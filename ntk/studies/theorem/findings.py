"""What a study of the theorem finds: powers of m, L and omega, its claims and its page.

    report = run(EXPERIMENT, settings, Path('runs/theorem'), command)     # war_jax.lab.experiment

The theorem bounds the loss's input gradient over a ball of weights by a constant times sqrt(m L).
A constant cannot be contradicted by one network; powers can: a supremum that grows faster than
m^(1/2) or L^(1/2) leaves every such bound, and one that grows as these attains it. What is found is
a lower bound of each supremum, so that growth too fast is found more surely than growth too slow.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ntk.studies.theorem.bench import ASKED, Bench
from ntk.studies.theorem.pictures import (
    LAW_TEXT,
    Found,
    added,
    added_by_first,
    at_start,
    draw,
    first_looseness,
    looseness,
    movement,
    of_ball,
    of_side,
    of_start,
    trained,
)
from ntk.studies.theorem.settings import LAWS, Settings
from war_jax.lab import page
from war_jax.lab.estimates import (
    BySeed,
    Estimate,
    Samples,
    change,
    over_seeds,
    paired,
    power,
    powers,
)
from war_jax.lab.experiment import Experiment
from war_jax.lab.page import Section
from war_jax.lab.quantities import NORM, RATE, RATIO, Quantity, centre
from war_jax.lab.tables import Column, estimated, factor_mean, rate_mean, write_table
from war_jax.lab.verdicts import ABOVE, BELOW, Claim, Range, claim, near

TOLERANCE = 0.1  # of a power
BOUND = Range(float('-inf'), 0.5 + TOLERANCE)
_FACTOR = Quantity('factor', '', RATIO, True, '')
_LENGTH = Quantity('length', '', NORM, True, '')
_RATE = Quantity('rate', '', RATE, False, '')


def claims(results: Found) -> Iterator[Claim]:
    """The bound, whether it is attained, what makes it loose, and what training does."""
    settings = results.settings
    base = settings.base
    at = f'L = {base.depth}, ω₀ = {base.omega:g}'
    yield claim(
        'start-with-width', 'At the start ‖∇ₓ f_c‖ does not depend on width',
        power(at_start(results, of_start('mean_outputs'))), near(0.0, TOLERANCE), 'power of m',
        how=f'Mean over x and c, L = {base.depth}; within {TOLERANCE:g}.',
    )  # fmt: skip
    for law in LAWS:
        of_loss = of_ball('loss', law)
        where = f'sup ‖∇ₓ loss‖ in the ball {LAW_TEXT[law]}'
        found = at_start(results, of_loss)
        how = f'Frobenius, {at}, within {TOLERANCE:g}.'
        yield claim(
            f'bound-width-{law}', f'{where} grows no faster than √m', power(found), BOUND,
            'power of m', how=how,
        )  # fmt: skip
        yield claim(
            f'attained-width-{law}', f'{where} grows as √m', power(found), near(0.5, TOLERANCE),
            'power of m', how=how,
        )  # fmt: skip
        yield claim(
            f'bound-depth-{law}', f'{where} grows no faster than √L',
            power(at_start(results, of_loss, 'depth')), BOUND, 'power of L',
            how=f'Frobenius, m = {base.width}, ω₀ = {base.omega:g}, within {TOLERANCE:g}.',
        )  # fmt: skip
        spectral = at_start(results, of_ball('loss', law, 'spectral'))
        yield claim(
            f'norms-{law}', f'{where}: the spectral norm gives the power of m of the Frobenius one',
            paired(powers(spectral), powers(found)), near(0.0, TOLERANCE), 'difference of powers',
            how=f'{at}; within {TOLERANCE:g}.',
        )  # fmt: skip
    for depth in settings.grid.depths:
        yield claim(
            f'added-width-L{depth}', f'L = {depth}: what moving the weights by ω₀ adds to '
            'sup ‖∇ₓ f_c‖ grows as √m, as for W₁ alone',
            power(at_start(results, added('constant'), depth=depth)), near(0.5, TOLERANCE),
            'power of m', how=f'Against the smallest ball; ω₀ = {base.omega:g}.',
        )  # fmt: skip
    yield claim(
        'added-omega', 'What moving the weights adds is proportional to ω₀',
        power(by_omega(results)), near(1.0, TOLERANCE), 'power of ω₀',
        how=f'Against the smallest ball, L = {base.depth}, m = {base.width}.',
    )  # fmt: skip
    yield claim(
        'first-layer-share', 'Moving W₁ alone adds at least half of what moving all layers adds',
        over_seeds(list(_ratio(
            at_start(results, added_by_first).get(base.width, {}),
            at_start(results, added('constant')).get(base.width, {}),
        ).values())), Range(0.5, float('inf')), 'ratio',
        how=f'{at}, m = {base.width}; W₁ alone: ω√m‖b‖, gates as they are, largest over x and c.',
    )  # fmt: skip
    for name in settings.grid.parametrizations:
        yield claim(
            f'width-{name}', f'Parametrization {name}: sup ‖∇ₓ f_c‖ in the ball ω = ω₀ does not '
            'grow with width',
            power(at_start(results, of_ball('outputs', 'constant'), name=name)),
            Range(float('-inf'), TOLERANCE), 'power of m', how=f'{at}; within {TOLERANCE:g}.',
        )  # fmt: skip
    first, whole = (powers(at_start(results, value)) for value in (first_looseness, looseness))
    yield claim(
        'looseness-with-width', 'The product of spectral norms over the gradient grows with width',
        over_seeds(list(whole.values())), ABOVE, 'power of m', how=f'At the start, {at}.',
    )  # fmt: skip
    yield claim(
        'looseness-of-first', 'Most of that growth is the alignment of W₁',
        over_seeds(list(_ratio(first, whole).values())), Range(0.5, float('inf')),
        'share of the power', how='1 / (‖W₁ᵀb‖ / ‖W₁‖‖b‖), of the same networks.',
    )  # fmt: skip
    for objective in settings.grid.objectives:
        after = f'After {objective} training'

        def of(key: str, objective: Any = objective) -> Samples:
            return trained(results, objective, of_side('test', key))

        how = f'Test images, L = {base.depth}.'
        for name, statement, effect, range_, unit in (
            ('gradient', 'the largest ‖∇ₓ f_c‖ grows with width', power(of('max_outputs')), ABOVE,
             'power of m'),
            ('over-margin', 'Lipschitzness ÷ margin grows with width',
             power(of('lipschitz_over_margin')), ABOVE, 'power of m'),
            ('stability', 'perturbation stability falls with width',
             change(of('perturbation_stability'), 100.0), BELOW, 'points per doubling'),
            ('movement', 'each layer has moved by a multiple of m^−½ (Frobenius)',
             power(trained(results, objective, movement)), near(-0.5, TOLERANCE), 'power of m'),
            ('alignment', 'W₁ is better aligned than at the start', aligned_more(
                trained(results, objective, lambda s, row: row['alignments'][-1]),
                trained(results, objective, lambda s, row: row['alignments'][0]), base.width,
            ), ABOVE, 'difference'),
        ):  # fmt: skip
            yield claim(f'{name}-{objective}', f'{after}, {statement}', effect, range_, unit, how)
        stable = trained(results, objective, of_side('test', 'perturbation_stability'), 'depth')
        yield claim(
            f'depth-{objective}', f'{after}, perturbation stability falls with depth',
            change(stable, 100.0), BELOW, 'points per doubling',
            how=f'Test images, m = {base.width}; inner weights N(0, 2/m), He’s.',
        )  # fmt: skip


def by_omega(results: Found) -> Samples:
    """omega_0 -> seed -> what moving by it adds, at the base."""
    found = {
        omega: at_start(results, added('constant', omega)).get(results.settings.base.width, {})
        for omega in results.settings.balls.omegas
    }
    return {omega: by_seed for omega, by_seed in found.items() if by_seed}


def aligned_more(after: Samples, before: Samples, width: int) -> Estimate | None:
    return paired(after.get(width, {}), before.get(width, {}))


def _ratio(ours: BySeed, theirs: BySeed) -> BySeed:
    return {seed: ours[seed] / theirs[seed] for seed in sorted(ours.keys() & theirs.keys())}


_ASKED = (
    'Do input gradients near the start keep the bound √(mL) of the theorem, do they attain it, and '
    'what makes it loose? (Wu et al. 2021)'
)


def answer(found: Sequence[Claim]) -> str:
    """A paragraph: is the bound kept, is it attained, and what makes it loose."""
    by_name = {claim.name: claim for claim in found}
    sentences = []
    for law in LAWS:
        kept, attained = (by_name[f'{kind}-width-{law}'] for kind in ('bound', 'attained'))
        if kept.effect is not None:
            sentences.append(
                f'In balls {LAW_TEXT[law]}, sup ‖∇ₓ loss‖ goes as m^{kept.effect:.2f}: that it '
                f'keeps √m is {kept.verdict}, that it attains √m {attained.verdict}; that it keeps '
                f'√L is {by_name[f"bound-depth-{law}"].verdict}.'
            )
    return ' '.join(sentences).replace('^-', '^−') or 'Not enough is finished to say.'


def powers_table(results: Found, over: str) -> tuple[list[Column], list[dict[str, Any]]]:
    """Powers of 'width' at each depth, or of 'depth' at each width, of all suprema."""
    grid, letter = results.settings.grid, {'width': 'm', 'depth': 'L'}[over]
    other = {'width': 'depth', 'depth': 'width'}[over]
    columns = [
        Column('at', f'At {"L" if over == "width" else "m"}'),
        Column('law', 'Ball', align='l'),
        Column('omega', 'ω₀', '{:g}'.format),
        *(Column(name, f'{name.replace("-", ", ")}: power of {letter}', estimated)
          for name, _, _ in ASKED),
    ]  # fmt: skip
    rows = []
    for place in grid.depths if over == 'width' else grid.widths:
        for law in LAWS:
            for omega in results.settings.balls.omegas:
                row: dict[str, Any] = {'at': place, 'law': LAW_TEXT[law], 'omega': omega}
                for name, _, _ in ASKED:
                    kind, norm = name.split('-')
                    value = of_ball(kind, law, norm, omega)
                    where: Any = {other: place}
                    effect = power(at_start(results, value, over, **where))
                    row[name] = effect and effect[:3]
                rows.append(row)
    return columns, rows


def starts_table(results: Found) -> tuple[list[Column], list[dict[str, Any]]]:
    """At the start, geometric means over seeds."""
    shown = {
        'mean_outputs': 'mean ‖∇ₓ f_c‖', 'q95_outputs': '95 % quantile', 'max_outputs': 'maximum',
        'mean_loss': 'mean ‖∇ₓ loss‖', 'q95_loss': '95 % quantile (loss)',
        'max_loss': 'maximum (loss)', 'product': 'product of norms',
    }  # fmt: skip
    values = {**{key: of_start(key) for key in shown}, 'first': first_looseness}
    shown['first'] = '1 / alignment of W₁'
    columns = [
        Column('depth', 'L'),
        Column('width', 'm'),
        *(Column(key, title, factor_mean) for key, title in shown.items()),
    ]
    rows = []
    for depth in results.settings.grid.depths:
        for width in results.settings.grid.widths:
            row: dict[str, Any] = {'depth': depth, 'width': width}
            for key, value in values.items():
                there = at_start(results, value, depth=depth).get(width, {})
                row[key] = centre(there.values(), _LENGTH)
            rows.append(row)
    return columns, rows


def trained_table(results: Found) -> tuple[list[Column], list[dict[str, Any]]]:
    shown = {
        'loss': ('loss at the end', lambda s, row: row['losses'][-1], _LENGTH),
        'natural': ('natural, train', of_side('train', 'natural_accuracy'), _RATE),
        'robust': ('robust, train', of_side('train', 'robust_accuracy'), _RATE),
        'accuracy': ('natural, test', of_side('test', 'natural_accuracy'), _RATE),
        'stability': ('stability, test', of_side('test', 'perturbation_stability'), _RATE),
        'gradient': ('max ‖∇ₓ f_c‖, test', of_side('test', 'max_outputs'), _LENGTH),
        'lipschitz': ('Lipschitzness, test', of_side('test', 'lipschitz'), _LENGTH),
        'ratio': ('÷ margin, test', of_side('test', 'lipschitz_over_margin'), _LENGTH),
        'movement': ('movement', movement, _LENGTH),
        'alignment': ('alignment of W₁', lambda s, row: row['alignments'][-1], _FACTOR),
    }
    columns = [
        Column('objective', 'Training', align='l'),
        Column('depth', 'L'),
        Column('width', 'm'),
        *(Column(key, title, rate_mean if of.is_rate else factor_mean)
          for key, (title, _, of) in shown.items()),
    ]  # fmt: skip
    rows = []
    grid = results.settings.grid
    for objective in grid.objectives:
        for depth in grid.depths:
            for width in grid.widths:
                row: dict[str, Any] = {'objective': objective, 'depth': depth, 'width': width}
                for key, (_, value, of) in shown.items():
                    there = trained(results, objective, value, depth=depth).get(width, {})
                    row[key] = centre(there.values(), of)
                rows.append(row)
    return columns, rows


def how(results: Found) -> Section:
    settings = results.settings
    balls, ascent, training = settings.balls, settings.ascent, settings.training
    return page.how_section([
        ('Data', results.provenance['data']),
        ('Images', f'{settings.data.num_train} to train on, {settings.data.num_test} test images'),
        ('Seeds', ', '.join(map(str, settings.grid.seeds))),
        ('Network', 'L matrices, ReLU, no biases; inner weights N(0, 2/m), W_L ~ N(0, 1/m), the '
                    'outputs times √m'),
        ('Suprema', f'lower bounds: {ascent.num_steps} conditional steps in all layers and in the '
                    f'input (L2, {balls.epsilon:g}) from the {ascent.restarts} largest gradients '
                    'on test images; of nested balls the largest so far'),
        ('Training', f'{training.num_steps} steps of full-batch gradient descent on the '
                     f'cross-entropy, learning rate {training.learning_rate:g} / (m L), momentum '
                     f'{training.momentum:g}; adversarial: at points of {training.attack_steps} '
                     'steps of ascent'),
        ('Stability', f'{training.measure_steps} steps of ascent on the cross-entropy, L2 '
                      f'{balls.epsilon:g}, in [0, 1]'),
        ('Left out', 'the depth of WideResNets'),
        *page.provenance_cells(results.provenance),
    ])  # fmt: skip


def sections(results: Found, found: Sequence[Claim], workdir: Path) -> Iterable[Section]:
    tables = workdir / 'tables'
    yield page.opening(_ASKED, answer(found), found)
    yield page.claims_section(found, tables)
    yield from page.picture_sections(draw(results, workdir / 'figures'))
    for over, letter in (('width', 'm'), ('depth', 'L')):
        yield Section(f'Powers of {letter}', [
            write_table(tables, f'powers_of_{over}', *powers_table(results, over)),
        ])  # fmt: skip
    yield Section('At the start', [write_table(tables, 'starts', *starts_table(results))])
    yield Section('After training', [write_table(tables, 'trained', *trained_table(results))])
    yield how(results)


EXPERIMENT = Experiment(
    'ntk.studies.theorem.findings', Settings, lambda settings: settings.cells, Bench, claims,
    lambda results: 'Input gradients near the start (Wu et al. 2021)', sections,
    folders={'suprema': 'suprema', 'trainings': 'trainings'},
)  # fmt: skip
