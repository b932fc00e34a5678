"""Does adversarial training near its start reach the best there is? Gao et al. 2019.

    python -m ntk.main --config=configs/ntk_convergence.py --workdir=runs/convergence
    python -m ntk.main --config=configs/ntk_convergence.py:smoke --workdir=runs/convergence-smoke

Argument:
    (nothing)   two-layer and deep networks, m = 64 ... 1024, five seeds
    smoke       every part, as little as possible of each

Two minutes on two cores. In B(2) and B(8) training ends within 0.004 of the best robust loss (means
at the widest networks); the linearisation error falls as m^-0.5 to m^-1: docs/results.md.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from war_jax.config_argument import Tree, apply

DEFAULTS: dict[str, Any] = {
    # Which of ntk's programs this configures.
    'experiment': 'convergence',
    'data': {
        # Points on the unit sphere with last coordinate 1/2; random labels.
        'num_points': 24,
        'dimension': 8,
    },
    'grid': {
        # 'softplus', 'relu': two layers, the first trained. 'deep': ReLU, between a fixed first
        # and a fixed last layer; see ntk/studies/convergence/network.py.
        'designs': ('softplus', 'relu', 'deep'),
        # m, even; each with each radius.
        'widths': (64, 128, 256, 512, 1024),
        'deep_widths': (32, 64, 128, 256),
        # R of the ball that training is projected on; 0: no projection.
        'radii': (0.0, 2.0, 8.0, 32.0),
        # Radii of the caps that the adversary has, and attacks A: 'none', 'fgsm' (one step of the
        # radius) or 'pgdK'. One at a time, the rest being the base.
        'epsilons': (0.05, 0.1, 0.2),
        'attacks': ('none', 'fgsm', 'pgd2', 'pgd5', 'pgd20'),
        # Each draws points, labels and weights.
        'seeds': (0, 1, 2, 3, 4),
    },
    'base': {
        'design': 'softplus',
        'width': 256,
        'radius': 8.0,
        'epsilon': 0.1,
        'attack': 'pgd5',
    },
    'training': {
        # Of full-batch gradient descent.
        'num_steps': 1024,
        # In units that do not depend on width.
        'learning_rate': 8.0,
        'deep_learning_rate': 2.0,
        # H, trained layers of 'deep'.
        'deep_layers': 2,
    },
    # The attack that stands in for the true maximum: steps, and random starts beside the point
    # itself; the best loss in the ball is enclosed within the tolerance.
    'strong': {
        'num_steps': 20,
        'restarts': 2,
        'tolerance': 0.002,
    },
}


def get_config(argument: str = '') -> Tree:
    """Returns the config for '' or 'smoke'."""
    return apply(argument, ConfigDict(DEFAULTS), {'smoke': _smoke}).lock()


def _smoke(config: Tree) -> None:
    config.smoke = True
    config.data.num_points = 8
    config.data.dimension = 4
    config.grid.designs = ('softplus', 'deep')
    config.grid.widths = (16, 32)
    config.grid.deep_widths = (8, 16)
    config.grid.radii = (0.0, 4.0)
    config.grid.epsilons = (0.1, 0.2)
    config.grid.attacks = ('none', 'fgsm', 'pgd5')
    config.grid.seeds = (0, 1, 2)
    config.base.width = 32
    config.base.radius = 4.0
    config.training.num_steps = 64
    config.strong.num_steps = 5
    config.strong.restarts = 1
