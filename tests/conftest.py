"""Strictness for every test: several devices, no silent rank promotion (and see pyproject.toml)."""

import os
import tempfile

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

jax.config.update('jax_numpy_rank_promotion', 'raise')
