"""A small study of convergence, whole. Oracles: an undisturbed study, the grid by hand, NumPy."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ntk_convergence
from ntk.studies.convergence.claims import read_study
from ntk.studies.convergence.network import at_start, draw
from ntk.studies.convergence.runner import Runner, draw_data, run_convergence
from ntk.studies.convergence.settings import resolve_convergence
from war_jax.config import ConfigError


def config(**changes: Any) -> Any:
    chosen = ntk_convergence.get_config('smoke').unlock()
    small = {
        'data.num_points': 4, 'data.dimension': 3, 'grid.designs': ('softplus',),
        'grid.widths': (4, 8), 'grid.radii': (0.0, 1.0), 'grid.epsilons': (0.1,),
        'grid.attacks': ('none', 'fgsm'), 'grid.seeds': (0, 1), 'base.width': 8,
        'base.radius': 1.0, 'base.attack': 'fgsm', 'training.num_steps': 16,
        'strong.num_steps': 3,
    }  # fmt: skip
    chosen.update_from_flattened_dict({**small, **changes})
    return chosen


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp('convergence')
    assert run_convergence(config(), workdir, 'command').exists()
    return workdir


def rows_of(workdir: Path) -> dict[str, Any]:
    return {
        str(p.relative_to(workdir)): json.loads(p.read_text())
        for folder in ('cells', 'optima')
        for p in sorted((workdir / folder).glob('*'))
    }


def test_the_grid_is_radii_by_width_and_the_sweeps_of_the_base():
    names = [cell.name for cell in resolve_convergence(config()).cells]
    expected = [
        f'softplus-m{m}-{ball}-eps0.1-fgsm-seed{seed}'
        for m in (4, 8)
        for ball in ('free', 'R1')
        for seed in (0, 1)
    ] + [f'softplus-m8-R1-eps0.1-none-seed{seed}' for seed in (0, 1)]
    assert sorted(names) == sorted(expected)
    assert len(resolve_convergence(config()).optima) == 4


def test_training_stays_in_the_ball_and_the_least_loss_is_at_most_that_of_the_start(finished: Path):
    for name, row in rows_of(finished).items():
        if name.startswith('cells'):
            assert row['least_attacked_loss'][-1] <= np.log(2.0) + 1e-6  # that of the start
            assert row['steps'] == [8, 16]
            assert not row['radius'] or row['movement'][0] <= row['radius'] * (1 + 1e-5)
        else:
            assert 0 <= row['lower'] <= row['upper'] + 1e-3 <= np.log(2.0) + 1e-3


def test_one_step_of_training_is_gradient_descent_in_numpy(tmp_path: Path):
    """Without an attack and projection, from the start, where f = 0 and l' = -1/2."""
    settings = resolve_convergence(config())
    runner = Runner(settings, tmp_path, stop=None)  # pyright: ignore[reportArgumentType]
    programs = runner.programs('softplus')
    points, labels = draw_data(settings, 0)
    start = draw(jax.random.key(0), settings.design('softplus'), 8, 3)
    (moved,), losses = programs.train('none')(
        start, at_start(start), jnp.asarray(points), jnp.asarray(labels), np.inf, 0.1, jnp.zeros(1)
    )
    w, a = np.asarray(start.trained[0], float), np.asarray(start.last, float)
    slopes = 1.0 / (1.0 + np.exp(-points @ w.T))  # of softplus, (n, m/2)
    gradient = (
        np.einsum('n,nr,nd->rd', -0.5 * labels, slopes * a, points) / len(labels) / np.sqrt(8)
    )
    np.testing.assert_allclose(losses, [np.log(2.0)], rtol=1e-6)
    expected = -settings.training.learning_rate * np.stack([gradient, -gradient])
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_an_interrupted_study_goes_on_to_the_same_rows(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original, made = Runner.train, []

    def stopping(self: Runner, cell: Any) -> Any:
        made.append(cell.name)
        if len(made) == 4:
            self.stop.signum = 15
        return original(self, cell)

    monkeypatch.setattr(Runner, 'train', stopping)
    with pytest.raises(SystemExit) as left:
        run_convergence(config(), tmp_path, 'command')
    assert left.value.code == 143 and len(rows_of(tmp_path)) == 4
    run_convergence(config(), tmp_path, 'command')
    assert len(made) == 10 and rows_of(tmp_path) == rows_of(finished)


def test_the_report_has_claims_figures_and_gaps(finished: Path):
    text = (finished / 'report.md').read_text()
    assert 'min\\_t L\\_A is at most' in text and 'Not finished' not in text
    for figure in ('losses', 'movement', 'sweeps'):
        assert (finished / 'figures' / f'{figure}.png').stat().st_size > 5000
    verdicts = json.loads((finished / 'verdicts.json').read_text())
    assert {v['verdict'] for v in verdicts} == {'undecided'}  # two seeds
    study = read_study(finished)
    rows = rows_of(finished)
    name = 'softplus-m8-R1-eps0.1'
    least = rows[f'cells/{name}-fgsm-seed1.json']['least_attacked_loss'][-1]
    gap = least - rows[f'optima/{name}-seed1.json']['lower']
    assert study.samples('softplus', 'gap', radius=1.0)[8][1] == pytest.approx(gap)


@pytest.mark.parametrize(
    ('key', 'value', 'rule'),
    [
        ('grid.widths', (7,), 'must be even'),
        ('grid.designs', ('relu', 'relu'), 'must not name one twice'),
        ('base.design', 'deep', 'must be one of grid.designs'),
        ('base.width', 10, 'nearest: 8'),
        ('base.radius', 3.0, 'nearest: 1'),
        ('grid.epsilons', (2.0,), 'must be at most 1.7'),
        ('grid.attacks', ('pgd7',), "nearest: 'pgd"),
    ],
)
def test_refused(key: str, value: Any, rule: str):
    with pytest.raises(ConfigError) as raised:
        resolve_convergence(config(**{key: value}))
    assert rule in str(raised.value) and '\n' not in str(raised.value)


def test_an_unknown_argument_is_refused():
    with pytest.raises(ConfigError, match='nearest: smoke'):
        ntk_convergence.get_config('smok')
