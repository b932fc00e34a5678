"""Three ways to train several thin networks of one width on the same devices.

    python -m benchmarks.side_by_side --widths=0.125,0.25,0.5,1 --repeats=5

    data parallel   one run after the other, its batch split over all devices
    side by side    one run per device, each in a thread of its own (as war_jax.studies.width)
    vmap            as many runs as there are devices, stacked in one program on one device

Prints the seconds per run and step of each, and what side by side saves against data parallel; the
step is that of configs/width_study.py. Several devices are needed; on CPU the cores are made such.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from threading import Thread
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.timing import cpu_usage, interleave, others_share
from configs import width_study
from war_jax.config import Config
from war_jax.data.batches import train_plan
from war_jax.data.device import DeviceData
from war_jax.data.sources import Splits, load
from war_jax.mesh import make_mesh, spread_over_cores
from war_jax.studies.width.settings import resolve_study
from war_jax.training.build import build

STEPS = 10  # per timing


def one_run(config: Config, splits: Splits, devices: list[Any]) -> Callable[[], None]:
    """STEPS steps of one run, its state inside."""
    parts = build(config, splits, make_mesh(devices))
    data = DeviceData(parts.mesh, splits.train)
    plan = train_plan(0, 0, len(data), config.optimizer.batch_size)
    batch = data.batch(plan.indices[0], plan.mask[0])
    state, key, rule = parts.create_state(), parts.key, parts.rule

    def run() -> None:
        nonlocal state
        for _ in range(STEPS):
            state, metrics = parts.step(state, key, rule, batch)
        jax.block_until_ready(metrics)

    return run


def stacked(config: Config, splits: Splits, device: Any, runs: int) -> Callable[[], None]:
    """STEPS steps of `runs` runs in one program on one device."""
    parts = build(config, splits, make_mesh([device]))
    data = DeviceData(parts.mesh, splits.train)
    plan = train_plan(0, 0, len(data), config.optimizer.batch_size)

    def repeat(leaf: Any) -> Any:
        return jnp.stack([leaf] * runs)

    everything = (
        parts.create_state(),
        parts.key,
        parts.rule,
        data.batch(plan.indices[0], plan.mask[0]),
    )
    state, key, rule, batch = jax.tree.map(repeat, everything)
    step = jax.jit(jax.vmap(parts.step), donate_argnums=0)

    def run() -> None:
        nonlocal state
        for _ in range(STEPS):
            state, metrics = step(state, key, rule, batch)
        jax.block_until_ready(metrics)

    return run


def together(functions: list[Callable[[], None]]) -> None:
    threads = [Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure(config: Config, splits: Splits, repeats: int) -> dict[str, float]:
    """Seconds per run and step."""
    devices = jax.local_devices()
    singles = [one_run(config, splits, [device]) for device in devices]
    for single in singles:
        single()  # compiles
    timings = interleave(
        {
            'data parallel': one_run(config, splits, devices),
            'side by side': partial(together, singles),
            'vmap': stacked(config, splits, devices[0], len(devices)),
        },
        repeats=repeats,
    )
    runs = {'data parallel': 1, 'side by side': len(devices), 'vmap': len(devices)}
    return {name: timing.median / STEPS / runs[name] for name, timing in timings.items()}


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.side_by_side', description=__doc__)
    parser.add_argument('--widths', default='0.125,0.25,0.5,1', help='widen factors')
    parser.add_argument('--repeats', type=int, default=5, help='timings of each way')
    flags = parser.parse_args()
    base = resolve_study(width_study.get_config()).base
    spread_over_cores()
    splits = load(base.data)
    print(f'{jax.local_device_count()} x {jax.devices()[0].device_kind}, s per run and step')
    print('width   data parallel   side by side     vmap   side by side / data parallel   others')
    for width in map(float, flags.widths.split(',')):
        config = replace(base, model=replace(base.model, widen_factor=width))
        before = cpu_usage()
        seconds = measure(config, splits, flags.repeats)
        others = others_share(before, cpu_usage())
        ratio = seconds['data parallel'] / seconds['side by side']
        print(
            f'{width:<7g} {seconds["data parallel"]:>13.4f} {seconds["side by side"]:>14.4f}'
            f' {seconds["vmap"]:>8.4f} {ratio:>18.2f} times faster'
            f'        {"-" if others is None else format(others, ".0%")}',
            flush=True,
        )


if __name__ == '__main__':
    main()
