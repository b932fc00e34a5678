"""Strictness for every test: several devices, no silent rank promotion (and see pyproject.toml)."""

import os
import tempfile
from dataclasses import replace

# Before JAX starts: four devices on any machine, so that sharding is always exercised; and code
# that compiles four times faster, since the tests ask what is computed and not how fast.
os.environ['XLA_FLAGS'] = ' '.join(
    [
        os.environ.get('XLA_FLAGS', ''),
        '--xla_force_host_platform_device_count=4',
        '--xla_backend_optimization_level=0',
    ]
)

# Programs that several tests, and the processes that they start, compile alike, are compiled once.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', tempfile.mkdtemp(prefix='war-jax-tests-'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')

import jax
import pytest

from war_jax import run
from war_jax.config_keys import CheckpointConfig, EvaluationConfig, LogConfig, NtkConfig, WarConfig
from war_jax.training.build import Parts, build

jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture(autouse=True, scope='session')
def shared_programs():
    """Runs whose programs are the same have the same `Parts`: traced once, not once per run.

    What is left out of the key reaches no program: seed, lambda and its rule are arguments of the
    step, and the rest is the host's. A change of anything else makes new programs.
    """
    known: dict[object, Parts] = {}

    def build_once(config, splits, mesh, reference=None) -> Parts:
        test, default = config.evaluation, EvaluationConfig()
        attack = {
            name: getattr(test, name) for name in ('num_steps', 'step_size', 'init', 'init_scale')
        }
        programs = replace(
            config,
            seed=0,
            smoke=False,
            objective=replace(config.objective, lam=0.0),
            war=WarConfig(),
            evaluation=replace(default, **attack),
            checkpoint=CheckpointConfig(),
            log=LogConfig(),
            ntk=NtkConfig(),
        )
        images = splits.train.images
        key = (programs, images.shape, splits.num_classes, mesh, jax.config.jax_enable_x64)
        if key not in known:
            known[key] = build(config, splits, mesh, reference)
        return replace(known[key], config=config, reference=reference)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, 'build', build_once)
        yield
