"""The baseline: a WideResNet and a TRADES training step as a competent PyTorch user writes them.

    settings = Settings()
    model, optimizer = make_model(Network(16, 2), seed=0, settings=settings)
    noise = torch.randn_like(images)
    natural, robust = trades_step(model, optimizer, images, labels, noise, settings)

    python -m benchmarks.torch_baseline --networks=34-1,34-10 --batch=128    # compiles, for later

Written from the description of the architecture (Zagoruyko & Komodakis 2016; the pre-activation
variant of Zhang et al. 2019) and of the algorithm (Zhang et al. 2019, Algorithm 1), and laid out as
PyTorch likes it on a CPU: channels-last, in-place ReLU, `torch.autograd.grad` for the image alone,
no gradient tape where none is read; on a GPU also compiled, and in bfloat16 by autocast. Parameters
carry the names of the published checkpoints.

In one respect the step repeats what the published code does although it need not: the attack's
target f(x) is computed anew at every attack step. `Settings.hoist_targets` computes it once.
"""

# torch is an extra, which linting does without.
# pyright: reportMissingImports=false

import argparse
import os
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.flops import (
    INPUT_CHANNELS,
    INPUT_SIZE,
    NUM_CLASSES,
    STEM_CHANNELS,
    STRIDES,
    Network,
    parse_network,
)


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of record for CIFAR-10, L-infinity; lengths in units of pixel value.

    hoist_targets: see above. device: 'cpu' or 'cuda'. autocast: convolutions in bfloat16.
    compiled: by torch.compile, at its first call.
    """

    epsilon: float = 0.031
    step_size: float = 0.007
    attack_steps: int = 10
    init_scale: float = 0.001
    lam: float = 6.0
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 2e-4
    hoist_targets: bool = False
    device: str = 'cpu'
    autocast: bool = False
    compiled: bool = False


class Block(nn.Module):
    """BN-ReLU-conv, BN-ReLU-conv, plus a shortcut.

    Where the number of channels changes, the 1x1 shortcut starts from the activated input;
    elsewhere the shortcut is the untouched input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.convShortcut = (
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            if in_channels != out_channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = functional.relu(self.bn1(x), inplace=True)
        hidden = functional.relu(self.bn2(self.conv1(activated)), inplace=True)
        shortcut = x if self.convShortcut is None else self.convShortcut(activated)
        return shortcut + self.conv2(hidden)


class Stage(nn.Module):
    """A row of blocks, the first of which changes the width and the resolution."""

    def __init__(self, num_blocks: int, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        rest = [Block(out_channels, out_channels, 1) for _ in range(num_blocks - 1)]
        self.layer = nn.Sequential(Block(in_channels, out_channels, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """(b, 3, h, w) images in [0, 1] -> (b, 10) logits; no input normalisation, no dropout."""

    def __init__(self, network: Network):
        super().__init__()
        num_blocks, widths = network.blocks_per_stage, network.widths
        self.conv1 = nn.Conv2d(INPUT_CHANNELS, STEM_CHANNELS, 3, padding=1, bias=False)
        self.block1 = Stage(num_blocks, STEM_CHANNELS, widths[0], STRIDES[0])
        self.block2 = Stage(num_blocks, widths[0], widths[1], STRIDES[1])
        self.block3 = Stage(num_blocks, widths[1], widths[2], STRIDES[2])
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], NUM_CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        features = self.block3(self.block2(self.block1(self.conv1(x))))
        features = functional.relu(self.bn1(features), inplace=True)
        return self.fc(features.mean(dim=(2, 3)))


def prepare() -> None:
    """Lets PyTorch use every core that this process may run on, and its GPU as XLA does.

    Call it before JAX starts its backend.
    """
    # On a GPU, JAX would take three quarters of the memory that PyTorch needs, too.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    torch.backends.cudnn.benchmark = True  # tries several kernels of each convolution
    if hasattr(os, 'sched_getaffinity'):  # in a container, fewer than the machine has
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    else:
        torch.set_num_threads(os.cpu_count() or 1)


def wait_for(tensor: Tensor) -> None:
    """Until a GPU has computed it; a CPU has when the operation returns."""
    if tensor.is_cuda:
        torch.cuda.synchronize()


def make_model(
    network: Network, *, seed: int, settings: Settings
) -> tuple[WideResNet, torch.optim.SGD]:
    """A freshly initialised channels-last network and its optimizer."""
    torch.manual_seed(seed)
    model = WideResNet(network)
    # Module.to's published types leave this argument out.
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model.to(settings.device)
    if settings.compiled:
        # Of one network only: PyTorch counts recompilations over all of a class, gives up after
        # eight, and goes on eagerly without a word.
        torch.compiler.reset()
        model.compile(dynamic=False)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    return model, optimizer


def kl_divergence(clean_logits: Tensor, adversarial_logits: Tensor) -> Tensor:
    """KL(softmax(clean) || softmax(adversarial)), summed over the batch: two (b, classes) -> ()."""
    return functional.kl_div(
        functional.log_softmax(adversarial_logits, dim=1),
        functional.log_softmax(clean_logits, dim=1),
        reduction='sum',
        log_target=True,
    )


def logits_of(model: WideResNet, images: Tensor, settings: Settings) -> Tensor:
    """(b, classes) in float32, whatever the network computes in."""
    with torch.autocast(settings.device, torch.bfloat16, enabled=settings.autocast):
        return model(images).float()


def attack(model: WideResNet, images: Tensor, noise: Tensor, settings: Settings) -> Tensor:
    """Sign ascent on the KL divergence from f(images), BatchNorm in inference mode.

    images, noise: (b, 3, h, w), the pixels in [0, 1] and the noise standard normal.
    Returns images within epsilon of the given ones in every pixel, and within [0, 1].
    """
    model.eval()
    model.requires_grad_(False)  # a compiled backward pass computes all gradients that it could
    lower = (images - settings.epsilon).clamp_(min=0.0)
    upper = (images + settings.epsilon).clamp_(max=1.0)
    adversarial = images + settings.init_scale * noise
    with torch.no_grad():
        clean_logits = logits_of(model, images, settings)
    for step in range(settings.attack_steps):
        if step > 0 and not settings.hoist_targets:
            with torch.no_grad():
                clean_logits = logits_of(model, images, settings)
        adversarial.requires_grad_()
        divergence = kl_divergence(clean_logits, logits_of(model, adversarial, settings))
        (gradient,) = torch.autograd.grad(divergence, adversarial)
        with torch.no_grad():
            adversarial = adversarial + settings.step_size * gradient.sign()
            adversarial = torch.clamp(adversarial, lower, upper)
    model.requires_grad_(True)
    return adversarial


def trades_step(
    model: WideResNet,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    noise: Tensor,
    settings: Settings,
) -> tuple[Tensor, Tensor]:
    """One update on cross-entropy + lam · KL / b; changes model and optimizer in place.

    The update passes over the natural batch and then over the adversarial one, both in training
    mode, so that each moves the running statistics once: the order of the WAR authors' code.
    Returns the natural risk and the robust regularization (unweighted), each ().
    """
    adversarial = attack(model, images, noise, settings)
    model.train()
    optimizer.zero_grad(set_to_none=True)
    clean_logits = logits_of(model, images, settings)
    natural = functional.cross_entropy(clean_logits, labels)
    adversarial_logits = logits_of(model, adversarial, settings)
    robust = kl_divergence(clean_logits, adversarial_logits) / len(images)
    (natural + settings.lam * robust).backward()
    optimizer.step()
    return natural.detach(), robust.detach()


def main() -> None:
    """Compiles the step of each network, so that later processes find it in Inductor's cache."""
    parser = argparse.ArgumentParser('python -m benchmarks.torch_baseline', description=__doc__)
    parser.add_argument('--networks', default='34-1', help='such as 34-1,34-10')
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--precision', default='bfloat16', help='float32, bfloat16 or both')
    flags = parser.parse_args()
    prepare()
    for precision in flags.precision.split(','):
        for network in map(parse_network, flags.networks.split(',')):
            started = time.perf_counter()
            settings = Settings(device='cuda', autocast=precision == 'bfloat16', compiled=True)
            model, optimizer = make_model(network, seed=0, settings=settings)
            shape = (flags.batch, INPUT_SIZE, INPUT_SIZE, INPUT_CHANNELS)
            # Laid out as the benchmark lays out its images: a program is for one layout.
            images = torch.rand(shape, device='cuda').permute(0, 3, 1, 2)
            labels = torch.zeros(flags.batch, dtype=torch.long, device='cuda')
            noise = torch.randn_like(images)
            wait_for(trades_step(model, optimizer, images, labels, noise, settings)[0])
            print(f'{network} {precision}: {time.perf_counter() - started:.1f} s', flush=True)


if __name__ == '__main__':
    main()
