"""A small study of capacity, whole. Oracles: what a width or a norm means; the same cell alone."""

from pathlib import Path
from typing import Any

import pytest

from configs import ntk_capacity
from ntk.studies.capacity.bench import Bench
from ntk.studies.capacity.findings import EXPERIMENT
from ntk.studies.capacity.settings import Settings, SmallestNorm, SmallestWidth
from war_jax.config import ConfigError
from war_jax.lab.experiment import path_of, run
from war_jax.lab.settings import read
from war_jax.records.files import read_json
from war_jax.records.interrupt import Stop

PLAIN, ROBUST = ((2, 4, radius, 0) for radius in (0.0, 0.5))  # pairs, dimension, radius, seed


def settings(**changes: Any) -> Settings:
    config = ntk_capacity.get_config('smoke').unlock()
    small = {
        'grid.num_pairs': (2,), 'grid.dimensions': (4,), 'grid.seeds': (0,),
        'base.num_pairs': 2, 'search.widest': 16, 'search.num_steps': 100,
        'verify.num_steps': 3, 'kernel.activation': 'gelu',
    }  # fmt: skip
    config.update_from_flattened_dict({**small, **changes})
    return read(Settings, config)


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp('capacity')
    text = run(EXPERIMENT, settings(), workdir, 'command').read_text()
    assert 'grows with the dimension' in text and 'Not finished' not in text
    return workdir


def test_the_smallest_width_is_one_at_which_all_points_stand(finished: Path):
    for place in (PLAIN, ROBUST):
        row = read_json(path_of(finished, SmallestWidth(*place)))
        tried = dict(zip(row['tried_widths'], row['standing'], strict=True))
        assert tried[row['smallest_width']] == 1.0
        assert all(share < 1.0 for width, share in tried.items() if width < row['smallest_width'])


def test_a_robust_fit_has_the_larger_norm(finished: Path):
    plain, robust = (read_json(path_of(finished, SmallestNorm(*p))) for p in (PLAIN, ROBUST))
    assert 0 < plain['norm_lower'] <= plain['norm_upper'] < robust['norm_lower']
    assert robust['norm_lower'] <= robust['norm_upper']


def test_a_row_depends_on_its_cell_alone(finished: Path, tmp_path: Path):
    """So that a study which was interrupted goes on to the same rows."""
    bench = Bench(settings(), tmp_path)
    for cell in (SmallestWidth(*PLAIN), SmallestNorm(*ROBUST)):
        assert bench.make(cell, Stop()) == read_json(path_of(finished, cell))


def test_a_search_leaves_at_a_signal(tmp_path: Path):
    stop = Stop()
    stop.signum = 15
    with pytest.raises(SystemExit) as left:
        Bench(settings(), tmp_path).make(SmallestWidth(*PLAIN), stop)
    assert left.value.code == 143


def test_pairs_without_room_are_refused_before_anything_is_written(tmp_path: Path):
    changes = {'grid.dimensions': (3,), 'base.dimension': 3, 'grid.num_pairs': (99,),
               'base.num_pairs': 99}  # fmt: skip
    with pytest.raises(ConfigError, match='no room for more'):
        run(EXPERIMENT, settings(**changes), tmp_path / 'new', 'command')
    assert not (tmp_path / 'new').exists()
