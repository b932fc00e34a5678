"""The command, from a run's folder and from a file, to its results; and what it refuses."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest

from configs import digits
from tests.war_jax.robustness import linear
from war_jax.attacks.threat import ThreatModel
from war_jax.config import ConfigError, resolve
from war_jax.mesh import make_mesh
from war_jax.models.torch_io import to_torch
from war_jax.records.console import Display
from war_jax.records.files import write_npz
from war_jax.records.interrupt import Stop
from war_jax.robustness import command, functions, state
from war_jax.robustness import run as running
from war_jax.robustness.ensemble import Ensemble, make_attacks
from war_jax.robustness.network import read_network
from war_jax.robustness.run import Settings
from war_jax.run import train
from war_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures('optimized')

OPTIONS = ('--attack=pgd20,apgd-ce,apgd-t', '--num_examples=32', '--batch_size=16',
           '--curve_examples=16', '--epsilon=0.04')  # fmt: skip


@pytest.fixture(scope='module')
def run_dir(undrawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of the smoke run, trained until it is right more often than not; without an
    adversary, as that takes half of the time."""
    config = digits.get_config('natural,smoke')
    config.data.max_train_examples = 512
    config.optimizer.epochs = 12
    config.optimizer.boundaries = (10,)
    config.evaluation.every_epochs = 12
    config.log.tensorboard = False
    path = tmp_path_factory.mktemp('run')
    train(resolve(config), path)
    return path


@pytest.fixture(scope='module')
def evaluated(run_dir: Path) -> dict[str, Any]:
    assert command.main(['evaluate', f'--checkpoint={run_dir}', *OPTIONS]) == 0
    return json.loads((run_dir / 'evaluation' / 'evaluation.json').read_text())


def test_results_agree_with_each_other(run_dir, evaluated):
    rows = np.load(run_dir / 'evaluation' / 'examples.npz')
    assert evaluated['num_examples'] == len(rows['label']) == 32
    np.testing.assert_array_equal(rows['natural'], rows['prediction'] == rows['label'])
    np.testing.assert_array_equal(rows['robust'], rows['natural'] & rows['stable'])
    np.testing.assert_array_equal(rows['stable'], rows['broken_by'] < 0)
    for key, of in (
        ('natural_accuracy', 'natural'),
        ('robust_accuracy', 'robust'),
        ('perturbation_stability', 'stable'),
    ):
        assert evaluated[key] == pytest.approx(rows[of].mean())
        low, high = evaluated['intervals'][key]
        assert low < evaluated[key] < high or evaluated[key] in (0, 1)
    assert (evaluated['norm'], evaluated['epsilon']) == ('linf', 0.04)
    broken = [int((rows['broken_by'] == number).sum()) for number in range(3)]
    assert broken == [attack['num_broken'] for attack in evaluated['attacks']]
    assert 0 < evaluated['robust_accuracy'] < evaluated['natural_accuracy']


def test_no_attack_raises_the_accuracy(evaluated):
    """That under all is at most that under PGD-20 and under each number of them."""
    accuracies = [attack['robust_accuracy'] for attack in evaluated['attacks']]
    assert [attack['name'] for attack in evaluated['attacks']] == ['pgd20', 'apgd-ce', 'apgd-t']
    assert accuracies == sorted(accuracies, reverse=True)
    assert evaluated['robust_accuracy'] == accuracies[-1]
    seen = [attack['num_seen'] for attack in evaluated['attacks']]
    assert seen[1] == seen[0] - evaluated['attacks'][0]['num_broken']


def test_the_standard_attacks_are_at_least_as_strong_as_pgd(run_dir, evaluated):
    settings = Settings(str(run_dir), 'apgd-ce,apgd-t', epsilon=0.04, num_examples=32,
                        batch_size=16, curve_examples=0)  # fmt: skip
    alone = running.run(settings, run_dir / 'alone')
    assert alone['robust_accuracy'] <= evaluated['attacks'][0]['robust_accuracy']
    assert alone['curve'] is None


def test_the_page_and_its_figure(run_dir, evaluated):
    page = (run_dir / 'evaluation' / 'evaluation.md').read_text()
    for name in ('pgd20', 'apgd-t', f'{evaluated["robust_accuracy"]:.2%}', 'python -m'):
        assert name in page
    assert (run_dir / 'evaluation' / 'figures' / 'stability_curve.png').stat().st_size > 10_000
    assert evaluated['curve']['epsilons'][0] == 0
    assert evaluated['curve']['robust'] == sorted(evaluated['curve']['robust'], reverse=True)


