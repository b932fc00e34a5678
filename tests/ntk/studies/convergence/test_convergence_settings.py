"""The grid of a study of convergence, and what is refused. Oracle: the grid by hand."""

from typing import Any

import pytest

from configs import ntk_convergence
from ntk.studies.convergence.settings import Settings
from war_jax.config import ConfigError
from war_jax.lab.settings import read


def settings(**changes: Any) -> Settings:
    config = ntk_convergence.get_config('smoke').unlock()
    small = {
        'grid.designs': ('softplus',), 'grid.widths': (4, 8), 'grid.radii': (0.0, 1.0),
        'grid.epsilons': (0.1,), 'grid.attacks': ('none', 'fgsm'), 'grid.seeds': (0, 1),
        'base.width': 8, 'base.radius': 1.0, 'base.attack': 'fgsm',
    }  # fmt: skip
    config.update_from_flattened_dict({**small, **changes})
    return read(Settings, config)


def test_the_grid_is_radii_by_width_and_the_sweeps_of_the_base():
    names = [cell.name for cell in settings().trainings]
    expected = [
        f'softplus-m{m}-{ball}-eps0.1-fgsm-seed{seed}'
        for m in (4, 8)
        for ball in ('free', 'R1')
        for seed in (0, 1)
    ] + [f'softplus-m8-R1-eps0.1-none-seed{seed}' for seed in (0, 1)]
    assert sorted(names) == sorted(expected)


def test_each_ball_has_one_optimum_whatever_the_attack():
    found = settings()
    names = [f'{cell.folder}/{cell.name}' for cell in found.optima]
    assert sorted(names) == [
        f'optima/softplus-m{m}-R1-eps0.1-seed{seed}' for m in (4, 8) for seed in (0, 1)
    ]
    assert {found.optimum_of(cell) for cell in found.trainings} == set(found.optima)


@pytest.mark.parametrize(
    ('key', 'value', 'rule'),
    [
        ('grid.widths', (7,), 'must be even'),
        ('grid.designs', ('relu', 'relu'), 'must not name one twice'),
        ('base.design', 'deep', 'must be one of grid.designs'),
        ('base.width', 10, 'nearest: 8'),
        ('base.radius', 3.0, 'nearest: 1'),
        ('grid.radii', (1.0, 1.00000001), 'must differ in their first six digits'),
        ('grid.epsilons', (0.10000001,), 'must differ in their first six digits'),
        ('grid.epsilons', (2.0,), 'must be at most 1.7'),
        ('grid.attacks', ('pgd7',), "nearest: 'pgd"),
    ],
)
def test_refused(key: str, value: Any, rule: str):
    with pytest.raises(ConfigError) as raised:
        settings(**{key: value})
    line = str(raised.value)
    assert line.startswith(key) and rule in line and '\n' not in line


def test_an_unknown_argument_is_refused():
    with pytest.raises(ConfigError, match='nearest: smoke'):
        ntk_convergence.get_config('smok')
