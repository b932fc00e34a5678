"""Which networks are measured and when, with the measures themselves planted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import regularization
from war_jax.config import to_dict
from war_jax.config_rules import ConfigError
from war_jax.records.files import ReportError, write_json
from war_jax.records.interrupt import Stop
from war_jax.records.probes import write_probe
from war_jax.studies.regularization import bench
from war_jax.studies.regularization.bench import Bench, measure_all
from war_jax.studies.regularization.measure import OF_LAYERS, SCALARS, of_spectrum
from war_jax.studies.regularization.networks import find
from war_jax.studies.regularization.results import Network
from war_jax.studies.regularization.settings import resolve_regularization


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two finished runs with probes whose training loss falls by 2^-t and by 4^-t, t = 0 ... 3;
    and one that WAR moved, one without probes, one that is not finished."""
    base = resolve_regularization(regularization.get_config('smoke'))
    for epsilon, rate, name, reference in (
        (0.0, 4.0, 'a', None), (0.2, 2.0, 'b', None), (0.2, 2.0, 'war', {'lam': 1.0}),
    ):  # fmt: skip
        folder = tmp_path / 'runs' / name
        config = to_dict(base.at(epsilon).base)
        about = {'data': 'None.', 'checksum': 'c'}
        write_json(folder / 'config.json', {
            'config': config, 'provenance': about, 'reference': reference,
        })  # fmt: skip
        write_json(folder / 'summary.json', {})
        for t in range(4):
            write_probe(folder, 10 * t, {'loss': np.float64(rate**-t), 't': np.float64(t)})
    for name in ('bare', 'unfinished'):
        folder = tmp_path / 'runs' / name
        write_json(
            folder / 'config.json', json.loads((folder.parent / 'a/config.json').read_text())
        )
    write_json(tmp_path / 'runs' / 'bare' / 'summary.json', {})
    write_probe(tmp_path / 'runs' / 'unfinished', 0, {'loss': np.float64(1)})
    return tmp_path


class Planted:
    """Every quantity is the probe's t; counts its measurements."""

    made = 0

    def __init__(self, *_: Any):
        pass

    def training_loss(self, variables: Any) -> float:
        return float(variables['loss'])

    def of(self, variables: Any, key: Any) -> dict[str, Any]:
        Planted.made += 1
        t = float(variables['t'])
        return {**dict.fromkeys(SCALARS, t), 'layers': {'stem': dict.fromkeys(OF_LAYERS, t)}}


def measured(runs: Path, stop: Stop) -> list[Network]:
    nothing: Any = None  # in place of settings and images, which the planted measures do not need
    return measure_all(find([runs]), Bench(nothing, nothing, runs / 'out'), stop)


def test_networks_are_compared_at_the_end_and_at_the_same_loss(runs: Path, monkeypatch):
    """The common loss is 2^-3, which the fast one has at t = 1.5, between two probes."""
    monkeypatch.setattr(bench, 'Measures', Planted)
    Planted.made = 0
    assert [cell.name for cell in find([runs])] == ['eps0-a', 'eps0.2-b']
    stop = Stop()
    stop.signum = 15
    with pytest.raises(SystemExit) as left:
        measured(runs, stop)
    assert left.value.code == 143
    fast, slow = measured(runs, Stop())
    assert fast.matched_loss == slow.matched_loss == 1 / 8
    assert fast.cell.epsilon == 0 and slow.cell.epsilon == 0.2
    assert fast.final['margin'] == slow.final['margin'] == 3
    assert fast.matched['margin'] == pytest.approx(1.5)
    assert fast.matched['layers']['stem']['std'] == pytest.approx(1.5)
    assert slow.matched['margin'] == 3
    assert Planted.made == 3 + 1  # t = 1, 2, 3 of the fast one, t = 3 of the other
    measured(runs, Stop())
    assert Planted.made == 4  # nothing is measured twice


def test_a_training_that_diverged_is_named(runs: Path, monkeypatch):
    monkeypatch.setattr(bench, 'Measures', Planted)
    write_probe(runs / 'runs' / 'b', 20, {'loss': np.float64(np.nan), 't': np.float64(2)})
    with pytest.raises(ReportError, match=r'eps0\.2-b/losses\.json: training diverged'):
        measured(runs, Stop())


def test_a_folder_without_probes_is_refused(tmp_path: Path):
    with pytest.raises(
        ConfigError, match=r'--runs=.*: holds no finished run .*--config\.ntk\.every'
    ):
        find([tmp_path])


def test_spectrum_in_three_numbers():
    found = of_spectrum(np.array([3.0, 1.0, 2.0]))
    assert found == {'std': pytest.approx((2 / 3) ** 0.5), 'spread': pytest.approx(
        (2 / 3) ** 0.5 / 2), 'norm': 3.0}  # fmt: skip
    assert of_spectrum(np.zeros(2))['spread'] == 0
