"""The report of a run, read back by a Markdown parser and compared with the run's own files."""

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.war_jax.lab.markdown_cells import parse_markdown
from tests.war_jax.report.runs import make_run, session
from war_jax.config import Config, to_dict
from war_jax.config_data import AugmentConfig, DataConfig
from war_jax.config_training import OptimizerConfig
from war_jax.report import conditions, figures, run_report
from war_jax.report.run_files import read_run
from war_jax.report.run_report import write_report

FIGURES = ('training_curves', 'examples', 'stability_curve')


def change(workdir: Path, name: str, edit: Callable[[Any], None]) -> None:
    value = json.loads((workdir / name).read_text())
    edit(value)
    (workdir / name).write_text(json.dumps(value))


def page_of(workdir: Path) -> str:
    """report.md without its figures, which take seconds to draw."""
    return run_report.page(read_run(workdir))


def cells(page: str) -> dict[str, list[str]]:
    """First cell -> the others, of all tables together (the attacks' last row of a name wins)."""
    tables = re.findall(r'(?:^\|.*\n)+', page, re.MULTILINE)
    return {row[0]: row[1:] for table in tables for row in parse_markdown(table)}


@pytest.mark.parametrize('colour', [False, True])
def test_the_figures_that_the_page_shows_exist(tmp_path: Path, colour: bool) -> None:
    workdir = make_run(tmp_path / 'run', colour=colour)
    report = write_report(workdir)
    assert report == workdir / 'report.md'
    assert report.read_text() == page_of(workdir)
    shown = re.findall(r'!\[[^\]]+\]\(([^)]+)\)', report.read_text())
    assert sorted(shown) == sorted(f'figures/{name}.png' for name in FIGURES)
    for link in shown:
        with Image.open(workdir / link) as image:
            image.verify()
    drawn = {path.name for path in (workdir / 'figures').iterdir()}  # no temporary file left
    assert drawn == {f'{name}.{kind}' for name in FIGURES for kind in ('png', 'pdf')}


def test_the_stability_curve_is_that_of_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = make_run(tmp_path / 'run')
    change(workdir, 'config.json', lambda found: found['config']['threat'].update(epsilon=0.15))
    calls = []
    monkeypatch.setattr(
        figures, 'stability_curve', lambda *args, **named: calls.append((args, named))
    )
    write_report(workdir)
    (((_, epsilons, rates, bands), named),) = calls
    curve = json.loads((workdir / 'summary.json').read_text())['curve']
    assert epsilons == curve['epsilon']
    assert named == {'epsilon': 0.15, 'norm': 'linf'}  # the radius of the training
    for name, values in rates.items():
        assert values == curve[name]
        assert bands[name] == curve['intervals'][name]


def test_headline_gives_rates_intervals_and_counts(tmp_path: Path) -> None:
    """Oracle: 353, 270, 274 and 266 of 360, by the closed form of Wilson's interval."""
    found = cells(page_of(make_run(tmp_path / 'run')))

    def wilson(count: int) -> str:
        z, n = 1.959963984540054, 360
        centre = (count + z * z / 2) / (n + z * z)
        half = z / (n + z * z) * math.sqrt(count * (n - count) / n + z * z / 4)
        lower, upper = 100 * (centre - half), 100 * (centre + half)
        return f'{math.floor(lower * 10) / 10:.1f}–{math.ceil(upper * 10) / 10:.1f}\u00a0%'

    for name, count in {
        'Natural accuracy': 353,
        'Robust accuracy': 270,
        'Perturbation stability': 274,
        'Perturbation stability, label-free attack': 266,
    }.items():
        rate = f'{100 * count / 360:.2f}\u00a0%'
        assert found[name] == [rate, wilson(count), f'{count} of 360']


def test_conditions_of_the_numbers_are_stated(tmp_path: Path) -> None:
    found = cells(page_of(make_run(tmp_path / 'run', colour=True)))
    attack = found['Attack of the headline'][0]
    for part in ('PGD-20', 'L∞', '0.03137 (8/255)', '0.003922 (1/255)', 'uniform', 'run once'):
        assert part in attack
    assert found['Images'] == ['10,000 of the test split']
    assert found['SHA-256 of the data'] == ['ab' * 32]
    checkpoint = 'step 1650, epoch 25: best robust accuracy on validation images'
    assert found['Checkpoint'] == [checkpoint]
    assert 'embedded in scikit-learn' in found['Data'][0]
    assert found['Network'] == ['WRN-34-10, float32']
    for part in ('TRADES', 'λ = 6', 'PGD-10', '(2/255)', 'Gaussian start (deviation 0.001)'):
        assert part in found['Training'][0]
    assert found['Commit'] == ['0123456789abcdef0123456789abcdef01234567']
    assert found['Device'] == ['1 × cpu']
    assert found['Versions'] == ['Python 3.11.9, jax 0.10.2, flax 0.12.8']
    assert found['Seed'] == ['0']
    assert found['Wall time'] == ['3 min 12 s']
    assert found['CW-20'][1:3] == ['1', '74.00\u00a0%']
    assert found['Local Lipschitzness, output ratio'][0] == '41.27'
    assert found['Local Lipschitzness, KL gradient'][0] == '3.412'


