"""A small study of capacity, whole. Oracles: an undisturbed study, and planted rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs import ntk_capacity
from ntk.studies.capacity.claims import Study, evaluate
from ntk.studies.capacity.runner import Runner, run_capacity
from ntk.studies.capacity.settings import resolve_capacity
from war_jax.config import ConfigError


def config(**changes: Any) -> Any:
    chosen = ntk_capacity.get_config('smoke').unlock()
    small = {
        'grid.num_pairs': (2,), 'grid.dimensions': (4,), 'grid.seeds': (0, 1),
        'base.num_pairs': 2, 'search.widest': 16, 'search.num_steps': 100,
        'verify.num_steps': 3, 'kernel.activation': 'gelu',
    }  # fmt: skip
    chosen.update_from_flattened_dict({**small, **changes})
    return chosen


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp('capacity')
    assert run_capacity(config(), workdir, 'command').exists()
    return workdir


def rows_of(workdir: Path) -> dict[str, Any]:
    return {
        str(p.relative_to(workdir)): json.loads(p.read_text())
        for folder in ('widths', 'kernels')
        for p in sorted((workdir / folder).glob('*'))
    }


def test_every_set_of_pairs_has_a_width_and_a_norm(finished: Path):
    rows = rows_of(finished)
    assert len(rows) == 2 * 2 * 2
    for name, row in rows.items():
        if name.startswith('widths'):
            tried = dict(zip(row['tried_widths'], row['standing'], strict=True))
            assert tried[row['smallest_width']] == 1.0
        else:
            assert 0 < row['norm_lower'] <= row['norm_upper']
    plain, robust = (rows[f'kernels/n2-d4-rho{rho}-seed0.json'] for rho in ('0', '0.5'))
    assert robust['norm_lower'] > plain['norm_upper']


def test_an_interrupted_study_goes_on_to_the_same_rows(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original, made = Runner.width, []

    def stopping(self: Runner, cell: Any) -> Any:
        made.append(cell.name)
        found = original(self, cell)
        if len(made) == 2:
            self.stop.signum = 15
        return found

    monkeypatch.setattr(Runner, 'width', stopping)
    with pytest.raises(SystemExit) as left:
        run_capacity(config(), tmp_path, 'command')
    assert left.value.code == 143 and len(rows_of(tmp_path)) == 4 + 2
    run_capacity(config(), tmp_path, 'command')
    assert len(made) == 4 and rows_of(tmp_path) == rows_of(finished)


def test_the_report_has_figures_and_verdicts(finished: Path):
    text = (finished / 'report.md').read_text()
    assert 'grows with the dimension' in text and 'upper bound' in text
    for figure in ('widths', 'norms'):
        assert (finished / 'figures' / f'{figure}.png').stat().st_size > 5000
    assert len(json.loads((finished / 'verdicts.json').read_text())) == 9


def planted(widest_found: bool = True) -> Study:
    """m* = 2 n / d plainly, and n at the base's radius, with seeds 1 and 1.1 times as wide."""
    settings = resolve_capacity(ntk_capacity.get_config())
    rows = {}
    for cell in settings.cells:
        width = cell.num_pairs * (1.0 if cell.radius else 2.0 / cell.dimension)
        rows[cell] = {'smallest_width': width * (1.0 + 0.1 * (cell.seed % 2))}
    if not widest_found:
        last = next(c for c in settings.cells if c.radius == settings.base.radius)
        rows[last] = {'smallest_width': None}
    about = {'command': 'c', 'commit': 'x', 'data': 'y'}
    return Study(settings, about, rows, {}, [])


def test_planted_powers_are_supported():
    claims = {claim.name: claim for claim in evaluate(planted())}
    growth = claims['width_ratio-grows-with-dimension']
    assert growth.verdict == 'supported' and growth.effect == pytest.approx(1.0)
    plain = claims['width-dimension-rho0']
    assert plain.verdict == 'supported' and plain.effect == pytest.approx(-1.0)
    assert claims['norm_ratio-grows-with-dimension'].verdict == 'undecided'  # nothing measured


def test_a_width_that_was_not_found_decides_nothing():
    claims = {claim.name: claim for claim in evaluate(planted(widest_found=False))}
    assert claims['width_ratio-grows-with-dimension'].verdict == 'undecided'
    assert claims['width-dimension-rho0'].verdict == 'supported'


@pytest.mark.parametrize(
    ('key', 'value', 'rule'),
    [
        ('grid.radii', (0.0, 1.0), 'must be below 1'),
        ('base.radius', 0.4, 'nearest: 0.5'),
        ('base.num_pairs', 3, 'nearest: 2'),
        ('grid.dimensions', (2, 4), 'must be at least 3'),
        ('search.widest', 5000, 'nearest: 1024'),
    ],
)
def test_refused(key: str, value: Any, rule: str):
    with pytest.raises(ConfigError) as raised:
        resolve_capacity(config(**{key: value}))
    assert rule in str(raised.value) and '\n' not in str(raised.value)


def test_pairs_without_room_are_refused_before_anything_is_written(tmp_path: Path):
    changes = {'grid.dimensions': (3,), 'base.dimension': 3, 'grid.num_pairs': (99,),
               'base.num_pairs': 99}  # fmt: skip
    with pytest.raises(ConfigError, match='no room for more'):
        run_capacity(config(**changes), tmp_path / 'new', 'command')
    assert not (tmp_path / 'new').exists()
