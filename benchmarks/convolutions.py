"""Every convolution of a network by itself, ours beside PyTorch's, in GFLOP/s.

    python -m benchmarks.convolutions --networks=10-1,16-2,34-1 --batch=64

Forward, the gradient of the image and the gradient of the kernel, float32, on all cores; each shape
with its share of the fastest ceiling (`benchmarks.ceilings`) measured in the same run. What is
below a fifth of that is marked: an XLA program that should be written another way
(`war_jax.models.convolution`). Small convolutions are made several times in one call, each with an
input of its own, since starting a program takes longer than they do. Writes
runs/bench/convolutions.json.
"""

# torch is an extra, which linting does without.
# pyright: reportMissingImports=false

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

try:
    import torch
except ModuleNotFoundError as error:
    raise SystemExit("the baseline needs PyTorch: pip install -e '.[torch]'") from error
from torch.nn import functional

from benchmarks.ceilings import ceilings
from benchmarks.flops import Convolution, convolutions, parse_network
from benchmarks.timing import cpu_usage, interleave, others_share
from benchmarks.torch_baseline import prepare
from war_jax.mesh import AXIS, make_mesh, shard, spread_over_cores
from war_jax.models.convolution import convolve
from war_jax.records.files import write_json

OUTPUT = Path('runs/bench/convolutions.json')
SLOW = 0.2  # of the ceiling
WORK = 300e6  # FLOPs that one call should have at least
MOST = 16  # convolutions in one call
DIGITS = (
    Convolution(8, 3, 1, 1, 16),
    Convolution(8, 3, 1, 16, 32),
    Convolution(8, 3, 1, 32, 32),
    Convolution(8, 1, 1, 16, 32),
    Convolution(8, 3, 2, 32, 64),
    Convolution(4, 3, 1, 64, 64),
    Convolution(8, 1, 2, 32, 64),
    Convolution(4, 3, 1, 64, 128),
    Convolution(4, 3, 1, 128, 128),
    Convolution(4, 1, 1, 64, 128),
)  # of configs/digits.py, WRN-10-2


def of_jax(convolution: Convolution, batch: int, times: int) -> dict[str, Callable[[], object]]:
    """Programs that make `times` convolutions each."""
    mesh, rng = make_mesh(), np.random.default_rng(0)
    c = convolution
    kernel = rng.standard_normal((c.kernel, c.kernel, c.in_channels, c.out_channels), np.float32)
    image_shape = (batch, c.input_size, c.input_size, c.in_channels)
    result_shape = (batch, c.output_size, c.output_size, c.out_channels)
    xs, ys = (
        shard(mesh, [rng.standard_normal(shape, np.float32) for _ in range(times)])
        for shape in (image_shape, result_shape)
    )

    def backward(argument: int) -> Callable[..., jax.Array]:
        def gradient(x: jax.Array, kernel: jax.Array, y: jax.Array) -> jax.Array:
            def of(value: jax.Array) -> jax.Array:
                both = (value, kernel) if argument == 0 else (x, value)
                return convolve(*both, c.stride)

            result = jax.vjp(of, (x, kernel)[argument])[1](y)[0]
            return result if argument == 0 else result[None]

        return gradient

    programs = {
        'forward': lambda x, kernel, y: convolve(x, kernel, c.stride),
        'image': backward(0),
        'kernel': backward(1),
    }

    def call(function: Callable[..., jax.Array]) -> Callable[[], object]:
        def all_of_them(xs: list[jax.Array], kernel: jax.Array, ys: list[jax.Array]) -> Any:
            return [function(x, kernel, y) for x, y in zip(xs, ys, strict=True)]

        mapped = jax.shard_map(
            all_of_them,
            mesh=mesh,
            in_specs=(P(AXIS), P(), P(AXIS)),
            out_specs=P(AXIS),
            check_vma=False,  # each device's own part of a kernel's gradient
        )
        program = jax.jit(mapped)
        return lambda: jax.block_until_ready(program(xs, kernel, ys))

    return {name: call(function) for name, function in programs.items()}


