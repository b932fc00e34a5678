"""The pool: what happens to an example depends on nothing but the example."""

import zlib
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest

from tests.war_jax.robustness import linear
from war_jax.attacks.square import Square
from war_jax.attacks.threat import ThreatModel
from war_jax.mesh import make_mesh
from war_jax.robustness import pool
from war_jax.robustness.ensemble import Ensemble, make_attacks
from war_jax.robustness.pool import Pace, Search

COUNT = 29
ATTACKS = [('apgd-t', 'linf'), ('fab-t', 'l2'), ('pgd7', 'l2'), ('square', 'linf')]
EPSILON = {norm: linear.median_distance(norm, COUNT) for norm in ('linf', 'l2')}


def ensemble(
    name: str, norm: Any = 'linf', size: int = 16, devices: int = 4, seed: int = 0
) -> Ensemble:
    x = linear.images(COUNT)
    threat = ThreatModel(norm, EPSILON[norm])
    attacks, epsilon = make_attacks(name, threat, linear.SHAPE), EPSILON[norm]
    if name == 'square':  # with fewer queries than it needs, but in a larger ball
        attacks, epsilon = (Square(threat, linear.SHAPE, num_queries=40),), 3 * epsilon
    return Ensemble(
        linear.classify, linear.params(), x, linear.predictions(5, x), attacks, epsilon,
        make_mesh(jax.devices()[:devices]), size, seed,
    )  # fmt: skip


def ran(*arguments, **options) -> Search:
    one = ensemble(*arguments, **options)
    one.run()
    return one.results[0].search


@pytest.mark.parametrize(('name', 'norm'), ATTACKS)
def test_slots_and_devices_change_nothing(name, norm):
    whole = ran(name, norm, 64, 4)
    few = ran(name, norm, 4, 2)
    np.testing.assert_array_equal(whole.stage_of, few.stage_of)
    np.testing.assert_array_equal(whole.broken | whole.passed[-1], np.ones(COUNT, bool))
    assert 0 < whole.broken.sum() < COUNT
    for example, image in whole.adversarial.items():
        np.testing.assert_allclose(image, few.adversarial[example], atol=1e-6)


@pytest.mark.parametrize(('name', 'norm'), ATTACKS)
def test_when_the_host_looks_changes_nothing(name, norm):
    at_each = ran(name, norm, 64, 4)
    one, remaining = ensemble(name, norm, 64, 4), []
    attack = one.attacks[0]
    programs = pool.make_programs(attack, one.classify, one.mesh, most_steps=4)
    search = Search(COUNT, attack.num_stages(linear.NUM_CLASSES), linear.SHAPE)
    key = jax.random.fold_in(jax.random.key(0), zlib.crc32(name.encode()))  # the ensemble's
    everything = np.ones(COUNT, bool)
    arguments = (search, everything, key, one.epsilon, one.mesh, 64, remaining.append)
    pool.fill(programs, one.params, one.examples, *arguments)
    np.testing.assert_array_equal(at_each.stage_of, search.stage_of)
    np.testing.assert_array_equal(search.broken | search.passed[-1], everything)
    for example, image in at_each.adversarial.items():
        np.testing.assert_array_equal(image, search.adversarial[example])
    assert all(later <= earlier for earlier, later in pairwise(remaining)) and remaining[-1] == 0
    if name == 'square':  # 41 steps of one pool
        assert len(remaining) == 11


def test_steps_between_looks_are_as_few_as_make_no_look_more():
    one = ensemble('apgd-ce')
    for most, steps in ((1, 1), (4, 4), (16, 15), (32, 26), (200, 101)):  # of 101
        made = pool.make_programs(one.attacks[0], one.classify, one.mesh, most)
        assert made.num_steps == steps


def test_seeds_make_other_runs():
    one, same, other = (ran('square', seed=seed).adversarial for seed in (0, 0, 1))
    example = next(iter(set(one) & set(other)))
    np.testing.assert_array_equal(one[example], same[example])
    assert np.abs(one[example] - other[example]).max() > 1e-4


