"""Attacks by name, and several of them one after the other, each on what still stands.

    attacks = make_attacks('autoattack', ThreatModel('linf', 8 / 255), images.shape[1:], 10)
    ensemble = Ensemble(classify, params, images, labels, attacks, threat.epsilon, ...)
    ensemble.run(on_step)
    ensemble.results                # per attack: what it saw, what it broke

Every example is attacked away from the class that the network gives it without an attack: what an
attack cannot change is stable (Wu et al. 2021), and robust if that class is right, too. Examples
that are misclassified anyway are attacked for stability only.
"""

import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from war_jax.attacks.apgd import Apgd
from war_jax.attacks.fab import Fab
from war_jax.attacks.machine import Ascent, Attack, Classifier
from war_jax.attacks.square import Square
from war_jax.attacks.threat import ThreatModel
from war_jax.config_rules import ConfigError, nearest
from war_jax.data.batches import eval_plan
from war_jax.lowering import for_mesh
from war_jax.mesh import AXIS, fetched, replicate, shard
from war_jax.robustness.inputs import in_box, whole_labels, with_checked_logits
from war_jax.robustness.pool import TOLERANCE, Examples, Search, fill, make_programs

# The standard version of Croce & Hein 2020b, in their order.
AUTOATTACK = ('apgd-ce', 'apgd-t', 'fab-t', 'square')
NAMES = ('autoattack', *AUTOATTACK, 'apgd-dlr', 'multitargeted', 'pgd20', 'cw20')


def make_attacks(
    names: str, threat: ThreatModel, image_shape: tuple[int, int, int]
) -> tuple[Attack, ...]:
    """names: one or several of NAMES, separated by commas; pgdN and cwN with any number of steps.

    pgdN and cwN make N steps of 2 epsilon / N from one uniform start, and count their last iterate
    only. multitargeted makes 100 steps of epsilon / 10 for each of nine targets.
    Raises ConfigError for an unknown name, and for one named twice.
    """
    chosen = [part.strip() for part in names.split(',')]
    standard = {'autoattack': AUTOATTACK}
    expanded = [part for name in chosen for part in standard.get(name, (name,))]
    if len(set(expanded)) < len(expanded):
        raise ConfigError(f'--attack={names}: must not name an attack twice')
    return tuple(_make_attack(name, threat, image_shape) for name in expanded)


def _make_attack(name: str, threat: ThreatModel, image_shape: tuple[int, int, int]) -> Attack:
    fixed: dict[str, Callable[[], Attack]] = {
        'apgd-ce': lambda: Apgd(name, threat, 'ce'),
        'apgd-dlr': lambda: Apgd(name, threat, 'dlr'),
        'apgd-t': lambda: Apgd(name, threat, 'targets'),
        'fab-t': lambda: Fab(threat),
        'square': lambda: Square(threat, image_shape),
        'multitargeted': lambda: Ascent(name, threat, 'targets', 100, 0.1, 1, False),
    }
    if name in fixed:
        return fixed[name]()
    plain = re.fullmatch(r'(pgd|cw)([1-9]\d{0,3})', name)
    if plain is None:
        rule = f'must be of {", ".join(NAMES)}, or pgdN and cwN with N steps'
        raise ConfigError(f'--attack={name}: {rule}; nearest: {nearest(name, NAMES)}')
    steps = int(plain[2])
    return Ascent(name, threat, 'ce' if plain[1] == 'pgd' else 'cw', steps, 2 / steps, 1, True)


@dataclass
class Result:
    """Of one attack; arrays (n,)."""

    name: str
    seen: np.ndarray  # bool: what it was shown
    search: Search
    seconds: float = 0.0
    steps: int = 0  # evaluations of a pool of examples
    is_finished: bool = False


OnStep = Callable[[Result, int], object]


