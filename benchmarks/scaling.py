"""What a TRADES step of WRN-34-k should take on chips that we do not have: a roofline.

    python -m benchmarks.scaling                        # the tables of docs/scaling.md
    python -m benchmarks.scaling --batch=512 --chips=1,8,64

A step takes

    max(operations / (peak · fill · COMPUTE), bytes / (memory bandwidth · MEMORY))
        + kernels · LAUNCH + gradient all-reduce + number of all-reduces · latency

per chip, on its share of the batch. Operations are counted by `benchmarks.flops`: XLA's own cost
analysis counts the body of a loop once, and the attack is one. Chips' figures are those of their
makers. LAUNCH was fitted to one step that was measured, of WRN-34-1 on an H200, when a step had
2,965 kernels; the other four assumptions below are guesses.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.flops import (
    NUM_CLASSES,
    Convolution,
    Network,
    convolutions,
    train_step_flops,
)
from war_jax.lab.tables import markdown

COMPUTE = 0.5  # of the peak that a large convolution reaches
MEMORY = 0.8  # of the memory bandwidth that streaming reaches
LAUNCH = 5e-6  # seconds to start a kernel on a GPU; a TPU runs the whole program by itself
KERNELS = 2309  # that XLA starts for a step of depth 34, by war_jax.rehearse for an H100
LATENCY_GPU, LATENCY_TPU = 20e-6, 10e-6  # seconds of an all-reduce of a few numbers
PASSES = 27  # forward-sized passes of a step: see flops.train_step_flops
WIDTHS = (1, 5, 10, 15)


class Chip(NamedTuple):
    """Of one chip: bfloat16 operations and bytes per second.

    link: what it sends to its neighbours, one way. network: what it sends beyond its node of 8, for
    GPUs; a TPU slice has one interconnect. tile: rows and columns that the matrix unit fills.
    """

    name: str
    peak: float
    memory: float
    link: float
    network: float | None
    tile: int


CHIPS = (
    Chip('A100 80 GB', 312e12, 2.039e12, 300e9, 25e9, 16),
    Chip('H100', 989e12, 3.35e12, 450e9, 50e9, 16),
    Chip('H200', 989e12, 4.8e12, 450e9, 50e9, 16),
    Chip('TPU v4', 275e12, 1.2e12, 300e9, None, 128),
    Chip('TPU v5e', 197e12, 0.819e12, 200e9, None, 128),
    Chip('TPU v5p', 459e12, 2.765e12, 600e9, None, 128),
)


class Times(NamedTuple):
    """Seconds of one step."""

    compute: float
    memory: float
    launches: float
    gradient: float
    latency: float

    @property
    def step(self) -> float:
        return max(self.compute, self.memory) + self.launches + self.gradient + self.latency

    @property
    def limit(self) -> str:
        """What takes the largest share."""
        return max(self._fields, key=lambda name: getattr(self, name))


def num_parameters(network: Network) -> int:
    """Weights of the convolutions, two numbers per channel of each norm, and the head."""
    kernels = convolutions(network)
    weights = sum(c.kernel**2 * c.in_channels * c.out_channels for c in kernels)
    # A norm stands before every 3x3 convolution but the stem, and one before the head.
    normed = sum(c.in_channels for c in kernels[1:] if c.kernel == 3) + network.widths[-1]
    return weights + 2 * normed + (network.widths[-1] + 1) * NUM_CLASSES


def num_all_reduces(network: Network, statistics: str = 'global') -> int:
    """In a compiled step: four for each norm, of both training passes together, in a chain.

    Mean and variance forward, and their gradients backward; then gradients and metrics.
    """
    norms = network.depth - 4 + 1
    return 4 * norms + 2 if statistics == 'global' else 2


def num_kernels(network: Network) -> float:
    """That a GPU is given for one step, in proportion to the blocks."""
    return KERNELS * network.blocks_per_stage / Network(34, 1).blocks_per_stage


def traffic(network: Network, batch: int) -> int:
    """Bytes of bfloat16 maps that one forward-sized pass moves, at least if norms are not fused
    into convolutions: input read, normalised copy written and read, output written."""

    def of(c: Convolution) -> int:
        inputs = c.input_size**2 * c.in_channels
        return 3 * inputs + c.output_size**2 * c.out_channels

    return 2 * batch * sum(map(of, convolutions(network)))


def fill(network: Network, tile: int) -> float:
    """The share of a matrix unit's work that is not padding, over all convolutions."""

    def padded(size: int) -> int:
        return math.ceil(size / tile) * tile

    useful = total = 0.0
    for c in convolutions(network):
        rows, columns = c.kernel**2 * c.in_channels, c.out_channels
        flops = c.flops(1)
        useful += flops
        total += flops * padded(rows) / rows * padded(columns) / columns
    return useful / total


