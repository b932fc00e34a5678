"""Each attack alone on 1,797 digits, ours beside what AutoAttack's own code broke.

    python -m benchmarks.published_attacks --attacks=apgd-ce,apgd-dlr,apgd-t,fab-t,square

    python -m benchmarks.published_attacks --attacks=apgd-ce,apgd-dlr,apgd-t --from_starts

Theirs is recorded, with the network, in tests/fixtures/autoattack_digits.npz (README.md there).
Prints robust accuracies, the share of examples with the same outcome, and our seconds. Square makes
1,000 queries on both sides. --from_starts: APGD from the same given starts on both sides, which
leaves nothing to chance, apgd-t towards one class; tests/fixtures/apgd_from_starts.npz.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from war_jax.attacks.apgd import Apgd
from war_jax.attacks.machine import Attack, ask
from war_jax.attacks.square import Square
from war_jax.attacks.threat import ThreatModel
from war_jax.config import DataConfig
from war_jax.data.sources import load
from war_jax.mesh import make_mesh, spread_over_cores
from war_jax.models import forward
from war_jax.models.torch_io import from_torch
from war_jax.models.wide_resnet import WideResNet
from war_jax.robustness.ensemble import Ensemble, make_attacks

FIXTURE = Path(__file__).parents[1] / 'tests' / 'fixtures' / 'autoattack_digits.npz'
FROM_STARTS = FIXTURE.with_name('apgd_from_starts.npz')
OBJECTIVES: dict[str, Literal['ce', 'dlr', 'targets']] = {
    'apgd-ce': 'ce',
    'apgd-dlr': 'dlr',
    'apgd-t': 'targets',
}
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
        splits = load(DataConfig.whole('digits', ''))
        self.images = np.concatenate([splits.test.images, splits.train.images])
        self.labels = np.concatenate([splits.test.labels, splits.train.labels])
        self._arrays = arrays
        self._from_starts = dict(np.load(FROM_STARTS))

    def threat(self, norm: str) -> ThreatModel:
        epsilon = float(self._arrays[f'epsilon/{norm}'])
        return ThreatModel('linf' if norm == 'linf' else 'l2', epsilon)

    def broken(self, norm: str, name: str, from_starts: bool = False) -> np.ndarray:
        """(1797,) bool, misclassified ones included."""
        if from_starts:
            packed = self._from_starts[f'{norm}/{OBJECTIVES[name]}']
        else:
            packed = self._arrays[f'broken/{norm}/{name}']
        return np.unpackbits(packed, count=len(self.labels)).astype(bool)

    def starts(self, norm: str) -> np.ndarray:
        """(1797, 8, 8, 1) float32: on the ball's surface, in the box; of a fixed seed."""
        images, pixels = self.images / np.float32(255), (1, 2, 3)
        rng = np.random.RandomState(0)
        if norm == 'linf':
            draw = rng.uniform(-1, 1, images.shape)
            length = np.abs(draw).max(pixels, keepdims=True)
        else:
            draw = rng.standard_normal(images.shape)
            length = np.sqrt(np.square(draw).sum(pixels, keepdims=True))
        epsilon = float(self.threat(norm).epsilon)
        return np.clip(images + epsilon * draw / length, 0, 1).astype(np.float32)

    def broken_from_starts(self, norm: str, name: str, count: int | None = None) -> np.ndarray:
        """(count,) bool: by ours, 100 steps of APGD from `starts`, on the first `count` digits."""
        x = jnp.asarray(self.images[:count] / np.float32(255))
        labels, start = jnp.asarray(self.labels[:count]), jnp.asarray(self.starts(norm)[:count])
        attack = Apgd(name, self.threat(norm), OBJECTIVES[name])
        keys = jax.random.split(jax.random.key(0), len(x))  # of starts that are not used
        # The class of the third largest logit: behind the best other one, where the label is first.
        stages = jnp.full(len(x), 1 if name == 'apgd-t' else 0, jnp.int32)
        state = attack.start(keys, x, labels, self.classify(self.variables, x), stages)
        state = state._replace(point=start, previous=start, best=start)

        @jax.jit
        def step(params: Any, state: Any) -> tuple[Any, jax.Array]:
            network = partial(self.classify, params)
            logits, state, answer = ask(attack, network, state, x, labels)
            return attack.observe(state, keys, x, labels, answer), logits.argmax(-1) != labels

        broken = np.zeros(len(x), bool)
        for _ in range(attack.num_evaluations()):
            state, wrong = step(self.variables, state)
            broken |= np.asarray(wrong)
        return broken

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
    parser.add_argument('--from_starts', action='store_true', help='from given starts; APGD only')
    flags = parser.parse_args()
    names = flags.attacks.split(',')
    if flags.from_starts and not set(names) <= OBJECTIVES.keys():
        parser.error(f'--from_starts: --attacks must be of {", ".join(OBJECTIVES)}')
    spread_over_cores(BATCH_SIZE)
    recorded = Recorded()
    print('norm  attack      theirs    ours  same outcome  only theirs  only ours  seconds')
    for norm in ('linf', 'l2'):
        for name in names:
            start = time.monotonic()
            if flags.from_starts:
                ours = recorded.broken_from_starts(norm, name)
            else:
                ours = ~recorded.run(name, recorded.threat(norm)).robust
            seconds = time.monotonic() - start
            theirs = recorded.broken(norm, name, flags.from_starts)
            print(
                f'{norm:<5} {name:<9} {1 - theirs.mean():>8.2%} {1 - ours.mean():>7.2%} '
                f'{(ours == theirs).mean():>13.1%} {(theirs & ~ours).sum():>12} '
                f'{(ours & ~theirs).sum():>10} {seconds:>8.0f}',
                flush=True,
            )


if __name__ == '__main__':
    main()
