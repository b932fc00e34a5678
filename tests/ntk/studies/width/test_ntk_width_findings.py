"""Exponents, claims and the page. Oracles: planted power laws, and SciPy's t test."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from configs import ntk_width
from ntk.studies.width.claims import claims, exponent
from ntk.studies.width.findings import EXPERIMENT
from ntk.studies.width.pictures import Found, draw
from ntk.studies.width.settings import Cell, Limit, Settings
from war_jax.lab import plots
from war_jax.lab.experiment import Results, read_results, read_rows, rows_text, write_report
from war_jax.lab.settings import read
from war_jax.lab.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED
from war_jax.records.files import write_json

WIDTHS = (8.0, 16.0, 32.0)
PROVENANCE = {
    'data': 'planted', 'commit': 'none', 'num_devices': 1, 'device': 'cpu', 'command': 'test',
    'python': '3', 'versions': {},
}  # fmt: skip
SHAPE = {'image': [8, 8, 1], 'num_outputs': 10}


def planted(
    powers: dict[str, float],
    noise: float = 0.01,
    seeds: int = 4,
    phases: tuple[str, ...] | None = None,
) -> Found:
    """A finished study, in which quantities of parametrization p go as m^powers[p]."""
    config = ntk_width.get_config('smoke').unlock()
    config.grid.widths, config.grid.seeds = WIDTHS, tuple(range(seeds))
    config.grid.parametrizations = tuple(powers)
    config.grid.phases = config.grid.phases if phases is None else phases
    settings = read(Settings, config)
    rng = np.random.default_rng(0)
    rows: dict[Any, Any] = {}
    for cell in settings.cells:
        power = cell.width ** powers[cell.parametrization]
        if isinstance(cell, Limit):
            rows[cell] = {'initial': power / 1.02, 'trained': 1e3}
            continue
        rows[cell] = []
        for phase in settings.labels:
            value = power * math.exp(noise * rng.normal())
            of_network = ('spectral_product', 'kernel_error', 'kernel_drift', 'movement')
            row = {
                'parametrization': cell.parametrization, 'width': cell.width,
                'features': int(cell.width), 'seed': cell.seed, 'phase': phase, 'lambda': 0.0,
                'linearisation_error': value, **dict.fromkeys(of_network, value),
                'natural_risk_test': 1.0, 'natural_risk_train': 1.0,
            }  # fmt: skip
            for side in ('train', 'test'):
                for key in ('gradient_rms', 'local_lipschitz', 'local_lipschitz_kl_gradient'):
                    row[f'{key}_{side}'] = value
                # Outputs that are larger by a factor: the margin is, too.
                row |= {f'margin_{side}': power, f'lipschitz_by_margin_{side}': value / power}
                # 3 points less with each doubling.
                row[f'perturbation_stability_{side}'] = 0.9 - 0.03 * math.log2(cell.width)
            rows[cell].append(row)
    return Results(settings, PROVENANCE, {'shape': SHAPE}, rows, [])


def written(results: Found, workdir: Path) -> Path:
    """The workdir of a study that has come so far."""
    config = asdict(results.settings)
    grid = config.pop('grid')
    study = {'config': config, 'grid': grid, 'provenance': PROVENANCE, 'about': results.about}
    write_json(workdir / 'study.json', study)
    for cell, rows in results.rows.items():
        write_json(workdir / cell.folder / f'{cell.name}.json', rows)
    return workdir


def test_exponents_are_those_planted():
    results = planted({'ntk': 0.25, 'mup': -0.5})
    for name, power in (('ntk', 0.25), ('mup', -0.5)):
        found = exponent(results, 'gradient_rms_test', 'natural', name)
        assert found is not None and found.num_seeds == 4
        assert found.value == pytest.approx(power, abs=0.01)
        assert found.low < power < found.high and found.high - found.low < 0.05
    falls = exponent(results, 'perturbation_stability_test', 'trades-lam3', 'ntk')
    assert falls is not None and falls.value == pytest.approx(-3.0)  # points per doubling


def test_verdicts():
    results = planted({'ntk': 0.0, 'mup': 0.4, 'sqrt_m_unit': 0.5})
    found = {claim.name: claim.verdict for claim in claims(results)}
    assert found['gradient_rms_test-initialisation-ntk'] == SUPPORTED
    assert found['gradient_rms_test-initialisation-mup'] == CONTRADICTED  # theory: -0.5
    assert found['gradient_rms_test-initialisation-sqrt_m_unit'] == SUPPORTED
    assert found['kernel_error-initialisation-ntk'] == CONTRADICTED
    assert found['local_lipschitz_test-trades-lam3-mup'] == SUPPORTED
    assert found['local_lipschitz_test-trades-lam3-ntk'] == UNDECIDED
    assert found['perturbation_stability_test-trades-lam3-ntk'] == SUPPORTED
    # 2 % from the limit at the start, far from it after training.
    assert found['limit-initialisation-ntk'] == SUPPORTED
    assert found['limit-natural_lazy-ntk'] == CONTRADICTED
    # Theory has no power for what practice does.
    assert not any(n.startswith('kernel_drift') and n.endswith('sqrt_m_unit') for n in found)


def test_what_width_does_once_networks_fit_alike():
    """At one learning rate m^0.5; at equal risk m^0.2, at equal kernel time m^0.5 again."""
    phases = ('trades', 'trades_timed', 'trades_matched')
    results = planted({'standard': 0.5}, phases=phases)
    for cell, rows in results.rows.items():
        if isinstance(cell, Cell):
            rows[3]['local_lipschitz_test'] *= cell.width**-0.3
    found = {claim.name: claim for claim in claims(results)}
    matched = 'trades_matched-lam3'
    less = found[f'local_lipschitz_test-{matched}-less-than-at-one-rate-standard']
    assert less.verdict == SUPPORTED and less.effect == pytest.approx(-0.3, abs=0.02)
    assert found[f'local_lipschitz_test-{matched}-standard'].effect == pytest.approx(0.2, abs=0.02)
    timed = found['local_lipschitz_test-trades_timed-lam3-less-than-at-one-rate-standard']
    assert timed.verdict == UNDECIDED
    # What is divided by the margin does not grow.
    assert found['lipschitz_by_margin_test-trades-lam3-standard'].verdict == UNDECIDED
    assert not any('gradient_rms' in name and 'timed' in name for name in found)
    # A risk that one network did not reach leaves nothing to compare.
    rows = results.rows[Cell('standard', 8.0, 1)]
    rows[3] = {key: None for key in rows[3]} | {'phase': matched, 'features': 8, 'seed': 1}
    found = {claim.name: claim for claim in claims(results)}
    assert found[less.name].effect is None and found[timed.name].effect == timed.effect


def test_infinite_width_predicts_a_mean_square():
    results = planted({'ntk': 0.0}, noise=0.05)
    values = [results.rows[Cell('ntk', 32.0, seed)][0]['gradient_rms_test'] for seed in range(4)]
    squares = np.square(np.array(values) * 1.02)
    (met,) = (claim for claim in claims(results) if claim.name == 'limit-initialisation-ntk')
    assert met.effect == pytest.approx(100 * (np.sqrt(squares.mean()) - 1))
    below, above = (stats.ttest_1samp(squares, bound**2) for bound in (0.95, 1.05))
    ends = np.sqrt(below.confidence_interval(0.95))
    assert met.interval == pytest.approx(100 * (ends - 1))
    expected = max(float(test.pvalue) for test in (below, above))  # pyright: ignore[reportAttributeAccessIssue]
    assert met.p_value == pytest.approx(expected)


@pytest.mark.parametrize('seeds', [1, 2])
def test_one_or_two_seeds_decide_nothing(seeds: int):
    results = planted({'mup': 0.4}, seeds=seeds)
    found = exponent(results, 'gradient_rms_test', 'natural', 'mup')
    assert found is not None and math.isfinite(found.high) == (seeds == 2)
    assert {claim.verdict for claim in claims(results)} == {UNDECIDED}


def test_a_network_that_diverged_leaves_nothing_to_fit():
    results = planted({'ntk': 0.25})
    row = results.rows[Cell('ntk', 32.0, 0)][1]
    assert row['phase'] == 'natural'
    row.update(gradient_rms_test=None, natural_risk_test=None)
    assert exponent(results, 'gradient_rms_test', 'natural', 'ntk') is None
    assert exponent(results, 'gradient_rms_test', 'initialisation', 'ntk') is not None
    found = {claim.name: claim for claim in claims(results)}
    assert found['gradient_rms_test-natural-ntk'].effect is None
    assert found['limit-initialisation-ntk'].effect is not None
    results.rows[Cell('ntk', 32.0, 0)][0]['gradient_rms_test'] = None
    found = {claim.name: claim for claim in claims(results)}
    assert found['limit-initialisation-ntk'].effect is None


def test_a_study_of_the_start_alone():
    """Out of rows.csv, too, where its networks have a single row each."""
    results = planted({'ntk': -0.5}, phases=())
    verdicts = {claim.name: claim.verdict for claim in claims(results)}
    assert verdicts.keys() == {
        'gradient_rms_test-initialisation-ntk', 'spectral_product-initialisation-ntk',
        'kernel_error-initialisation-ntk', 'limit-initialisation-ntk',
    }  # fmt: skip
    assert verdicts['kernel_error-initialisation-ntk'] == SUPPORTED
    assert verdicts['gradient_rms_test-initialisation-ntk'] == CONTRADICTED


def test_rows_csv_is_as_good_as_the_cells(tmp_path: Path):
    for phases in ((), ('natural',)):
        results = planted({'ntk': -0.5}, phases=phases)
        path = tmp_path / 'rows.csv'
        path.write_text(rows_text(results.rows))
        kept = read_rows(path)
        rows = {cell: kept[cell.folder, cell.name] for cell in results.rows}
        assert list(claims(replace(results, rows=rows))) == list(claims(results))


def test_the_page_has_every_table_and_figure(tmp_path: Path):
    results = planted({'ntk': 0.25, 'mup': -0.5}, phases=('natural', 'trades'))
    results.rows[Cell('ntk', 8.0, 0)][1]['natural_risk_test'] = None
    written(results, tmp_path)
    (tmp_path / 'cells' / 'mup-m8-seed3.json').unlink()
    text = write_report(EXPERIMENT, tmp_path).read_text('utf-8')
    assert 'Not finished' in text and 'mup-m8-seed3' in text
    assert '1 trainings diverged or did not' in text and 'of NTK (natural)' in text
    for figure in ('lipschitz', 'fit', 'start', 'train_test', 'kernels', 'accuracies'):
        assert f'figures/{figure}.png' in text
        assert (tmp_path / 'figures' / f'{figure}.png').stat().st_size > 10_000
    for table in ('claims', 'exponents', 'lipschitz'):
        for ending in ('csv', 'md', 'tex'):
            assert (tmp_path / 'tables' / f'{table}.{ending}').stat().st_size > 100
    lines = (tmp_path / 'rows.csv').read_text('utf-8').splitlines()
    assert len(lines) == 1 + 3 * (2 * 3 * 4 - 1) + 2 * 3  # networks, and infinite width


def test_the_page_of_the_start_alone_has_the_figures_of_the_start(tmp_path: Path):
    written(planted({'ntk': -0.5}, seeds=1, phases=()), tmp_path)
    text = write_report(EXPERIMENT, tmp_path).read_text('utf-8')
    drawn = sorted(path.stem for path in (tmp_path / 'figures').glob('*.png'))
    assert drawn == ['kernels', 'linearisation', 'start']
    assert all(f'{name}.png' in text for name in drawn)


def test_axes_name_quantity_and_unit_once_for_panels_that_share_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    made: dict[str, Figure] = {}
    monkeypatch.setattr(plots, 'save', lambda figure, path: made.update({path.name: figure}))
    draw(planted({'ntk': 0.25, 'mup': -0.5}, phases=('natural', 'trades')), tmp_path)
    start, natural, trades = made['kernels.png'].axes
    assert start.get_ylabel().startswith(r'$\|\Theta_m - \Theta_\infty\|')
    assert natural.get_ylabel().endswith('(ratio)') and trades.get_ylabel() == ''
    assert natural.get_ylim() == trades.get_ylim()
    assert [axes.get_title(loc='left') for axes in (start, trades)] == [
        'Start', f'TRADES, {plots.LAMBDA} = 3'
    ]  # fmt: skip
    [legend] = made['start.png'].legends
    assert [text.get_text() for text in legend.get_texts()] == [
        'NTK', r'$\mu$P', 'infinite width', plots.INTERVAL
    ]  # fmt: skip


def test_studies_of_before_the_frame_are_read(tmp_path: Path):
    """Their study.json has the shape of the data on top."""
    results = planted({'ntk': 0.25}, phases=('natural',))
    written(results, tmp_path)
    path = tmp_path / 'study.json'
    study = json.loads(path.read_text())
    about = study.pop('about')
    write_json(path, {**study, **about})
    assert list(claims(read_results(EXPERIMENT, tmp_path))) == list(claims(results))
