"""What is saved is what was there. Oracle: the arrays themselves, copied to NumPy before saving."""

import dataclasses
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from war_jax.mesh import make_mesh, replicate
from war_jax.models.wide_resnet import WideResNet
from war_jax.training import checkpoint
from war_jax.training.checkpoint import Checkpoints, Progress, UnreadableError
from war_jax.training.state import create_state
from war_jax.training.war import fixed_rule

RULE = fixed_rule(6.0, decay=0.9, total_steps=10)


def make_state(num_devices: int, seed: int = 0):
    model = WideResNet(10, 0.25, 3, stem_channels=4)
    tx = optax.sgd(0.1, momentum=0.9)
    state = create_state(jax.random.key(seed), model, tx, (8, 8, 1), RULE, True)
    return replicate(make_mesh(jax.devices()[:num_devices]), state)


def restored(checkpoints, like):
    result = checkpoints.restore(like)
    assert result is not None
    return result


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    chex.assert_trees_all_equal(jax.device_get(a), jax.device_get(b))


def test_restores_state_and_progress_on_another_number_of_devices(tmp_path):
    state = make_state(4).replace(step=jnp.int32(7))
    progress = Progress(best_step=5, best_score=0.25, sums={'loss': 0.1 + 0.2}, seconds=1.5)
    first = Checkpoints(tmp_path, keep=1)
    first.save_best(5, state.evaluated)
    first.save(state, progress)
    first.close()
    second = Checkpoints(tmp_path, keep=1)
    like = make_state(1, seed=1)
    state_again, restored_progress = restored(second, like)
    assert_equal(state_again, state)
    assert restored_progress == progress
    assert state_again.params['head']['bias'].sharding == like.params['head']['bias'].sharding
    second.close()


@pytest.fixture
def held_up(monkeypatch):
    """An event: no write begins before it is set."""
    go, write = threading.Event(), checkpoint._save

    def wait_and_write(*args) -> None:
        assert go.wait(60)
        write(*args)

    monkeypatch.setattr(checkpoint, '_save', wait_and_write)
    yield go
    go.set()


@pytest.mark.parametrize('num_devices', [1, 4])
def test_saving_is_not_disturbed_by_donation(tmp_path, held_up, num_devices):
    """All steps but the first write over the state that they are given, before the disk has it."""
    state = make_state(num_devices).replace(step=jnp.int32(1))
    before = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
    progress = Progress(best_step=1, sums={'loss': 1.0})
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save_best(1, state.evaluated)
    checkpoints.save(state, progress)
    progress.sums['loss'] = 2.0  # the meter's own, which goes on counting
    overwrite = jax.jit(lambda s: jax.tree.map(lambda leaf: leaf + 1, s), donate_argnums=0)
    for _ in range(3):
        state = overwrite(state)
    jax.block_until_ready(state)
    assert not list(tmp_path.glob('*/*'))
    held_up.set()
    state_again, progress_again = restored(checkpoints, make_state(num_devices))
    assert_equal(state_again, before)
    assert progress_again.sums == {'loss': 1.0}
    assert_equal(checkpoints.restore_best(1, state.evaluated), before.evaluated)
    checkpoints.close()


def test_a_save_does_not_wait_for_the_disk_and_what_reads_does(tmp_path, held_up):
    checkpoints = Checkpoints(tmp_path, keep=2)
    state = make_state(1).replace(step=jnp.int32(3))
    checkpoints.save_best(3, state.evaluated)
    checkpoints.save(state, Progress(best_step=3))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(checkpoints.newest_step)
        with pytest.raises(TimeoutError):
            asked.result(0.2)
        held_up.set()
        assert asked.result(60) == 3
    assert (tmp_path / 'last' / '3' / checkpoint.DIGESTS).exists()
    checkpoints.close()


def test_a_state_is_not_written_behind_a_best_network_that_was_not(tmp_path, monkeypatch):
    """Else it would name one that is not there, and push out the state that is whole."""
    checkpoints = Checkpoints(tmp_path, keep=1)
    state = make_state(1)
    checkpoints.save(state.replace(step=jnp.int32(1)), Progress())
    checkpoints.wait()
    write = checkpoints._best.save

    state_waits = threading.Event()

    def full(*args, **kwargs):
        assert state_waits.wait(60)
        raise ValueError('No space left on device')

    monkeypatch.setattr(checkpoints._best, 'save', full)
    checkpoints.save_best(2, state.evaluated)
    checkpoints.save(state.replace(step=jnp.int32(2)), Progress(best_step=2))
    state_waits.set()
    with pytest.raises(OSError, match=r'best: the checkpoint of step 2 was .*No space'):
        checkpoints.wait()
    assert checkpoints.newest_step() == 1
    monkeypatch.setattr(checkpoints._best, 'save', write)
    checkpoints.save_best(2, state.evaluated)
    assert checkpoints.best_step() == 2
    checkpoints.close()


