"""Claims of a study of the theorem. Oracle: the powers that were planted in its rows."""

from pathlib import Path
from typing import Any

import pytest

from configs import ntk_theorem
from ntk.studies.theorem.bench import ASKED
from ntk.studies.theorem.findings import EXPERIMENT, claims
from ntk.studies.theorem.settings import LAWS, Settings, Supremum
from war_jax.lab.experiment import Results, path_of, write_report
from war_jax.lab.settings import read
from war_jax.lab.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED
from war_jax.records.files import write_json

PROVENANCE = {
    'data': 'digits', 'commit': 'abc', 'command': 'python -m ntk.main', 'python': '3.11',
    'versions': {'jax': '0'}, 'device': 'cpu', 'num_devices': 1,
}  # fmt: skip
CONFIG = ntk_theorem.get_config('smoke').unlock()
CONFIG.grid.depths = (2, 3)
SETTINGS = read(Settings, CONFIG)


def row(cell: Any) -> dict[str, Any]:
    """Suprema m^0.5 L^2 omega over constant balls (1 more than the smallest, which is 0), m^0 L^0.5
    over shrinking ones; looseness m^0.5, all of it of W_1; after training gradients as m^0.3."""
    m, L, seed = cell.width, cell.depth, cell.seed
    if isinstance(cell, Supremum):
        size = m**0.5 if cell.parametrization == 'sqrt_m' else 1.0
        suprema = {}
        for name, _, _ in ASKED:
            suprema[f'{name}-constant'] = [
                1e-9 + size * L**2 * w * (1 + 0.01 * seed) for w in SETTINGS.balls.omegas
            ]
            suprema[f'{name}-shrinking'] = [1e-9, L**0.5 * (1 + 0.01 * seed)]
        return {
            'mean_outputs': 8.0 + seed, 'q95_outputs': 9.0, 'max_outputs': 10.0, 'mean_loss': 8.0,
            'q95_loss': 9.0, 'max_loss': 10.0, 'product': 100.0,
            'suprema': suprema, 'first_layer': {law: [10.0, 10.0 + m**0.5] for law in LAWS},
            'alignment': [m**-0.5, 0.5], 'gate': [0.7],
        }  # fmt: skip
    side = {
        'natural_accuracy': 1.0, 'robust_accuracy': 0.5, 'max_outputs': m**0.3,
        'perturbation_stability': 0.5 + 0.001 * m, 'lipschitz': 2.0, 'lipschitz_over_margin': 3.0,
    }  # fmt: skip
    return {
        'steps': [0, 1, 2], 'losses': [1.0, 0.1], 'alignments': [0.4, 0.5, 0.6 + 0.01 * seed],
        'movement': [m**-0.5, 0.01], 'train': side, 'test': side,
    }  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'effect', 'verdict'),
    [
        ('start-with-width', 0.0, SUPPORTED),
        ('bound-width-constant', 0.5, SUPPORTED),
        ('attained-width-constant', 0.5, SUPPORTED),
        ('bound-depth-constant', 2.0, CONTRADICTED),
        ('bound-width-shrinking', 0.0, SUPPORTED),
        ('attained-width-shrinking', 0.0, CONTRADICTED),
        ('bound-depth-shrinking', 0.5, SUPPORTED),
        ('norms-constant', 0.0, SUPPORTED),
        ('added-width-L3', 0.5, SUPPORTED),
        ('added-omega', 1.0, SUPPORTED),
        ('first-layer-share', 0.25, CONTRADICTED),  # m^0.5 of 4 m^0.5
        ('width-standard', 0.0, SUPPORTED),
        ('looseness-with-width', 0.5, SUPPORTED),
        ('looseness-of-first', 1.0, SUPPORTED),
        ('gradient-natural', 0.3, SUPPORTED),
        ('over-margin-natural', 0.0, UNDECIDED),
        ('stability-adversarial', 0.8, CONTRADICTED),  # points, from m = 8 to 16
        ('movement-natural', -0.5, SUPPORTED),
        ('alignment-adversarial', 0.21, SUPPORTED),
    ],
)
def test_planted_powers(name: str, effect: float, verdict: str):
    rows = {cell: row(cell) for cell in SETTINGS.cells}
    found = {claim.name: claim for claim in claims(Results(SETTINGS, PROVENANCE, {}, rows, []))}
    assert found[name].verdict == verdict and found[name].num_seeds == 3
    assert found[name].effect == pytest.approx(effect, rel=0.011, abs=1e-6)


def test_the_page_of_a_study_that_is_not_finished(tmp_path: Path):
    cells = [cell for cell in SETTINGS.cells if isinstance(cell, Supremum)]
    for cell in cells[:7]:
        write_json(path_of(tmp_path, cell), row(cell))
    config = CONFIG.to_dict()
    config.pop('experiment')
    grid = config.pop('grid')
    study = {'config': config, 'grid': grid, 'provenance': PROVENANCE, 'about': {}}
    write_json(tmp_path / 'study.json', study)
    text = write_report(EXPERIMENT, tmp_path).read_text()
    assert 'Not finished' in text and '(figures/suprema.png)' in text
    assert '(figures/trained.png)' not in text and (tmp_path / 'figures/suprema.png').exists()
