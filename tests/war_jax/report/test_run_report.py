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

from tests.war_jax.report.markdown_cells import parse_markdown
from tests.war_jax.report.runs import make_run
from war_jax.measures.statistics import binomial_interval
from war_jax.report import figures, run_report
from war_jax.report.run_report import interval, write_report

FIGURES = ('training_curves', 'examples', 'stability_curve')


def change(workdir: Path, name: str, edit: Callable[[Any], None]) -> None:
    value = json.loads((workdir / name).read_text())
    edit(value)
    (workdir / name).write_text(json.dumps(value))


def cells(report: Path) -> dict[str, list[str]]:
    """First cell -> the others, of all tables together (the attacks' last row of a name wins)."""
    tables = re.findall(r'(?:^\|.*\n)+', report.read_text(), re.MULTILINE)
    return {row[0]: row[1:] for table in tables for row in parse_markdown(table)}


@pytest.mark.parametrize('colour', [False, True])
def test_the_figures_that_the_page_shows_exist(tmp_path: Path, colour: bool) -> None:
    workdir = make_run(tmp_path / 'run', colour=colour)
    report = write_report(workdir)
    assert report == workdir / 'report.md'
    shown = re.findall(r'!\[[^\]]+\]\(([^)]+)\)', report.read_text())
    assert sorted(shown) == sorted(f'figures/{name}.png' for name in FIGURES)
    for link in shown:
        with Image.open(workdir / link) as image:
            image.verify()
    assert len(list((workdir / 'figures').iterdir())) == len(FIGURES)  # no temporary file left


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
        expected = [binomial_interval(round(value * 360), 360) for value in values]
        assert bands[name] == expected


def test_headline_gives_rates_intervals_and_counts(tmp_path: Path) -> None:
    """Oracle: 353, 270, 274 and 266 of 360, by the closed form of Wilson's interval."""
    found = cells(write_report(make_run(tmp_path / 'run')))

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
    found = cells(write_report(make_run(tmp_path / 'run', colour=True)))
    attack = found['Attack of the headline'][0]
    for part in ('PGD-20', 'L∞', '0.03137 (8/255)', '0.003922 (1/255)', 'uniform', 'run once'):
        assert part in attack
    assert found['Images'] == ['10,000 of the test split']
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
    attack = cells(write_report(workdir))['Attack of the headline'][0]
    assert 'ε = 0.031,' in attack


@pytest.mark.parametrize(('selected_on', 'warnings'), [('validation', 0), ('test', 1)])
def test_selection_on_test_images_is_called_what_it_is(
    tmp_path: Path, selected_on: str, warnings: int
) -> None:
    text = write_report(make_run(tmp_path / 'run', selected_on=selected_on)).read_text()
    assert text.count('selected on the test images') == warnings
    assert text.count('**Warning.**') == warnings


@pytest.mark.parametrize('robust', [0.77, 0.73])
def test_rates_that_contradict_the_identity_of_sets_are_refused(
    tmp_path: Path, robust: float
) -> None:
    """natural .9806, stable .7611: robust = natural ∩ stable lies in [.7417, .7611]."""
    workdir = make_run(tmp_path / 'run')
    change(workdir, 'summary.json', lambda found: found.update(robust_accuracy=robust))
    assert 'cannot come from one attack' in write_report(workdir).read_text()


def test_a_rate_outside_its_own_interval_is_refused(tmp_path: Path) -> None:
    """Robust .75 and stable .7611 with each other's intervals: one of them does not fit."""
    workdir = make_run(tmp_path / 'run')
    narrow = {'robust_accuracy': [0.76, 0.77], 'perturbation_stability': [0.74, 0.77]}
    change(workdir, 'summary.json', lambda found: found['intervals'].update(narrow))
    text = write_report(workdir).read_text()
    assert text.count('**Warning.**') == 1
    assert 'robust accuracy of 75.00\u00a0% lies outside its own interval, 76.0–77.0' in text


def test_natural_training_in_l2_with_unbounded_ratio(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')

    def to_natural(found: Any) -> None:
        found['config']['objective']['name'] = 'natural'
        found['config']['threat']['norm'] = 'l2'

    change(workdir, 'config.json', to_natural)
    change(workdir, 'summary.json', lambda found: found.update(risk_ratio=None, norm='l2'))
    found = cells(write_report(workdir))
    assert found['Training'] == ['Natural: cross-entropy of the clean images, no attack']
    assert found['Risk ratio'][0] == '—'
    assert 'L2 ball' in found['Attack of the headline'][0]
    assert '‖x − x′‖₂ ≤ ε' in found['Local Lipschitzness, output ratio'][1]


def test_options_that_are_on_are_named(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')

    def turn_on(found: Any) -> None:
        found['config']['ema_decay'] = 0.995
        found['config']['awp']['gamma'] = 0.005
        found['config']['evaluation'].update(restarts=5, init_scale=0.5)

    change(workdir, 'config.json', turn_on)
    found = cells(write_report(workdir))
    assert 'AWP γ 0.005' in found['Training'][0]
    assert 'moving average with decay 0.995' in found['Training'][0]
    assert 'uniform start (0.5 of the ball), run 5 times' in found['Attack of the headline'][0]


def test_names_with_markup_are_shown_literally(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')
    data = 'npz:/data/a_b|c*.npz: 10 images, <b>not</b> `mine`.'
    change(workdir, 'config.json', lambda found: found['provenance'].update(data=data))
    assert cells(write_report(workdir))['Data'] == [data]


def test_redrawing_changes_nothing(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / 'run')
    paths = [workdir / 'report.md', *(workdir / f'figures/{name}.png' for name in FIGURES)]
    write_report(workdir)
    first = [path.read_bytes() for path in paths]
    write_report(workdir)
    assert [path.read_bytes() for path in paths] == first


def test_intervals_are_those_of_the_measures() -> None:
    """The report stands below the measures and cannot import them; both must mean one thing."""
    for successes, total in ((0, 7), (7, 7), (266, 360), (5661, 10_000)):
        assert interval(successes / total, total) == binomial_interval(successes, total)


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