def test_again_it_computes_nothing(run_dir, evaluated, monkeypatch):
    monkeypatch.setattr(Ensemble, '_run', lambda *_: pytest.fail('an attack is run again'))
    assert command.main(['evaluate', f'--checkpoint={run_dir}', *OPTIONS]) == 0
    again = json.loads((run_dir / 'evaluation' / 'evaluation.json').read_text())
    assert again['attacks'] == evaluated['attacks']


def test_a_workdir_of_other_settings_is_refused(run_dir, evaluated, capsys):
    other = [option.replace('0.04', '0.2') for option in OPTIONS]
    assert command.main(['evaluate', f'--checkpoint={run_dir}', *other]) == 2
    message = capsys.readouterr().err
    assert 'epsilon = 0.2 (there 0.04)' in message and message.count('\n') == 1


def test_a_file_of_pytorch_gives_the_same_numbers(run_dir, evaluated, tmp_path):
    network = read_network(str(run_dir))
    arrays = to_torch(network.params)
    write_npz(tmp_path / 'net.npz', {f'module.{name}': arrays[name] for name in arrays})
    arguments = ['evaluate', f'--checkpoint={tmp_path}/net.npz', f'--workdir={tmp_path}/out',
                 '--data=digits', '--norm=linf', '--strides=1,2,1', *OPTIONS]  # fmt: skip
    assert command.main(arguments) == 0
    of_file = json.loads((tmp_path / 'out' / 'evaluation.json').read_text())
    names = ('natural_accuracy', 'robust_accuracy', 'perturbation_stability', 'curve')
    assert {name: of_file[name] for name in names} == {name: evaluated[name] for name in names}


def test_any_function_of_images():
    x = linear.images(12)
    result = functions.evaluate(
        lambda images: linear.classify(linear.params(), images),
        x,
        linear.predictions(5, x),
        ThreatModel('l2', linear.median_distance('l2', 12)),
        'apgd-dlr',
        batch_size=8,
    )
    assert result['natural_accuracy'] == 1.0
    assert 0 < result['robust_accuracy'] == result['perturbation_stability'] < 1