def test_keeps_the_newest_two(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.restore(make_state(1)) is None
    assert checkpoints.newest_step() is None
    states = [make_state(1, seed).replace(step=jnp.int32(seed)) for seed in (1, 2, 3)]
    for state in states:
        checkpoints.save_best(int(state.step), state.evaluated)
        checkpoints.save(state, Progress(best_step=int(state.step)))
    checkpoints.save(states[2].replace(params=states[0].params), Progress())  # step 3 is there
    assert checkpoints.newest_step() == 3
    state_again, _ = restored(checkpoints, make_state(1))
    assert_equal(state_again, states[2])
    checkpoints.close()
    for folder in ('last', 'best'):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == ['2', '3']


def test_an_unfinished_checkpoint_is_passed_over(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    state = make_state(1).replace(step=jnp.int32(4))
    checkpoints.save(state, Progress())
    checkpoints.close()
    torn = tmp_path / 'last' / '9.orbax-checkpoint-tmp'  # as a kill during the write leaves it
    torn.mkdir()
    (torn / 'manifest').write_text('half')
    again = Checkpoints(tmp_path, keep=2)
    assert again.newest_step() == 4
    again.close()


def test_best_is_the_one_that_the_state_names(tmp_path):
    """A best network saved behind the newest state was lost with it, and will be found again."""
    checkpoints = Checkpoints(tmp_path, keep=1)
    first, second = make_state(1, 1), make_state(1, 2)
    checkpoints.save_best(5, first.evaluated)
    checkpoints.save(first.replace(step=jnp.int32(5)), Progress(best_step=5))
    checkpoints.save_best(10, second.evaluated)  # the state of step 10 was never saved
    checkpoints.close()
    again = Checkpoints(tmp_path, keep=1)
    _, progress = restored(again, make_state(1))
    assert_equal(again.restore_best(progress.best_step, first.evaluated), first.evaluated)
    with pytest.raises(UnreadableError, match='best/10'):
        again.restore_best(10, first.evaluated)
    again.save_best(10, first.evaluated)  # found again, and not the same
    assert_equal(again.restore_best(10, first.evaluated), first.evaluated)
    again.close()


def truncated(folder):
    largest = max(folder.rglob('*'), key=lambda path: path.stat().st_size * path.is_file())
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    return largest.relative_to(folder).as_posix(), 'is damaged'


def flipped(folder):
    largest = max(folder.rglob('*'), key=lambda path: path.stat().st_size * path.is_file())
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    return largest.relative_to(folder).as_posix(), 'is damaged'


def incomplete(folder):
    (folder / 'progress' / 'metadata').unlink()
    return 'progress/metadata', 'is missing'


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    return 'last/7', 'holds no files'


def of_another_shape(folder):
    other = create_state(
        jax.random.key(0), WideResNet(10, 0.5, 3, stem_channels=4), optax.sgd(0.1, momentum=0.9),
        (8, 8, 1), RULE, True,
    )  # fmt: skip
    shutil.rmtree(folder)
    elsewhere = Checkpoints(folder.parent.parent / 'other', keep=1)
    elsewhere.save(replicate(make_mesh(), other).replace(step=jnp.int32(7)), Progress())
    elsewhere.close()
    (folder.parent.parent / 'other' / 'last' / '7').rename(folder)
    return 'last/7', 'does not hold what it should'


@pytest.mark.parametrize('harm', [truncated, flipped, incomplete, emptied, of_another_shape])
def test_of_a_damaged_checkpoint_the_one_before_it_is_used(tmp_path, harm):
    checkpoints = Checkpoints(tmp_path, keep=2)
    states = [make_state(4, seed).replace(step=jnp.int32(5 + 2 * seed)) for seed in (0, 1)]
    for state in states:
        checkpoints.save(state, Progress(validated_step=int(state.step)))
    checkpoints.close()
    name, reason = harm(tmp_path / 'last' / '7')
    said = []
    again = Checkpoints(tmp_path, keep=2, say=said.append)
    state, progress = restored(again, make_state(4))
    assert_equal(state, states[0])
    assert progress.validated_step == 5
    [line] = said
    assert name in line and reason in line and '\n' not in line
    assert [path.name for path in (tmp_path / 'unreadable').iterdir()] == ['7-0']
    again.save(states[1], Progress())  # reached once more, and not taken for the one put aside
    state, _ = restored(again, make_state(4))
    assert_equal(state, states[1])
    again.close()


def test_without_any_that_can_be_read_nothing_is_begun_anew(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(make_state(1).replace(step=jnp.int32(7)), Progress())
    checkpoints.close()
    truncated(tmp_path / 'last' / '7')
    again = Checkpoints(tmp_path, keep=1)
    with pytest.raises(UnreadableError, match='none of its checkpoints can be read'):
        again.restore(make_state(1))
    again.close()


def test_a_state_counts_only_with_the_best_network_that_it_names(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    state = make_state(1)
    for step in (5, 6):
        checkpoints.save_best(step, state.evaluated)
        checkpoints.save(state.replace(step=jnp.int32(step)), Progress(best_step=step))
    checkpoints.close()
    flipped(tmp_path / 'best' / '6')
    again = Checkpoints(tmp_path, keep=2)
    assert int(restored(again, state)[0].step) == 5
    again.close()


def test_a_checkpoint_that_is_not_written_is_an_error(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save_best(10, make_state(1).evaluated)
    with pytest.raises(RuntimeError, match='step 5 was not written'):
        checkpoints.save_best(5, make_state(1).evaluated)
        checkpoints.wait()
    checkpoints.close()


def test_progress_is_plain_data():
    assert Progress(**dataclasses.asdict(Progress(sums={'a': 1.0}))) == Progress(sums={'a': 1.0})


def test_two_runs_may_save_at_once_from_two_threads(tmp_path):
    def save_and_read(name: str, offset: int) -> list[int]:
        state = make_state(1)
        checkpoints = Checkpoints(tmp_path / name, keep=2)
        for step in range(offset, offset + 8):
            checkpoints.save(state.replace(step=jnp.int32(step)), Progress(validated_step=step))
        newest, progress = restored(checkpoints, state)
        checkpoints.close()
        return [int(newest.step), progress.validated_step]

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(save_and_read, *args) for args in (('a', 1), ('b', 101))]
        assert [job.result() for job in jobs] == [[8, 8], [108, 108]]