def of_torch(convolution: Convolution, batch: int, times: int) -> dict[str, Callable[[], object]]:
    c, layout = convolution, torch.channels_last
    kernel = torch.randn(c.out_channels, c.in_channels, c.kernel, c.kernel)
    kernel = kernel.to(memory_format=layout).requires_grad_()
    xs = [
        torch.randn(batch, c.in_channels, c.input_size, c.input_size)
        .to(memory_format=layout)
        .requires_grad_()
        for _ in range(times)
    ]

    def forward(x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, kernel, stride=c.stride, padding=c.kernel // 2)

    def quiet() -> None:
        with torch.no_grad():
            for x in xs:
                forward(x)

    pairs = [(forward(x), x) for x in xs]
    directions = [torch.randn_like(y) for y, _ in pairs]

    def gradients(of: Callable[[torch.Tensor], torch.Tensor]) -> None:
        for (y, x), direction in zip(pairs, directions, strict=True):
            torch.autograd.grad(y, of(x), direction, retain_graph=True)

    return {
        'forward': quiet,
        'image': lambda: gradients(lambda x: x),
        'kernel': lambda: gradients(lambda x: kernel),
    }


def measure(convolution: Convolution, batch: int, repeats: int) -> dict[str, Any]:
    """GFLOP/s by pass, ours and PyTorch's."""
    times = min(MOST, math.ceil(WORK / convolution.flops(batch)))
    functions = {
        (side, name): run
        for side, made in (('ours', of_jax), ('baseline', of_torch))
        for name, run in made(convolution, batch, times).items()
    }
    named = {f'{side} {name}': run for (side, name), run in functions.items()}
    timings = interleave(named, repeats=repeats, warmup=2, settle_seconds=0.01)
    flops = times * convolution.flops(batch)
    row: dict[str, Any] = {'convolution': convolution._asdict(), 'batch': batch}
    for side, name in functions:
        row.setdefault(side, {})[name] = flops / timings[f'{side} {name}'].median / 1e9
    return row


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.convolutions', description=__doc__)
    parser.add_argument('--networks', default='10-1,16-2', help="such as 10-1,16-2, or digits'")
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--repeats', type=int, default=9)
    flags = parser.parse_args()
    prepare()
    spread_over_cores(flags.batch)
    shapes: list[Convolution] = []
    for name in flags.networks.split(','):
        shapes += DIGITS if name == 'digits' else convolutions(parse_network(name))
    before = cpu_usage()
    limits = ceilings('float32', 'cpu')
    timings = interleave({name: limit.run for name, limit in limits.items()}, repeats=5)
    ceiling = max(limit.flops / timings[name].median for name, limit in limits.items()) / 1e9
    rows = [measure(shape, flags.batch, flags.repeats) for shape in dict.fromkeys(shapes)]
    share = others_share(before, cpu_usage())
    write_json(OUTPUT, {'ceiling_gflops': ceiling, 'others_share': share, 'rows': rows})
    print(f'ceiling {ceiling:.0f} GFLOP/s; others used {share or 0:.0%} of the cores')
    print('size kernel stride channels     forward (PyTorch)  image (PyTorch)  kernel (PyTorch)')
    for row in rows:
        c, text = row['convolution'], ''
        for name in ('forward', 'image', 'kernel'):
            ours, theirs = row['ours'][name], row['baseline'][name]
            text += f'{ours:>7.0f}{"*" if ours < SLOW * ceiling else " "} ({theirs:>5.0f})   '
        channels = f'{c["in_channels"]}->{c["out_channels"]}'
        print(f'{c["input_size"]:<4} {c["kernel"]:<6} {c["stride"]:<6} {channels:<10} {text}')
    print(f'* below {SLOW:.0%} of the ceiling\n\n{OUTPUT}')


if __name__ == '__main__':
    main()
