"""Each attack alone on 1,797 digits, ours beside what AutoAttack's own code broke.

    python -m benchmarks.published_attacks --attacks=apgd-ce,apgd-dlr,apgd-t,fab-t,square

Theirs is recorded, with the network, in tests/fixtures/autoattack_digits.npz (README.md there).
Prints robust accuracies, the share of examples with the same outcome, and our seconds. Square makes
1,000 queries on both sides.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np

from war_jax.attacks.machine import Attack
from war_jax.attacks.square import Square
from war_jax.attacks.threat import ThreatModel
from war_jax.config import DataConfig
from war_jax.data.sources import load
from war_jax.evaluation.ensemble import Ensemble, make_attacks
from war_jax.mesh import make_mesh, spread_over_cores
from war_jax.models import forward
from war_jax.models.torch_io import from_torch
from war_jax.models.wide_resnet import WideResNet

FIXTURE = Path(__file__).parents[1] / 'tests' / 'fixtures' / 'autoattack_digits.npz'
BATCH_SIZE = 256
SQUARE_QUERIES = 1000
SHAPE = (8, 8, 1)


class Recorded:
    """The network, the digits in the order of the recording, and what was broken."""

    def __init__(self) -> None:
        arrays = dict(np.load(FIXTURE))
        state = {key[4:]: value for key, value in arrays.items() if key.startswith('net/')}
        self.variables = from_torch(state)
        self.classify = partial(forward.evaluate, WideResNet(10, 0.5, 10, strides=(1, 2, 1)))
        splits = load(DataConfig('digits', '', 0, 0, 0, False, '', 0.0))
        self.images = np.concatenate([splits.test.images, splits.train.images])
        self.labels = np.concatenate([splits.test.labels, splits.train.labels])
        self._arrays = arrays

    def threat(self, norm: str) -> ThreatModel:
        epsilon = float(self._arrays[f'epsilon/{norm}'])
        return ThreatModel('linf' if norm == 'linf' else 'l2', epsilon)

    def broken(self, norm: str, name: str) -> np.ndarray:
        """(1797,) bool, misclassified ones included."""
        bits = np.unpackbits(self._arrays[f'broken/{norm}/{name}'], count=len(self.labels))
        return bits.astype(bool)

    def run(self, name: str, threat: ThreatModel, count: int | None = None) -> Ensemble:
        """Ours, on the first `count` digits."""
        attacks: tuple[Attack, ...] = (Square(threat, SHAPE, num_queries=SQUARE_QUERIES),)
        if name != 'square':
            attacks = make_attacks(name, threat, SHAPE)
        ensemble = Ensemble(
            self.classify, self.variables, self.images[:count], self.labels[:count], attacks,
            float(threat.epsilon), make_mesh(), BATCH_SIZE, stability=False,
        )  # fmt: skip
        ensemble.run()
        return ensemble


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.published_attacks', description=__doc__)
    parser.add_argument('--attacks', default='apgd-ce,apgd-dlr,apgd-t,fab-t,square')
    flags = parser.parse_args()
    spread_over_cores(BATCH_SIZE)
    recorded = Recorded()
    print('norm  attack      theirs    ours  same outcome  only theirs  only ours  seconds')
    for norm in ('linf', 'l2'):
        for name in flags.attacks.split(','):
            start = time.monotonic()
            ours = ~recorded.run(name, recorded.threat(norm)).robust
            seconds = time.monotonic() - start
            theirs = recorded.broken(norm, name)
            print(
                f'{norm:<5} {name:<9} {1 - theirs.mean():>8.2%} {1 - ours.mean():>7.2%} '
                f'{(ours == theirs).mean():>13.1%} {(theirs & ~ours).sum():>12} '
                f'{(ours & ~theirs).sum():>10} {seconds:>8.0f}',
                flush=True,
            )


if __name__ == '__main__':
    main()
