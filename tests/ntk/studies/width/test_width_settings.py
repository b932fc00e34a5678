"""What a study of width consists of. Oracle: the grid, written out by hand."""

from typing import Any

import pytest

from configs import ntk_width
from ntk.studies.width.settings import Settings
from war_jax.config import ConfigError
from war_jax.lab.settings import read


def settings(argument: str = 'smoke', **changes: Any) -> Settings:
    config = ntk_width.get_config(argument).unlock()
    config.update_from_flattened_dict(changes)
    return read(Settings, config)


def test_cells_are_every_combination_once_the_widest_first_after_the_limits():
    cells = settings(**{'grid.parametrizations': ('ntk', 'mup'), 'grid.seeds': (0, 7)}).cells
    assert [f'{cell.folder}/{cell.name}' for cell in cells] == [
        'limits/ntk-m16', 'limits/mup-m16', 'limits/ntk-m8', 'limits/mup-m8',
        'cells/ntk-m16-seed0', 'cells/mup-m16-seed0', 'cells/ntk-m16-seed7', 'cells/mup-m16-seed7',
        'cells/ntk-m8-seed0', 'cells/mup-m8-seed0', 'cells/ntk-m8-seed7', 'cells/mup-m8-seed7',
    ]  # fmt: skip


def test_phases_are_crossed_with_lambda():
    found = settings(**{'grid.lams': (1.0, 4.5), 'grid.phases': ('natural', 'trades_lazy')})
    assert [(phase.label, phase.lam, phase.lazy) for phase in found.phases] == [
        ('natural', 0.0, False), ('trades_lazy-lam1', 1.0, True), ('trades_lazy-lam4.5', 4.5, True),
    ]  # fmt: skip
    assert found.labels == ['initialisation', 'natural', 'trades_lazy-lam1', 'trades_lazy-lam4.5']


@pytest.mark.parametrize('argument', ['', 'relu', 'wrn', 'smoke'])
def test_every_argument_gives_settings(argument: str):
    assert settings(argument).cells


def test_the_default_is_what_the_documentation_promises():
    grid = settings('').grid
    assert set(grid.parametrizations) == {'standard', 'ntk', 'sqrt_m', 'sqrt_m_unit', 'mup'}
    assert len(grid.widths) >= 5 and grid.widths[-1] >= 32 * grid.widths[0]
    assert len(grid.seeds) >= 5


@pytest.mark.parametrize(
    ('key', 'value', 'rule'),
    [
        ('grid.widths', (8.0, 4.0), 'must be strictly increasing'),
        ('grid.widths', (8.5,), 'must be whole numbers of units'),
        ('training.tuned_width', 8.5, 'must be whole numbers of units'),
        ('grid.parametrizations', ('mup', 'mup'), 'must not name one twice'),
        ('grid.parametrizations', ('ntkk',), "nearest: 'ntk'"),
        ('grid.phases', ('lazy',), 'must be one of'),
        ('network.num_layers', 1, 'must be at least 2'),
        ('network.depth', 12, 'must be 6 n'),
        ('training.speed', 3.0, 'must be at most 2'),
        ('training.lazy_scale', 0.5, 'must be at least 1'),
        ('training.lazy_scale', 1.0, "must be above 1 with grid.phases 'trades_lazy'"),
        ('grid.phases', ('natural', 'natural'), 'must not name one twice'),
        ('grid.lams', (3.0, 3.0000001), 'must differ in their first six digits'),
        ('grid.widths', (1000000.0, 1000001.0), 'must differ in their first six digits'),
        ('threat.epsilon', 8.0, 'must be at most 1'),
        ('data.num_kernel', 100, 'must be at most data.num_train'),
    ],
)
def test_refused(key: str, value: Any, rule: str):
    with pytest.raises(ConfigError) as raised:
        settings(**{key: value})
    message = str(raised.value)
    assert rule in message and '\n' not in message
    assert key.split('.')[0] in message


def test_an_unknown_key_or_argument_is_refused():
    config = ntk_width.get_config('smoke').to_dict()
    config['training']['sped'] = 1.0
    with pytest.raises(ConfigError, match=r'training\.sped .*nearest: training\.speed'):
        read(Settings, config)
    with pytest.raises(ConfigError, match='nearest: relu'):
        ntk_width.get_config('rlu')
