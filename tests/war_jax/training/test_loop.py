"""Whole runs on few digits. Oracle: a run must not notice that it was interrupted, bit for bit; and
what it wrote must agree with what it wrote elsewhere."""

import json
import os
import signal
from pathlib import Path

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tensorboardX.proto import event_pb2

from configs import digits
from war_jax.config import ConfigError, resolve
from war_jax.records import logbook
from war_jax.run import train
from war_jax.training import loop
from war_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures('undrawn')


def config(**changes):
    values = digits.get_config('smoke')
    values.update_from_flattened_dict(changes)
    return resolve(values)


@pytest.fixture(scope='session')
def finished(tmp_path_factory):
    """Workdir and summary of one uninterrupted run."""
    workdir = tmp_path_factory.mktemp('run')
    return workdir, train(config(), workdir)


def final_state(workdir: Path):
    """The last checkpoint as the arrays on disk, whatever tree and devices they came from."""
    checkpoints = Checkpoints(workdir / 'checkpoints', keep=1)
    step = checkpoints.newest_step()
    checkpoints.close()
    folder = workdir / 'checkpoints' / 'last' / str(step) / 'state'
    with jax.enable_x64(True), ocp.PyTreeCheckpointer() as reader:
        shapes = reader.metadata(folder).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        return step, reader.restore(folder, ocp.args.PyTreeRestore(restore_args=as_numpy))


def rows(workdir: Path) -> list[dict]:
    """Metrics without what a clock put there; use `measured` to leave out who computed them."""
    clock = ('seconds', 'images_per_second')
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in clock} for line in lines]


def measured(workdir: Path) -> list[dict]:
    return [row for row in rows(workdir) if row['kind'] != 'session']


def assert_same_run(workdir: Path, other: Path) -> None:
    (step, state), (other_step, other_state) = final_state(workdir), final_state(other)
    assert step == other_step
    chex.assert_trees_all_equal(state, other_state)
    assert measured(workdir) == measured(other)
    summaries = [json.loads((path / 'summary.json').read_text()) for path in (workdir, other)]
    for summary in summaries:
        summary.pop('seconds')
    assert summaries[0] == summaries[1]


def test_what_a_run_leaves(finished):
    workdir, summary = finished
    assert {path.name for path in workdir.iterdir()} == {
        '.lock',
        'config.json',
        'metrics.jsonl',
        'tensorboard',
        'checkpoints',
        'summary.json',
        'war.json',
        'examples.npz',
        'report.md',
        'report.html',
        'figures',
    }
    assert summary['num_examples'] == 48
    assert summary['epsilon'] == 0.2
    assert summary['lambda'] == 3.0
    assert summary['risk_ratio'] == summary['natural_risk'] / summary['robust_regularization']
    natural, robust, stable = (
        summary[k] for k in ('natural_accuracy', 'robust_accuracy', 'perturbation_stability')
    )
    assert natural + stable - 1 <= robust + 1e-12 <= min(natural, stable) + 2e-12
    for name in ('natural_accuracy', 'robust_accuracy', 'perturbation_stability'):
        low, high = summary['intervals'][name]
        assert low <= summary[name] <= high
    assert summary['curve']['robust_accuracy'][0] == summary['curve']['natural_accuracy'][0]
    provenance = json.loads((workdir / 'config.json').read_text())['provenance']
    assert provenance['num_devices'] == 4


def test_metrics_cover_every_step_and_epoch(finished):
    workdir, _ = finished
    train = [row for row in rows(workdir) if row['kind'] == 'train']
    steps_per_epoch = 3  # 192 examples in batches of 64
    assert [row['step'] for row in train] == list(range(1, 2 * steps_per_epoch + 1))
    assert [row['step'] for row in rows(workdir) if row['kind'] == 'validation'] == [3, 6]
    assert [row['step'] for row in rows(workdir) if row['kind'] == 'session'] == [0]
    for row in train:
        expected = row['natural_risk'] + row['lambda'] * row['robust_regularization']
        assert row['loss'] == pytest.approx(expected, rel=1e-5)
    rates = [row['learning_rate'] for row in train]
    assert rates[:3] == pytest.approx([0.1] * 3) and rates[3:] == pytest.approx([0.01] * 3)


def test_tensorboard_events_are_the_metrics(finished):
    """Read as records of the published file format, without TensorBoard."""
    workdir, _ = finished
    [path] = (workdir / 'tensorboard').iterdir()
    data, values = path.read_bytes(), {}
    while data:
        length = int.from_bytes(data[:8], 'little')
        message = data[12 : 12 + length]
        event = event_pb2.Event.FromString(message)  # pyright: ignore[reportAttributeAccessIssue]
        for value in event.summary.value:
            values[value.tag, event.step] = value.simple_value
        data = data[16 + length :]
    for row in measured(workdir):
        for name in ('natural_accuracy', 'epoch'):
            assert values[f'{row["kind"]}/{name}', row['step']] == pytest.approx(row[name])


