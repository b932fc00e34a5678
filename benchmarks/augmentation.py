"""What augmentation takes inside a training step, for a batch of images of CIFAR-10's shape.

    python -m benchmarks.augmentation --batch=128

Crop and flip alone, and each key of `augment` beside them, in programs of their own over all
devices: on a CPU, the medians of wall time and of processor time per batch, which are in seconds.
Prints a table and writes `runs/bench/augmentation.json`.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec as P

from benchmarks.flops import INPUT_SIZE
from war_jax.config_data import AugmentConfig
from war_jax.data.augment import augmented
from war_jax.data.batches import Batch
from war_jax.mesh import AXIS, make_mesh, shard, spread_over_cores
from war_jax.records.files import write_json

OUTPUT = Path('runs/bench/augmentation.json')
OPTIONS = {
    'crop and flip': AugmentConfig(),
    'cutout': AugmentConfig(cutout=16),
    'cutmix': AugmentConfig(cutmix=1.0),
    'randaugment, 1 operation': AugmentConfig(randaugment=1),
    'randaugment, 2 operations': AugmentConfig(randaugment=2),
}
TURNS = 30


def measure(name: str, batch_size: int) -> dict[str, Any]:
    rng, mesh = np.random.default_rng(0), make_mesh()
    images = rng.integers(0, 256, (batch_size, INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
    labels, ids = rng.integers(0, 10, batch_size, np.int32), np.arange(batch_size, dtype=np.int32)
    batch = shard(mesh, Batch(images, labels, np.ones(batch_size, bool), ids))

    def program(key: Array, batch: Batch) -> Batch:
        keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(batch.ids)
        how: dict[str, Any] = {'num_classes': 10, 'dtype': jnp.dtype('float32')}
        return augmented(keys, batch, pad=4, flip=True, augment=OPTIONS[name], **how)

    specs = {'in_specs': (P(), P(AXIS)), 'out_specs': P(AXIS)}
    augment = jax.jit(jax.shard_map(program, mesh=mesh, **specs))
    taken = []
    for _ in range(TURNS + 1):  # the first one compiles
        started = time.perf_counter(), time.process_time()
        jax.block_until_ready(augment(jax.random.key(0), batch))
        taken.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    wall, processor = np.median(taken[1:], 0).tolist()
    return {'augmentation': name, 'batch': batch_size, 'wall': wall, 'processor': processor}


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.augmentation', description=__doc__)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--output', type=Path, default=OUTPUT, help='where the JSON goes')
    flags = parser.parse_args()
    spread_over_cores(flags.batch)
    rows = [measure(name, flags.batch) for name in OPTIONS]
    write_json(flags.output, {'rows': rows})
    for row in rows:
        print(f'{row["augmentation"]:<26} {row["wall"]:.5f} {row["processor"]:.5f}')
    print(f'\n{flags.output}')


if __name__ == '__main__':
    main()
