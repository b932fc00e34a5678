"""Exponents and verdicts. Oracle: planted power laws."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import ntk_width
from ntk.studies.width.claims import Fit, Study, compare, evaluate, exponent, read_study
from ntk.studies.width.report import write_report
from ntk.studies.width.settings import resolve_width
from war_jax.records.files import ReportError, write_json
from war_jax.studies.width.claims import CONTRADICTED, SUPPORTED, UNDECIDED

WIDTHS = (8.0, 16.0, 32.0)


def planted(
    workdir: Path,
    powers: dict[str, float],
    noise: float = 0.01,
    seeds: int = 4,
    phases: tuple[str, ...] | None = None,
) -> Study:
    """A finished study, in which quantities of parametrization p go as m^powers[p]."""
    config = ntk_width.get_config('smoke').unlock()
    config.grid.widths, config.grid.seeds = WIDTHS, tuple(range(seeds))
    config.grid.parametrizations = tuple(powers)
    config.grid.phases = config.grid.phases if phases is None else phases
    settings = resolve_width(config)
    values = config.to_dict()
    values.pop('experiment')
    grid = values.pop('grid')
    about = {
        'data': 'planted', 'commit': 'none', 'num_devices': 1, 'device': 'cpu', 'command': 'test',
        'python': '3', 'versions': {},
    }  # fmt: skip
    shape = {'image': [8, 8, 1], 'num_outputs': 10}
    study = {'config': values, 'grid': grid, 'provenance': about, 'shape': shape}
    write_json(workdir / 'study.json', study)
    rng = np.random.default_rng(0)
    for cell in settings.cells:
        rows = []
        for phase in ('initialisation', *(phase.label for phase in settings.phases)):
            value = cell.width ** powers[cell.parametrization] * math.exp(noise * rng.normal())
            row: dict[str, Any] = {
                'parametrization': cell.parametrization, 'width': cell.width,
                'features': int(cell.width), 'seed': cell.seed, 'phase': phase, 'lambda': 0.0,
                'spectral_product': value, 'kernel_error': value, 'kernel_drift': value,
                'linearisation_error': value, 'movement': value, 'natural_risk_test': 1.0,
            }  # fmt: skip
            for side in ('train', 'test'):
                for key in ('gradient_rms', 'local_lipschitz', 'local_lipschitz_kl_gradient'):
                    row[f'{key}_{side}'] = value
                # 3 points less with each doubling.
                row[f'perturbation_stability_{side}'] = 0.9 - 0.03 * math.log2(cell.width)
            rows.append(row)
        write_json(workdir / 'cells' / f'{cell.name}.json', rows)
        write_json(
            workdir / 'limits' / f'{cell.parametrization}-m{cell.width:g}.json',
            {'initial': cell.width ** powers[cell.parametrization] / 1.02, 'trained': 1e3},
        )
    return read_study(workdir)


def test_exponents_are_those_planted(tmp_path: Path):
    study = planted(tmp_path, {'ntk': 0.25, 'mup': -0.5})
    for name, power in (('ntk', 0.25), ('mup', -0.5)):
        fit = exponent(study, 'gradient_rms_test', 'natural', name)
        assert fit is not None and fit.num_seeds == 4
        assert fit.value == pytest.approx(power, abs=0.01)
        assert fit.lower < power < fit.upper and fit.upper - fit.lower < 0.05
    falls = exponent(study, 'perturbation_stability_test', 'trades-lam3', 'ntk')
    assert falls is not None and falls.value == pytest.approx(-3.0)  # points per doubling


def test_verdicts(tmp_path: Path):
    study = planted(tmp_path, {'ntk': 0.0, 'mup': 0.4, 'sqrt_m_unit': 0.5})
    found = {(claim.name, claim.parametrization): claim.verdict for claim in evaluate(study)}
    assert found['gradient_rms_test-initialisation', 'ntk'] == SUPPORTED
    assert found['gradient_rms_test-initialisation', 'mup'] == CONTRADICTED  # theory: -0.5
    assert found['gradient_rms_test-initialisation', 'sqrt_m_unit'] == SUPPORTED
    assert found['kernel_error-initialisation', 'ntk'] == CONTRADICTED
    assert found['local_lipschitz_test-trades-lam3', 'mup'] == SUPPORTED
    assert found['local_lipschitz_test-trades-lam3', 'ntk'] == UNDECIDED
    assert found['perturbation_stability_test-trades-lam3', 'ntk'] == SUPPORTED
    # 2 % from the limit at the start, far from it after training.
    assert found['limit-initialisation', 'ntk'] == SUPPORTED
    assert found['limit-natural_lazy', 'ntk'] == CONTRADICTED
    # Theory has no power for what practice does.
    assert not any(name.startswith('kernel_drift') for name, of in found if of == 'sqrt_m_unit')


@pytest.mark.parametrize(
    ('lower', 'upper', 'verdict'),
    [
        (-0.05, 0.09, SUPPORTED),
        (-0.05, 0.11, UNDECIDED),
        (0.11, 0.2, CONTRADICTED),
        (-0.3, -0.11, CONTRADICTED),
        (-math.inf, math.inf, UNDECIDED),
    ],
)
def test_a_power_needs_the_whole_interval(lower: float, upper: float, verdict: str):
    assert compare(Fit(0.0, lower, upper, 5), 0.0) == verdict


def test_one_seed_decides_nothing(tmp_path: Path):
    study = planted(tmp_path, {'ntk': 0.3}, seeds=1)
    fit = exponent(study, 'gradient_rms_test', 'natural', 'ntk')
    assert fit is not None and not math.isfinite(fit.upper)
    assert {claim.verdict for claim in evaluate(study)} == {UNDECIDED}


def test_a_network_that_diverged_leaves_nothing_to_fit(tmp_path: Path):
    planted(tmp_path, {'ntk': 0.25})
    path = tmp_path / 'cells' / 'ntk-m8-seed0.json'
    rows = json.loads(path.read_text())
    rows[1].update(gradient_rms_test=None, natural_risk_test=None)
    write_json(path, rows)
    study = read_study(tmp_path)
    assert rows[1]['phase'] == 'natural'
    assert exponent(study, 'gradient_rms_test', 'natural', 'ntk') is None
    assert exponent(study, 'gradient_rms_test', 'initialisation', 'ntk') is not None
    assert '1 trainings diverged' in write_report(tmp_path).read_text('utf-8')


def test_two_seeds_decide_nothing(tmp_path: Path):
    study = planted(tmp_path, {'mup': 0.4}, seeds=2)
    of_theory = [claim for claim in evaluate(study) if not claim.name.startswith('limit')]
    assert {claim.verdict for claim in of_theory} == {UNDECIDED}


def test_the_report_has_every_table_and_figure(tmp_path: Path):
    planted(tmp_path, {'ntk': 0.25, 'mup': -0.5})
    (tmp_path / 'cells' / 'mup-m8-seed3.json').unlink()
    text = write_report(tmp_path).read_text('utf-8')
    assert 'Not finished' in text and 'mup-m8-seed3' in text
    for figure in ('lipschitz', 'train_test', 'kernels', 'accuracies'):
        assert f'figures/{figure}.png' in text
        assert (tmp_path / 'figures' / f'{figure}.png').stat().st_size > 10_000
    for table in ('claims', 'exponents', 'lipschitz'):
        for ending in ('csv', 'md', 'tex'):
            assert (tmp_path / 'tables' / f'{table}.{ending}').stat().st_size > 100
    lines = (tmp_path / 'rows.csv').read_text('utf-8').splitlines()
    assert len(lines) == 1 + 5 * (2 * 3 * 4 - 1)


def test_a_study_of_the_start_alone(tmp_path: Path):
    study = planted(tmp_path, {'ntk': -0.5}, phases=())
    assert study.phases == ['initialisation']
    verdicts = {claim.name: claim.verdict for claim in evaluate(study)}
    assert verdicts.pop('kernel_error-initialisation') == SUPPORTED
    assert verdicts.pop('gradient_rms_test-initialisation') == CONTRADICTED
    text = write_report(tmp_path).read_text('utf-8')
    drawn = sorted(path.stem for path in (tmp_path / 'figures').iterdir())
    assert drawn == ['kernels', 'lipschitz'] and all(f'{name}.png' in text for name in drawn)


def test_a_folder_that_holds_no_study_is_refused(tmp_path: Path):
    with pytest.raises(ReportError, match=r'missing study\.json'):
        read_study(tmp_path)
    planted(tmp_path, {'ntk': 0.25})
    (tmp_path / 'cells' / 'ntk-m8-seed0.json').write_text('[{"pha')
    with pytest.raises(ReportError, match=r'ntk-m8-seed0\.json'):
        read_study(tmp_path)
    assert json.loads((tmp_path / 'study.json').read_text())
