"""The empirical NTK of a WideResNet: `ntk.empirical` beside neural-tangents, in time and memory.

    python -m benchmarks.empirical_ntk --network=16-1 --images=64 --blocks=16,32,64 --repeats=5

    ours      empirical_ntk(..., method='jacobian') on all devices; on CPU the cores are made such
    ours, 1   the same on one of them
    nt        nt.empirical_ntk_fn(implementation=JACOBIAN_CONTRACTION, vmap_axes=0), jitted: in one
              piece where a block holds all images, otherwise cut into blocks by nt.batch, which
              computes both halves of the symmetric kernel. On one device

All three work on the same images at the same block size; BatchNorm is in inference mode, the images
are random, which changes no time. Seconds are medians of interleaved calls in one process, without
compilation. Memory is that of a process of its own per way: the most that is resident during a
second call, less what was resident before the first (Linux only). The first line of a pair is for
all outputs, (n, n, k, k), the second for their mean, (n, n).
"""

import argparse
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from benchmarks.flops import INPUT_CHANNELS, INPUT_SIZE, NUM_CLASSES, Network, parse_network
from benchmarks.timing import cpu_usage, interleave, others_share
from ntk.compat import nt
from ntk.empirical import empirical_ntk, kernel_distance
from ntk.empirical.blocks import Outputs
from ntk.functional import functional
from war_jax.mesh import make_mesh, spread_over_cores
from war_jax.models.wide_resnet import WideResNet

PROC_SELF = Path('/proc/self')
WAYS = ('ours', 'ours, 1', 'nt')


class Task(NamedTuple):
    """One kernel to compute."""

    network: Network
    num_images: int
    block_size: int
    outputs: Outputs


def make_way(way: str, task: Task) -> Callable[[], np.ndarray]:
    """Calls compute the kernel, the first one after compiling."""
    model = WideResNet(task.network.depth, task.network.widen_factor, NUM_CLASSES)
    shape = (task.num_images, INPUT_SIZE, INPUT_SIZE, INPUT_CHANNELS)
    x = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    init = jax.jit(partial(model.init, train=False))
    f, params = functional(model, init(jax.random.key(0), x[:1]), train=False)
    if way != 'nt':
        return partial(
            empirical_ntk,
            f,
            params,
            x,
            outputs=task.outputs,
            block_size=task.block_size,
            mesh=make_mesh(jax.devices()[: 1 if way == 'ours, 1' else None]),
        )
    kernel: Any = nt.empirical_ntk_fn(
        cast(Any, f),
        trace_axes=() if task.outputs == 'full' else (-1,),
        vmap_axes=0,
        implementation=nt.NtkImplementation.JACOBIAN_CONTRACTION,
    )
    if task.block_size >= task.num_images:
        whole = jax.jit(lambda x, params: kernel(x, None, params))
        return lambda: np.asarray(whole(x, params))
    blocked = nt.batch(kernel, batch_size=task.block_size, device_count=0)
    return lambda: np.asarray(blocked(x, None, params))


def peak_memory(way: str, task: Task) -> float | None:
    """MiB, measured in a new process; None where the system has no /proc."""
    if not (PROC_SELF / 'clear_refs').exists():
        return None
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_peak_memory_here, way, task).result()


def _peak_memory_here(way: str, task: Task) -> float:
    spread_over_cores()
    run = make_way(way, task)
    before = status_mib((PROC_SELF / 'status').read_text(), 'VmRSS')
    run()  # compiling takes memory of its own
    (PROC_SELF / 'clear_refs').write_text('5')  # resets VmHWM, see proc(5)
    run()
    return status_mib((PROC_SELF / 'status').read_text(), 'VmHWM') - before


def status_mib(status: str, name: str) -> float:
    """A size out of the text of /proc/self/status, which gives them in units of 1024 bytes."""
    line = next(line for line in status.splitlines() if line.startswith(f'{name}:'))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.empirical_ntk', description=__doc__)
    parser.add_argument('--network', default='16-1', help='WideResNet, depth and widen factor')
    parser.add_argument('--images', type=int, default=64)
    parser.add_argument('--blocks', default='16,32,64', help='block sizes; they divide the images')
    parser.add_argument('--repeats', type=int, default=5, help='timings of each way')
    flags = parser.parse_args()
    network = parse_network(flags.network)
    spread_over_cores()
    print(f'WRN-{network}, {flags.images} random images of {INPUT_SIZE} x {INPUT_SIZE};', end=' ')
    print(f'ours on {jax.device_count()} x {jax.devices()[0].device_kind}')
    print('                       seconds                               peak memory, MiB')
    print('block outputs     ours  ours, 1       nt  nt / ours    ours  ours, 1       nt   others')
    for block_size in map(int, flags.blocks.split(',')):
        for outputs in ('full', 'mean'):
            task = Task(network, flags.images, block_size, outputs)
            ways = {way: make_way(way, task) for way in WAYS}
            theta, reference = ways['ours'](), ways['nt']()
            if kernel_distance(theta, reference) > 1e-4:
                raise SystemExit(f'{task}: the kernels differ')
            before = cpu_usage()
            timings = interleave(ways, repeats=flags.repeats)
            share = others_share(before, cpu_usage())
            seconds = [timings[way].median for way in WAYS]
            print(
                f'{block_size:>5} {outputs:>7}', *(f'{taken:>8.2f}' for taken in seconds),
                f'{seconds[2] / seconds[0]:>10.2f}',
                *(f'{cell(peak_memory(way, task), ".0f"):>8}' for way in WAYS),
                f'{cell(share, ".0%"):>8}',
                flush=True,
            )  # fmt: skip


def cell(value: float | None, spec: str) -> str:
    return '-' if value is None else format(value, spec)


if __name__ == '__main__':
    main()