@dataclass
class Ensemble:
    """What is evaluated, and what is known of it; arrays are on the host.

    stability: also attack the examples that are misclassified without an attack.
    batch_size: slots of the pool, over all devices.
    An image whose logits are not numbers has no prediction: it is neither natural nor stable.
    Raises ConfigError for images, labels and networks that cannot be (`war_jax.robustness.inputs`).
    """

    classify: Classifier
    params: Any
    images: np.ndarray  # (n, h, w, c) uint8, or floats in [0, 1]
    labels: np.ndarray  # (n,) whole numbers
    attacks: tuple[Attack, ...]
    epsilon: float
    mesh: Mesh
    batch_size: int
    seed: int = 0
    stability: bool = True
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images, self.origin_of_images = in_box(self.images)
        self.params = replicate(self.mesh, self.params)
        self.classify = with_checked_logits(self.classify)
        self.predict = make_predict(self.classify, self.mesh)
        batch = jax.ShapeDtypeStruct((self.batch_size, *self.images.shape[1:]), np.float32)
        num_classes = jax.eval_shape(self.predict, self.params, batch).shape[-1]
        self.labels = whole_labels(self.labels, len(self.images), num_classes)
        self.clean_logits = self.logits(self.images)
        self.predictions = self.clean_logits.argmax(-1).astype(np.int32)
        self.is_predicted = ~np.isnan(self.clean_logits).any(-1)
        self.natural = self.is_predicted & (self.predictions == self.labels)
        arrays = (self.images, self.predictions, self.clean_logits)
        self.examples = Examples(*replicate(self.mesh, arrays))

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(n, h, w, c) -> (n, classes), float32, in batches."""
        plan = eval_plan(len(images), self.batch_size)
        runs = (
            self.predict(self.params, *shard(self.mesh, (images[indices],)))
            for indices in plan.indices
        )
        parts = zip(plan.mask, fetched(runs), strict=True)
        return np.concatenate([logits[mask] for mask, logits in parts])

    @property
    def stable(self) -> np.ndarray:
        """(n,) bool: broken by no attack so far; without `stability`, of natural examples only."""
        broken = [result.search.broken for result in self.results]
        return ~np.any([~self.is_predicted, *broken], axis=0)

    @property
    def robust(self) -> np.ndarray:
        """(n,) bool."""
        return self.natural & self.stable

    def new_result(self, attack: Attack) -> Result:
        """For an attack on what stands now."""
        seen = self.stable & (self.natural | self.stability)
        num_stages = attack.num_stages(self.clean_logits.shape[-1])
        search = Search(len(self.labels), num_stages, self.images.shape[1:])
        return Result(attack.name, seen, search)

    def run(self, on_step: OnStep = lambda result, remaining: None) -> None:
        """All attacks that are not finished, the first one among them from where it stopped.

        on_step: called between steps, with the number of evaluations that this attack has still to
        make (`pool.fill`); what it raises ends the work, which the same call then takes up again.
        """
        for number, attack in enumerate(self.attacks):
            if number == len(self.results):
                self.results.append(self.new_result(attack))
            result = self.results[number]
            if not result.is_finished:
                self._run(attack, result, on_step)

    def _run(self, attack: Attack, result: Result, on_step: OnStep) -> None:
        last = time.monotonic()
        programs = make_programs(attack, self.classify, self.mesh)

        def count(remaining: int) -> None:
            nonlocal last
            now = time.monotonic()
            result.seconds, last = result.seconds + now - last, now
            result.steps += programs.num_steps
            on_step(result, remaining)

        # By its name, so that an attack draws the same numbers in any company.
        key = jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(attack.name.encode()))
        search, size = result.search, self.batch_size
        arguments = (search, result.seen, key, self.epsilon, self.mesh, size, count)
        fill(programs, self.params, self.examples, *arguments)
        while self._withdraw(search):
            fill(programs, self.params, self.examples, *arguments)
        result.is_finished = True

    def _withdraw(self, search: Search) -> bool:
        """Whether anything found was taken back.

        One plain forward pass over what was found, and its distance measured anew.

        What does not hold up counts as not broken: on accelerators an example on the very boundary
        may fall on either side, depending on the batch that it is in.
        """
        found = sorted(search.adversarial)
        if not found:
            return False
        images = np.stack([search.adversarial[i] for i in found])
        logits = self.logits(images)
        not_a_number = np.isnan(logits).any(-1)
        search.no_answer[found] = not_a_number
        wrong = not_a_number | (logits.argmax(-1) != self.predictions[found])
        threat = self.attacks[0].threat
        delta = images.astype(np.float64) - self.images[found]
        lengths = np.asarray(ThreatModel(threat.norm, self.epsilon).length(jnp.asarray(delta)))
        in_ball = lengths <= self.epsilon + 2 * TOLERANCE
        in_box = ((images >= 0) & (images <= 1)).all((1, 2, 3))
        wanting = ~(wrong & in_ball & in_box)
        for example in np.array(found)[wanting]:
            search.withdraw(int(example))
        return bool(wanting.any())


def make_predict(classify: Classifier, mesh: Mesh) -> Callable[..., jax.Array]:
    """A jitted (params, images (b, h, w, c)) -> (b, classes), split over the mesh."""
    specs = (P(), P(AXIS))
    mapped = jax.shard_map(
        classify, mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False
    )
    return jax.jit(for_mesh(mapped, mesh))
