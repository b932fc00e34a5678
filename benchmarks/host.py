"""What the host does between two training steps, as shares of a step's time.

    python -m benchmarks.host --config=10-1

Of configs/wrn.py on images of CIFAR-10's shape: the plan of an epoch and its way to the devices,
spread over its steps; cutting a batch out of the data there; a row of metrics, every
`log.every_steps`; and with data.placement = 'host' the reading of a batch out of an .npz of
`--streamed` images on the disk, and its way to the devices. Each is timed alone and to its end,
although a run lets the devices work meanwhile. The system has what was just written in its memory:
a slow disk is not measured. Prints a table and writes `runs/bench/host.json`.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.flops import INPUT_SIZE
from configs import wrn
from war_jax.config import resolve
from war_jax.data.arrays import read_npz
from war_jax.data.batches import Batch, train_plan
from war_jax.data.device import DeviceData
from war_jax.data.sources import Dataset, Splits
from war_jax.data.stream import HostData
from war_jax.mesh import make_mesh, spread_over_cores
from war_jax.records.files import write_json
from war_jax.records.logbook import Logbook
from war_jax.records.meter import Meter
from war_jax.training.build import build
from war_jax.training.step import Metrics

OUTPUT = Path('runs/bench/host.json')
NUM_TRAIN = 50_000
STEPS, TURNS = 5, 50


def seconds(function: Callable[[], object], turns: int) -> float:
    """Median of `turns` calls, after one that may compile."""
    function()
    taken = []
    for _ in range(turns):
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def streaming(mesh: Mesh, batch: int, count: int, images: np.ndarray) -> float:
    """Seconds per batch of `count` images on the disk, copies of `images` behind each other."""
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/extra.npz'
        rows = np.resize(images, (count, *images.shape[1:]))
        np.savez(path, image=rows, label=np.zeros(count, np.int32))
        arrays = read_npz('--streamed', path, ('image', 'label'), in_place=True)
        data = HostData(mesh, Dataset(arrays['image'], arrays['label']))
        batches = data.batches(train_plan(0, 0, count, batch))
        return seconds(lambda: jax.block_until_ready(next(batches)), TURNS)


def measure(argument: str, batch: int, streamed: int) -> dict[str, Any]:
    """One row; all times in seconds per step."""
    settings = wrn.get_config(argument)
    settings.optimizer.batch_size = batch
    config = resolve(settings)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NUM_TRAIN, INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
    few = Dataset(images[:batch], rng.integers(0, 10, batch, np.int32))
    train = Dataset(images, rng.integers(0, 10, NUM_TRAIN, np.int32))
    mesh = make_mesh()
    parts = build(config, Splits('random', 10, train, few, few, None, 'random'), mesh)
    data, state = DeviceData(mesh, train), parts.create_state()

    def plan() -> Iterator[Batch]:
        """An epoch's batches behind the first one."""
        batches = data.batches(train_plan(0, 0, NUM_TRAIN, batch))
        jax.block_until_ready(next(batches))
        return batches

    batches = plan()
    example, metrics = next(batches), None

    def step() -> None:
        nonlocal state, metrics
        state, metrics = parts.step(state, parts.key, parts.rule, example)
        jax.block_until_ready(state)

    step_seconds = seconds(step, STEPS)
    meter = Meter()

    copied = jax.jit(jnp.copy)

    def note() -> None:  # what every step leaves behind; anew, for JAX keeps what it has fetched
        meter.add(Metrics(*jax.device_get(copied(metrics)))._asdict())

    with tempfile.TemporaryDirectory() as workdir:
        with Logbook(Path(workdir), step=0, tensorboard=config.log.tensorboard) as log:
            written = iter(range(10**9))

            def row() -> None:
                note()
                means, speed = meter.close()
                rate = float(jnp.asarray(parts.schedule(0)))
                log.write({'kind': 'train', 'step': next(written), 'learning_rate': rate, **means,
                           'images_per_second': speed})  # fmt: skip

            logging = seconds(note, TURNS) + seconds(row, TURNS) / config.log.every_steps
    turns = min(TURNS, parts.steps_per_epoch - 3)
    cut = seconds(lambda: jax.block_until_ready(next(batches)), turns)
    input_seconds = cut + (seconds(plan, 3) - cut) / parts.steps_per_epoch
    streaming_seconds = streaming(mesh, batch, streamed, images)
    return {
        'network': argument,
        'batch': batch,
        'step_seconds': step_seconds,
        'input_seconds': input_seconds,
        'input_share': input_seconds / step_seconds,
        'streaming_seconds': streaming_seconds,
        'streaming_share': streaming_seconds / step_seconds,
        'logging_seconds': logging,
        'logging_share': logging / step_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.host', description=__doc__)
    parser.add_argument('--config', default='10-1', help='argument of configs/wrn.py')
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--streamed', type=int, default=200_000, help='images on the disk')
    parser.add_argument('--output', type=Path, default=OUTPUT, help='where the JSON goes')
    flags = parser.parse_args()
    spread_over_cores(flags.batch)
    row = measure(flags.config, flags.batch, flags.streamed)
    write_json(flags.output, {'rows': [row]})
    for name, value in row.items():
        shown = f'{value:.2%}' if name.endswith('share') else value
        print(f'{name:<18} {shown:.4g}' if isinstance(shown, float) else f'{name:<18} {shown}')
    print(f'\n{flags.output}')


if __name__ == '__main__':
    main()
