"""A pool of slots that an attack keeps full: examples move in and out while it runs.

    programs = make_programs(attack, classify, mesh)
    search = Search(num_examples, num_stages, image_shape)
    fill(programs, params, examples, search, wanted, key, epsilon, slots=256)
    search.stage_of[i]          # the stage that broke example i, or UNBROKEN

An attack of fixed length on a fixed batch spends most of its time on examples that it has already
broken. Here an example leaves its slot as soon as it is broken or its run is over, and the next one
takes its place: every evaluation of the network is one of a full batch of examples that still
stand. All batches have one shape, so nothing is compiled again, but where the queue is empty and
long runs would leave half of the pool idle: they move to a smaller one.

An accelerator waits while its host looks at what a step has found. There a program takes several
steps at once, and a slot whose example is broken or whose run is over in one of them waits for the
look that follows the last.

Whether and where an example is broken does not depend on its neighbours, on the number of slots and
devices or on when the host looks: its random numbers come from its own number and stage, and if two
stages break it, the first counts. How many steps were made, and what later stages saw of it, do.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from war_jax.attacks.machine import Attack, Classifier, ask, rows
from war_jax.lowering import for_mesh
from war_jax.mesh import AXIS, fetch, replicate, shard
from war_jax.models.parts import by_parts

UNBROKEN = np.iinfo(np.int32).max
TOLERANCE = 1e-6  # of a perturbation's length: rounding of x + delta - x
LEVELS = 8  # sizes of a pool are multiples of an eighth of the largest one


class Pace(NamedTuple):
    """What pays on one kind of devices."""

    most_steps: int  # from one look of the host to the next
    worth_it: int  # steps still to go for which a smaller pool, which has to be compiled, pays


ON_CPU = Pace(most_steps=1, worth_it=500)
# Compiling takes 10 to 30 s there, as much as half of 2,000 steps of 20 ms.
ON_ACCELERATORS = Pace(most_steps=16, worth_it=2000)


class Examples(NamedTuple):
    """A data set, whole on every device."""

    images: Array  # (n, h, w, c) floats in [0, 1]
    labels: Array  # (n,) int32: what the attack is to change
    clean_logits: Array  # (n, classes)


class Slots(NamedTuple):
    """Leading axis (b,), split over the devices."""

    x: Array  # (b, h, w, c)
    labels: Array
    keys: Array
    state: Any  # the attack's


class Seen(NamedTuple):
    """What was found since the last look, leading axis (b,)."""

    broken: Array  # bool: the point is in the ball and misclassified, or its logits are NaN
    finished: Array  # bool
    no_gradient: Array  # bool: it is 0 throughout
    not_finite: Array  # bool: logits or gradient


class Programs(NamedTuple):
    """Jitted, each compiled once for every size of the pool; all arrays stay on the devices."""

    enter: Callable[..., Slots]  # key, epsilon, examples, slots or None, ids, stages, is_new
    step: Callable[..., tuple[Slots, Seen, Array]]  # params, epsilon, slots; points, where broken
    move: Callable[..., Slots]  # slots, which
    num_evaluations: int  # of one run, at most
    num_steps: int  # that `step` takes


class Search:
    """What one attack knows so far of all examples; on the host."""

    def __init__(self, num_examples: int, num_stages: int, image_shape: tuple[int, ...]):
        self.stage_of = np.full(num_examples, UNBROKEN, np.int32)
        self.adversarial: dict[int, np.ndarray] = {}  # (h, w, c) by example
        self.passed = np.zeros((num_stages, num_examples), bool)  # withstood this stage
        self.no_gradient = np.zeros(num_examples, bool)
        self.not_finite = np.zeros(num_examples, bool)
        self.no_answer = np.zeros(num_examples, bool)  # broken where the logits are NaN
        self.withdrawn = 0
        self.image_shape = image_shape

    @property
    def broken(self) -> np.ndarray:
        """(n,) bool."""
        return self.stage_of < UNBROKEN

    def withdraw(self, example: int) -> None:
        """What was found for it did not hold up; this stage is taken as withstood."""
        self.passed[self.stage_of[example], example] = True
        self.stage_of[example] = UNBROKEN
        self.no_answer[example] = False
        del self.adversarial[example]
        self.withdrawn += 1

    def is_open(self, stage: Any, example: Any) -> Any:
        """Numbers or arrays of them -> bool: whether this run is of interest still."""
        return ~self.passed[stage, example] & (self.stage_of[example] > stage)

    def num_open(self, wanted: np.ndarray) -> int:
        """Runs that are still to be made, if none of them succeeds."""
        stages = np.arange(len(self.passed))[:, None]
        return int((wanted & ~self.passed & (self.stage_of > stages)).sum())


def make_programs(
    attack: Attack, classify: Classifier, mesh: Mesh, most_steps: int | None = None
) -> Programs:
    """epsilon is an argument of the programs: a curve over it compiles nothing more.

    most_steps: from one look of the host to the next; None means that of the mesh's `Pace`.
    """
    num_evaluations = attack.num_evaluations()
    # As few looks at a run as that takes, and no more steps between them than these few take.
    num_looks = -(-num_evaluations // (most_steps or pace_of(mesh).most_steps))
    num_steps = -(-num_evaluations // num_looks)

    def at(epsilon: Array) -> Any:
        machine: Any = attack
        return replace(machine, threat=replace(attack.threat, epsilon=epsilon))

    def enter(
        key: Array, epsilon: Array, examples: Examples, slots: Slots | None, ids: Array,
        stages: Array, is_new: Array,
    ) -> Slots:  # fmt: skip
        def own_key(stage: Array, example: Array) -> Array:
            return jax.random.fold_in(jax.random.fold_in(key, stage), example)

        x, labels, logits = (array[ids] for array in examples)
        keys = jax.vmap(own_key)(stages, ids)
        entering = Slots(x, labels, keys, at(epsilon).start(keys, x, labels, logits, stages))
        return entering if slots is None else rows(is_new, entering, slots)

    def step(params: Any, epsilon: Array, slots: Slots) -> tuple[Slots, Seen, Array]:
        machine = at(epsilon)

        def of_part(slots: Slots) -> tuple[Slots, Seen, Array]:
            x, labels, keys, _ = slots
            network = partial(classify, params)
            pixels = tuple(range(1, x.ndim))

            def one(_: int, carry: tuple[Any, Seen, Array]) -> tuple[Any, Seen, Array]:
                state, so_far, points = carry
                logits, looked, answer = ask(machine, network, state, x, labels)
                gradient = answer.gradient
                inside = machine.threat.length(state.point - x) <= epsilon + TOLERANCE
                wrong = (logits.argmax(-1) != labels) & machine.counts(state)
                # Counted on the way, too: behind it there is no gradient, and no further point.
                in_box = ((state.point >= 0) & (state.point <= 1)).all(pixels)
                no_answer = jnp.isnan(logits).any(-1) & in_box
                after = machine.observe(looked, keys, x, labels, answer)
                now = Seen(
                    broken=(wrong | no_answer) & inside,
                    finished=machine.finished(after),
                    no_gradient=jnp.all(gradient == 0, pixels) & attack.uses_gradient,
                    not_finite=~(
                        jnp.isfinite(logits).all(-1) & jnp.isfinite(gradient).all(pixels)
                    ),
                )
                # Of a slot that waits for the look nothing counts any more.
                runs = ~(so_far.broken | so_far.finished)
                seen = jax.tree.map(lambda old, new: old | (runs & new), so_far, now)
                return after, seen, rows(runs, state.point, points)

            nothing = jnp.zeros_like(labels, bool)
            start = (slots.state, Seen(nothing, nothing, nothing, nothing), slots.state.point)
            after, seen, points = jax.lax.fori_loop(0, num_steps, one, start)
            return slots._replace(state=after), seen, points

        return by_parts(of_part, slots)

    split, whole = P(AXIS), P()
    step = jax.shard_map(
        step, mesh=mesh, in_specs=(whole, whole, split), out_specs=split, check_vma=False
    )
    placed = NamedSharding(mesh, split)
    return Programs(
        enter=jax.jit(enter, out_shardings=placed, donate_argnames='slots'),
        step=jax.jit(for_mesh(step, mesh), donate_argnums=2, out_shardings=placed),
        move=jax.jit(
            lambda slots, which: jax.tree.map(lambda leaf: leaf[which], slots),
            out_shardings=placed,
        ),
        num_evaluations=num_evaluations,
        num_steps=num_steps,
    )


def pace_of(mesh: Mesh) -> Pace:
    return ON_CPU if mesh.devices.flat[0].platform == 'cpu' else ON_ACCELERATORS


def fill(
    programs: Programs,
    params: Any,
    examples: Examples,
    search: Search,
    wanted: np.ndarray,
    key: Array,
    epsilon: float,
    mesh: Mesh,
    num_slots: int,
    on_step: Callable[[int], object] = lambda remaining: None,
) -> None:
    """Runs the attack on the `wanted` (n,) examples until each is broken or has passed all stages.

    What `search` already holds is not done again. num_slots: a multiple of the number of devices.
    on_step is called after every look, with the number of evaluations of single examples that are
    still to be made, if no further one breaks; whatever it raises ends the search between two
    programs, and `search` can be saved then.
    """
    queue = _queue(search, np.flatnonzero(wanted))
    worth_it = pace_of(mesh).worth_it
    key, radius = replicate(mesh, (key, np.float32(epsilon)))
    size = _pool_size(search.num_open(wanted), num_slots, mesh.size)
    stages, ids = np.zeros((2, size), np.int32)
    ages = np.zeros(size, np.int32)
    active = np.zeros(size, bool)
    slots = None
    while True:
        active &= search.is_open(stages, ids)
        new = np.zeros(size, bool)
        for slot, run in zip(np.flatnonzero(~active), queue, strict=False):
            stages[slot], ids[slot] = run
            ages[slot], new[slot] = 0, True
        active |= new
        if not active.any():
            return
        smaller = _pool_size(int(active.sum()), num_slots, mesh.size)
        to_go = programs.num_evaluations - int(ages[active].min())
        if slots is not None and not new.any() and 2 * smaller <= size and to_go >= worth_it:
            # Those of the empty slots that come along do no harm.
            which = np.argsort(~active, kind='stable')[:smaller].astype(np.int32)
            slots = programs.move(slots, *shard(mesh, (which,)))
            stages, ids, ages, active = (a[which] for a in (stages, ids, ages, active))
            size, new = smaller, new[which]
        if new.any():
            # Copies: on a CPU, JAX may read NumPy's memory while the loop goes on to change it.
            arrays = shard(mesh, (ids.copy(), stages.copy(), new))
            slots = programs.enter(key, radius, examples, slots, *arrays)
        slots, seen, points = programs.step(params, radius, slots)
        _note(search, stages, ids, active, fetch(seen), points)
        ages += programs.num_steps
        still = active & search.is_open(stages, ids)
        whole_runs = search.num_open(wanted) * programs.num_evaluations
        on_step(whole_runs - int(np.minimum(ages, programs.num_evaluations)[still].sum()))


def _queue(search: Search, examples: np.ndarray) -> Iterator[tuple[int, int]]:
    """(stage, example): all of a stage before the next; those broken meanwhile are left out."""
    for stage in range(len(search.passed)):
        for example in map(int, examples):
            if search.is_open(stage, example):
                yield stage, example


def _pool_size(count: int, most: int, devices: int) -> int:
    """The smallest pool that makes `count` runs in as few rounds as one of `most` slots."""
    unit = -(-most // (LEVELS * devices)) * devices
    rounds = max(1, -(-count // most))
    in_round = max(1, -(-count // rounds))
    return min(most, -(-in_round // unit) * unit)


def _note(
    search: Search, stages: np.ndarray, ids: np.ndarray, active: np.ndarray, seen: Seen,
    points: Array,
) -> None:  # fmt: skip
    search.no_gradient[ids[active & seen.no_gradient]] = True
    search.not_finite[ids[active & seen.not_finite]] = True
    passed = active & seen.finished & ~seen.broken
    search.passed[stages[passed], ids[passed]] = True
    broken = np.flatnonzero(active & seen.broken)
    if not len(broken):
        return
    on_host = fetch(points)
    for slot in broken[np.argsort(-stages[broken], kind='stable')]:  # the first stage comes last
        if search.is_open(stages[slot], ids[slot]):
            search.stage_of[ids[slot]] = stages[slot]
            search.adversarial[int(ids[slot])] = on_host[slot].copy()
