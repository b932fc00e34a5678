"""Does an accelerator compute what the CPU does? Products, convolutions and training steps.

    python -m benchmarks.device_checks --network=10-1 --steps=10

Of products and convolutions in float32, the error of each precision beside float64 in NumPy:
`default` may be TF32 or bfloat16, and `highest` has to be float32. Of training steps from one state
on one batch, how far the parameters and the losses come to lie from those of the CPU, relative to
how far the parameters have moved; beside it, how far the CPU lies from itself where its batch is
split over two devices, since the signs of the attack's gradients make much of little. Prints a
table and writes `runs/bench/device_checks.json`. Exit code 1 where `highest` is not float32, or
where losses of its first step differ from the CPU's by more than LARGEST_DIFFERENCE of themselves.
"""

import argparse
import platform
import sys
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from benchmarks.flops import INPUT_CHANNELS, INPUT_SIZE, NUM_CLASSES, Network, parse_network
from configs import wrn
from war_jax.config import resolve
from war_jax.data.batches import Batch
from war_jax.data.sources import Dataset, Splits
from war_jax.lowering import Precision
from war_jax.mesh import make_mesh, shard
from war_jax.records.files import write_json
from war_jax.training.build import build
from war_jax.training.step import Metrics

OUTPUT = Path('runs/bench/device_checks.json')
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'torch')
BATCH, SIZE, CHANNELS = 64, 1024, 64
FLOAT32_ERROR = 1e-5  # TF32 is at 3e-4
LARGEST_DIFFERENCE = 0.01  # an H200 has 9e-4, and 0.1 where products are TF32
# Which training steps are compared with the CPU's, by priority: precision of products, and type.
WAYS: tuple[tuple[Precision, str], ...] = (
    ('highest', 'float32'),
    ('default', 'float32'),
    ('default', 'bfloat16'),
)


def product_errors() -> dict[str, dict[str, float]]:
    """'matmul' and 'convolution' -> precision -> ||out - exact|| / ||exact||."""
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, SIZE, SIZE)).astype(np.float32)
    images = rng.standard_normal((8, INPUT_SIZE, INPUT_SIZE, CHANNELS)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, CHANNELS, CHANNELS)).astype(np.float32)
    padded = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    exact = sum(
        padded[:, i : i + INPUT_SIZE, j : j + INPUT_SIZE] @ kernel[i, j].astype(np.float64)
        for i in range(3)
        for j in range(3)
    )

    def error(out: Any, exact: Any) -> float:
        return float(np.linalg.norm(np.asarray(out) - exact) / np.linalg.norm(exact))

    errors: dict[str, dict[str, float]] = {'matmul': {}, 'convolution': {}}
    for precision in get_args(Precision):
        product = jax.jit(lambda a, b, of=precision: jnp.matmul(a, b, precision=of))
        convolve = jax.jit(
            lambda x, k, of=precision: jax.lax.conv_general_dilated(
                x, k, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'), precision=of
            )
        )
        exact_product = left.astype(np.float64) @ right.astype(np.float64)
        errors['matmul'][precision] = error(product(left, right), exact_product)
        errors['convolution'][precision] = error(convolve(images, kernel), exact)
    return errors


