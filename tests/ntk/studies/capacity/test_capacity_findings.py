"""Claims and page of a study of capacity. Oracle: the powers that were planted in its rows."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from configs import ntk_capacity
from ntk.studies.capacity.findings import (
    EXPERIMENT,
    answer,
    claims,
    powers_table,
    values_table,
)
from ntk.studies.capacity.pictures import _panel, samples
from ntk.studies.capacity.settings import Settings, SmallestNorm, SmallestWidth
from war_jax.lab.experiment import Results, path_of, write_report
from war_jax.lab.settings import read
from war_jax.lab.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED, read_verdicts
from war_jax.records.files import write_json

PROVENANCE = {
    'data': 'pairs', 'commit': 'abc', 'command': 'python -m ntk.main', 'python': '3.11',
    'versions': {'jax': '0'}, 'device': 'cpu', 'num_devices': 1,
}  # fmt: skip
STUDENT = 4.302653 / 3**0.5  # half an interval of three seeds with a standard deviation of 1


def study() -> Settings:
    config = ntk_capacity.get_config('smoke').unlock()
    config.update_from_flattened_dict({'grid.dimensions': (4, 8, 16), 'grid.num_pairs': (4, 8)})
    return read(Settings, config)


def row(cell: Any) -> dict[str, Any]:
    """m* = 100 n^2 d^-1 plainly and 100 n robustly, but for d^-0.02, d^0 and d^0.02 of the three
    seeds; the norm is (1 - rho)^-0.5, robustly d^0.3 times that."""
    n, d = cell.num_pairs, cell.dimension
    if isinstance(cell, SmallestWidth):
        width = 100 * (n if cell.radius else n**2 / d) * d ** (0.02 * (cell.seed - 1))
        return {'smallest_width': width, 'tried_widths': [width], 'standing': [1.0]}
    norm = (1.0 + cell.seed) * (1.0 - cell.radius) ** -0.5 * (d / 4) ** (0.3 * (cell.radius > 0))
    return {'norm_lower': norm, 'norm_upper': norm, 'rounds': 1}


def planted(**changes: Any) -> Results[Settings]:
    """changes: {name: smallest width, None where none was found}."""
    rows = {cell: row(cell) for cell in study().cells}
    for cell in study().widths:
        if cell.name in changes:
            rows[cell]['smallest_width'] = changes[cell.name]
    return Results(study(), PROVENANCE, {}, rows, [])


def by_name(results: Results[Settings]) -> dict[str, Any]:
    return {claim.name: claim for claim in claims(results)}


@pytest.mark.parametrize(
    ('name', 'effect', 'half', 'verdict'),
    [
        ('width_ratio-grows-with-dimension', 1.0, 0.0, SUPPORTED),
        ('width-grows-with-radius', 0.0, 0.0, UNDECIDED),  # n at n = d, plainly and robustly
        ('norm_ratio-grows-with-dimension', 0.3, 0.0, SUPPORTED),
        ('norm-grows-with-radius', 0.5, 0.0, SUPPORTED),
        ('width-num_pairs-rho0', 2.0, 0.0, CONTRADICTED),
        ('width-dimension-rho0', -1.0, 0.02 * STUDENT, SUPPORTED),
        ('width-num_pairs-rho0.5', 1.0, 0.0, SUPPORTED),
        ('width-dimension-rho0.5', 0.0, 0.02 * STUDENT, SUPPORTED),
        ('width_ratio-dimension-rho0.5', 1.0, 0.0, SUPPORTED),
    ],
)
def test_planted_powers(name: str, effect: float, half: float, verdict: str):
    found = by_name(planted())
    assert len(found) == 9
    assert (found[name].verdict, found[name].num_seeds) == (verdict, 3)
    assert found[name].effect == pytest.approx(effect, abs=1e-9)
    assert found[name].interval == pytest.approx((effect - half, effect + half), abs=1e-6)


def test_widths_of_a_few_units_have_no_power():
    """Plain m* of 4, 4 and 5 units; that of robust networks is wide enough."""
    thin = {f'n4-d{d}-rho0-seed{s}': 4 + (d == 16) for d in (4, 8, 16) for s in range(3)}
    found = by_name(planted(**thin))
    for name in ('width-dimension-rho0', 'width_ratio-dimension-rho0.5',
                 'width_ratio-grows-with-dimension'):  # fmt: skip
        assert found[name].verdict == UNDECIDED and '4.0 units' in found[name].rule
    assert found['width-dimension-rho0.5'].verdict == SUPPORTED


def test_a_width_that_was_not_found_decides_nothing():
    results = planted(**{'n4-d8-rho0.5-seed1': None})
    assert samples(results, 'width', 'dimension', radius=0.5) == {}
    found = by_name(results)
    assert found['width_ratio-grows-with-dimension'].verdict == UNDECIDED
    assert found['width_ratio-grows-with-dimension'].effect is None
    assert found['width-dimension-rho0'].verdict == SUPPORTED
    reason = 'Undecided: no width up to 64 interpolates n4-d8-rho0.5-seed1.'
    silent = {name for name, claim in found.items() if claim.effect is None}
    assert silent == {name for name, claim in found.items() if claim.rule == reason}
    assert len(silent) == 3  # of 9: those along d at the robust radius
    assert answer(results, list(found.values())).startswith('No width up to 64 interpolates n4-d8')


def test_a_width_that_was_not_found_is_drawn_as_one_beyond_the_search():
    results = planted(**{'n4-d8-rho0.5-seed1': None})
    figure = Figure()
    _panel(axes := figure.subplots(), results, 'width', 'dimension')
    beyond = [np.asarray(line.get_xydata()) for line in axes.lines if line.get_marker() == '^']
    np.testing.assert_array_equal(beyond, [[[8.0, 64.0]]])
    means = [line for line in axes.lines if line.get_label() == r'robust, $\rho$ = 0.5']
    drawn = [np.asarray(line.get_xdata()) for line in means]
    np.testing.assert_array_equal(drawn, [[4, 16]])  # of what all seeds have


def test_ratios_are_to_plain_interpolation_of_the_same_points():
    ratios = samples(planted(), 'width_ratio', 'dimension')
    assert list(ratios) == [4, 8, 16]
    assert list(ratios[8].values()) == pytest.approx([2.0, 2.0, 2.0])  # n over n^2 / d at n = 4


def test_tables_have_geometric_means_and_powers():
    _, values = values_table(planted())
    there = next(row for row in values if (row['n'], row['d'], row['radius']) == (4, 4, 0.5))
    assert there['norm'][0] == pytest.approx(6 ** (1 / 3) * 2**0.5)  # seeds: 1, 2, 3 times 2^0.5
    _, listed = powers_table(planted())
    found = {(row['quantity'], row['over'], row['radius']): row['power'] for row in listed}
    assert found['norm', 'd', 0.5] == pytest.approx((0.3, 0.3, 0.3))
    assert found['width', 'd', 0.0][0] == pytest.approx(-1.0)
    assert len(found) == 8


def test_the_page_of_what_is_there(tmp_path: Path):
    settings = asdict(study())
    grid = settings.pop('grid')
    write_json(
        tmp_path / 'study.json', {'config': settings, 'grid': grid, 'provenance': PROVENANCE}
    )
    results = planted(**{'n4-d8-rho0.5-seed1': None})
    missing = SmallestNorm(4, 16, 0.5, 2)
    for cell, made in results.rows.items():
        if cell != missing:
            write_json(path_of(tmp_path, cell), made)
    text = write_report(EXPERIMENT, tmp_path).read_text()
    assert '**Warning.** No width up to 64 interpolates n4-d8-rho0.5-seed1' in text
    assert '**Not finished.** 1 of its parts' in text and f'- kernels/{missing.name}' in text
    assert 'Undecided: no width up to 64 interpolates' in text
    for figure in ('widths', 'norms'):
        assert (tmp_path / 'figures' / f'{figure}.png').stat().st_size > 5000
    verdicts = {verdict.name: verdict for verdict in read_verdicts(tmp_path / 'verdicts.json')}
    assert verdicts['norm_ratio-grows-with-dimension'].seeds == 2  # the other one lacks d = 16
    assert verdicts['norm_ratio-grows-with-dimension'].verdict == UNDECIDED
