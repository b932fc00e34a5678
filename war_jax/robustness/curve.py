"""Stability and robust accuracy against epsilon, by PGD with few steps: what a good defence shows.

    curve = stability_curve(ensemble, threat, (0.25, 0.5, 1, 2, 4, 8), num_examples=500)

Balls are nested: what is broken at one radius is broken at every larger one, and is not attacked
again there. Every iterate counts.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from war_jax.attacks.machine import Ascent
from war_jax.attacks.threat import ThreatModel
from war_jax.robustness.doubts import Curve
from war_jax.robustness.ensemble import Ensemble
from war_jax.robustness.pool import Search, fill, make_programs

NUM_STEPS = 20
STREAM = 1  # of the key: not that of the attacks


def stability_curve(
    ensemble: Ensemble,
    threat: ThreatModel,
    scales: Sequence[float],
    num_examples: int,
    on_scale: Callable[[], object] = lambda: None,
) -> Curve:
    """At increasing `scales` times the threat's epsilon, on the first `num_examples` examples.

    Ends where nothing stands any more. on_scale is called once for every scale.
    """
    attack = Ascent(f'pgd{NUM_STEPS}', threat, 'ce', NUM_STEPS, 2 / NUM_STEPS, 1, False)
    programs = make_programs(attack, ensemble.classify, ensemble.mesh)
    count = min(num_examples, len(ensemble.labels))
    stands = (np.arange(len(ensemble.labels)) < count) & ensemble.is_predicted
    natural = ensemble.natural
    robust, stable = [float(natural[:count].mean())], [float(stands[:count].mean())]
    epsilons = [0.0, *(scale * float(threat.epsilon) for scale in scales)]
    for number, epsilon in enumerate(epsilons[1:]):
        if not stands.any():  # nor would anything stand at a larger radius
            on_scale()
            continue
        search = Search(len(stands), 1, ensemble.images.shape[1:])
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(ensemble.seed), STREAM), number)
        size = ensemble.batch_size
        fill(
            programs, ensemble.params, ensemble.examples, search, stands, key, epsilon,
            ensemble.mesh, size,
        )  # fmt: skip
        stands &= ~search.broken
        robust.append(float((stands & natural)[:count].mean()))
        stable.append(float(stands[:count].mean()))
        on_scale()
    return Curve(epsilons[: len(robust)], robust, stable, count, attack.name)
