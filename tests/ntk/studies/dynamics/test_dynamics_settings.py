"""What may be set. Oracle: the settings typed wrong."""

from pathlib import Path

import pytest

from configs import ntk_run
from ntk.studies.dynamics.settings import Settings
from war_jax.config import ConfigError
from war_jax.lab.settings import read


def test_settings():
    settings = read(Settings, ntk_run.get_config())
    assert (settings.num_train, settings.num_test, settings.batch_norm) == (64, 128, 'batch')
    values = ntk_run.get_config().to_dict()
    same = read(Settings, {**values, 'block_size': 3, 'max_probes': 4})
    assert same.digest == settings.digest
    others = [{'num_train': 32}, {'num_test': 32}, {'attack_steps': 3}, {'batch_norm': 'inference'}]
    digests = {read(Settings, {**values, **other}).digest for other in others}
    assert len(digests | {settings.digest}) == 5


@pytest.mark.parametrize(
    ('key', 'value', 'line'),
    [
        ('num_train', 1, 'num_train = 1: must be 0 or at least 2; nearest: 2'),
        ('max_probes', 1, 'max_probes = 1: must be 0 or at least 2; nearest: 2'),
        ('num_test', -1, 'num_test = -1: must be at least 0'),
        ('batch_norm', 'train', "batch_norm = 'train': must be one of 'inference', 'batch'"),
        ('num_trian', 3, 'num_trian = 3: no such key; nearest: num_train'),
    ],
)
def test_refused_settings(key: str, value: object, line: str):
    with pytest.raises(ConfigError) as error:
        read(Settings, {**ntk_run.get_config().to_dict(), key: value})
    assert line in str(error.value)


def test_the_config_file_explains_every_key():
    lines = [line.strip() for line in Path(ntk_run.__file__).read_text().splitlines()]
    keys = [i for i, line in enumerate(lines) if line.startswith("'") and ': ' in line]
    assert len(keys) == len(ntk_run.DEFAULTS) == 7
    assert not [lines[i] for i in keys if not lines[i - 1].startswith('#')]