def test_a_finished_run_is_not_repeated_and_keeps_its_configuration(finished, capsys):
    workdir, summary = finished
    before = (workdir / 'metrics.jsonl').read_bytes()
    assert train(config(), workdir) == summary
    said = capsys.readouterr().out
    assert 'finished' in said
    assert said.count('smoke run: it shows that every part works; its numbers mean nothing') == 1
    assert (workdir / 'metrics.jsonl').read_bytes() == before
    with pytest.raises(ConfigError, match=r'objective\.lam = 5\.0 \(there 3\.0\)'):
        train(config(**{'objective.lam': 5.0}), workdir)
    assert capsys.readouterr().out == ''  # the refusal alone


def test_steps_ahead_cover_a_fifth_of_a_second():
    assert [loop.steps_ahead(speed) for speed in (0, 0.5, 10, 100, 101)] == [2, 2, 2, 20, 21]


def test_sigterm_leaves_a_checkpoint_from_which_it_goes_on(finished, tmp_path, monkeypatch):
    workdir, _ = finished
    real_batches = loop.Run.batches

    def batches_with_a_signal(self, step, data):
        for i, batch in enumerate(real_batches(self, step, data)):
            if i == 1:
                os.kill(os.getpid(), signal.SIGTERM)  # arrives before the second batch's step
            yield batch

    monkeypatch.setattr(loop.Run, 'batches', batches_with_a_signal)
    with pytest.raises(SystemExit) as stopped:
        train(config(), tmp_path)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert final_state(tmp_path)[0] == 2
    monkeypatch.undo()
    train(config(), tmp_path)
    assert_same_run(workdir, tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    broken = config(**{'objective.lam': 1e18, 'checkpoint.every_steps': 1})
    with pytest.raises(loop.TrainingError, match=r'step [2-6]: loss = .*must be finite') as error:
        train(broken, tmp_path)
    assert '\n' not in str(error.value)
    step, state = final_state(tmp_path)
    assert f'is that of step {step};' in str(error.value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state['opt_state']))
    assert not (tmp_path / 'summary.json').exists()


def test_what_ends_a_run_is_said_also_where_a_checkpoint_fails_behind_it(tmp_path, monkeypatch):
    close = loop.Checkpoints.close

    def fail(checkpoints):
        close(checkpoints)
        raise OSError('the disk is full')

    monkeypatch.setattr(loop.Checkpoints, 'close', fail)
    with pytest.raises(loop.TrainingError, match='must be finite'):
        train(config(**{'objective.lam': 1e18, 'checkpoint.every_steps': 1}), tmp_path)


