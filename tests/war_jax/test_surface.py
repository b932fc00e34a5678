"""What a user meets first: `import war_jax`, `war-jax`, and both from an installed wheel.

Examples in docstrings are run as they stand. The wheel is built here and used from an empty folder.
"""

import doctest
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import war_jax
from configs import digits
from war_jax import __main__ as commands
from war_jax.config import ConfigError, resolve
from war_jax.data.sources import load
from war_jax.from_python import train
from war_jax.models.wide_resnet import WideResNet

ROOT = Path(__file__).parents[2]


def test_importing_it_imports_no_jax():
    code = 'import sys, war_jax; dir(war_jax); print("jax" in sys.modules, war_jax.__version__)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ['False', war_jax.__version__], done.stderr


def test_every_public_name_is_there():
    assert set(war_jax.__all__) == set(war_jax._HOMES)
    for name in war_jax.__all__:
        assert callable(getattr(war_jax, name))
        assert name in dir(war_jax)
    with pytest.raises(AttributeError, match='no attribute'):
        war_jax.no_such_name  # noqa: B018


@pytest.mark.parametrize('name', ['from_python', 'robustness.functions', 'robustness.torch_files'])
def test_examples_are_true(name):
    module = import_module(f'war_jax.{name}')
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    outcome = doctest.testmod(module, optionflags=options)
    assert outcome.attempted and not outcome.failed


def test_a_name_without_a_command_lists_them(capsys):
    assert commands.main(['war-jax']) == 0
    shown = capsys.readouterr().out
    assert all(f'\n    {name} ' in shown for name in commands.COMMANDS)
    assert commands.main(['war-jax', '--version']) == 0
    assert capsys.readouterr().out == f'war-jax {war_jax.__version__}\n'


def test_an_unknown_command_names_the_nearest(capsys):
    assert commands.main(['war-jax', 'trian']) == 2
    assert 'trian: no such command; nearest: train' in capsys.readouterr().err


@pytest.mark.parametrize('name', list(commands.COMMANDS))
def test_every_command_has_its_help(name, capsys):
    assert commands.main(['war-jax', name, '--help']) == 0
    assert '--' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'workdir': ''}, 'workdir: must be given'),
        ({'config': 'digist'}, "no such file or configuration; nearest: 'digits'"),
        ({'num_steps': 3}, r"give \*\*\{'attack.num_steps': ...\} or \*\*\{'evaluation.num_steps"),
        ({'epoch': 3}, 'no such key; nearest: optimizer.epochs'),
        ({'images': np.zeros((4, 8, 8, 1), np.uint8)}, 'train_labels: must be given with the'),
        ({'epochs': -1}, 'optimizer.epochs'),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(arguments, words, tmp_path):
    workdir = {'workdir': tmp_path / 'run', **arguments}
    with pytest.raises(ConfigError, match=words):
        train(**{'config': 'digits:smoke', **workdir})
    assert not list(tmp_path.iterdir())


def test_arrays_are_trained_on_and_kept(tmp_path, undrawn):
    config = digits.get_config('smoke')
    splits = load(resolve(config).data)
    # The same numbers of images as in the smoke run, whose compiled programs serve here, too.
    x = np.concatenate([splits.train.images, splits.validation.images])
    y = np.concatenate([splits.train.labels, splits.validation.labels])
    arrays: dict[str, Any] = {
        'images': x, 'labels': y,
        'test_images': splits.test.images, 'test_labels': splits.test.labels,
    }  # fmt: skip
    held_out = len(splits.validation.labels)
    chosen: dict[str, Any] = {'num_validation': held_out, 'max_train_examples': 0}
    summary = train(config, tmp_path / 'run', **arrays, **chosen)
    assert 0 <= summary['robust_accuracy'] <= summary['natural_accuracy'] <= 1
    with np.load(tmp_path / 'run' / 'data.npz') as kept:
        np.testing.assert_array_equal(kept['train_images'], x)
    assert train(config, tmp_path / 'run', **arrays, **chosen) == summary
    with pytest.raises(ConfigError, match='holds a run on other arrays'):
        train(config, tmp_path / 'run', **{**arrays, 'images': x[::-1]}, **chosen)


