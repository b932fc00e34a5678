"""The processes of one job: how they find each other, and what they have to agree on.

    join('')                                        # before JAX starts its backend; see `join`
    about = on_first(lambda: claim(workdir))        # done by process 0, told to all
    if is_first():
        write_json(path, about)                     # one writer
    check_same('the data', digest)                  # ConfigError if theirs are others

All processes run the same program on the same configuration: whatever one of them decides, all have
to decide at the same place. They share a disk. Each holds devices of its own; `war_jax.mesh` puts
those of all processes on one axis.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from glob import glob
from importlib.util import find_spec
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from war_jax.config_rules import ConfigError

VARIABLE = 'WAR_JAX_PROCESS'
LOST = 75  # exit code, EX_TEMPFAIL: another process is gone; start all of them again
# What a cluster puts into the environment of a process that is one of several.
_SIGNS = ('OMPI_MCA_orte_hnp_uri', 'MEGASCALE_COORDINATOR_ADDRESS', 'TPU_WORKER_HOSTNAMES')
# Seconds without a sign of life, after which a process counts as lost. Most losses are noticed at
# once, by a connection that is closed; this is for machines that hang.
_PATIENCE = int(os.environ.get('WAR_JAX_PATIENCE', '100'))

Value = TypeVar('Value')


class LostError(RuntimeError):
    """Another process of the job is gone."""

    exit_code = LOST


def join(process: str) -> None:
    """Make this process part of its job; call it before anything else of JAX.

    process: 'i/n@host:port', number i = 0 ... n - 1 of n processes, of which process 0 listens at
    host:port; 'alone'; or '': what the environment variable WAR_JAX_PROCESS says, or else what JAX
    finds out by itself on SLURM (inside srun), Open MPI and TPU pods.
    Raises ConfigError, one line, for a text that is none of these and if the others cannot be
    reached within five minutes.
    """
    process = process or os.environ.get(VARIABLE, '')
    if jax.distributed.is_initialized() or process == 'alone':
        return
    arguments: dict[str, Any] = {}
    if process:
        index, count, address = read_process(process)
        arguments = {
            'coordinator_address': address,
            'num_processes': count,
            'process_id': index,
            'cluster_detection_method': 'deactivate',
        }
    elif not on_a_cluster():
        return
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    try:
        jax.distributed.initialize(**arguments, heartbeat_timeout_seconds=_PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f'--process={process}: the processes of this job do not find each other ({error}); '
            'give --process=i/n@host:port, or --process=alone for a single one'
        ) from error


def read_process(text: str) -> tuple[int, int, str]:
    """'1/2@host:8476' -> (1, 2, 'host:8476'). Raises ConfigError."""
    match = re.fullmatch(r'(\d+)/(\d+)@(.+:\d+)', text)
    if match is None or not int(match[1]) < int(match[2]):
        rule = 'must be i/n@host:port with i from 0 to n - 1, or alone'
        raise ConfigError(f'--process={text}: {rule}; nearest: --process=0/1@localhost:8476')
    return int(match[1]), int(match[2]), match[3]


def on_a_cluster() -> bool:
    """Whether this is one of several processes, as far as the environment tells."""
    tasks = os.environ.get('SLURM_NTASKS', '1') if 'SLURM_STEP_NODELIST' in os.environ else '1'
    is_tpu_host = find_spec('libtpu') is not None and (glob('/dev/accel*') or glob('/dev/vfio/*'))
    return tasks != '1' or any(sign in os.environ for sign in _SIGNS) or bool(is_tpu_host)


def is_one_of_several() -> bool:
    """Whether `join` made this process part of a job of more than one; starts no backend."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes files and talks."""
    return jax.process_index() == 0


def agree(value: int) -> jax.Array:
    """The largest `value` (0 to 2^31 - 1) of all processes, ().

    All processes have to call it. It is not waited for until its number is asked for.
    """
    devices = np.asarray(jax.devices())
    mesh = jax.sharding.Mesh(devices, ('all',))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('all'))
    mine = np.full(len(devices), value, np.int32)
    values = jax.make_array_from_callback(mine.shape, split, lambda index: mine[index])
    return _largest(values)


@jax.jit
def _largest(values: jax.Array) -> jax.Array:
    return values.max()


def on_first(action: Callable[[], Value]) -> Value:
    """Process 0 does it; all get its result, which must be of JSON's types, or its error.

    A ConfigError or OSError is raised on all processes, others on process 0 alone.
    """
    if jax.process_count() == 1:
        return action()
    outcome, caught = {}, None
    if is_first():
        try:
            outcome = {'value': action()}
        except (ConfigError, OSError) as error:
            outcome, caught = {'error': type(error).__name__, 'text': str(error)}, error
    text = json.dumps(outcome).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    padded = np.frombuffer(text.ljust(size)[:size], np.uint8)
    outcome = json.loads(multihost_utils.broadcast_one_to_all(padded).astype(np.uint8).tobytes())
    if caught is not None:
        raise caught
    if 'error' in outcome:
        kinds = {kind.__name__: kind for kind in (ConfigError, *ConfigError.__subclasses__())}
        raise kinds.get(outcome['error'], OSError)(outcome['text'])
    return outcome['value']


def check_same(what: str, value: Any) -> None:
    """Raises ConfigError on all processes unless `value`, in JSON, is the same on all of them."""
    if jax.process_count() == 1:
        return
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
    number = int.from_bytes(digest[:3], 'big')
    largest, smallest = int(agree(number)), 2**24 - int(agree(2**24 - number))
    if largest != smallest:
        raise ConfigError(
            f'{what} of process {jax.process_index()} of {jax.process_count()} differ from those '
            'of others: all processes of a job need the same; separate ones want --process=alone'
        )


def wait_for_all() -> None:
    """Returns when all processes have called it."""
    if jax.process_count() > 1:
        int(agree(0))


def exit_code(error: Exception) -> int | None:
    """Of a command that ends with it; None for an error that is one of ours in the program.

    2 for what was refused, 1 for what failed, LOST where another process went away.
    """
    if is_one_of_several() and isinstance(error, jax.errors.JaxRuntimeError):
        return LOST
    return getattr(error, 'exit_code', 1 if isinstance(error, OSError | ImportError) else None)
