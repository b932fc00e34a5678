"""Accelerators by name, as XLA's compilers know them without a driver or a device.

    devices = devices_of('v5e:4x4')           # 16, of a TPU slice; needs libtpu
    devices = devices_of('h100')              # 1; needs JAX's CUDA plugin

Memory is that of a chip as its maker gives it; clocks are those with which the makers' peak for
bfloat16 follows from the size of the matrix units.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from war_jax.config_rules import ConfigError, nearest


class Chip(NamedTuple):
    memory: float  # bytes
    clock: float | None  # of XLA's estimated cycles, per second; None: it estimates none
    extra: str  # of setup.py


TPUS = {
    'v4': Chip(32 * 2**30, 1.05e9, 'rehearse-tpu'),
    'v5e': Chip(16 * 2**30, 1.5e9, 'rehearse-tpu'),
    'v5p': Chip(95 * 2**30, 1.75e9, 'rehearse-tpu'),
    'v6e': Chip(32 * 2**30, 1.75e9, 'rehearse-tpu'),
}
GPUS = {
    'h100': Chip(85e9, None, 'rehearse-gpu'),
    'h200': Chip(151e9, None, 'rehearse-gpu'),
}
# What XLA asks of a GPU: NVIDIA's figures of the SXM5 modules (both have the same chip, and other
# memory), in the fields of its GpuTargetConfigProto.
_HOPPER = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 l2_cache_size: 52428800
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth} device_memory_size: {memory}
  cuda_compute_capability {{ major: 9 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{name}"
"""
_BANDWIDTH = {'h100': 3_350_000_000_000, 'h200': 4_800_000_000_000}


def chip_of(topology: str) -> Chip:
    """Raises ConfigError for a name that is not known."""
    kind, _, _ = topology.partition(':')
    known = {**TPUS, **GPUS}
    if kind not in known:
        names = [*(f'{name}:2x2' for name in TPUS), *GPUS]
        rule = f'must be a TPU slice ({", ".join(TPUS)}: as v5e:4x4) or one of {", ".join(GPUS)}'
        choice = nearest(topology, names)
        raise ConfigError(f'--topology={topology}: {rule}; nearest: --topology={choice}')
    return known[kind]


def devices_of(topology: str) -> Sequence[Any]:
    """All devices of a topology. Raises ConfigError for one that there is not, and where the
    compiler is not installed."""
    from jax.experimental import topologies

    chip = chip_of(topology)
    try:
        if topology in GPUS:
            config = _HOPPER.format(
                bandwidth=_BANDWIDTH[topology], memory=int(chip.memory), name=topology.upper()
            )
            found = topologies.get_topology_desc(
                '', 'cuda', topology='1x1x1', target_config=config
            )
        else:
            found = topologies.get_topology_desc(topology, 'tpu')
    except RuntimeError as error:  # no plugin, or no such slice
        reason = ' '.join(str(error).split())[:200]
        raise ConfigError(
            f"--topology={topology}: no compiler for it ({reason}); pip install 'war-jax"
            f"[{chip.extra}]', and name a slice that exists, as v5e:2x2"
        ) from error
    return found.devices
