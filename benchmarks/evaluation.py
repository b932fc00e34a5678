"""PGD-20 evaluation, ours beside PyTorch's, in images per second.

    python -m benchmarks.evaluation --networks=10-1,34-1 --batch=100

Twenty steps of 0.003 on the cross-entropy from one uniform start, as in the papers' tables, and the
predictions before and after: 42 forward passes' worth of work. Ours is the program with which
war_jax.main tests, without its host's part. Prints a table and writes `runs/bench/evaluation.json`.
"""

# torch is an extra, which linting does without.
# pyright: reportMissingImports=false

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

try:
    import torch
except ModuleNotFoundError as error:
    raise SystemExit("the baseline needs PyTorch: pip install -e '.[torch]'") from error

from torch import Tensor
from torch.nn import functional

from benchmarks.ceilings import benchmark_mesh
from benchmarks.flops import NUM_CLASSES, Network, parse_network
from benchmarks.timing import cpu_usage, interleave, others_share
from benchmarks.torch_baseline import Settings, make_model, prepare, wait_for
from benchmarks.train_step import machine, random_batch, torch_device
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.data.batches import Batch
from war_jax.measures.accuracy import make_attacks
from war_jax.mesh import replicate, shard, spread_over_cores
from war_jax.models.wide_resnet import WideResNet
from war_jax.records.files import write_json

OUTPUT = Path('runs/bench/evaluation.json')
EPSILON, STEPS, STEP_SIZE = 0.031, 20, 0.003


def build_jax(network: Network, batch: int) -> Callable[[], object]:
    """Our attack on one batch; compiled at its first call."""
    mesh, threat = benchmark_mesh(), ThreatModel('linf', EPSILON)
    model = WideResNet(network.depth, network.widen_factor, NUM_CLASSES)
    attack = make_attacks(model, mesh, threat, Budget(STEPS, STEP_SIZE, 'uniform', 1.0))['ce']
    images, labels = random_batch(batch)
    init = jax.jit(lambda key: model.init(key, np.zeros((1, 32, 32, 3), np.float32), train=False))
    variables, key = replicate(mesh, (init(jax.random.key(0)), jax.random.key(1)))
    examples = shard(
        mesh, Batch(images, labels, np.ones(batch, bool), np.arange(batch, dtype=np.int32))
    )
    return lambda: jax.block_until_ready(attack(variables, key, examples, jnp.float32(1)))


def build_torch(network: Network, batch: int, settings: Settings) -> Callable[[], object]:
    """The same in PyTorch, on a channels-last network in inference mode."""
    model, _ = make_model(network, seed=0, settings=settings)
    model.eval().requires_grad_(False)
    images, labels = random_batch(batch)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(settings.device).float() / 255
    y = torch.from_numpy(labels).long().to(settings.device)

    def run() -> None:
        with torch.no_grad():
            clean = model(x).argmax(1)
        broken = model(pgd(model, x, y)).argmax(1)
        wait_for(clean == broken)

    return run


def pgd(model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """(b, 3, h, w) in [0, 1], (b,) -> the images after twenty steps of sign ascent."""
    lower, upper = (images - EPSILON).clamp(min=0), (images + EPSILON).clamp(max=1)
    adversarial = images + EPSILON * (2 * torch.rand_like(images) - 1)
    for _ in range(STEPS):
        adversarial = adversarial.clamp(lower, upper).requires_grad_()
        loss = functional.cross_entropy(model(adversarial), labels, reduction='sum')
        (gradient,) = torch.autograd.grad(loss, adversarial)
        adversarial = adversarial.detach() + STEP_SIZE * gradient.sign()
    return adversarial.clamp(lower, upper)


def measure_row(network: Network, batch: int, repeats: int, settings: Settings) -> dict[str, Any]:
    ours, baseline = build_jax(network, batch), build_torch(network, batch, settings)
    started = time.perf_counter()
    ours()
    compile_seconds = time.perf_counter() - started
    before = cpu_usage()
    timings = interleave({'ours': ours, 'baseline': baseline}, repeats=repeats)
    share = others_share(before, cpu_usage())
    seconds, baseline_seconds = timings['ours'].median, timings['baseline'].median
    return {
        'network': str(network),
        'batch': batch,
        'images_per_second': batch / seconds,
        'baseline_images_per_second': batch / baseline_seconds,
        'ratio': baseline_seconds / seconds,
        'compile_seconds': compile_seconds,
        'others_share': share,
    }


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.evaluation', description=__doc__)
    parser.add_argument('--networks', default='10-1,16-2', help='such as 10-1,16-2')
    parser.add_argument('--batch', type=int, default=100)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--output', type=Path, default=OUTPUT, help='where the JSON goes')
    flags = parser.parse_args()
    prepare()
    spread_over_cores(flags.batch)
    device = torch_device()
    settings = Settings(device=device, compiled=device == 'cuda')
    print('network  batch  images/s   PyTorch   ratio  first call  others')
    rows = []
    for network in map(parse_network, flags.networks.split(',')):
        row = measure_row(network, flags.batch, flags.repeats, settings)
        print(
            f'{row["network"]:<8} {row["batch"]:>5} {row["images_per_second"]:>9.1f}'
            f' {row["baseline_images_per_second"]:>9.1f} {row["ratio"]:>7.2f}'
            f' {row["compile_seconds"]:>9.1f} s {row["others_share"] or 0.0:>7.0%}'
        )
        rows.append(row)
        write_json(flags.output, {'machine': machine(), 'rows': rows})
    print(f'\n{flags.output}')


if __name__ == '__main__':
    main()