def test_wandb_that_is_not_there_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(logbook, 'find_spec', lambda name: None)
    with pytest.raises(ConfigError, match=r"log\.wandb = 'war': needs wandb"):
        train(config(**{'log.wandb': 'war'}), tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


def test_batch_must_divide_over_the_devices(tmp_path):
    with pytest.raises(ConfigError, match=r'optimizer\.batch_size = 62: .*4; nearest: 60 or 64'):
        train(config(**{'optimizer.batch_size': 62}), tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


def test_a_signal_during_validation_repeats_it(finished, tmp_path, monkeypatch):
    workdir, _ = finished
    real = loop.network.validate

    def signalled(*args):
        os.kill(os.getpid(), signal.SIGINT)  # noticed by the callback after its first batch
        return real(*args)

    monkeypatch.setattr(loop.network, 'validate', signalled)
    with pytest.raises(SystemExit) as stopped:
        train(config(), tmp_path)
    assert stopped.value.code == 128 + signal.SIGINT
    assert final_state(tmp_path)[0] == 3
    assert 'validation' not in {row['kind'] for row in rows(tmp_path)}
    monkeypatch.undo()
    train(config(), tmp_path)
    assert_same_run(workdir, tmp_path)


def test_the_summary_is_of_the_best_network(tmp_path, monkeypatch):
    """Told that the first of two epochs was the better one, the run must measure that network."""
    scores = iter([0.9, 0.1])
    real = loop.network.validate
    monkeypatch.setattr(
        loop.network, 'validate', lambda *a: {**real(*a), 'robust_accuracy': next(scores)}
    )
    seen = {}
    real_test = loop.network.test

    def spy(measures, variables, *rest):
        seen['variables'] = jax.device_get(variables)
        return real_test(measures, variables, *rest)

    compared = []
    real_headline = loop.network.headline

    def compare(measures, variables, key, data, plan, *rest):
        rates = real_headline(measures, variables, key, data, plan, *rest)
        compared.append((jax.device_get(variables)['params'], len(data), rates))
        return rates

    monkeypatch.setattr(loop.network, 'test', spy)
    monkeypatch.setattr(loop.network, 'headline', compare)
    summary = train(config(**{'checkpoint.keep': 4, 'log.tensorboard': False}), tmp_path)
    assert (summary['best_step'], summary['best_epoch']) == (3, 1.0)
    with ocp.StandardCheckpointer() as reader:
        first, last = (
            reader.restore(tmp_path / 'checkpoints' / 'last' / step / 'state')['params']
            for step in ('3', '6')
        )
    chex.assert_trees_all_equal(seen['variables']['params'], first)
    # Beside it the same network on training images, and the last one on the test images.
    for (params, images, rates), expected, name in zip(
        compared, (first, last), ('train', 'last'), strict=True
    ):
        chex.assert_trees_all_equal(params, expected)
        assert (images == 192) == (name == 'train')
        assert summary[name] == rates and rates['num_examples'] == 48
    assert not np.array_equal(first['head']['kernel'], last['head']['kernel'])


def test_double_precision_is_for_the_run_alone(tmp_path):
    types = {'model.param_dtype': 'float64', 'model.compute_dtype': 'float64'}
    # Without an attack in training there is the least to compile.
    train(config(**types, **{'optimizer.epochs': 1, 'objective.name': 'natural'}), tmp_path)
    _, state = final_state(tmp_path)
    assert state['params']['head']['kernel'].dtype == np.float64
    assert jax.numpy.zeros(1).dtype == np.float32


def test_where_float64_is_enabled_a_float32_run_stays_one(finished, tmp_path):
    """As with JAX_ENABLE_X64=1. Oracle: the same run where it is not enabled."""
    with jax.enable_x64(True):
        changes = {'optimizer.epochs': 1, 'evaluation.restarts': 1, 'log.tensorboard': False}
        train(config(**changes), tmp_path)
    step, state = final_state(tmp_path)
    types = {leaf.dtype.name for leaf in jax.tree.leaves(state)}
    assert step == 3 and 'float32' in types and 'float64' not in types
    *train_rows, validation = measured(tmp_path)
    *expected_rows, expected = measured(finished[0])[:4]
    assert validation['local_lipschitz'] == pytest.approx(expected['local_lipschitz'], rel=1e-3)
    for row, expected in zip(train_rows, expected_rows, strict=True):
        for name in ('natural_risk', 'robust_regularization', 'gradient_norm'):
            assert row[name] == pytest.approx(expected[name], rel=1e-3)
    examples = np.load(tmp_path / 'examples.npz')
    assert 'float64' not in {examples[name].dtype.name for name in examples.files}


def test_catastrophic_overfitting_is_said_and_the_network_before_it_kept(
    tmp_path, monkeypatch, capsys
):
    """Of two epochs, with accuracies made up."""
    validate, training_row = loop.network.validate, loop.Run.training_row
    robust = iter([0.5, 0.05])

    def collapsed(*arguments):
        return {**validate(*arguments), 'robust_accuracy': next(robust)}

    def rising(run, step, *arguments):
        return {**training_row(run, step, *arguments), 'adversarial_accuracy': step / 10}

    monkeypatch.setattr(loop.network, 'validate', collapsed)
    monkeypatch.setattr(loop.Run, 'training_row', rising)
    summary = train(config(), tmp_path)
    assert summary['best_step'] == 3
    [row] = [row for row in rows(tmp_path) if row['kind'] == 'warning']
    assert row['step'] == 6 and row['epoch'] == 2.0
    assert 'from 50.0% to 5.0%' in row['text'] and 'from 30.0% to 60.0%' in row['text']
    assert 'the network of step 3 is kept as the best one' in row['text']
    assert row['text'] in capsys.readouterr().out
    report = (tmp_path / 'report.md').read_text()
    assert '> **Warning.** step 6: catastrophic overfitting: since step 3' in report


def test_every_option_at_once(tmp_path):
    """Extra data, augmentation, averages and perturbations of weights, smoothing, per-device
    statistics."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8, 1), np.uint8)
    np.savez(tmp_path / 'extra.npz', images=images, labels=rng.integers(0, 10, 40))
    summary = train(
        config(
            **{
                'data.extra_path': str(tmp_path / 'extra.npz'),
                'data.extra_fraction': 0.5,
                'data.placement': 'host',
                'augment.randaugment': 1,
                'augment.cutout': 2,
                'augment.cutmix': 0.5,
                'ema_decay': 0.9,
                'awp.gamma': 0.005,
                'awp.warmup_epochs': 1,
                'objective.name': 'mart',
                'objective.label_smoothing': 0.1,
                'batch_norm.statistics': 'per_device',
                'model.compute_dtype': 'bfloat16',
                'optimizer.schedule': 'cosine',
                'optimizer.warmup_epochs': 0.5,
                'threat.norm': 'l2',
                'threat.epsilon': 1.0,
                'attack.step_size': 0.3,
                'evaluation.step_size': 0.2,
                'log.tensorboard': False,
            }
        ),
        tmp_path / 'run',
    )
    last = rows(tmp_path / 'run')[-1]
    assert last['step'] == 2 * 6  # 192 own examples, 32 of them in each batch of 64
    assert summary['norm'] == 'l2'
