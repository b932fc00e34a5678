"""What a checkpoint costs the step that follows it, and the disk.

    python -m benchmarks.checkpoint --network=34-10

Saves a fresh state of configs/wrn.py several times: seconds until `save` returns and training may
go on, and until the checkpoint is whole, with its digests. Prints a line for each and writes
`runs/bench/checkpoint.json`. What the next step waits for besides, where it needs memory that the
copy still holds, is not in these.
"""

import argparse
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.flops import INPUT_CHANNELS, INPUT_SIZE, NUM_CLASSES, parse_network
from configs import wrn
from war_jax.config import resolve
from war_jax.data.sources import Dataset, Splits
from war_jax.mesh import make_mesh
from war_jax.records.files import write_json
from war_jax.training.build import build
from war_jax.training.checkpoint import Checkpoints, Progress

OUTPUT = Path('runs/bench/checkpoint.json')


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.checkpoint', description=__doc__)
    parser.add_argument('--network', type=parse_network, default='34-10')
    parser.add_argument('--repeats', type=int, default=4)
    parser.add_argument('--output', type=Path, default=OUTPUT, help='where the JSON goes')
    flags = parser.parse_args()
    config = resolve(wrn.get_config(str(flags.network)))
    images = np.zeros(
        (config.optimizer.batch_size, INPUT_SIZE, INPUT_SIZE, INPUT_CHANNELS), np.uint8
    )
    data = Dataset(images, np.zeros(len(images), np.int32))
    splits = Splits('zeros', NUM_CLASSES, data, data, data, extra=None, provenance='zeros')
    state = build(config, splits, make_mesh(jax.devices()[:1])).create_state()
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(jax.device_get(state)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), keep=1)
        for step in range(1, flags.repeats + 1):
            numbered = state.replace(step=jnp.int32(step))
            started = time.perf_counter()
            checkpoints.save(numbered, Progress())
            returned = time.perf_counter() - started
            checkpoints.wait()
            rows.append({'returned': returned, 'written': time.perf_counter() - started})
            print(
                f'WRN-{flags.network}, {num_bytes / 1e6:.0f} MB: save returned after '
                f'{returned:.3f} s, all was written after {rows[-1]["written"]:.2f} s', flush=True,
            )  # fmt: skip
        checkpoints.close()
    write_json(flags.output, {'network': str(flags.network), 'bytes': num_bytes, 'seconds': rows})
    print(f'\n{flags.output}')


if __name__ == '__main__':
    main()
