"""AutoAttack's whole cascade, ours beside the published code, in seconds.

    git clone https://github.com/fra31/auto-attack
    python -m benchmarks.cascade --reference=auto-attack --num_examples=500

Both attack the same network on the same images: the recorded one of tests/fixtures on digits, or,
with --checkpoint, that of a run on its test images, in the run's threat. One after the other in one
process, on the same device: ours with compilation and all, theirs as its authors run it, on the
network in PyTorch, channels last.
Prints both times, their ratio and both robust accuracies, and writes runs/bench/cascade.json.

What is robust has to be evaluated to the end of every attack. `least_seconds` is what the products
of these evaluations alone, those with padding among them as in both programs, take at the ceiling
(`benchmarks.ceilings`) measured in the same run; `largest_ratio` is the ratio at which nothing else
would take time.
"""

# torch and the published code are no part of this project, which linting does without.
# pyright: reportMissingImports=false

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

try:
    import torch
    from torch import Tensor
    from torch.nn import functional
    from torch.utils.flop_counter import FlopCounterMode
except ModuleNotFoundError as error:
    raise SystemExit("the reference needs PyTorch: pip install -e '.[torch]'") from error

from benchmarks.ceilings import ceilings
from benchmarks.published_attacks import BATCH_SIZE, Recorded
from benchmarks.timing import cpu_usage, interleave, others_share
from benchmarks.torch_baseline import prepare
from benchmarks.train_step import torch_device
from war_jax.attacks.machine import Attack, Classifier
from war_jax.attacks.threat import ThreatModel
from war_jax.config import DataConfig
from war_jax.data.sources import load
from war_jax.mesh import make_mesh, spread_over_cores
from war_jax.models.torch_io import to_torch
from war_jax.records.files import write_json
from war_jax.robustness.ensemble import Ensemble, make_attacks
from war_jax.robustness.network import read_network

OUTPUT = Path('runs/bench/cascade.json')


class TorchNetwork(torch.nn.Module):
    """The WideResNet of a state dict, in inference mode: (b, c, h, w) -> logits (b, classes)."""

    def __init__(self, state: dict[str, np.ndarray], strides: Sequence[int]):
        super().__init__()
        self.strides = strides
        device = torch_device()
        tensors = {
            name: torch.from_numpy(np.array(array)).to(device) for name, array in state.items()
        }
        self.tensors = {
            name: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t
            for name, t in tensors.items()
        }
        self.num_blocks = 1 + max(int(n.split('.')[2]) for n in state if n.startswith('block1'))

    def forward(self, x: Tensor) -> Tensor:
        x = self._conv(x.contiguous(memory_format=torch.channels_last), 'conv1', 1)
        for stage, stage_stride in enumerate(self.strides):
            for block in range(self.num_blocks):
                name = f'block{stage + 1}.layer.{block}'
                stride = stage_stride if block == 0 else 1
                active = self._norm(x, f'{name}.bn1')
                y = self._norm(self._conv(active, f'{name}.conv1', stride), f'{name}.bn2')
                y = self._conv(y, f'{name}.conv2', 1)
                if f'{name}.convShortcut.weight' in self.tensors:
                    x = self._conv(active, f'{name}.convShortcut', stride)
                x = x + y
        features = self._norm(x, 'bn1').mean((2, 3))
        return functional.linear(features, self.tensors['fc.weight'], self.tensors['fc.bias'])

    def _conv(self, x: Tensor, name: str, stride: int) -> Tensor:
        weight = self.tensors[f'{name}.weight']
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            self.tensors[f'{name}.{part}']
            for part in ('running_mean', 'running_var', 'weight', 'bias')
        )
        return functional.relu(functional.batch_norm(x, mean, var, weight, bias), inplace=True)


class Task(NamedTuple):
    """What both attack; images (n, h, w, c) uint8, labels (n,)."""

    classify: Classifier
    variables: Any
    strides: Sequence[int]
    images: np.ndarray
    labels: np.ndarray
    threat: ThreatModel


def recorded(norm: str) -> Task:
    known = Recorded()
    model = known.classify.args[0]
    return Task(
        known.classify, known.variables, model.strides, known.images, known.labels,
        known.threat(norm),
    )  # fmt: skip


