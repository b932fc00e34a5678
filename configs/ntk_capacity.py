"""How wide must a network be to interpolate pairs, plainly and robustly? Gao et al. 2019.

    python -m ntk.main --config=configs/ntk_capacity.py --workdir=runs/capacity
    python -m ntk.main --config=configs/ntk_capacity.py:smoke --workdir=runs/capacity-smoke

Argument, comma-separated:
    (nothing)   two-layer ReLU networks, 8 to 32 pairs in dimension 4 to 16, five seeds
    many_pairs  16 to 48 pairs in dimension 4, and 48 in dimension 4 to 12, half as far apart;
                of so many that plain interpolation takes 8 units and more, as below that one unit
                more is a factor of its own, and powers cannot be told
    smoke       every part, as little as possible of each; alone or behind the other

The default takes a few minutes on two cores. Robust interpolation (rho = 0.8) takes 4.6, 6.3 and
5.4 times the width of plain interpolation at d = 4, 8, 16: docs/results.md.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from war_jax.config_argument import Tree, apply

DEFAULTS: dict[str, Any] = {
    # Which of ntk's programs this configures.
    'experiment': 'capacity',
    'data': {
        # Half the distance of the two points of a pair, on the unit sphere.
        'half_gap': 0.1,
    },
    'grid': {
        # n, and d (the last coordinate, 1/2, included): from the base, one at a time, plainly and
        # at the base's radius.
        'num_pairs': (8, 16, 32),
        'dimensions': (4, 8, 16),
        # rho: radii of the caps in units of half_gap; 0 is plain interpolation.
        'radii': (0.0, 0.4, 0.8),
        # Each draws pairs and starts.
        'seeds': (0, 1, 2, 3, 4),
    },
    'base': {
        'num_pairs': 16,
        'dimension': 8,
        'radius': 0.8,
    },
    'search': {
        # No width beyond is tried; at most 1024.
        'widest': 256,
        # Bisection ends when the smallest width that interpolates is within this factor of one
        # that does not.
        'ratio': 1.15,
        # Of each training, and of the attack in it.
        'num_steps': 2000,
        'attack_steps': 5,
        'learning_rate': 0.03,
        # Trained at once, of which one has to interpolate.
        'restarts': 4,
    },
    # The attack that a network has to withstand, beside the point nearest to the partner: steps,
    # and random starts beside the point itself.
    'verify': {
        'num_steps': 30,
        'restarts': 4,
    },
    'kernel': {
        # Of the two-layer network whose NTK it is: 'relu', 'erf', 'gelu', 'relu2'.
        'activation': 'relu',
        # A fit is robust when y f >= 1 - tolerance under the attack.
        'tolerance': 0.01,
    },
}


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or 'many_pairs'."""
    tokens = {'many_pairs': _many_pairs, 'smoke': _smoke}
    return apply(argument, ConfigDict(DEFAULTS), tokens).lock()


def _many_pairs(config: Tree) -> None:
    config.grid.update(num_pairs=(16, 32, 48), dimensions=(4, 8, 12), radii=(0.0, 0.8))
    config.base.update(num_pairs=48, dimension=4)
    config.search.widest = 1024
    # So many have to find room in dimension 4. Of 64, 1,024 units fit two seeds in five robustly.
    config.data.half_gap = 0.05


def _smoke(config: Tree) -> None:
    config.smoke = True
    config.grid.num_pairs = (2, 4)
    config.grid.dimensions = (4, 6)
    config.grid.radii = (0.0, 0.5)
    config.grid.seeds = (0, 1, 2)
    config.base.num_pairs = 4
    config.base.dimension = 4
    config.base.radius = 0.5
    config.search.widest = 64
    config.search.num_steps = 300
    config.search.restarts = 2
    config.verify.num_steps = 10
    config.verify.restarts = 1