def test_the_epsilon_of_the_papers_code_is_no_fraction_of_255(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')
    change(workdir, 'summary.json', lambda found: found.update(epsilon=0.031))
    attack = cells(page_of(workdir))['Attack of the headline'][0]
    assert 'ε = 0.031,' in attack


def test_attacks_have_their_intervals_and_all_together_come_last(tmp_path: Path) -> None:
    """Oracle: made-up intervals, which no formula gives, and 4 + 1 + 1 runs."""
    workdir = make_run(tmp_path / 'run')

    def edit(found: Any) -> None:
        found['attacks'] = {'all': found['attacks'].pop('all'), **found['attacks']}
        found['attacks']['kl20']['intervals']['robust_accuracy'] = [0.11, 0.22]
        found['attacks']['all']['intervals']['perturbation_stability'] = [0.33, 0.44]
        found['attacks']['pgd20']['restarts'] = 4

    change(workdir, 'summary.json', edit)
    text = page_of(workdir)
    [table] = re.findall(r'^\| Attack \|.*\n(?:^\|.*\n)+', text, re.MULTILINE)
    _, pgd, cw, kl, together = parse_markdown(table)
    assert [row[0] for row in (pgd, cw, kl)] == ['PGD-20', 'CW-20', 'PGD-20']
    assert [row[2] for row in (pgd, cw, kl, together)] == ['4', '1', '1', '6']
    assert kl[3:5] == ['74.44\u00a0%', '11.0–22.0\u00a0%']
    assert together[0] == 'All of the above together'
    assert together[5:] == ['73.61\u00a0%', '33.0–44.0\u00a0%']


def test_sessions_are_listed_and_what_changed_is_a_warning(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')
    assert 'sessions' not in page_of(workdir)

    def go_on(*rows: dict[str, Any]) -> str:
        with (workdir / 'metrics.jsonl').open('a') as file:
            file.writelines(json.dumps(row) + '\n' for row in rows)
        return page_of(workdir)

    text = go_on(session(66))
    assert 'it had 2 sessions' in text and '**Warning.**' not in text
    newer = {'jax': '0.11.0', 'flax': '0.12.8'}
    text = go_on(session(1980, versions=newer, device='TPU v4', num_devices=8))
    assert 'it had 3 sessions' in text
    assert '**Warning.** Between the sessions of this run changed: versions of lib' in text
    assert 'libraries, device, number of devices. Its numbers' in text
    found = cells(text)
    assert found['66'] == ['0123456789ab', '1 × cpu', '—']
    assert found['1,980'] == ['0123456789ab', '8 × TPU v4', 'jax 0.11.0']


def test_what_the_checkpoint_was_selected_by_is_named(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run', selected_on='test')
    change(workdir, 'summary.json', lambda found: found.update(selected_by='natural_accuracy'))
    text = page_of(workdir)
    found = cells(text)['Checkpoint']
    assert found == ['step 1650, epoch 25: best natural accuracy on test images']
    assert '![Test accuracies' in text


def test_a_run_started_from_python_has_no_command_line(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')
    assert '\n    python -m war_jax.main --config=' in page_of(workdir)
    change(workdir, 'config.json', lambda found: found['provenance'].update(command=None))
    text = page_of(workdir)
    assert 'started from Python' in text and 'python -m war_jax.main ' not in text


@pytest.mark.parametrize(('smoke', 'warnings'), [(None, 0), (False, 0), (True, 1)])
def test_a_smoke_run_is_called_one(tmp_path: Path, smoke: bool | None, warnings: int) -> None:
    workdir = make_run(tmp_path / 'run')
    if smoke is not None:  # as in an old config.json
        change(workdir, 'config.json', lambda found: found['config'].update(smoke=smoke))
    text = page_of(workdir)
    assert text.count('its numbers mean nothing') == text.count('**Warning.**') == warnings


@pytest.mark.parametrize(('selected_on', 'warnings'), [('validation', 0), ('test', 1)])
def test_selection_on_test_images_is_called_what_it_is(
    tmp_path: Path, selected_on: str, warnings: int
) -> None:
    text = page_of(make_run(tmp_path / 'run', selected_on=selected_on))
    assert text.count('selected on the test images') == warnings
    assert text.count('**Warning.**') == warnings


@pytest.mark.parametrize('robust', [0.77, 0.73])
def test_rates_that_contradict_the_identity_of_sets_are_refused(
    tmp_path: Path, robust: float
) -> None:
    """natural .9806, stable .7611: robust = natural ∩ stable lies in [.7417, .7611]."""
    workdir = make_run(tmp_path / 'run')
    change(workdir, 'summary.json', lambda found: found.update(robust_accuracy=robust))
    assert 'cannot come from one attack' in page_of(workdir)


def test_a_rate_outside_its_own_interval_is_refused(tmp_path: Path) -> None:
    """Robust .75 and stable .7611 with each other's intervals: one of them does not fit."""
    workdir = make_run(tmp_path / 'run')
    narrow = {'robust_accuracy': [0.76, 0.77], 'perturbation_stability': [0.74, 0.77]}
    change(workdir, 'summary.json', lambda found: found['intervals'].update(narrow))
    text = page_of(workdir)
    assert text.count('**Warning.**') == 1
    assert 'robust accuracy of 75.00\u00a0% lies outside its own interval, 76.0–77.0' in text


def test_natural_training_in_l2_with_unbounded_ratio(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')

    def to_natural(found: Any) -> None:
        found['config']['objective']['name'] = 'natural'
        found['config']['threat']['norm'] = 'l2'

    change(workdir, 'config.json', to_natural)
    change(workdir, 'summary.json', lambda found: found.update(risk_ratio=None, norm='l2'))
    found = cells(page_of(workdir))
    assert found['Training'] == ['Natural: cross-entropy of the clean images, no attack']
    assert found['Risk ratio'][0] == '—'
    assert 'L2 ball' in found['Attack of the headline'][0]
    assert '‖x − x′‖₂ ≤ ε' in found['Local Lipschitzness, output ratio'][1]


def test_options_that_are_on_are_named(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')

    def turn_on(found: Any) -> None:
        found['config']['ema_decay'] = 0.995
        found['config']['awp']['gamma'] = 0.005
        found['config']['optimizer']['clip_norm'] = 0.5
        found['config']['attack'].update(
            projection='box', early_stop=1, batch_norm='train', warmup_epochs=2.5
        )
        found['config']['evaluation'].update(restarts=5, init_scale=0.5)

    change(workdir, 'config.json', turn_on)
    found = cells(page_of(workdir))
    assert 'AWP γ 0.005' in found['Training'][0]
    assert 'moving average with decay 0.995' in found['Training'][0]
    assert 'gradient clipped to length 0.5' in found['Training'][0]
    for words in (
        'not kept to the ball, stopped 1 step after the first error, BatchNorm by the attacked',
        'ε and step size growing over 2.5 epochs',
    ):
        assert words in found['Training'][0]
    assert 'uniform start (0.5 of the ball), run 5 times' in found['Attack of the headline'][0]


def test_names_with_markup_are_shown_literally(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')
    data = 'npz:/data/a_b|c*.npz: 10 images, <b>not</b> `mine`.'
    change(workdir, 'config.json', lambda found: found['provenance'].update(data=data))
    assert cells(page_of(workdir))['Data'] == [data]


def test_redrawing_changes_nothing(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')
    paths = [workdir / 'report.md', *(workdir / f'figures/{name}.png' for name in FIGURES)]
    write_report(workdir)
    first = [path.read_bytes() for path in paths]
    write_report(workdir)
    assert [path.read_bytes() for path in paths] == first


def run_main(monkeypatch: pytest.MonkeyPatch, workdir: Path) -> None:
    monkeypatch.setattr(sys, 'argv', ['run_report', str(workdir)])
    run_report.main()


def test_command_line_prints_the_reports_path(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_main(monkeypatch, make_run(tmp_path / 'run'))
    assert capsys.readouterr().out == f'{tmp_path / "run" / "report.md"}\n'


def test_command_line_says_in_one_line_what_is_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir = make_run(tmp_path / 'run')
    (workdir / 'summary.json').unlink()
    before = sorted(workdir.rglob('*'))
    with pytest.raises(SystemExit) as caught:
        run_main(monkeypatch, workdir)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and 'missing summary.json' in error
    assert sorted(workdir.rglob('*')) == before


def test_the_page_says_what_was_done_in_training():
    config = to_dict(
        Config(
            ema_decay=0.99,
            ema_batch_norm='copied',
            augment=AugmentConfig(randaugment=2, cutmix=0.5),
            optimizer=OptimizerConfig(schedule='one_cycle', rise=0.025, cycle_momentum=True),
            data=DataConfig(extra_path='there/1m.npz', extra_fraction=0.7, flip=False),
        )
    )
    images = 'random crop after 4 pixels of padding, RandAugment, 2 of magnitude 9, CutMix with '
    assert conditions.images(config) == f'{images}probability 0.5, 70% of each batch of 1m.npz'
    optimizer = conditions.optimizer(config)
    assert '(one_cycle, rising for 0.025 of the training), momentum 0.95 to 0.85' in optimizer
    training = conditions.training(config, 'λ = 6')
    assert training.endswith('moving average with decay 0.99; its batch statistics copied')
    assert conditions.images({'data': {'pad': 0}}) == 'as they are'
