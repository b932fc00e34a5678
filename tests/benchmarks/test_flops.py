"""Oracle: every layer of WRN-10-1 and WRN-16-2 written out by hand, in multiply-adds per image."""

import pytest

from benchmarks.flops import (
    Convolution,
    Network,
    convolutions,
    forward_flops,
    parse_network,
    train_step_flops,
)

STEM = 32 * 32 * 9 * 3 * 16
WRN_10_1 = [
    STEM,
    *[32 * 32 * 9 * 16 * 16] * 2,
    *[16 * 16 * 9 * 16 * 32, 16 * 16 * 9 * 32 * 32, 16 * 16 * 16 * 32],
    *[8 * 8 * 9 * 32 * 64, 8 * 8 * 9 * 64 * 64, 8 * 8 * 32 * 64],
    64 * 10,
]
WRN_16_2 = [
    STEM,
    *[32 * 32 * 9 * 16 * 32, 32 * 32 * 9 * 32 * 32, 32 * 32 * 16 * 32],
    *[32 * 32 * 9 * 32 * 32] * 2,
    *[16 * 16 * 9 * 32 * 64, 16 * 16 * 9 * 64 * 64, 16 * 16 * 32 * 64],
    *[16 * 16 * 9 * 64 * 64] * 2,
    *[8 * 8 * 9 * 64 * 128, 8 * 8 * 9 * 128 * 128, 8 * 8 * 64 * 128],
    *[8 * 8 * 9 * 128 * 128] * 2,
    128 * 10,
]


@pytest.mark.parametrize('name, products', [('10-1', WRN_10_1), ('16-2', WRN_16_2)])
def test_forward_pass_and_step(name, products):
    network, batch = parse_network(name), 7
    forward = 2 * batch * sum(products)
    stem = 2 * batch * STEM
    assert forward_flops(network, batch) == forward
    # Ten attack steps of two passes, one clean pass, two updates of three; the updates need no
    # gradient for the image.
    one_clean_pass = train_step_flops(network, batch, attack_steps=10, clean_passes=1)
    assert one_clean_pass == 27 * forward - 2 * stem
    ten_clean_passes = train_step_flops(network, batch, attack_steps=10, clean_passes=10)
    assert ten_clean_passes == 36 * forward - 2 * stem


def test_odd_map_under_a_stride_is_rounded_up():
    assert Convolution(5, 3, 2, 1, 1).output_size == 3
    assert Convolution(5, 3, 2, 4, 6).flops(2) == 2 * 2 * 9 * 9 * 4 * 6


def test_number_of_convolutions():
    """3x3: the stem and 6 n = depth - 4 in blocks; 1x1: one per stage that widens."""
    for name, shortcuts in [('10-1', 2), ('34-10', 3), ('28-10', 3)]:
        network = parse_network(name)
        found = convolutions(network)
        assert sum(convolution.kernel == 3 for convolution in found) == 1 + network.depth - 4
        assert sum(convolution.kernel == 1 for convolution in found) == shortcuts


def test_network_names():
    assert parse_network('34-10') == Network(34, 10)
    assert str(Network(34, 10)) == '34-10'
    assert parse_network('10-0.25').widths == (4, 8, 16)
    assert str(Network(10, 0.25)) == '10-0.25'


@pytest.mark.parametrize(
    'text', ['', '34', '34-', '12-1', '4-1', '-2-1', '16-0', '16-0.01', '16-2-1']
)
def test_impossible_networks_are_refused(text):
    with pytest.raises(ValueError, match=f"network '{text}'"):
        parse_network(text)
