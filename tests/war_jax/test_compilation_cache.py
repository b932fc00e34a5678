"""Where compiled programs are kept, and who decides. Oracle: the files of a folder."""

from collections.abc import Iterator

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from war_jax import compilation_cache

NAMES = (
    'jax_compilation_cache_dir',
    'jax_compilation_cache_max_size',
    'jax_persistent_cache_min_compile_time_secs',
    'jax_enable_compilation_cache',
)


@pytest.fixture(autouse=True)
def untouched(monkeypatch, tmp_path):
    before = {name: getattr(jax.config, name) for name in NAMES}
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    jax.config.update('jax_compilation_cache_dir', None)
    jax_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax_cache.reset_cache()


def folder_in_use() -> str | None:
    return getattr(jax.config, NAMES[0])


def programs(folder) -> list[str]:
    return [path.name for path in folder.rglob('*-cache')]


@pytest.fixture
def hits() -> Iterator[list[str]]:
    """One entry for each program that JAX found in its cache."""
    found: list[str] = []

    def listen(event: str, **_: object) -> None:
        if event == '/jax/compilation_cache/cache_hits':
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.unregister_event_listener(listen)


def compile_something() -> None:
    """A function of its own each time: what JAX keeps in memory does not know it."""
    jax.jit(lambda x: jnp.sin(x) @ x + 17)(np.arange(3.0, dtype=np.float32))


def test_a_program_is_kept_and_found_again(tmp_path, monkeypatch, hits):
    monkeypatch.setattr(compilation_cache, 'WORTH_IT', 0.0)
    compilation_cache.keep_programs()
    compile_something()
    assert programs(tmp_path) == programs(compilation_cache.cache_folder()) != []
    assert not hits
    compile_something()
    assert len(hits) == 1


def test_what_was_interrupted_is_compiled_again(tmp_path, monkeypatch, hits):
    """A program is written first, and then the time of its use."""
    monkeypatch.setattr(compilation_cache, 'WORTH_IT', 0.0)
    compilation_cache.keep_programs()
    compile_something()
    (program,) = compilation_cache.cache_folder().glob('*-cache')
    whole = program.read_bytes()
    program.write_bytes(whole[:100])
    time_of_use = program.with_name(program.name.replace('-cache', '-atime'))
    time_of_use.unlink()
    program.with_name('gone-atime').touch()

    jax.config.update('jax_compilation_cache_dir', None)
    jax_cache.reset_cache()
    compilation_cache.keep_programs()
    assert not list(compilation_cache.cache_folder().glob('*-*'))
    compile_something()
    assert not hits
    assert program.exists() and time_of_use.exists()
    compile_something()
    assert len(hits) == 1


@pytest.mark.parametrize(
    ('name', 'value'),
    [('jax_compilation_cache_dir', '/chosen'), ('jax_enable_compilation_cache', False)],
)
def test_the_user_decides(tmp_path, name, value):
    jax.config.update(name, value)
    compilation_cache.keep_programs()
    assert getattr(jax.config, name) == value
    assert folder_in_use() in (None, '/chosen')
    assert not list(tmp_path.iterdir())


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    blocked = tmp_path / 'file'
    blocked.touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(blocked))
    compilation_cache.keep_programs()
    assert folder_in_use() is None


def test_kinds_of_cpus_do_not_share_programs(monkeypatch):
    folder = compilation_cache.cache_folder()
    monkeypatch.setattr(compilation_cache, '_features', lambda: 'flags: none')
    assert compilation_cache.cache_folder() != folder
