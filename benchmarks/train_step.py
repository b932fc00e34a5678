"""One TRADES training step, ours beside PyTorch's, in images per second and share of the ceiling.

    python -m benchmarks.train_step --networks=10-1,16-2,34-1 --batch=64 --repeats=7
    python -m benchmarks.train_step --networks=34-5,34-10 --batch=128,512 --precision=bfloat16

Both sides take the same batch of CIFAR-10's shape and the hyperparameters of record: ten attack
steps, both updates of the running statistics, SGD. Ours also augments inside the step. PyTorch's is
eager on a CPU; on a GPU, where JAX uses one, torch.compile's, with autocast for bfloat16. Prints a
table and writes `runs/bench/train_step.json`, after every row: the machine, and `rows`, each with
the ceilings in FLOP/s that were measured between its steps. The share of the ceiling
(`flops_fraction`) is the step's necessary work (`benchmarks.flops`) per second over the fastest of
those. What does not fit into memory is left out, with a line that says so.
"""

# torch is an extra, which linting does without.
# pyright: reportMissingImports=false

import argparse
import gc
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

try:
    import torch
except ModuleNotFoundError as error:
    raise SystemExit("the baseline needs PyTorch: pip install -e '.[torch]'") from error

from benchmarks.ceilings import benchmark_mesh, ceilings
from benchmarks.flops import (
    INPUT_CHANNELS,
    INPUT_SIZE,
    NUM_CLASSES,
    Network,
    parse_network,
    train_step_flops,
)
from benchmarks.timing import QUIET, Timing, cpu_usage, interleave, others_share
from benchmarks.torch_baseline import Settings, make_model, prepare, trades_step, wait_for
from configs import wrn
from war_jax.config import resolve
from war_jax.data.batches import Batch
from war_jax.data.sources import Dataset, Splits
from war_jax.mesh import shard, spread_over_cores
from war_jax.records.files import write_json
from war_jax.training.build import build

OUTPUT = Path('runs/bench/train_step.json')
ATTACK_STEPS = Settings.attack_steps


class Step(NamedTuple):
    """`run` makes `chain` updates and returns when the last is done, the others not waited for."""

    run: Callable[[], object]
    compile_seconds: float
    peak_bytes: int | None  # on one device


