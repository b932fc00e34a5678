"""Which steps are traced. Oracle: the file that JAX's profiler writes, and when it is asked to."""

import jax
import jax.numpy as jnp
import pytest

from war_jax.records.profile import Profile


def test_a_trace_is_a_file(tmp_path):
    step = jax.jit(lambda x: x + 1)
    x, finished = jnp.zeros(3), []
    with Profile(tmp_path / 'profile', first=3, steps=2) as profile:
        for number in range(1, 7):
            profile.before(number, lambda x=x: finished.append(x.block_until_ready()))
            x = step(x)
    assert len(list(tmp_path.rglob('*.xplane.pb'))) == 1
    assert [list(at) for at in finished] == [[2.0] * 3, [4.0] * 3]


@pytest.mark.parametrize(
    ('steps', 'through', 'calls'),
    [(0, 6, []), (2, 6, ['start 3', 'stop 5']), (9, 6, ['start 3', 'stop 6']), (2, 2, [])],
)
def test_when_it_starts_and_stops(monkeypatch, tmp_path, steps, through, calls):
    found, now = [], 0
    monkeypatch.setattr(jax.profiler, 'start_trace', lambda folder: found.append(f'start {now}'))
    monkeypatch.setattr(jax.profiler, 'stop_trace', lambda: found.append(f'stop {now}'))
    with Profile(tmp_path, first=3, steps=steps) as profile:
        for now in range(1, through + 1):
            profile.before(now, lambda: None)
    assert found == calls


def test_an_error_ends_the_trace(monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(jax.profiler, 'start_trace', lambda folder: found.append('start'))
    monkeypatch.setattr(jax.profiler, 'stop_trace', lambda: found.append('stop'))
    with pytest.raises(KeyError), Profile(tmp_path, first=1, steps=5) as profile:
        profile.before(1, lambda: None)
        raise KeyError
    assert found == ['start', 'stop']
