"""Made-up rows of a study of convergence, whose losses and exponents are known."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs import ntk_convergence
from ntk.studies.convergence.settings import Cell, Settings
from war_jax.lab.experiment import Results, path_of
from war_jax.lab.settings import read
from war_jax.records.files import write_json

PROVENANCE = {
    'data': 'points', 'commit': 'abc', 'command': 'python -m ntk.main', 'python': '3.11',
    'versions': {'jax': '0'}, 'device': 'cpu', 'num_devices': 1,
}  # fmt: skip
SETTINGS = read(Settings, ntk_convergence.get_config('smoke'))


def planted(gap: float = 0.01, fall: float = 0.0) -> Results[Settings]:
    """The best loss is 0.3 + 0.1 seed; training ends `gap` above it after a last `fall`.

    ||U|| is (1 + seed) m^0, the largest row m^-0.4, the linearisation error m^-0.7 of one seed,
    m^-0.8 and m^-0.9 of the others.
    """
    rows: dict[Any, Any] = {}
    for cell in SETTINGS.cells:
        best, m = 0.3 + 0.1 * cell.seed, cell.width
        if isinstance(cell, Cell):
            rows[cell] = {
                'steps': [16, 32, 64],
                'least_attacked_loss': [best + 4 * gap, best + gap + fall, best + gap],
                'robust_loss': best + gap,
                'movement': [0.6 * (1.0 + cell.seed), 0.8 * (1.0 + cell.seed)],
                'row_movement': [m**-0.4, 0.5 * m**-0.4],
                'linearisation_error': m ** (-0.7 - 0.1 * cell.seed),
            }
        else:
            rows[cell] = {'lower': best, 'upper': best, 'rounds': 1}
    return Results(SETTINGS, PROVENANCE, {}, rows, [])


def write(results: Results[Settings], workdir: Path) -> None:
    """As the workdir of a study."""
    config = asdict(results.settings)
    grid = config.pop('grid')
    write_json(workdir / 'study.json', {'config': config, 'grid': grid, 'provenance': PROVENANCE})
    for cell, row in results.rows.items():
        write_json(path_of(workdir, cell), row)
