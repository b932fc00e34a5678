"""Claims and page of a study of convergence. Oracle: what was planted in its rows."""

from pathlib import Path
from typing import Any

import pytest

from ntk.studies.convergence.findings import EXPERIMENT, claims, exponents_table, losses_table
from ntk.studies.convergence.settings import Optimum
from tests.ntk.studies.convergence.planted_convergence import SETTINGS, planted, write
from war_jax.lab.experiment import write_report
from war_jax.lab.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED, read_verdicts


def by_name(**planting: float) -> dict[str, Any]:
    return {claim.name: claim for claim in claims(planted(**planting))}


@pytest.mark.parametrize(
    ('gap', 'fall', 'verdict'),
    [
        (0.01, 0.0, SUPPORTED),
        (0.01, 0.1, SUPPORTED),  # within the tolerance, it can only come closer
        (-0.1, 0.0, SUPPORTED),  # without projection it may find better
        (0.03, 0.004, CONTRADICTED),
        (0.03, 0.006, UNDECIDED),
    ],
)
def test_no_convergence_needs_a_plateau(gap: float, fall: float, verdict: str):
    found = by_name(gap=gap, fall=fall)
    for name in ('converges-softplus-R4', 'converges-deep-R0', 'attack-fgsm'):
        assert found[name].verdict == verdict
        assert found[name].effect == pytest.approx(gap)
        assert ('still falls' in found[name].rule) == (verdict == UNDECIDED)


def test_claims_of_exponents():
    found = by_name()
    movement = found['movement-softplus']
    assert (movement.verdict, movement.effect) == (SUPPORTED, pytest.approx(0.0, abs=1e-9))
    assert found['row_movement-softplus'].effect == pytest.approx(-0.4)
    assert 'row_movement-deep' not in found
    error = found['linearisation-deep-R4']
    half = 4.302653 * 0.1 / 3**0.5  # Student's, of three seeds with a standard deviation of 0.1
    assert error.effect == pytest.approx(-0.8)
    assert error.interval == pytest.approx((-0.8 - half, -0.8 + half), abs=1e-6)
    assert error.verdict == UNDECIDED  # a little of it is below -1
    assert len(found) == 4 + 3 + 3 + 4 and all(claim.how for claim in found.values())


def test_a_training_that_diverged_leaves_its_claims_undecided():
    results = planted()
    cell = next(cell for cell in SETTINGS.trainings if cell.attack == 'fgsm')
    results.rows[cell]['least_attacked_loss'][-1] = None
    found = {claim.name: claim for claim in claims(results)}
    assert (found['attack-fgsm'].verdict, found['attack-fgsm'].effect) == (UNDECIDED, None)
    assert found['attack-pgd5'].verdict == SUPPORTED


def test_tables():
    _, losses = losses_table(planted())
    row = next(row for row in losses if (row['design'], row['ball']) == ('deep ReLU', '4'))
    assert row['best'][0] == pytest.approx(0.4) and row['gap'] == pytest.approx((0.01,) * 3)
    assert row['movement'][0] == pytest.approx(2.0)  # layers of 0.6 and 0.8, times 1, 2 and 3
    _, exponents = exponents_table(planted())
    found = {(row['quantity'], row['against'], row['where']): row['power'] for row in exponents}
    assert found['gap', 'steps', 'm = 16, R = 4'][0] == pytest.approx(-1.0)  # 4, 1, 1 times gap
    assert found['linearisation_error', 'm', 'R = 4'][0] == pytest.approx(-0.8)


def test_the_page_of_what_is_there(tmp_path: Path):
    results = planted()
    results.rows[SETTINGS.trainings[0]]['robust_loss'] = None
    missing = Optimum('deep', 16, 4.0, 0.1, seed=2)
    del results.rows[missing]  # pyright: ignore[reportIndexIssue]
    write(results, tmp_path)
    text = write_report(EXPERIMENT, tmp_path).read_text()
    assert f'**Warning.** {SETTINGS.trainings[0].name} diverged' in text
    assert '**Not finished.** 1 of its parts' in text and f'- optima/{missing.name}' in text
    for figure in ('losses', 'movement', 'sweeps'):
        assert (tmp_path / 'figures' / f'{figure}.png').stat().st_size > 5000
    verdicts = {verdict.name: verdict for verdict in read_verdicts(tmp_path / 'verdicts.json')}
    assert (verdicts['converges-deep-R4'].seeds, verdicts['converges-softplus-R4'].seeds) == (2, 3)