def test_a_slot_is_used_again_as_soon_as_its_example_is_broken():
    """Far fewer steps than runs of whole batches take."""
    one = ensemble('apgd-ce', size=4)
    one.run()
    result = one.results[0]
    standing = int((~result.search.broken).sum())
    assert result.steps < 101 * -(-COUNT // 4)
    assert result.steps >= 101 * standing / 4


def test_one_program_for_every_size_and_no_other(monkeypatch):
    monkeypatch.setattr(pool, 'ON_CPU', Pace(most_steps=1, worth_it=20))
    one, traces = ensemble('apgd-t', size=64), []

    def classify(params, x):
        traces.append(x.shape)
        return linear.classify(params, x)

    programs = pool.make_programs(one.attacks[0], classify, one.mesh)
    key = jax.random.key(0)
    for epsilon in (0.01, EPSILON['linf']):
        search = Search(COUNT, 4, linear.SHAPE)
        wanted = np.ones(COUNT, bool)
        arguments = (search, wanted, key, epsilon, one.mesh, 64)
        pool.fill(programs, one.params, one.examples, *arguments)
    sizes = [shape[0] * 4 for shape in traces]  # they are those on each device
    assert sizes[0] == 64 and len(set(sizes)) == len(sizes) and set(sizes) <= {64, 32, 24, 16, 8}


def test_an_interrupted_search_goes_on_to_the_same_end():
    straight = ran('apgd-t')

    class Stopped(Exception):
        pass

    one = ensemble('apgd-t')
    interruptions = 0
    while not (one.results and one.results[0].is_finished):
        steps = 0

        def count(*_: object) -> None:
            nonlocal steps
            steps += 1
            if steps == 150:
                raise Stopped

        try:
            one.run(count)
        except Stopped:
            interruptions += 1
    assert interruptions >= 2
    search = one.results[0].search
    np.testing.assert_array_equal(search.stage_of, straight.stage_of)
    np.testing.assert_array_equal(search.passed, straight.passed)
    for example, image in straight.adversarial.items():
        np.testing.assert_array_equal(image, search.adversarial[example])


def test_remaining_work_falls_to_nothing():
    one = ensemble('apgd-t', size=8)
    remaining: list[int] = []
    one.run(lambda _, left: remaining.append(left))
    assert COUNT * 3 * 101 < remaining[0] <= COUNT * 4 * 101 - 8
    assert all(later <= earlier for earlier, later in pairwise(remaining))
    assert remaining[-1] == 0


def test_what_does_not_hold_up_is_taken_back():
    one = ensemble('apgd-t')
    one.run()
    search = one.results[0].search
    example = next(iter(search.adversarial))
    search.adversarial[example] = one.images[example]  # as it was
    assert one._withdraw(search)
    assert not search.broken[example] and search.withdrawn == 1
    assert not one._withdraw(search)


@pytest.mark.parametrize(
    ('count', 'most', 'devices', 'size'),
    [(1000, 64, 4, 64), (600, 256, 2, 224), (64, 64, 4, 64), (65, 64, 4, 40), (17, 64, 4, 24),
     (3, 64, 4, 8), (1, 64, 4, 8), (1, 6, 2, 2), (5, 6, 2, 6), (1, 1, 1, 1), (0, 64, 4, 8)],
)  # fmt: skip
def test_sizes_of_the_pool(count, most, devices, size):
    assert pool._pool_size(count, most, devices) == size


def test_nothing_left_is_no_work():
    one = ensemble('pgd7,apgd-ce')
    one.results = [one.new_result(one.attacks[0])]
    one.results[0].is_finished = True
    one.results[0].search.stage_of[:] = 0  # all broken
    one.run()
    assert one.results[1].steps == 0 and not one.results[1].seen.any()
