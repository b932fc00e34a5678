"""Oracles: sets and counts computed in plain Python, chi-square bounds, one frozen permutation."""

import numpy as np
import pytest
import scipy.stats

from war_jax.data import batches


@pytest.mark.parametrize('n', [0, 1, 2, 1000])
def test_permutation_holds_every_number_once(n):
    assert sorted(batches.permutation(n, 3, 1).tolist()) == list(range(n))


def test_permutation_is_frozen():
    # Data splits rest on it: a new value here means that test sets move under published numbers.
    assert batches.permutation(8, 0, 2).tolist() == [0, 4, 6, 3, 5, 7, 1, 2]


def test_permutation_is_uniform():
    orders = np.stack([batches.permutation(4, 7, k) for k in range(2400)])
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ('num_train', 'batch_size', 'extra_per_batch'),
    [(1, 1, 0), (1, 8, 0), (7, 8, 0), (8, 8, 0), (9, 8, 0), (100, 16, 0), (100, 16, 8), (5, 4, 3)],
)
def test_train_plan_holds_every_example_once(num_train, batch_size, extra_per_batch):
    plan = batches.train_plan(0, 2, num_train, batch_size, 11, extra_per_batch)
    own = batch_size - extra_per_batch
    assert plan.indices.shape == plan.mask.shape == ((num_train + own - 1) // own, batch_size)
    assert (plan.indices.dtype, plan.mask.dtype) == (np.int32, bool)
    used = plan.indices[plan.mask]
    assert sorted(i for i in used.tolist() if i < num_train) == list(range(num_train))
    assert not plan.indices[~plan.mask].any()
    assert plan.mask[:-1].all()
    assert ((plan.indices >= num_train).sum(1) == extra_per_batch).all()


def test_train_plan_depends_on_seed_and_epoch_alone():
    plan = batches.train_plan(1, 5, 200, 16, 30, 4)
    again = batches.train_plan(1, 5, 200, 16, 30, 4)
    np.testing.assert_array_equal(plan.indices, again.indices)
    np.testing.assert_array_equal(plan.mask, again.mask)
    for seed, epoch in [(1, 6), (2, 5), (5, 1)]:
        other = batches.train_plan(seed, epoch, 200, 16, 30, 4)
        assert (plan.indices != other.indices).mean() > 0.8


@pytest.mark.parametrize('num_extra', [1, 5, 24, 1000])
def test_extra_examples_are_walked_without_repeats_across_epochs(num_extra):
    plans = [batches.train_plan(0, epoch, 50, 16, num_extra, 6) for epoch in range(6)]
    walked = np.concatenate([p.indices[p.indices >= 50] - 50 for p in plans])
    assert len(walked) == 6 * 5 * 6
    rounds = [walked[i : i + num_extra].tolist() for i in range(0, len(walked), num_extra)]
    for one_round in rounds:
        assert len(set(one_round)) == len(one_round)
    assert all(set(one_round) == set(range(num_extra)) for one_round in rounds[:-1])
    if num_extra == 24:
        assert rounds[0] != rounds[1]


def test_each_device_has_its_share_of_extra_and_of_padding():
    plan = batches.train_plan(0, 0, 50_000, 128, 10, 32)
    extra = (plan.indices >= 50_000).reshape(-1, 8, 16).sum(2)
    assert (extra == 4).all()
    # 50,000 = 520 * 96 + 80: without extra data, the last batch of 128 holds 80.
    last = batches.train_plan(0, 0, 50_000, 128).mask[-1]
    assert last.sum() == 80
    assert (last.reshape(8, 16).sum(1) == 10).all()
    four = batches.train_plan(0, 0, 5, 128).mask[-1].reshape(4, 32).sum(1)
    assert sorted(four.tolist()) == [1, 1, 1, 2]


@pytest.mark.parametrize(('n', 'batch_size'), [(0, 4), (1, 4), (4, 4), (10, 4), (3, 1)])
def test_eval_plan_is_in_order_and_complete(n, batch_size):
    plan = batches.eval_plan(n, batch_size)
    assert plan.indices.shape == plan.mask.shape == ((n + batch_size - 1) // batch_size, batch_size)
    assert (plan.indices.dtype, plan.mask.dtype) == (np.int32, bool)
    assert plan.indices[plan.mask].tolist() == list(range(n))
    assert plan.mask.ravel()[:n].all()
    assert not plan.indices[~plan.mask].any()


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: batches.train_plan(0, 0, 0, 4), 'num_train = 0'),
        (lambda: batches.train_plan(0, 0, 8, 0), 'batch_size = 0'),
        (lambda: batches.train_plan(0, 0, 8, 4, 9, 4), 'extra_per_batch = 4'),
        (lambda: batches.train_plan(0, 0, 8, 4, 9, -1), 'extra_per_batch = -1'),
        (lambda: batches.train_plan(0, 0, 8, 4, 0, 2), 'num_extra = 0'),
        (lambda: batches.eval_plan(-1, 4), 'num_examples = -1'),
        (lambda: batches.eval_plan(5, 0), 'batch_size = 0'),
    ],
)
def test_impossible_sizes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
