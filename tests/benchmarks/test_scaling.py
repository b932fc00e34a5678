"""The roofline. Oracles: published parameter counts, formulas worked out by hand, and XLA's own
program for the number of all-reduces."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import scaling
from benchmarks.flops import Network
from configs import digits
from war_jax.config import resolve
from war_jax.data.device import DeviceData
from war_jax.data.sources import load
from war_jax.mesh import make_mesh
from war_jax.training.build import build
from war_jax.training.networks import make_model

DOCUMENT = Path(__file__).parents[2] / 'docs' / 'scaling.md'


@pytest.mark.parametrize(('width', 'parameters'), [(10, 46_160_474), (1, 466_714)])
def test_parameters(width, parameters):
    """WRN-34-10 as published; WRN-34-1 as the network itself has it."""
    assert scaling.num_parameters(Network(34, width)) == parameters
    if width == 1:
        model = make_model(resolve(config()), 10).clone(
            depth=34, widen_factor=1.0, stem_channels=16, strides=(1, 2, 2)
        )
        images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
        shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
        leaves = jax.tree.leaves(shapes['params'])
        assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == parameters


def config(**changes):
    values = digits.get_config('smoke')
    values.update_from_flattened_dict(changes)
    return values


@pytest.mark.parametrize('statistics', ['global', 'per_device'])
def test_all_reduces_are_those_of_the_compiled_step(statistics):
    settings = resolve(config(**{'batch_norm.statistics': statistics}))
    splits, mesh = load(settings.data), make_mesh()
    parts = build(settings, splits, mesh)
    batch = DeviceData(mesh, splits.train).batch(np.zeros(64, np.int32), np.ones(64, bool))
    lowered = parts.step.lower(parts.create_state(), parts.key, parts.rule, batch)
    found = re.findall(r' all-reduce(?:-start)?\(', lowered.compile().as_text())
    assert len(found) == scaling.num_all_reduces(Network(10, 1), statistics)


def test_a_step_is_what_its_slowest_part_and_the_network_take():
    """WRN-34-10 on H100s: 27 passes of 13.3 GFLOP an image, half of 989 TFLOP/s."""
    network, chip = Network(34, 10), scaling.CHIPS[1]
    alone = scaling.predict(network, chip, 128, 1)
    assert alone.compute == pytest.approx(360e9 * 128 / (989e12 * 0.5), rel=0.02)
    assert alone.launches == pytest.approx(2309 * 5e-6)
    assert alone.step == alone.compute + alone.launches and alone.limit == 'compute'
    eight, many = (scaling.predict(network, chip, 128, n) for n in (8, 32))
    assert eight.compute == pytest.approx(alone.compute / 8)
    assert eight.gradient == pytest.approx(2 * 7 / 8 * 4 * 46_160_474 / 450e9)
    assert many.gradient == pytest.approx(2 * 31 / 32 * 4 * 46_160_474 / 400e9)
    assert eight.latency == pytest.approx((4 * 31 + 2) * 20e-6)
    parts = (eight.compute, eight.launches, eight.gradient, eight.latency)
    assert eight.step == pytest.approx(sum(parts))


@pytest.mark.parametrize(
    ('width', 'measured', 'off'), [(1, 16.7, 0.05), (5, 47.9, 0.25), (10, 108.7, 0.05)]
)
def test_what_was_measured_on_an_h200(width, measured, off, monkeypatch):
    """Milliseconds of docs/results.md, of a step that still had more kernels; the time of one was
    fitted to the first."""
    monkeypatch.setattr(scaling, 'KERNELS', 2965)
    chip = next(chip for chip in scaling.CHIPS if chip.name == 'H200')
    step = scaling.predict(Network(34, width), chip, 128, 1).step
    assert 1e3 * step == pytest.approx(measured, rel=off)


def test_a_tpu_starts_no_kernels():
    tpu = next(chip for chip in scaling.CHIPS if chip.network is None)
    assert scaling.predict(Network(34, 1), tpu, 128, 1).launches == 0.0


def test_padding_of_the_matrix_unit():
    """All-but-empty tiles where a network is thin, none where its channels are tiles."""
    assert scaling.fill(Network(34, 1), 1) == 1.0
    assert scaling.fill(Network(34, 1), 128) < 0.2
    assert scaling.fill(Network(34, 8), 128) > 0.98


def test_the_document_has_the_tables_that_the_command_prints():
    text = DOCUMENT.read_text()
    for batch in (128, 1024):
        for table in scaling.tables(batch, (1, 8, 32, 128, 256)):
            assert table.strip() in text
