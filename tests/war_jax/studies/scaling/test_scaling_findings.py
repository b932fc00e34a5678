"""Claims, law and page of a study of size and compute. Oracle: made-up rows whose effects are
planted: a law in parameters and epochs, a level for each seed, a gain of a switch."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs import scaling
from war_jax.lab.experiment import Results
from war_jax.lab.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED, Claim
from war_jax.studies.scaling import findings, pictures
from war_jax.studies.scaling.claims import at_equal_compute, claims, gains
from war_jax.studies.scaling.results import at_best_lambda, law_points, sizes
from war_jax.studies.scaling.settings import Cell, Settings, cells, resolve_scaling

PROVENANCE = {
    'data': 'made up', 'commit': 'abc', 'python': '3.11', 'versions': {}, 'num_devices': 1,
    'device': 'cpu', 'command': 'python -m x',
}  # fmt: skip


def law_of(cell: Cell) -> float:
    """The error falls with the square of the width, and with the epochs."""
    return 0.2 + 0.3 * cell.value('width') ** -0.8 + 0.2 * (cell.value('epochs') / 10) ** -0.5


def planted(error: Callable[[Cell], float], **grid: Any) -> Results[Settings]:
    """Rows with this robust error, each seed on a level of its own."""
    config = scaling.get_config().unlock()
    config.grid.update(width=(1.0, 2.0, 4.0, 8.0, 16.0), seeds=(0, 1, 2))
    config.grid.update(**grid)
    settings = resolve_scaling(config)
    rows = {}
    for cell in cells(settings):
        robust = 1.0 - error(cell) + 0.002 * cell.seed
        width = cell.value('width')
        rows[cell] = {
            **dict(cell.point), 'seed': cell.seed, 'parameters': 100.0 * width**2,
            'forward_flops': 1e3 * width**2, 'train_images': 256, 'passes': 27,
            'robust_accuracy': robust, 'robust_accuracy_all': robust, 'natural_accuracy': 0.9,
            'perturbation_stability': robust, 'robust_overfitting': 0.01 * math.log2(width),
            'validation_robust_accuracy': robust, 'device_seconds': 1.0,
            'local_lipschitz': width**0.5, 'lipschitz_by_margin': width**-0.25,
            'local_lipschitz_start': width**0.125,
        }  # fmt: skip
    return Results(settings, PROVENANCE, {}, rows, [])


@pytest.fixture(scope='module')
def lawful() -> Results[Settings]:
    return planted(law_of)


def test_the_claims_follow_from_what_was_planted(lawful: Results[Settings]):
    found = {claim.name: claim for claim in claims(lawful)}
    assert found['robust_accuracy_with_width'].verdict == SUPPORTED
    assert found['robust_overfitting_with_width'].effect == pytest.approx(1.0)
    assert found['local_lipschitz_with_width'].effect == pytest.approx(0.5)
    assert found['local_lipschitz_start_with_width'].effect == pytest.approx(0.125)
    assert 'local_lipschitz_start_with_epochs' not in found, 'it is the same network'
    shrinks = found['lipschitz_by_margin_with_width']
    assert shrinks.verdict == CONTRADICTED and shrinks.effect == pytest.approx(-0.25)
    assert found['robust_overfitting_with_epochs'].verdict == UNDECIDED, 'it is always the same'
    carried = found['law_extrapolates']
    assert carried.verdict == SUPPORTED and carried.effect == pytest.approx(0.0, abs=0.05)


def test_at_equal_compute_an_octave_of_width_costs_two_of_epochs(lawful: Results[Settings]):
    found = at_equal_compute(lawful)
    assert len(found) == 4, 'the pairs of neighbours'
    samples = found['k = 1 and 2 with 3.9e+08 operations']
    assert list(samples) == [1.0, 2.0]

    def interpolated(width: float, at: float) -> float:
        """Between the two lengths of training around the compute, by hand."""
        epochs = at / (27 * 256 * 1e3 * width**2)
        low = max(e for e in (10, 20, 40, 80) if e <= epochs)
        share = math.log2(epochs / low)
        errors = [0.2 + 0.3 * width**-0.8 + 0.2 * (e / 10) ** -0.5 for e in (low, 2 * low)]
        return 1.0 - (1 - share) * errors[0] - share * errors[1]

    # The narrow one has 10 to 80 units of it and the wide one 40 to 320: the middle of 40 and 80.
    at = 27 * 256 * 1e3 * math.sqrt(40 * 80)
    for width in (1.0, 2.0):
        assert samples[width][0] == pytest.approx(interpolated(width, at), abs=1e-9)


def test_wider_is_worse_at_equal_compute_where_only_epochs_help():
    found = {c.name: c for c in claims(planted(lambda cell: 0.8 * cell.value('epochs') ** -0.4))}
    assert found['robust_accuracy_with_width_at_equal_compute'].verdict == CONTRADICTED


def test_each_size_is_judged_at_its_own_best_lambda():
    """The best lambda is the width itself; away from it a tenth of the accuracy is lost."""

    def error(cell: Cell) -> float:
        return 0.5 + 0.1 * abs(math.log2(cell.value('lam') / cell.value('width')))

    results = planted(error, epochs=(), lam=(1.0, 2.0, 4.0), width=(1.0, 2.0, 4.0))
    chosen = {(cell.value('width'), cell.value('lam')) for cell in at_best_lambda(results)}
    assert chosen == {(1.0, 1.0), (2.0, 2.0), (4.0, 4.0)}
    found = {claim.name: claim for claim in claims(results)}
    assert found['robust_accuracy_with_width_at_best_lambda'].effect == pytest.approx(0.0)
    assert 'λ = 4' in found['robust_accuracy_with_width'].where, 'there it rises'


def test_with_two_sizes_there_is_no_law(tmp_path: Path):
    results = planted(law_of, width=(1.0, 2.0))
    found = {claim.name: claim for claim in claims(results)}
    assert found['law_extrapolates'].effect is None and findings.law_table(results)[1] == []
    assert findings.saturation(results) == ''


def test_of_an_unfinished_sweep_the_seeds_that_all_lambdas_have_decide():
    """The third seed, which only lambda 2 lacks, would make lambda 1 the best one."""
    results = planted(
        lambda cell: 0.5 - (0.3 if (cell.seed, cell.value('lam')) == (2, 1.0) else 0.0)
        - 0.01 * cell.value('lam'),
        epochs=(), lam=(1.0, 2.0), width=(1.0, 2.0, 4.0),
    )  # fmt: skip
    rows = {
        cell: row for cell, row in results.rows.items()
        if (cell.seed, cell.value('lam')) != (2, 2.0)
    }  # fmt: skip
    partial = Results(results.settings, PROVENANCE, {}, rows, [])
    assert {cell.value('lam') for cell in at_best_lambda(partial)} == {2.0}


def test_a_switch_is_compared_with_its_first_value():
    results = planted(
        lambda cell: law_of(cell) - (0.05 if cell.value('ema') else 0.0), ema=(0.0, 0.9)
    )
    found = {claim.name: claim for claim in claims(results)}
    gain = found['ema-0.9']
    assert gain.verdict == SUPPORTED and gain.effect == pytest.approx(5.0)
    assert {name for name in found if name.startswith('law')} == {
        'law_extrapolates-ema = 0', 'law_extrapolates-ema = 0.9'
    }  # fmt: skip


def test_of_switches_alone_there_is_no_law_but_a_figure(tmp_path: Path):
    """Gains of 5 and -2 points, whatever the other one is."""
    results = planted(
        lambda cell: 0.5 - 0.05 * bool(cell.value('ema')) + 0.02 * bool(cell.value('awp')),
        width=(), epochs=(), ema=(0.0, 0.9), awp=(0.0, 0.01),
    )  # fmt: skip
    found = {claim.name: claim for claim in claims(results)}
    assert set(found) == {'ema-0.9', 'awp-0.01'}
    assert found['ema-0.9'].where == 'supported at awp = 0, awp = 0.01'
    by_place = gains(results, 'awp', 'robust_accuracy')[0.01]
    assert set(by_place) == {'ema = 0', 'ema = 0.9'}
    assert all(gain == pytest.approx(-2.0) for of in by_place.values() for gain in of.values())
    assert [picture.file for picture in pictures.draw(results, tmp_path)] == ['switches.png']
    assert 'law' not in findings.asked(results)


def test_the_law_is_one_of_parameters_and_epochs(lawful: Results[Settings]):
    assert sizes(lawful) == ['parameters', 'epochs']
    assert len(law_points(lawful, ())) == 20
    rows = {row['number']: row['value'] for row in findings.law_table(lawful)[1]}
    assert rows['power of the parameters'][0] == pytest.approx(0.4, abs=0.01)
    assert rows['power of the epochs'][0] == pytest.approx(0.5, abs=0.01)
    gained = 100 * 0.2 * 8**-0.5 * (1 - 2**-0.5)
    assert rows['next doubling of the epochs, points gained'][0] == pytest.approx(gained, abs=0.05)
    assert 'doubling of the epochs gains' in findings.saturation(lawful)


def test_page_and_figures(lawful: Results[Settings], tmp_path: Path):
    found = list(claims(lawful))
    sections = list(findings.sections(lawful, found, tmp_path))
    opening = sections[0].blocks[0]
    assert opening.startswith('- **Asked.** How does robust accuracy change with width')
    assert 'rises with the width: ' in opening and 'Behind each are 3 seeds.' in opening
    assert {path.name for path in (tmp_path / 'figures').glob('*.png')} == {
        'sizes.png', 'lipschitz.png', 'compute.png', 'law.png',
    }  # fmt: skip
    table = (tmp_path / 'tables' / 'accuracy.csv').read_text()
    assert table.count('\n') == 21, 'a header and the combinations'


def test_the_same_start_is_not_evidence_four_times():
    """A network is the same at its start, however long it is then trained."""

    def noisy(**grid: Any) -> Claim:
        results = planted(law_of, **grid)
        for cell, row in results.rows.items():
            noise = math.sin(7 * cell.seed * cell.value('width'))
            row['local_lipschitz_start'] *= 1.0 + 0.1 * noise
        found = {claim.name: claim for claim in claims(results)}
        return found['local_lipschitz_start_with_width']

    many, one = noisy(epochs=(10, 20, 40, 80)), noisy(epochs=())
    assert many == one and one.where == ''
    assert one.interval is not None and one.interval[0] < one.interval[1]


def test_a_study_that_did_not_measure_the_start_is_read(tmp_path: Path):
    results = planted(law_of, epochs=())
    for row in results.rows.values():
        del row['local_lipschitz_start']
    found = list(claims(results))
    assert not any('start' in claim.name for claim in found)
    list(findings.sections(results, found, tmp_path))
    assert not (tmp_path / 'figures' / 'lipschitz.png').exists()
    next(iter(results.rows.values()))['local_lipschitz_start'] = 1.0
    last = list(findings.sections(results, found, tmp_path))[-2]
    assert 'is there for 1 of 15 networks' in last.blocks[-1]


def test_nothing_finished_is_no_error(lawful: Results[Settings], tmp_path: Path):
    empty = Results(lawful.settings, PROVENANCE, {}, {}, list(lawful.rows))
    assert {claim.verdict for claim in claims(empty)} == {UNDECIDED}
    assert pictures.draw(empty, tmp_path) == []
    assert list(findings.sections(empty, list(claims(empty)), tmp_path))