def predict(
    network: Network, chip: Chip, batch: int, chips: int, statistics: str = 'global'
) -> Times:
    """batch: of all chips together, a multiple of their number."""
    own = batch // chips
    flops = train_step_flops(network, own, attack_steps=10, clean_passes=1)
    num_bytes = PASSES * (traffic(network, own) + 4 * num_parameters(network))
    gradient = latency = 0.0
    if chips > 1:
        bandwidth = chip.link
        if chip.network is not None and chips > 8:
            bandwidth = min(chip.link, 8 * chip.network)  # all network cards of a node
        gradient = 2 * (chips - 1) / chips * 4 * num_parameters(network) / bandwidth
        each = LATENCY_TPU if chip.network is None else LATENCY_GPU
        latency = num_all_reduces(network, statistics) * each
    return Times(
        compute=flops / (chip.peak * fill(network, chip.tile) * COMPUTE),
        memory=num_bytes / (chip.memory * MEMORY),
        launches=0.0 if chip.network is None else num_kernels(network) * LAUNCH,
        gradient=gradient,
        latency=latency,
    )


def tables(batch: int, chips: Sequence[int]) -> Iterator[str]:
    """Markdown: the chips, the networks, the predictions."""
    yield markdown(
        ('chip', 'bfloat16 TFLOP/s', 'memory GB/s', 'link GB/s', 'network GB/s'),
        [
            (
                chip.name, f'{chip.peak / 1e12:.0f}', f'{chip.memory / 1e9:.0f}',
                f'{chip.link / 1e9:.0f}',
                '' if chip.network is None else f'{chip.network / 1e9:.0f}',
            )
            for chip in CHIPS
        ],
        align='lrrrr',
    )  # fmt: skip
    networks = [Network(34, width) for width in WIDTHS]
    yield markdown(
        (
            'network', 'parameters', 'GFLOP per image and step', 'MB per image and step',
            'all-reduced MB', 'all-reduces', 'TPU fill',
        ),
        [
            (
                f'WRN-{network}', f'{num_parameters(network):,}',
                f'{train_step_flops(network, 1, attack_steps=10, clean_passes=1) / 1e9:.0f}',
                f'{PASSES * traffic(network, 1) / 1e6:.0f}',
                f'{4 * num_parameters(network) / 1e6:.1f}', str(num_all_reduces(network)),
                f'{fill(network, 128):.0%}',
            )
            for network in networks
        ],
        align='lrrrrrr',
    )  # fmt: skip
    usable = [n for n in chips if batch % n == 0]
    rows = []
    for chip in CHIPS:
        for network in networks:
            times = {n: predict(network, chip, batch, n) for n in usable}
            alone = predict(network, chip, batch, 1).step
            cells = [
                f'{1e3 * found.step:.1f} ({alone / n / found.step:.0%}, {found.limit})'
                for n, found in times.items()
            ]
            rows.append((chip.name, f'WRN-{network}', *cells))
    names = [f'{n} chip{"s" * (n > 1)}' for n in usable]
    yield markdown(('chip', f'batch {batch}', *names), rows, align='ll' + 'r' * len(usable))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--batch', default='128,1024', help='of all chips together')
    parser.add_argument('--chips', default='1,8,32,128,256')
    options = parser.parse_args()
    chips = [int(n) for n in options.chips.split(',')]
    first, *others = (list(tables(int(batch), chips)) for batch in options.batch.split(','))
    shown = [*first, *(prediction for *_, prediction in others)]
    print('\n\n'.join(table.strip() for table in shown))


if __name__ == '__main__':
    main()