def test_stopped_and_saved_it_goes_on_to_the_same_numbers(tmp_path):
    def ensemble() -> Ensemble:
        x = linear.images(20)
        epsilon = linear.median_distance('linf', 20)
        attacks = make_attacks('pgd9,apgd-t', ThreatModel('linf', epsilon), linear.SHAPE)
        labels = linear.predictions(5, x)
        return Ensemble(linear.classify, linear.params(), x, labels, attacks, epsilon,
                        make_mesh(), 8)  # fmt: skip

    straight = ensemble()
    straight.run()
    path, exits = tmp_path / 'state.npz', 0
    while True:
        one, stop = ensemble(), Stop()
        state.load(path, one)
        if len(one.results) == 2 and one.results[1].is_finished:
            break
        before = sum(result.steps for result in one.results)

        class Impatient(Display):
            def bar(self, *arguments, **options) -> Any:
                bar: Any = super().bar(*arguments, **options)
                update = bar.update

                def count(n: int = 1):
                    if sum(result.steps for result in one.results) - before >= 120:  # noqa: B023
                        stop.signum = 15  # noqa: B023
                    update(n)

                bar.update = count
                return bar

        try:
            running.work(one, Impatient(), stop, path)
        except SystemExit as error:
            assert error.code == 128 + 15
            exits += 1
    assert exits >= 2
    np.testing.assert_array_equal(one.stable, straight.stable)
    for found, expected in zip(one.results, straight.results, strict=True):
        np.testing.assert_array_equal(found.seen, expected.seen)
        np.testing.assert_array_equal(found.search.stage_of, expected.search.stage_of)
        assert found.search.adversarial.keys() == expected.search.adversarial.keys()
        for example, image in expected.search.adversarial.items():
            np.testing.assert_array_equal(found.search.adversarial[example], image)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ([], '--checkpoint: must be given'),
        (['--checkpoint=nowhere.pt'], '--workdir: must be given'),
        (['--checkpoint=nowhere.pt', '--workdir=w'], 'no such file or folder'),
        (['--checkpoint=.', '--epsilon=0'], '--epsilon=0: must be above 0'),
        (['--checkpoint=.', '--epsilon=8/0'], '--epsilon=8/0: must be above 0'),
        (['--checkpoint=.', '--strides=2'], '--strides=2: must be three'),
        (['--checkpoint=.', '--input_mean=.5,x'], '--input_mean=.5,x: must be numbers, as 0.5'),
        (['--checkpoint=.', '--input_std=0'], '--input_std=0: must be positive numbers'),
        (['--checkpoint=.', '--atack=pgd20'], '--atack: no such flag; nearest: --attack'),
        (['--checkpoint=.', '--norm=l1'], 'norm'),
        (['--checkpoint=.', '--data=imagenette'], "--data = 'imagenette': must be one of digits"),
        (['--checkpoint=.', '--data=my.npz'], 'nearest: npz:my.npz'),
        (['--checkpoint=.', '--normalize=per_image', '--input_mean=0'], 'must not come with'),
        (['--checkpoint=.', '--weights=ema'], 'a run says what its network is'),
        (['--checkpoint=.', 'pgd20'], "'pgd20': must be a flag"),
        (['--checkpoint=.', '--workdir=w'], 'must be the folder of a run of war_jax.main'),
    ],
)
def test_refuses(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(['evaluate', *arguments]) == 2
    message = capsys.readouterr().err
    assert sentence in message and message.count('\n') == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ('names', 'sentence'),
    [
        ('apgd', 'nearest: apgd-'),
        ('pgd0', 'must be of'),
        ('autoattack,square', 'must not name an attack twice'),
        ('', 'must be of'),
    ],
)
def test_refuses_attacks(names, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_attacks(names, ThreatModel('linf', 0.1), linear.SHAPE)


def test_a_file_must_come_with_its_threat(run_dir, tmp_path, capsys):
    write_npz(tmp_path / 'net.npz', to_torch(read_network(str(run_dir)).params))
    arguments = ['evaluate', f'--checkpoint={tmp_path}/net.npz', f'--workdir={tmp_path}/out']
    assert command.main(arguments) == 2
    assert '--norm: must be given' in capsys.readouterr().err


@pytest.mark.parametrize('content', [b'', b'PK', b'no archive at all'])
def test_a_broken_file_is_one_line(content, tmp_path, capsys):
    (tmp_path / 'net.npz').write_bytes(content)
    arguments = ['evaluate', f'--checkpoint={tmp_path}/net.npz', f'--workdir={tmp_path}/out']
    assert command.main(arguments) == 2
    message = capsys.readouterr().err
    assert f'--checkpoint={tmp_path}/net.npz' in message and message.count('\n') == 1
    assert os.listdir(tmp_path) == ['net.npz']


def test_a_run_is_evaluated_without_its_data(run_dir, tmp_path, monkeypatch, capsys):
    """Its training file is gone: the same network, for which other data have to be named."""
    moved = tmp_path / 'run'
    shutil.copytree(run_dir, moved, ignore=shutil.ignore_patterns('evaluation', 'alone'))
    config = json.loads((moved / 'config.json').read_text())
    config['config']['data']['name'] = 'npz:gone.npz'
    (moved / 'config.json').write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    kept = read_network(str(run_dir))
    network = read_network(str(moved))
    assert (network.num_classes, network.channels) == (kept.num_classes, kept.channels) == (10, 1)
    chex.assert_trees_all_equal(network.params, kept.params)
    assert command.main(['evaluate', f'--checkpoint={moved}', '--attack=pgd1']) == 2
    message = capsys.readouterr().err
    assert "no file 'gone.npz'" in message and message.endswith('named by --data\n')
    assert message.count('\n') == 1


def test_of_a_run_with_a_moving_average_that_is_evaluated(run_dir, tmp_path):
    """Oracle: what was saved, whatever else the run holds."""
    config = json.loads((run_dir / 'config.json').read_text())
    config['config']['ema_decay'] = 0.9
    (tmp_path / 'config.json').write_text(json.dumps(config))
    kept = read_network(str(run_dir)).params
    variables = jax.tree.map(lambda leaf: np.full_like(leaf, 0.5), kept)
    checkpoints = Checkpoints(tmp_path / 'checkpoints', 2)
    checkpoints.save_best(7, jax.tree.map(jax.numpy.asarray, variables))
    checkpoints.close()
    network = read_network(str(tmp_path))
    chex.assert_trees_all_equal(network.params, variables)
    assert network.description.endswith('at step 7, its moving average')


def test_a_checkpoint_of_another_network_is_one_line(run_dir, tmp_path, capsys):
    shutil.copytree(run_dir, tmp_path / 'run')
    config = json.loads((run_dir / 'config.json').read_text())
    config['config']['model']['depth'] = 16
    (tmp_path / 'run' / 'config.json').write_text(json.dumps(config))
    assert command.main(['evaluate', f'--checkpoint={tmp_path}/run']) == 1
    message = capsys.readouterr().err
    assert 'does not hold what it should' in message and message.count('\n') == 1
