"""A small study of convergence, whole. Oracles: bounds of theory; the same cell made alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import ntk_convergence
from ntk.studies.convergence.bench import Bench
from ntk.studies.convergence.findings import EXPERIMENT
from ntk.studies.convergence.settings import Settings
from war_jax.lab.experiment import path_of, run
from war_jax.lab.settings import read
from war_jax.records.files import read_json
from war_jax.records.interrupt import Stop


@pytest.fixture(scope='module')
def settings() -> Settings:
    config = ntk_convergence.get_config('smoke').unlock()
    config.update_from_flattened_dict({
        'data.num_points': 4, 'data.dimension': 3, 'grid.designs': ('softplus',),
        'grid.widths': (8,), 'grid.radii': (0.0, 1.0), 'grid.epsilons': (0.1,),
        'grid.attacks': ('fgsm',), 'grid.seeds': (0, 1), 'base.width': 8, 'base.radius': 1.0,
        'base.attack': 'fgsm', 'training.num_steps': 16, 'strong.num_steps': 3,
    })  # fmt: skip
    return read(Settings, config)


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Path:
    workdir = tmp_path_factory.mktemp('convergence')
    text = run(EXPERIMENT, settings, workdir, 'command').read_text()
    assert 'min\\_t L\\_A is at most' in text and 'Not finished' not in text
    return workdir


def test_training_stays_in_the_ball_and_the_least_loss_falls(finished: Path, settings: Settings):
    for cell in settings.trainings:
        row: Any = read_json(path_of(finished, cell))
        first, last = row['least_attacked_loss']
        assert last <= first <= np.log(2.0) + 1e-6  # that of the start
        assert row['steps'] == [8, 16] and row['attacked_loss'] == last
        assert not cell.radius or row['movement'][0] <= cell.radius * (1 + 1e-5)


def test_the_best_in_the_ball_lies_between_its_bounds(finished: Path, settings: Settings):
    for cell in settings.optima:
        row: Any = read_json(path_of(finished, cell))
        assert 0 <= row['lower'] <= row['upper'] + 1e-3 <= np.log(2.0) + 1e-3


def test_a_row_depends_on_its_cell_alone(finished: Path, settings: Settings, tmp_path: Path):
    """So that a study which was interrupted goes on to the same rows."""
    bench = Bench(settings, tmp_path)
    for cell in (settings.trainings[-1], settings.optima[-1]):
        made, kept = bench.make(cell, Stop()), read_json(path_of(finished, cell))
        assert {name: np.asarray(value).tolist() for name, value in made.items()} == kept