def of_run(folder: str) -> Task:
    """Its best network, on the test images of its own data."""
    network = read_network(folder)
    config = network.config
    if config is None:
        raise SystemExit(f'--checkpoint={folder}: must be the folder of a run')
    test = load(DataConfig.whole(config.data.name, config.data.data_dir)).test
    threat = ThreatModel(config.threat.norm, config.threat.epsilon)
    return Task(
        network.classify, network.params, config.model.strides, test.images, test.labels, threat
    )


def timed(run: Callable[[], float]) -> tuple[float, float]:
    """What it returns, and the seconds it took."""
    start = time.monotonic()
    return run(), time.monotonic() - start


def least_flops(network: TorchNetwork, attacks: Sequence[Attack], image: Tensor) -> float:
    """Of what one example costs that withstands all attacks; image (1, c, h, w)."""
    image = image.clone().requires_grad_()
    with FlopCounterMode(display=False) as forward:
        logits = network(image)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(logits.sum(), image)
    one_way = forward.get_total_flops()
    both_ways = one_way + backward.get_total_flops()
    flops = 0.0
    for attack in attacks:
        of_one = (both_ways if attack.uses_gradient else one_way) + one_way * attack.looks_first
        flops += of_one * attack.num_evaluations() * attack.num_stages(logits.shape[-1])
    return flops


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.cascade', description=__doc__)
    parser.add_argument('--reference', type=Path, required=True, help='a clone of auto-attack')
    parser.add_argument('--checkpoint', default='', help='the folder of a run')
    parser.add_argument('--norm', choices=('linf', 'l2'), default='linf', help='of the recorded')
    parser.add_argument('--num_examples', type=int, default=500)
    flags = parser.parse_args()
    if not (flags.reference / 'autoattack' / 'autoattack.py').is_file():
        parser.error(f'--reference={flags.reference}: no autoattack/autoattack.py in it')
    sys.path.insert(0, str(flags.reference))
    from autoattack import AutoAttack

    prepare()
    spread_over_cores(BATCH_SIZE)
    device = torch_device()
    task = of_run(flags.checkpoint) if flags.checkpoint else recorded(flags.norm)
    images, labels = task.images[: flags.num_examples], task.labels[: flags.num_examples]
    theirs = TorchNetwork(to_torch(task.variables), task.strides).eval()
    x = torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2).to(device)
    y = torch.from_numpy(labels).long().to(device)
    epsilon = float(task.threat.epsilon)
    height, width, channels = images.shape[1:]
    attacks = make_attacks('autoattack', task.threat, (height, width, channels))

    def run_ours() -> float:
        ensemble = Ensemble(
            task.classify, task.variables, images, labels, attacks, epsilon, make_mesh(),
            BATCH_SIZE, stability=False,
        )  # fmt: skip
        ensemble.run()
        for result in ensemble.results:
            print(f'ours: {result.name:<9} {result.seconds:6.1f} s, {result.steps} steps')
        return float(ensemble.robust.mean())

    def run_theirs() -> float:
        norm = {'linf': 'Linf', 'l2': 'L2'}[task.threat.norm]
        attack = AutoAttack(theirs, norm=norm, eps=epsilon, seed=0, verbose=False, device=device)
        broken = attack.run_standard_evaluation(x, y, bs=BATCH_SIZE)
        with torch.no_grad():
            return float((theirs(broken).argmax(1) == y).float().mean())

    before = cpu_usage()
    ours, seconds = timed(run_ours)
    published, published_seconds = timed(run_theirs)
    limits = ceilings('float32', device)
    timings = interleave({name: limit.run for name, limit in limits.items()}, repeats=5)
    ceiling = max(limit.flops / timings[name].median for name, limit in limits.items())
    least_seconds = ours * len(labels) * least_flops(theirs, attacks, x[:1]) / ceiling
    result: dict[str, Any] = {
        'network': flags.checkpoint or 'recorded',
        'norm': task.threat.norm,
        'num_examples': len(labels),
        'seconds': seconds,
        'published_seconds': published_seconds,
        'ratio': published_seconds / seconds,
        'ceiling_gflops': ceiling / 1e9,
        'least_seconds': least_seconds,
        'largest_ratio': published_seconds / least_seconds if ours else None,
        'robust_accuracy': ours,
        'published_robust_accuracy': published,
        'others_share': others_share(before, cpu_usage()),
    }
    write_json(OUTPUT, result)
    for name, value in result.items():
        print(f'{name:<26} {value:.4g}' if isinstance(value, float) else f'{name:<26} {value}')


if __name__ == '__main__':
    main()
