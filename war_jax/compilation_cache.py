"""Compiled programs are kept in the user's cache folder, for later runs of the same shapes.

    keep_programs()                             # before the first one is compiled

JAX's own variables go first: JAX_COMPILATION_CACHE_DIR names another folder, whose limits are then
JAX's, and JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.
"""

import hashlib
import os
import platform
from pathlib import Path

import jax
from filelock import FileLock

LARGEST = 2**31  # bytes; beyond, the programs that were not used for longest go
WORTH_IT = 0.5  # seconds of compilation


def keep_programs() -> None:
    """Where no folder can be made, every run compiles, as it would without."""
    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if chosen is not None or not jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        return
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        _drop_torn(folder)
    except (OSError, RuntimeError):  # a RuntimeError if there is no home
        return
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_compilation_cache_max_size', LARGEST)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', WORTH_IT)


def cache_folder() -> Path:
    """One for each kind of CPU: machines that share a home may not understand each other's code."""
    base = os.environ.get('XDG_CACHE_HOME')
    kind = hashlib.sha256(_features().encode()).hexdigest()[:12]
    return (Path(base) if base else Path.home() / '.cache') / 'war-jax' / kind


def _drop_torn(folder: Path) -> None:
    """A program is written before the time of its use: one without the other was interrupted.

    JAX would neither replace it nor, since it reads all times, write another one.
    """
    with FileLock(folder / '.lockfile', timeout=10):  # JAX's own
        for ending, other in (('-cache', '-atime'), ('-atime', '-cache')):
            for path in folder.glob(f'*{ending}'):
                if not path.with_name(path.name.removesuffix(ending) + other).exists():
                    path.unlink()


def _features() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.platform()
    return next((line for line in lines if line.startswith(('flags', 'Features'))), '')
