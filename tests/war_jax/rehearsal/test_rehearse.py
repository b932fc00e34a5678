"""The command that compiles for chips that are not there; their compilers are not installed here.

What it lowers is tried on this machine's CPU, which stands in for a topology.
"""

import json

import jax
import pytest

from configs import digits, wrn
from war_jax import compilation_cache, rehearse
from war_jax.config import ConfigError, resolve
from war_jax.mesh import make_mesh
from war_jax.rehearsal import chips
from war_jax.rehearsal.programs import programs, shapes_of

SMOKE = '--config=configs/digits.py:smoke'


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--topology=v5e:2x2', '--programs=stop'], 'nearest: step'),
        (['--topology=h1000'], 'nearest: --topology=h100'),
        ([], '--topology: must be given'),
    ],
)
def test_what_is_unknown_is_refused(arguments, words, capsys):
    assert rehearse.main(['rehearse', SMOKE, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_without_a_compiler_it_says_what_to_install(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError('no libtpu')

    monkeypatch.setattr('jax.experimental.topologies.get_topology_desc', fail)
    with pytest.raises(ConfigError, match=r"pip install 'war-jax\[rehearse-tpu\]'"):
        chips.devices_of('v5e:2x2')
    with pytest.raises(ConfigError, match=r"pip install 'war-jax\[rehearse-gpu\]'"):
        chips.devices_of('h200')


def test_peaks_follow_from_clocks():
    """The makers' peaks: units of 128 x 128 (v6e: 256 x 256), two operations per clock."""
    for name, units, side, peak in (
        ('v4', 8, 128, 275e12), ('v5e', 4, 128, 197e12), ('v5p', 8, 128, 459e12),
        ('v6e', 4, 256, 918e12),
    ):  # fmt: skip
        clock = chips.TPUS[name].clock or 0
        assert clock * units * side**2 * 2 == pytest.approx(peak, rel=0.01)


def test_sizes_are_those_of_the_data():
    splits = shapes_of(resolve(wrn.get_config('34-10')))
    assert splits.train.images.shape == (49_000, 32, 32, 3)
    assert (len(splits.test.labels), splits.num_classes) == (10_000, 10)
    config = digits.get_config('smoke')
    config.data.name = 'npz:mine.npz'
    with pytest.raises(ConfigError, match='reads no data'):
        shapes_of(resolve(config))


def test_a_rehearsal(monkeypatch, tmp_path, capsys):
    config = resolve(digits.get_config('smoke'))
    assert set(programs(config, make_mesh())) == set(rehearse.NAMES)
    monkeypatch.setattr(chips, 'devices_of', lambda topology: jax.devices())
    # Nothing fits into a chip without memory.
    monkeypatch.setitem(chips.TPUS, 'v5e', chips.Chip(0.0, None, 'rehearse-tpu'))
    # What is kept could not be loaded again.
    monkeypatch.setattr(compilation_cache, 'keep_programs', lambda: pytest.fail('is kept'))
    output = tmp_path / 'rehearsal.json'
    arguments = ['--topology=v5e:2x2', '--programs=attack', f'--output={output}']
    assert rehearse.main(['rehearse', SMOKE, *arguments]) == 1
    assert 'attack: DOES NOT FIT: ' in capsys.readouterr().out
    row = json.loads(output.read_text())['programs']['attack']
    assert not row['fits'] and row['launches'] > 10 and row['estimated_seconds'] is None


def test_what_it_says():
    row = {
        'fits': True, 'argument_bytes': 2**20, 'temporary_bytes': 2**21, 'output_bytes': 0,
        'memory_bytes': 2**34, 'launches': 12, 'collectives': {'all-reduce': 3},
        'collective_bytes': {'all-reduce': 2_500_000}, 'estimated_seconds': 0.0015,
        'compile_seconds': 61.2, 'loops_of_unknown_length': 0,
    }  # fmt: skip
    assert rehearse.sentence(row) == (
        'fits: 3.0 MiB of 16.0 GiB (arguments 1.0 MiB, temporary 2.0 MiB); 12 launches; '
        '3 all-reduce (2.5 MB); 1.5 ms by XLA; compiled in 61 s'
    )
