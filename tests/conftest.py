"""Strictness for every test: several devices, no silent rank promotion (and see pyproject.toml)."""

import functools
import gc
import os
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

# Before JAX starts: four devices on any machine, so that sharding is always exercised; and code
# that compiles several times faster, since the tests ask what is computed and not how fast: not
# optimized (in modules that use `optimized`: a little), each program in one piece, by the plainer
# emitters that JAX had until 0.11.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ['XLA_FLAGS'] = ' '.join(
    [
        os.environ.get('XLA_FLAGS', ''),
        '--xla_force_host_platform_device_count=4',
        '--xla_backend_optimization_level=1',
        '--xla_cpu_parallel_codegen_split_count=1',
        '--xla_cpu_use_fusion_emitters=false'
        if version('jaxlib').startswith(('0.9.', '0.10.'))
        else '',
    ]
)

# Programs that several tests, and the processes that they start, compile alike, are compiled once.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', tempfile.mkdtemp(prefix='war-jax-tests-'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')

import jax
import pytest

from war_jax import run
from war_jax.config_keys import CheckpointConfig, LogConfig, NtkConfig, WarConfig
from war_jax.report import figures
from war_jax.training import build as building
from war_jax.training.build import Parts, build

UNOPTIMIZED = 'jax_disable_most_optimizations'
jax.config.update('jax_numpy_rank_promotion', 'raise')

# Tracing makes objects by the million, few of them in cycles: by default, to look for those takes a
# fifth of its time.
gc.set_threshold(100_000, 20, 20)

# First, as long as there is other work beside them: a worker takes a module whole.
LONGEST = (
    'test_loop', 'test_recipes', 'test_evaluate_command', 'test_step', 'test_accelerator_day',
    'test_run', 'test_published_attacks', 'test_attacks_on_a_linear_network', 'test_runner',
    'test_surface',
)  # fmt: skip


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True, scope='module')
def room_for_programs():
    """Lets go of all compiled programs while there is room for more.

    Each takes three to four memory maps, of which Linux allows a process 65,530 by default
    (vm.max_map_count). A worker that runs half of this suite needs more, and the compiler crashes
    where it gets none. What is used again is traced again.
    """
    yield
    maps = Path('/proc/self/maps')
    if maps.exists() and maps.read_bytes().count(b'\n') > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope='module')
def optimized():
    """For modules whose programs run for longer than they take to compile."""
    before = jax.config.read(UNOPTIMIZED)
    jax.config.update(UNOPTIMIZED, False)
    yield
    jax.config.update(UNOPTIMIZED, before)


@pytest.fixture(autouse=True, scope='session')
def shared_programs():
    """Runs whose programs are the same have the same `Parts`: traced once, not once per run. Those
    that train differently, and are measured alike, have the same `Measures`.

    What is left out of the key reaches no program: seed, lambda and its rule are arguments of the
    step, and the rest is the host's. A change of anything else makes new programs.
    """
    known: dict[object, Parts] = {}

    def build_once(config, splits, mesh, reference=None) -> Parts:
        programs = replace(
            config,
            seed=0,
            smoke=False,
            objective=replace(config.objective, lam=0.0),
            war=WarConfig(),
            evaluation=replace(
                config.evaluation,
                every_epochs=1,
                num_examples=0,
                batch_size=1,
                restarts=1,
                curve_scales=(1.0,),
                curve_examples=0,
                select_on='validation',
                test_examples=0,
            ),
            checkpoint=CheckpointConfig(),
            log=LogConfig(),
            ntk=NtkConfig(),
        )
        key = (programs, splits.train.images.shape, splits.num_classes, mesh, *how())
        if key not in known:
            known[key] = build(config, splits, mesh, reference)
        return replace(known[key], config=config, reference=reference)

    def how():
        """What an array of Python's floats becomes says whether float64 is enabled."""
        return jax.numpy.result_type(float), jax.config.read(UNOPTIMIZED)

    @functools.cache
    def made(settings, *arguments):
        return real(*arguments)

    real = building.make_measures
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, 'build', build_once)
        patch.setattr(building, 'make_measures', lambda *arguments: made(how(), *arguments))
        yield


@pytest.fixture(scope='module')
def undrawn():
    """Reports without their figures, which take longer than all else of a smoke run's second run.

    They are drawn in the tests of reports, in test_loop's first run, and from the command line.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ('training_curves', 'examples', 'stability_curve'):
            patch.setattr(figures, name, lambda *_, **__: None)
        yield