def trained(
    network: Network, steps: int, devices: list[Any], precision: Precision, dtype: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameters before and after, (p,) each, and natural risk and KL of each step, (steps, 2)."""
    config = resolve(wrn.get_config(str(network)))
    model = replace(config.model, matmul_precision=precision, compute_dtype=dtype)
    optimizer = replace(config.optimizer, batch_size=BATCH)
    config = replace(config, model=model, optimizer=optimizer)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, INPUT_SIZE, INPUT_SIZE, INPUT_CHANNELS), np.uint8)
    data = Dataset(images, rng.integers(0, NUM_CLASSES, BATCH, np.int32))
    splits = Splits('random', NUM_CLASSES, data, data, data, extra=None, provenance='random')
    mesh = make_mesh(devices)
    parts = build(config, splits, mesh)
    everything = np.arange(BATCH, dtype=np.int32)
    batch = shard(mesh, Batch(data.images, data.labels, np.ones(BATCH, bool), everything))
    state, key, rule = parts.create_state(), parts.key, parts.rule
    before = np.asarray(ravel_pytree(jax.device_get(state.params))[0])
    losses = []
    for _ in range(steps):
        state, metrics = parts.step(state, key, rule, batch)
        losses.append(metrics)
    after = np.asarray(ravel_pytree(jax.device_get(state.params))[0])
    metrics = (Metrics(*values) for values in jax.device_get(losses))
    risks = [(each.natural_risk, each.robust_regularization) for each in metrics]
    return before, after, np.array(risks, np.float64)


def step_distances(network: Network, steps: int, num_ways: int) -> dict[str, dict[str, float]]:
    """Way -> 'first' and 'losses', the largest difference of a loss relative to the CPU's, at the
    first step and at any; 'parameters', their distance at the end relative to their movement.
    """
    cpus = jax.devices('cpu')
    before, after, losses = trained(network, steps, cpus[:1], 'highest', 'float32')
    ways: dict[str, tuple[list[Any], Precision, str]] = {
        'CPU, two devices': (cpus[:2], 'highest', 'float32')
    }
    for precision, dtype in WAYS[:num_ways]:
        ways[f'{dtype}, {precision}'] = (jax.devices()[:1], precision, dtype)
    distances = {}
    for name, (devices, precision, dtype) in ways.items():
        start, end, other = trained(network, steps, devices, precision, dtype)
        apart = np.linalg.norm(end - after) / np.linalg.norm(after - before)
        distances[name] = {
            'start': float(np.abs(start - before).max()),
            'first': float(np.abs(other[0] / losses[0] - 1).max()),
            'losses': float(np.abs(other / losses - 1).max()),
            'parameters': float(apart),
        }
    return distances


def about() -> dict[str, Any]:
    """Device, drivers' and packages' versions."""

    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return 'absent'

    device = jax.devices()[0]
    return {
        'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
        'device': device.device_kind,
        'runtime': device.client.platform_version,
        'python': platform.python_version(),
        'versions': {package: of(package) for package in PACKAGES},
    }


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.device_checks', description=__doc__)
    parser.add_argument('--network', type=parse_network, default='10-1')
    parser.add_argument('--steps', type=int, default=10)
    parser.add_argument('--ways', type=int, default=len(WAYS), help='so many of WAYS, from 1 on')
    parser.add_argument('--output', type=Path, default=OUTPUT, help='where the JSON goes')
    flags = parser.parse_args()
    jax.config.update('jax_num_cpu_devices', 2)
    settings = {'network': str(flags.network), 'steps': flags.steps, 'batch': BATCH}
    result: dict[str, Any] = {'about': about(), 'settings': settings, 'errors': product_errors()}
    write_json(flags.output, result)
    print(f'{result["about"]["device"]}, jax {result["about"]["versions"]["jax"]}')
    for name, errors in result['errors'].items():
        print(f'{name:<12}' + ''.join(f'  {of} {value:.1e}' for of, value in errors.items()))
    result['distances'] = step_distances(flags.network, flags.steps, max(1, flags.ways))
    write_json(flags.output, result)
    print(f'after {flags.steps} steps of WRN-{flags.network}, relative to the CPU:')
    for name, row in result['distances'].items():
        print(f'{name:<20}' + ''.join(f'  {of} {value:.1e}' for of, value in row.items()))
    exact = all(errors['highest'] < FLOAT32_ERROR for errors in result['errors'].values())
    near = result['distances']['float32, highest']['first'] < LARGEST_DIFFERENCE
    if not (exact and near):
        print('not what the CPU computes: see above', file=sys.stderr)
        raise SystemExit(1)


if __name__ == '__main__':
    main()
