"""Axes by name, and the command. Oracles: grids worked out by hand, what was typed wrong."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from configs import digits, scaling
from war_jax.config import ConfigError, resolve
from war_jax.studies.scaling import __main__ as command
from war_jax.studies.scaling.bench import passes
from war_jax.studies.scaling.settings import Settings, cells, resolve_scaling

ROOT = Path(__file__).parents[4]
CONFIG = f'--config={ROOT}/configs/scaling.py:smoke'


@pytest.mark.parametrize('word', ['', 'depth', 'data', 'last_stage', 'switches'])
def test_every_word_is_a_study(word: str):
    for argument in (word, f'{word},smoke'):
        settings = resolve_scaling(scaling.get_config(argument))
        assert len(settings.varied) >= 2 and settings.smoke == argument.endswith('smoke')


def test_what_a_training_costs_is_reckoned_with_all_that_it_does():
    """By hand: 10 attack steps of 2, two passes of 3, TRADES' clean images 1; AWP another 6."""
    config = resolve(digits.get_config())
    assert passes(config) == 27
    natural = dataclasses.replace(config.objective, name='natural')
    assert passes(dataclasses.replace(config, objective=natural)) == 3
    perturbed = dataclasses.replace(config.awp, gamma=0.005, warmup_epochs=10)  # of 40 epochs
    assert passes(dataclasses.replace(config, awp=perturbed)) == 27 + 6 * 0.75
    aligned = dataclasses.replace(config.objective, grad_align=0.2)  # two gradients, and through
    assert passes(dataclasses.replace(config, objective=aligned)) == 27 + 2 * 2 * 3
    helped = dataclasses.replace(config.objective, helper='runs/natural')  # a label, and a pass
    assert passes(dataclasses.replace(config, objective=helped)) == 27 + 1 + 3
    half = dataclasses.replace(config.data, extra_fraction=0.5, extra_path='x.npz')
    assert passes(dataclasses.replace(config, data=half)) == 2 * 27


def changed(**grid: Any) -> Settings:
    config = scaling.get_config('smoke').unlock()
    config.grid.update(**{'width': (), 'epochs': (), **grid})
    return resolve_scaling(config)


def test_cells_are_all_combinations_named_by_what_differs():
    settings = changed(depth=(10, 16), objective=('trades', 'madry'), seeds=(0, 7))
    found = cells(settings)
    assert [cell.name for cell in found] == [
        'seed0', 'objectivemadry-seed0', 'depth16-seed0', 'depth16-objectivemadry-seed0',
        'seed7', 'objectivemadry-seed7', 'depth16-seed7', 'depth16-objectivemadry-seed7',
    ]  # fmt: skip
    config = settings.config(found[-1])
    assert (config.model.depth, config.objective.name, config.seed) == (16, 'madry', 7)
    assert settings.varied == ['depth', 'objective']


def test_the_last_stage_alone_is_widened():
    settings = changed(last_stage=(0.5, 1.0, 2.0))
    factors = [settings.config(cell).model.stage_widths for cell in cells(settings)]
    assert factors == [(1.0, 1.0, 0.5), (), (1.0, 1.0, 2.0)]
    names = [cell.name for cell in cells(settings)]
    assert names == ['last_stage0.5-seed0', 'seed0', 'last_stage2-seed0']


def test_no_extra_images_need_no_file():
    config = scaling.get_config('smoke').unlock()
    config.data.extra_path, config.data.extra_fraction = 'extra.npz', 0.5
    config.grid.update(width=(), epochs=(), generated=(0.0, 0.5))
    settings = resolve_scaling(config)
    paths = [settings.config(cell).data.extra_path for cell in cells(settings)]
    assert paths == ['', 'extra.npz']


def test_without_cutmix_its_boxes_have_no_size():
    config = scaling.get_config('smoke').unlock()
    config.augment.cutmix, config.augment.cutmix_alpha = 0.5, 0.3
    config.grid.update(width=(), epochs=(), cutmix=(0.0, 0.5))
    settings = resolve_scaling(config)
    mixed = [settings.config(cell).augment for cell in cells(settings)]
    assert [(one.cutmix, one.cutmix_alpha) for one in mixed] == [(0.0, 1.0), (0.5, 0.3)]


def test_without_an_average_there_is_no_form_of_it():
    config = scaling.get_config('smoke').unlock()
    config.ema_decay, config.ema_start = 0.99, 0.5
    config.ema_ramp, config.ema_batch_norm = True, 'copied'
    config.grid.update(width=(), epochs=(), ema=(0.0, 0.99))
    settings = resolve_scaling(config)
    trained = [settings.config(cell) for cell in cells(settings)]
    forms = [(one.ema_decay, one.ema_start, one.ema_ramp, one.ema_batch_norm) for one in trained]
    assert forms == [(0.0, 0.0, False, 'averaged'), (0.99, 0.5, True, 'copied')]


@pytest.mark.parametrize(
    ('grid', 'line'),
    [
        ({}, 'must vary something'),
        ({'depth': (10, 11)}, r'model.depth = 11: .*nearest: 10'),
        ({'objective': ('trades', 'tradse')}, "objective.name = 'tradse': .*nearest: 'trades'"),
        ({'ema': (0.0, 0.0)}, 'grid.ema .* must not name one twice'),
        ({'generated': (0.0, 0.5)}, 'data.extra_path'),
        ({'width': (1.0, 0.5)}, 'strictly increasing'),
        ({'epochs': (10, 20), 'awp': (0.005,)}, 'awp.warmup_epochs = 1: is a number of epochs'),
    ],
)
def test_what_cannot_be_is_refused(grid: dict[str, Any], line: str):
    with pytest.raises(ConfigError, match=line):
        changed(**grid)


def test_networks_and_lambdas_are_not_chosen_on_test_images():
    config = scaling.get_config('smoke').unlock()
    config.evaluation.select_on = 'test'
    with pytest.raises(ConfigError, match="select_on = 'test': must not be that"):
        resolve_scaling(config)


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        ([CONFIG], '--workdir: must be given'),
        ([CONFIG, '--workdir=x', '--config.grid.wdith=(1.0,)'], 'nearest: --config.grid.width'),
        ([CONFIG, '--workdir=x', '--config.measure.rank_by=autoattack_accuracy'], 'at least 1'),
        ([f'--config={ROOT}/configs/digits.py', '--workdir=x'], 'this study needs the group'),
    ],
)
def test_refused_command_lines(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(['prog', *arguments]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


def test_smoke_trains_measures_and_goes_on(tmp_path: Path, capsys):
    """Two lambdas and two seeds of one compiled program; what is there is not made again."""
    flags = [
        CONFIG, f'--workdir={tmp_path}/study', '--config.grid.width=()', '--config.grid.epochs=()',
        '--config.grid.lam=(1.0, 3.0)',
    ]  # fmt: skip
    assert command.main(['prog', *flags]) == 0
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / 'study/cells').iterdir()}
    assert {path.name for path in made} == {'lam1-seed0.json', 'seed0.json'}
    starts = {json.loads(path.read_text())['local_lipschitz_start'] for path in made}
    assert len(starts) == 1 and starts.pop() > 0, 'of one network, before lambda matters'
    assert command.main(['prog', *flags, '--config.grid.seeds=(0, 1)']) == 0
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / 'study/cells').iterdir()}
    assert len(now) == 4 and all(now[path] == time for path, time in made.items())
    assert 'smoke run' in capsys.readouterr().out
    report = (tmp_path / 'study/report.md').read_text()
    assert 'Nothing.' in report and 'λ' in report
