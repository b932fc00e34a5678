"""How many floating-point operations a WideResNet and a TRADES step need, counted by hand.

    network = parse_network('16-2')
    forward_flops(network, batch=64)                                        # one forward pass
    train_step_flops(network, batch=64, attack_steps=10, clean_passes=1)    # one TRADES step

A multiply-add counts as two operations. Convolutions and the dense head are counted, at every
output position and with the padding's zeros as if they were data (the convention of the published
counts). BatchNorm, ReLU, softmax and the optimizer are left out: they cost memory traffic.
"""

import re
from typing import NamedTuple

INPUT_SIZE = 32
INPUT_CHANNELS = 3
STEM_CHANNELS = 16
STRIDES = (1, 2, 2)
NUM_CLASSES = 10


class Network(NamedTuple):
    """WideResNet-`depth`-`widen_factor` on 32 x 32 x 3 images and 10 classes."""

    depth: int
    widen_factor: float

    def __str__(self) -> str:
        return f'{self.depth}-{self.widen_factor:g}'

    @property
    def blocks_per_stage(self) -> int:
        return (self.depth - 4) // 6

    @property
    def widths(self) -> tuple[int, int, int]:
        """Output channels of the three stages."""
        first, second, third = (round(c * self.widen_factor) for c in (16, 32, 64))
        return first, second, third


def parse_network(text: str) -> Network:
    """'34-10' -> Network(34, 10). ValueError unless depth = 6 n + 4 >= 10 and 16 width >= 1."""
    match = re.fullmatch(r'(\d+)-(\d+(?:\.\d+)?)', text)
    if match is None:
        raise ValueError(f"network {text!r}: expected 'depth-width', such as '16-2'")
    network = Network(int(match[1]), float(match[2]))
    if network.depth < 10 or (network.depth - 4) % 6 or network.widths[0] < 1:
        raise ValueError(f'network {text!r}: depth must be 6 n + 4 >= 10, and width at least 1/16')
    return network


class Convolution(NamedTuple):
    """One convolution without bias, its maps square, padded by kernel // 2 on each side."""

    input_size: int
    kernel: int
    stride: int
    in_channels: int
    out_channels: int

    @property
    def output_size(self) -> int:
        return -(-self.input_size // self.stride)

    def flops(self, batch: int) -> int:
        """Operations of one forward pass; each of its two gradients takes the same number."""
        products_per_output = self.kernel**2 * self.in_channels
        return 2 * batch * self.output_size**2 * self.out_channels * products_per_output


def convolutions(network: Network) -> list[Convolution]:
    """Every convolution of the network in the order of the forward pass, the stem first."""
    found = [Convolution(INPUT_SIZE, 3, 1, INPUT_CHANNELS, STEM_CHANNELS)]
    size, channels = INPUT_SIZE, STEM_CHANNELS
    for width, stage_stride in zip(network.widths, STRIDES, strict=True):
        for block in range(network.blocks_per_stage):
            stride = stage_stride if block == 0 else 1
            first = Convolution(size, 3, stride, channels, width)
            found += [first, Convolution(first.output_size, 3, 1, width, width)]
            if channels != width:
                found.append(Convolution(size, 1, stride, channels, width))
            size, channels = first.output_size, width
    return found


def forward_flops(network: Network, batch: int) -> int:
    """Operations of one forward pass over `batch` images."""
    head = 2 * batch * network.widths[-1] * NUM_CLASSES
    return sum(convolution.flops(batch) for convolution in convolutions(network)) + head


def train_step_flops(network: Network, batch: int, *, attack_steps: int, clean_passes: int) -> int:
    """Operations of one TRADES step, with F those of a forward pass:

        attack           attack_steps · 2F   a forward pass and a gradient for the image each
        its clean logits clean_passes · F    1 is enough; the published code takes one per step
        update           2 · 3F - 2 · stem   the natural and the adversarial batch: forward,
                                             activations' gradient, weights' gradient; the image's
                                             own gradient (the stem's) is not needed here

    10 attack steps and 1 clean pass make 27 F, 10 clean passes 36 F (less the two stems).
    """
    stem = convolutions(network)[0].flops(batch)
    passes = 2 * attack_steps + clean_passes + 2 * 3
    return passes * forward_flops(network, batch) - 2 * stem