def random_batch(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (b, 32, 32, 3) and int32 labels (b,); a step's time does not depend on them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, INPUT_SIZE, INPUT_SIZE, INPUT_CHANNELS), np.uint8)
    return images, rng.integers(0, NUM_CLASSES, batch, np.int32)


def build_jax_step(network: Network, batch: int, precision: str, chain: int) -> Step:
    """The step that configs/wrn.py trains with, compiled, on all devices, with its state inside."""
    config = resolve(wrn.get_config(str(network)))
    config = replace(
        config,
        optimizer=replace(config.optimizer, batch_size=batch),
        attack=replace(config.attack, num_steps=ATTACK_STEPS),
        model=replace(config.model, compute_dtype=precision),
    )
    images, labels = random_batch(batch)
    data = Dataset(images, labels)
    splits = Splits('random', NUM_CLASSES, data, data, data, extra=None, provenance='random')
    mesh = benchmark_mesh()
    parts = build(config, splits, mesh)
    state, key, rule = parts.create_state(), parts.key, parts.rule
    everything = Batch(images, labels, np.ones(batch, bool), np.arange(batch, dtype=np.int32))
    examples = shard(mesh, everything)
    started = time.perf_counter()
    compiled = parts.step.lower(state, key, rule, examples).compile()
    compile_seconds = time.perf_counter() - started
    plan = compiled.memory_analysis()
    planned = plan.argument_size_in_bytes + plan.temp_size_in_bytes  # the rest aliases arguments

    def run() -> None:
        nonlocal state  # the step donates its state's buffers: the old one is gone
        metrics = None
        for _ in range(chain):
            state, metrics = compiled(state, key, rule, examples)
        jax.block_until_ready((state, metrics))

    return Step(run, compile_seconds, planned)


def build_torch_step(network: Network, batch: int, settings: Settings, chain: int) -> Step:
    """The baseline, with its model and optimizer inside."""
    model, optimizer = make_model(network, seed=0, settings=settings)
    images, labels = random_batch(batch)
    # A permuted NHWC array is a channels-last tensor already.
    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(settings.device).float() / 255
    y = torch.from_numpy(labels).long().to(settings.device)

    def run(chain: int = chain) -> None:
        for _ in range(chain):
            natural, _robust = trades_step(model, optimizer, x, y, torch.randn_like(x), settings)
        wait_for(natural)

    if not settings.compiled:
        return Step(run, 0.0, None)
    started = time.perf_counter()
    run(1)
    compile_seconds = time.perf_counter() - started
    torch.cuda.reset_peak_memory_stats()
    run(1)
    return Step(run, compile_seconds, torch.cuda.max_memory_allocated())


def measure_row(
    network: Network, batch: int, precision: str, repeats: int, settings: Settings, chain: int
) -> dict[str, Any]:
    """Times both steps for one network, and between them the ceilings."""
    ours = build_jax_step(network, batch, precision, chain)
    baseline = build_torch_step(network, batch, settings, chain)
    limits = ceilings(precision, settings.device)
    functions = {'ours': ours.run, 'baseline': baseline.run}
    before = cpu_usage()
    timings = interleave(
        functions | {name: limit.run for name, limit in limits.items()}, repeats=repeats
    )
    share = others_share(before, cpu_usage())
    timings |= {name: timings[name].per(chain) for name in functions}
    speeds = {name: limit.flops / timings[name].median for name, limit in limits.items()}
    return {
        'network': str(network),
        'batch': batch,
        'precision': precision,
        'chain': chain,
        **compared(network, batch, timings, settings, max(speeds.values())),
        'compile_seconds': ours.compile_seconds,
        'baseline_compile_seconds': baseline.compile_seconds,
        'peak_bytes': ours.peak_bytes,
        'baseline_peak_bytes': baseline.peak_bytes,
        'ceilings': speeds,
        'others_share': share,
    }


def compared(
    network: Network, batch: int, timings: dict[str, Timing], settings: Settings, ceiling: float
) -> dict[str, Any]:
    """What one comparison says; seconds are medians, `ratio` > 1 where ours is the faster.

    `ceiling` in FLOP/s.
    """
    seconds, baseline_seconds = timings['ours'].median, timings['baseline'].median
    flops = train_step_flops(network, batch, attack_steps=ATTACK_STEPS, clean_passes=1)
    baseline_flops = train_step_flops(
        network,
        batch,
        attack_steps=ATTACK_STEPS,
        clean_passes=1 if settings.hoist_targets else ATTACK_STEPS,
    )
    return {
        'images_per_second': batch / seconds,
        'baseline_images_per_second': batch / baseline_seconds,
        'ratio': baseline_seconds / seconds,
        'seconds': seconds,
        'quartiles': timings['ours'].quartiles,
        'baseline_seconds': baseline_seconds,
        'baseline_quartiles': timings['baseline'].quartiles,
        'baseline_targets': 'hoisted' if settings.hoist_targets else 'each step',
        'flops_per_step': flops,
        'flops_fraction': flops / seconds / ceiling,
        'baseline_flops_per_step': baseline_flops,
        'baseline_flops_fraction': baseline_flops / baseline_seconds / ceiling,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The measurement as text of about 110 columns."""
    hoisted = rows[0]['baseline_targets'] == 'hoisted'
    lines = [
        'PyTorch computes f(x), the target of the attack, '
        f'{"once per training step" if hoisted else "at each step of the attack"}',
        'network  batch precision  images/s   PyTorch  ratio  s/step [quartiles]   PyTorch'
        '             compile     MiB  ceiling',
    ]
    for row in rows:
        ours, baseline = (
            f'{row[f"{prefix}seconds"]:.4g} [{first:.4g} {third:.4g}]'
            for prefix in ('', 'baseline_')
            for first, third in [row[f'{prefix}quartiles']]
        )
        lines.append(
            f'{row["network"]:<8} {row["batch"]:<5} {row["precision"]:<9}'
            f' {row["images_per_second"]:>9.1f} {row["baseline_images_per_second"]:>9.1f}'
            f' {row["ratio"]:>6.2f}  {ours:<20} {baseline:<20} {row["compile_seconds"]:>6.1f} s'
            f' {row["peak_bytes"] / 2**20:>7.0f} {row["flops_fraction"]:>7.0%}'
        )
    for row in rows:
        speeds = ', '.join(f'{name} {flops / 1e9:.0f}' for name, flops in row['ceilings'].items())
        lines.append(f'{row["network"]}: ceilings in GFLOP/s: {speeds}')
        if (row['others_share'] or 0.0) > QUIET:
            lines.append(
                f'{row["network"]}: no fair comparison: other processes took'
                f" {row['others_share']:.0%} of the cores' time, which hurts PyTorch most"
            )
    return '\n'.join(lines)


def machine() -> dict[str, Any]:
    """What the numbers depend on and a reader cannot see in them."""
    return {
        'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
        'device': jax.devices()[0].device_kind,
        'num_devices': jax.device_count(),
        'processor': platform.processor() or platform.machine(),
        'torch_threads': torch.get_num_threads(),
        'torch_device': torch_device(),
        'torch_tf32': torch.backends.cudnn.allow_tf32,
        'load_average': os.getloadavg(),
        'versions': {
            'python': platform.python_version(),
            'jax': jax.__version__,
            'torch': torch.__version__,
        },
    }


def torch_device() -> str:
    """Where PyTorch is to run: where JAX does.

    Raises SystemExit if PyTorch cannot.
    """
    if jax.default_backend() == 'cpu':
        return 'cpu'
    if not torch.cuda.is_available():
        raise SystemExit('JAX runs on an accelerator that this build of PyTorch cannot use')
    return 'cuda'


def main() -> None:
    """Flags in, table and file out."""

    def networks(text: str) -> list[Network]:
        try:
            return [parse_network(part) for part in text.split(',')]
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(',')]

    summary = (__doc__ or '').partition('\n')[0]
    parser = argparse.ArgumentParser('python -m benchmarks.train_step', description=summary)
    parser.add_argument('--networks', type=networks, default='16-2', help='such as 10-1,16-2')
    parser.add_argument('--batch', type=numbers, default='64', help='images per step: 64,128')
    parser.add_argument('--precision', default='float32', help='float32, bfloat16 or both')
    parser.add_argument('--repeats', type=int, default=7, help='timings of each side')
    parser.add_argument(
        '--chain', type=int, default=1, help='steps to a timing, of which the last is waited for'
    )
    parser.add_argument(
        '--hoist-targets',
        action='store_true',
        help="spare the baseline nine forward passes that the published code's attack repeats",
    )
    parser.add_argument('--output', type=Path, default=OUTPUT, help='where the JSON goes')
    flags = parser.parse_args()
    if min(*flags.batch, flags.repeats, flags.chain) < 1:
        parser.error('--batch, --repeats and --chain must be at least 1')
    precisions = flags.precision.split(',')
    if not set(precisions) <= {'float32', 'bfloat16'}:
        parser.error(f'--precision={flags.precision}: must be float32, bfloat16 or both')

    prepare()
    spread_over_cores(*flags.batch)  # before anything starts JAX's backend, as war_jax.main does
    device = torch_device()
    rows: list[dict[str, Any]] = []
    for network, batch, precision in product(flags.networks, flags.batch, precisions):
        settings = Settings(
            hoist_targets=flags.hoist_targets,
            device=device,
            autocast=precision == 'bfloat16',
            compiled=device == 'cuda',
        )
        try:
            row = measure_row(network, batch, precision, flags.repeats, settings, flags.chain)
            rows.append(row)
        except (jax.errors.JaxRuntimeError, torch.OutOfMemoryError) as error:
            is_jax = isinstance(error, jax.errors.JaxRuntimeError)
            if is_jax and 'RESOURCE_EXHAUSTED' not in str(error):
                raise
            print(f'{network}, batch {batch}, {precision}: {str(error).splitlines()[0]}')
            continue
        finally:
            gc.collect()  # a compiled module refers to itself
            torch.cuda.empty_cache()
        write_json(flags.output, {'machine': machine(), 'rows': rows})
    if not rows:
        raise SystemExit(1)
    print(table(rows))
    print(f'\n{flags.output}')


if __name__ == '__main__':
    main()
