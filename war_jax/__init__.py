"""Robust training of wide residual networks in JAX, with the regularization that width asks for.

    war-jax train --config=digits:smoke --workdir=runs/smoke       # war-jax alone: all commands

    import war_jax
    ball = war_jax.ThreatModel('linf', 8 / 255)
    result = war_jax.evaluate(f, images, labels, ball)             # AutoAttack on any JAX function
    adversarial = war_jax.attack(f, images, labels, ball, 'apgd-ce')
    nearby = war_jax.pgd(f, images, labels, ball, key=jax.random.key(0))
    summary = war_jax.train('digits', 'runs/demo')                 # or NumPy arrays
    network = war_jax.load_torch('wrn34.pt')                       # may stand for f
    war_jax.save_torch(network.params, 'copy.safetensors')

These names are loaded when they are first used: importing war_jax imports no JAX.

Reading order: training/step -> attacks/pgd -> training/objective -> training/war.
"""

from typing import TYPE_CHECKING

from war_jax.lazy import on_demand

if TYPE_CHECKING:
    from war_jax.attacks.pgd import Budget as Budget
    from war_jax.attacks.threat import ThreatModel as ThreatModel
    from war_jax.from_python import train as train
    from war_jax.robustness.functions import attack as attack
    from war_jax.robustness.functions import evaluate as evaluate
    from war_jax.robustness.functions import pgd as pgd
    from war_jax.robustness.torch_files import load_torch as load_torch
    from war_jax.robustness.torch_files import save_torch as save_torch

__version__ = '0.2.0'

_HOMES = {
    'Budget': 'war_jax.attacks.pgd',
    'ThreatModel': 'war_jax.attacks.threat',
    'attack': 'war_jax.robustness.functions',
    'evaluate': 'war_jax.robustness.functions',
    'load_torch': 'war_jax.robustness.torch_files',
    'pgd': 'war_jax.robustness.functions',
    'save_torch': 'war_jax.robustness.torch_files',
    'train': 'war_jax.from_python',
}
__all__ = [
    'Budget', 'ThreatModel', 'attack', 'evaluate', 'load_torch', 'pgd', 'save_torch', 'train',
]  # fmt: skip

__getattr__, __dir__ = on_demand(__name__, globals(), _HOMES)