def test_weights_go_out_and_come_back(tmp_path):
    model = WideResNet(depth=10, widen_factor=0.125, num_classes=3, stem_channels=4)
    image = np.zeros((1, 8, 8, 3), np.float32)
    variables = jax.jit(lambda key: model.init(key, image, train=False))(jax.random.key(0))
    for suffix in ('.npz', '.safetensors'):
        war_jax.save_torch(variables, tmp_path / f'net{suffix}')
        network = war_jax.load_torch(tmp_path / f'net{suffix}')
        for ours, read in zip(
            jax.tree.leaves(variables), jax.tree.leaves(network.params), strict=True
        ):
            np.testing.assert_array_equal(ours, read)
    with pytest.raises(ConfigError, match=r'nearest: .*net\.safetensors'):
        war_jax.save_torch(variables, tmp_path / 'net.onnx')


@pytest.fixture(scope='module')
def installed(tmp_path_factory) -> Path:
    """The wheel, unpacked where only PYTHONPATH finds it."""
    folder = tmp_path_factory.mktemp('wheel')
    pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
    source = folder / 'source'  # setuptools leaves its traces where it builds
    files = subprocess.run(
        ['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in files:
        if name.split('/')[0] in ('setup.py', 'pyproject.toml', 'war_jax', 'ntk', 'configs'):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_symlink():
                target.symlink_to(os.readlink(ROOT / name))
            else:
                target.write_bytes((ROOT / name).read_bytes())
    wheel = [*pip, 'wheel', '--no-deps', '--no-build-isolation', '--wheel-dir', folder, source]
    subprocess.run(wheel, check=True)
    (built,) = folder.glob('*.whl')
    subprocess.run([*pip, 'install', '--no-deps', '--target', folder / 'site', built], check=True)
    return folder / 'site'


def test_the_wheel_trains_in_an_empty_folder(installed, tmp_path):
    environment = {**os.environ, 'PYTHONPATH': str(installed)}

    def call(*command):
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    where = call(sys.executable, '-c', 'import war_jax; print(war_jax.__file__)').stdout
    assert where.startswith(str(installed))
    done = call(
        sys.executable, installed / 'bin' / 'war-jax', 'train', '--config=digits:smoke',
        '--workdir=run',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'run' / 'report.md').is_file()
    # As in a checkout; and what is not there is said.
    wrong = call(sys.executable, '-m', 'war_jax.main', '--config=configs/digits.py:smok',
                 '--workdir=other')
    assert (wrong.returncode, 'smoke' in wrong.stderr) == (2, True)
    wrong = call(sys.executable, '-m', 'war_jax.main', '--config=digist', '--workdir=other')
    assert (wrong.returncode, 'nearest: --config=digits' in wrong.stderr) == (2, True)


def test_pgd_is_compiled_once_for_a_network_and_climbs_as_told():
    traces = []

    def f(x):
        traces.append(x.shape)
        return x.reshape(len(x), -1)[:, :2]

    images, labels = np.full((3, 2, 2, 1), 0.5, np.float32), np.zeros(3, int)
    ball = war_jax.ThreatModel('linf', 0.1)
    first = war_jax.pgd(f, images, labels, ball)
    once = len(traces)
    other = war_jax.pgd(f, images + 0.1, labels, ball, key=jax.random.key(3))
    # Of a further call the shape of the logits is looked up, and nothing else traced.
    assert len(traces) == once + 1
    # Class 0 falls and class 1 rises by all of epsilon; the other pixels have no gradient.
    for images_, found in ((images, first), (images + 0.1, other)):
        moved = np.asarray(found - images_).reshape(3, -1)
        np.testing.assert_allclose(moved[:, :2], np.tile([-0.1, 0.1], (3, 1)), atol=1e-6)
    one_step = war_jax.pgd(f, images, labels, ball, budget=war_jax.Budget(1, 0.03, 'none', 1.0))
    moved = np.asarray(one_step - images).reshape(3, -1)
    np.testing.assert_allclose(moved, np.tile([-0.03, 0.03, 0, 0], (3, 1)), atol=1e-6)
