"""What the machine can do at best: a large matrix product and a large convolution, in FLOP/s.

    functions = ceilings('float32', 'cpu')
    timings = interleave({name: ceiling.run for name, ceiling in functions.items()}, repeats=5)
    fastest = max(functions[name].flops / timing.median for name, timing in timings.items())

A training step's share of the fastest of these says how much is left to gain. They are measured
in the run they are compared with, because a shared or throttled machine has no fixed peak.
"""

# torch is an extra, which linting does without.
# pyright: reportMissingImports=false

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from torch.nn import functional

from benchmarks.flops import Convolution
from benchmarks.torch_baseline import wait_for
from war_jax.mesh import AXIS, make_mesh, replicate, shard

CPU_SIZES = (2048, 64)  # of the matrix; images in the batch, at least
GPU_SIZES = (8192, 1024)  # milliseconds, beside which starting an operation takes no time
# The 3x3 convolution of WRN-34-10's first stage: most of the paper's network looks like this.
LARGE = Convolution(input_size=32, kernel=3, stride=1, in_channels=160, out_channels=160)


class Ceiling(NamedTuple):
    """An operation of known cost; `run` returns when it is done."""

    flops: int
    run: Callable[[], object]


def benchmark_mesh() -> Mesh:
    """All devices of a CPU; one accelerator, since PyTorch's step uses one, too."""
    return make_mesh(jax.devices()[: None if jax.default_backend() == 'cpu' else 1])


def ceilings(dtype: str, torch_device: str) -> dict[str, Ceiling]:
    """'jax_matmul', 'jax_convolution', 'torch_matmul' and 'torch_convolution'.

    dtype: 'float32', which on a GPU means TensorFloat-32 where a framework's default says so, or
    'bfloat16'. torch_device: 'cpu' or 'cuda'.
    """
    size, batch = CPU_SIZES if torch_device == 'cpu' else GPU_SIZES
    mesh = benchmark_mesh()
    batch = -(-batch // mesh.size) * mesh.size
    matmul_flops, convolution_flops = 2 * size**3, LARGE.flops(batch)
    of_jax = jnp.dtype(dtype)
    of_torch = {'dtype': getattr(torch, dtype), 'device': torch_device}
    return {
        'jax_matmul': Ceiling(matmul_flops, _jax_matmul(size, of_jax)),
        'jax_convolution': Ceiling(convolution_flops, _jax_convolution(mesh, batch, of_jax)),
        'torch_matmul': Ceiling(matmul_flops, _torch_matmul(size, of_torch)),
        'torch_convolution': Ceiling(convolution_flops, _torch_convolution(batch, of_torch)),
    }


def _jax_matmul(size: int, dtype: jnp.dtype) -> Callable[[], object]:
    left, right = jax.random.normal(jax.random.key(0), (2, size, size), dtype)
    product = jax.jit(jnp.matmul)
    return lambda: product(left, right).block_until_ready()


def _jax_convolution(mesh: Mesh, batch: int, dtype: jnp.dtype) -> Callable[[], object]:
    image_shape = (batch, LARGE.input_size, LARGE.input_size, LARGE.in_channels)
    kernel_shape = (LARGE.kernel, LARGE.kernel, LARGE.in_channels, LARGE.out_channels)
    images = np.asarray(jax.random.normal(jax.random.key(0), image_shape, dtype))
    kernel = jax.random.normal(jax.random.key(1), kernel_shape, dtype)

    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )

    # A CPU device convolves on one core, so each gets its share of the images, as in training.
    specs = {'in_specs': (P(AXIS), P()), 'out_specs': P(AXIS)}
    program = jax.jit(jax.shard_map(convolve, mesh=mesh, **specs))
    (images,), kernel = shard(mesh, (images,)), replicate(mesh, kernel)
    return lambda: program(images, kernel).block_until_ready()


def _torch_matmul(size: int, of_torch: dict[str, Any]) -> Callable[[], object]:
    left, right = torch.randn(2, size, size, **of_torch)
    return lambda: wait_for(left @ right)


def _torch_convolution(batch: int, of_torch: dict[str, Any]) -> Callable[[], object]:
    images = torch.randn(batch, LARGE.in_channels, LARGE.input_size, LARGE.input_size, **of_torch)
    kernel = torch.randn(
        LARGE.out_channels, LARGE.in_channels, LARGE.kernel, LARGE.kernel, **of_torch
    )
    images = images.contiguous(memory_format=torch.channels_last)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    return lambda: wait_for(functional.conv2d(images, kernel, padding=LARGE.kernel // 2))
