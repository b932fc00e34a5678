"""CIFAR's binary archives, made here of a few records. Oracle: the pixels that went in."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from war_jax.config import DataConfig
from war_jax.data import cifar
from war_jax.data.sources import load
from war_jax.get_data import main

RNG = np.random.default_rng(0)


def made(name, path):
    """An archive of 4 training records a file and 3 test records; returns them and its entry."""
    entry = cifar.ARCHIVES[name]
    wanted = {'train': ([], []), 'test': ([], [])}
    with tarfile.open(path, 'w:gz') as tar:
        for split, files, count in (('train', entry.train, 4), ('test', entry.test, 3)):
            for file in files:
                images = RNG.integers(0, 256, (count, 32, 32, 3), np.uint8)
                labels = np.arange(count) % 2
                contents = b''
                for image, label in zip(images, labels, strict=True):
                    # CIFAR-100 has the coarse label first; planes of red, green, blue, row by row.
                    contents += bytes([7] * (entry.num_labels - 1) + [label])
                    contents += b''.join(image[:, :, c].tobytes() for c in range(3))
                wanted[split][0].append(images)
                wanted[split][1].append(labels)
                member = tarfile.TarInfo(f'some-folder/{file}')
                member.size = len(contents)
                tar.addfile(member, io.BytesIO(contents))
        tar.addfile(tarfile.TarInfo('some-folder/readme.html'), io.BytesIO(b''))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    joined = {split: tuple(map(np.concatenate, both)) for split, both in wanted.items()}
    return joined, entry._replace(sha256=digest, url=path.as_uri())


@pytest.mark.parametrize('name', ['cifar10', 'cifar100'])
@pytest.mark.parametrize('is_here', [True, False])
def test_it_is_kept_and_every_configuration_finds_it(
    name, is_here, tmp_path, monkeypatch, capsys
):
    wanted, entry = made(name, tmp_path / 'archive.tar.gz')
    monkeypatch.setitem(cifar.ARCHIVES, name, entry)
    arguments = [f'--archive={tmp_path}/archive.tar.gz'] if is_here else []
    assert main(['data', f'--name={name}', f'--data_dir={tmp_path}/sets', *arguments]) == 0
    assert f'{name}.npz' in capsys.readouterr().out
    splits = load(DataConfig.whole(name, str(tmp_path / 'sets')))
    for split, (images, labels) in wanted.items():
        np.testing.assert_array_equal(getattr(splits, split).images, images)
        np.testing.assert_array_equal(getattr(splits, split).labels, labels)
    assert splits.train.images.dtype == np.uint8


def test_another_file_is_refused_and_nothing_written(tmp_path, capsys):
    (tmp_path / 'archive.tar.gz').write_bytes(b'<html>moved</html>')
    arguments = [f'--archive={tmp_path}/archive.tar.gz', f'--data_dir={tmp_path}/sets']
    assert main(['data', '--name=cifar10', *arguments]) == 2
    assert 'is not the published archive' in capsys.readouterr().err
    assert not (tmp_path / 'sets').exists()


def test_what_cannot_be_had_is_one_line(tmp_path, monkeypatch, capsys):
    gone = cifar.ARCHIVES['cifar10']._replace(url=(tmp_path / 'gone').as_uri())
    monkeypatch.setitem(cifar.ARCHIVES, 'cifar10', gone)
    assert main(['data', '--name=cifar10', f'--data_dir={tmp_path}/sets']) == 2
    assert 'cannot be fetched' in capsys.readouterr().err
    assert main(['data', '--name=cifra10']) == 2
    assert 'nearest: --name=cifar10' in capsys.readouterr().err
    assert main(['data', '--name=cifar10', '--archive=nowhere']) == 2
    assert 'no such file' in capsys.readouterr().err
