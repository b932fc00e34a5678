"""The grid of a study of capacity, and what is refused. Oracle: the grid by hand."""

from typing import Any

import pytest

from configs import ntk_capacity
from ntk.studies.capacity.settings import Settings
from war_jax.config import ConfigError
from war_jax.lab.settings import read


def settings(**changes: Any) -> Settings:
    config = ntk_capacity.get_config('smoke').unlock()
    config.update_from_flattened_dict(changes)
    return read(Settings, config)


def test_from_the_base_all_radii_and_both_sizes_plainly_and_robustly():
    found = settings(**{'grid.radii': (0.0, 0.5, 0.9), 'grid.seeds': (7,)})
    places = {'n4-d4-rho0', 'n4-d4-rho0.5', 'n4-d4-rho0.9', 'n2-d4-rho0', 'n2-d4-rho0.5',
              'n4-d6-rho0', 'n4-d6-rho0.5'}  # fmt: skip
    names = [f'{cell.folder}/{cell.name}' for cell in found.cells]
    expected = {f'{folder}/{place}-seed7' for folder in ('kernels', 'widths') for place in places}
    assert set(names) == expected and len(names) == len(expected)


@pytest.mark.parametrize(
    ('key', 'value', 'rule'),
    [
        ('grid.radii', (0.0, 1.0), 'must be below 1'),
        ('grid.radii', (0.0, 0.5, 0.50000001), 'must differ in their first six digits'),
        ('base.radius', 0.4, 'nearest: 0.5'),
        ('base.num_pairs', 3, 'must be in grid.num_pairs'),
        ('base.dimension', 5, 'must be in grid.dimensions'),
        ('grid.dimensions', (2, 4), 'must be at least 3'),
        ('search.widest', 5000, 'nearest: 1024'),
    ],
)
def test_refused(key: str, value: Any, rule: str):
    with pytest.raises(ConfigError) as raised:
        settings(**{key: value})
    assert rule in str(raised.value) and '\n' not in str(raised.value)
