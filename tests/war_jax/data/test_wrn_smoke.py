"""configs/wrn.py from the files of a data set to the report, on grey images of CIFAR's shape."""

import json

from configs import wrn
from war_jax.config import resolve
from war_jax.run import train


def test_wrn_smoke_trains_on_a_prepared_set(write_tfds, tmp_path):
    write_tfds(tmp_path / 'data', 'cifar100', num_classes=20, num_train=160, num_test=48)
    config = wrn.get_config('smoke,cifar100')
    config.data.data_dir = str(tmp_path / 'data')
    train(resolve(config), tmp_path / 'run')
    summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
    assert (summary['num_examples'], summary['best_step']) == (48, 4)
    report = (tmp_path / 'run' / 'report.md').read_text()
    assert report.startswith('# TRADES training of WRN-10-0.25 on cifar100\n')
    assert 'cifar100 3.0.2 of TFDS; 128 of 160 training images' in report
