"""The report of planted studies, whole, small and unfinished. Oracles: what was planted."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.war_jax.lab.markdown_cells import parse_markdown
from tests.war_jax.studies.width.planted import edit, make_study
from war_jax.lab import plots
from war_jax.lab.verdicts import read_verdicts
from war_jax.studies.width import pictures
from war_jax.studies.width.findings import write_report

TARGETS = ('trajectory', 'constant')
TABLES = (
    'claims', 'accuracy', 'lipschitz', 'checkpoints', 'matched', 'slopes', 'optima', 'attacked',
    'lambdas', 'war', 'costs',
)  # fmt: skip
FIGURES = (
    'width', 'lambda', 'lipschitz', 'overfitting', 'epochs', 'epochs_all', 'premise', 'ways', 'war',
    'costs',
)  # fmt: skip


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time, and most tests do not look at them."""
    monkeypatch.setattr(pictures, 'draw', lambda *_: [])


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are composed, but their files, which take most of the time, stay empty."""

    def touch(figure: object, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.touch()

    monkeypatch.setattr(plots, 'save', touch)


def report(tmp_path: Path, **changes: Any) -> str:
    path = write_report(make_study(tmp_path / 'study', **changes))
    assert path == tmp_path / 'study/report.md'
    return path.read_text()


def table_under(text: str, heading: str) -> list[list[str]]:
    section = text.split(f'## {heading}\n')[1].split('\n## ')[0]
    return parse_markdown(section)


@pytest.mark.usefixtures('undrawn')
def test_the_answer_comes_first(tmp_path: Path) -> None:
    """Planted: 2 points per doubling of natural accuracy, the same for all seeds."""
    text = report(
        tmp_path, targets=TARGETS,
        robust_accuracy=lambda k, lam, seed: 0.5 - 0.01 * math.log2(k) * (1 + 0.1 * seed),
        war_robust_accuracy=lambda *_: 0.55,
        validation_robust_accuracy=lambda k, lam, seed: 0.5 - 0.1 * abs(math.log(lam / 3)),
        final_lambda=lambda *_: 4.5,
    )  # fmt: skip
    title, opening, table = text.split('\n\n')[:3]
    asked, answer, sure = opening.split('\n')
    assert asked.startswith('- **Asked.** Does a wider network help')
    assert sure.startswith('- **How sure.** Of 15 claims') and sure.endswith('are 3 seeds.')
    assert title == '# Width and λ: TRADES training of WRN-10-k, k = 1 … 4 on digits'
    assert 'natural accuracy changes by 2.00 (2.00 to 2.00) points' in answer
    assert 'robust accuracy by −1.10 (−1.35 to −0.85)' in answer
    assert 'wider network is the **less** robust one (supported at λ = 1, λ = 3, λ = 9)' in answer
    assert 'validation images is 3 at k = 1, 3 at k = 2, 3 at k = 4' in answer
    assert 'WAR (target: constant) ends with λ = 4.5 and reaches 55.0\u00a0%' in answer
    assert 'of the sweep, 3, reaches 47.8\u00a0%' in answer
    assert answer.count('. ') == 4 and answer.endswith('.')
    rows = {row[1]: [row[0], *row[2:]] for row in parse_markdown(f'{table}\n')}
    assert len(rows) == 1 + 15
    assert rows['At equal λ, natural accuracy rises with width'][:5] == [
        'supported (supported at λ = 1, λ = 3, λ = 9)', '2.00', '2.00 to 2.00',
        'points per doubling of the width', '3',
    ]  # fmt: skip
    assert rows['At equal λ, robust accuracy falls with width'][1:3] == ['−1.10', '−1.35 to −0.85']
    # 3 x 480 device-seconds over 3 x 120 + 480; not an effect over seeds
    name = 'WAR (thin sweep + one wide run) costs less than the sweep at the widest network'
    assert rows[name][:5] == ['supported', '1.71', '—', 'times', '—']
    reaches = 'WAR (target: constant) is as robust as the best λ of the sweep, within 2 points'
    assert 'above −2.' in rows[reaches][5] and '2.2 points' in rows[reaches][5]


@pytest.mark.usefixtures('undrawn')
def test_tables_hold_what_was_planted(tmp_path: Path) -> None:
    text = report(
        tmp_path, targets=TARGETS,
        robust_accuracy=lambda k, lam, seed: 0.4 + 0.02 * seed,
        local_lipschitz=lambda k, lam, seed: 2.0 ** (seed + 1),
    )  # fmt: skip
    accuracy = table_under(text, 'Accuracies by width and λ')
    assert [row[:3] for row in accuracy[1:]] == [
        [k, lam, '3'] for k in ('1', '2', '4') for lam in ('1', '3', '9')
    ]
    assert accuracy[1][4] == '42.0 (37.0 to 47.0)'  # 0.02 * 4.303 / sqrt(3) = 0.0497
    lipschitz = table_under(text, 'Local Lipschitzness and risks by width and λ')
    assert lipschitz[1][3] == '4 (0.715 to 22.4)'  # 2 ** (4.303 / sqrt(3)) = 5.59
    slopes = table_under(text, 'Change with width at each λ')
    assert len(slopes) == 1 + 14 * 3
    assert slopes[1][:4] == ['Natural accuracy', '1', '2.00', '2.00 to 2.00']
    optima = table_under(text, 'The best λ on validation images')
    # Planted: 3 sqrt(k), by a parabola in log lambda.
    assert [row[2:5] for row in optima[1:]] == [
        ['3', '3 (3 to 3)', '0\u00a0%'],
        ['3', '4.24 (4.24 to 4.24)', '0\u00a0%'],
        ['9', '6 (6 to 6)', '0\u00a0%'],
    ]
    widest = dict(table_under(text, 'λ for the widest network')[1:])
    assert widest['sweep of the widest network itself'] == '6 (6 to 6)'
    assert widest['power law λ ~ k^p through the thinner networks'] == '6 (6 to 6)'
    assert widest['WAR (target: constant), at the end of training'] == '5.22 (5.22 to 5.22)'
    costs = table_under(text, 'What tuning costs')
    assert [row[:5] for row in costs[1:]] == [
        ['sweep at width 1', '8', '2 min 0 s', '3', '6 min 0 s'],
        ['sweep at width 2', '14', '4 min 0 s', '3', '12 min 0 s'],
        ['sweep at width 4', '14', '8 min 0 s', '3', '24 min 0 s'],
        ['WAR: sweep at width 1, then one run at width 4', '—', '—', '—', '14 min 0 s'],
    ]


def test_files_are_there_and_agree(tmp_path: Path) -> None:
    text = report(tmp_path, targets=TARGETS)
    workdir = tmp_path / 'study'
    found = sorted(str(path.relative_to(workdir)) for path in workdir.rglob('*') if path.is_file())
    found = [name for name in found if not name.startswith('runs/')]
    assert found == sorted(
        ['report.md', 'report.html', 'rows.csv', 'study.json', 'verdicts.json']
        + [f'tables/{name}.{form}' for name in TABLES for form in ('csv', 'md', 'tex')]
        + [f'figures/{name}.{form}' for name in FIGURES for form in ('png', 'pdf')]
    )
    for name in FIGURES:
        assert f'](figures/{name}.png)' in text
        with Image.open(workdir / f'figures/{name}.png') as image:
            image.verify()
    with (workdir / 'rows.csv').open(newline='') as file:
        assert len(list(csv.DictReader(file))) == 27 + 12
    with (workdir / 'tables/claims.csv').open(newline='') as file:
        claims = list(csv.DictReader(file))
    assert float(claims[0]['effect']) == pytest.approx(2.0)
    verdicts = read_verdicts(workdir / 'verdicts.json')
    assert [verdict.claim for verdict in verdicts] == [row['statement'] for row in claims]
    assert verdicts[0].effect == pytest.approx(2.0) and verdicts[0].seeds == 3
    assert '## What is missing\n\nNothing.\n' in text
    assert '\n    python -m war_jax.studies.width --config=a.py --workdir=b\n' in text


@pytest.mark.usefixtures('undrawn')
def test_how_the_numbers_were_obtained(tmp_path: Path) -> None:
    text = report(tmp_path, targets=TARGETS)
    found = {row[0]: row[1] for row in table_under(text, 'How the numbers were obtained')}
    assert found['Test images'] == '1,000'
    assert found['λ'] == '1, 3, 9' and found['Seeds'] == '0, 1, 2'
    assert found['Training'].startswith('TRADES, λ as the tables say; L∞ ball of ε = 0.2; PGD-10')
    assert 'PGD-20' in found['Attack of validation and headline']
    assert 'on validation images' in found['Checkpoint']
    assert found['Commit'] == '0123456789ab'
    # 2 devices; (60 + 120 + 240) s x 9 fixed runs and (120 + 240) s x 6 WAR runs
    assert found['Device time'] == '3 h 18 min in 39 runs'
    assert 'gain 0.25 over the training' in found['WAR']
    assert found['Devices of a run'] == '2 × cpu'
    assert found['Versions, of the first process'] == 'Python 3.11.9, jax 0.10.2, flax 0.12.8'


@pytest.mark.usefixtures('undrawn')
def test_devices_are_those_of_the_runs(tmp_path: Path) -> None:
    make_study(tmp_path / 'study', seeds=(0,))
    other = {'device': 'TPU v4', 'num_devices': 1}
    edit(
        tmp_path / 'study/runs/k2-lam3-seed0/config.json',
        lambda found: found['provenance'].update(other),
    )
    text = write_report(tmp_path / 'study').read_text()
    found = {row[0]: row[1] for row in table_under(text, 'How the numbers were obtained')}
    assert found['Devices of a run'] == '1 × TPU v4, 2 × cpu'
    with (tmp_path / 'study/rows.csv').open(newline='') as file:
        devices = {row['run']: row['device'] for row in csv.DictReader(file)}
    assert devices.pop('k2-lam3-seed0') == '1 × TPU v4'
    assert set(devices.values()) == {'2 × cpu'}


@pytest.mark.usefixtures('undrawn')
def test_a_best_lambda_at_an_edge_of_the_grid_is_warned_of(tmp_path: Path) -> None:
    best = {1.0: 1.0, 2.0: 3.0, 4.0: 9.0, 8.0: 9.0}

    def peak(k: float, lam: float, seed: int) -> float:
        return 0.5 - 0.1 * abs(math.log(lam / best[k]))

    changes: dict[str, Any] = {
        'widths': tuple(best), 'seeds': (0, 1), 'validation_robust_accuracy': peak
    }  # fmt: skip
    text = report(tmp_path, targets=('constant',), thin_lambda=1.0, **changes)
    lower, upper = [line for line in text.splitlines() if line.startswith('> ')]
    assert 'At width 1 the best λ, 1, lies at the lower edge' in lower
    assert lower.endswith('should be extended there. WAR starts from that of width 1.')
    assert 'At width 4, 8 the best λ, 9, lies at the upper edge' in upper
    assert upper.endswith('should be extended there.')
    best.update({1.0: 3.0, 4.0: 3.0, 8.0: 3.0})
    assert '\n> ' not in report(tmp_path / 'inside', **changes)
    assert '\n> ' not in report(tmp_path / 'one', **{**changes, 'lams': (3.0,)})


@pytest.mark.usefixtures('undrawn')
def test_the_answer_compares_war_with_the_same_seeds(tmp_path: Path) -> None:
    """Seed 2 has WAR at 90 % and no run of the best lambda; the others 50 and 40 %."""
    text = report(
        tmp_path, targets=('constant',),
        validation_robust_accuracy=lambda k, lam, seed: 0.5 - 0.1 * abs(math.log(lam / 3)),
        robust_accuracy=lambda *_: 0.4,
        war_robust_accuracy=lambda k, lam, seed: 0.9 if seed == 2 else 0.5,
        final_lambda=lambda k, lam, seed: 90.0 if seed == 2 else 4.5,
        skip=lambda method, k, lam, seed: (method, k, lam, seed) == ('fixed', 4.0, 3.0, 2),
    )  # fmt: skip
    assert 'ends with λ = 4.5 and reaches 50.0\u00a0% robust accuracy' in text
    assert 'of the sweep, 3, reaches 40.0\u00a0%' in text


@pytest.mark.usefixtures('unsaved')
def test_redrawing_changes_nothing(tmp_path: Path) -> None:
    report(tmp_path, targets=('constant',))
    paths = [path for path in (tmp_path / 'study').rglob('*') if path.is_file()]
    before = [path.read_bytes() for path in paths]
    write_report(tmp_path / 'study')
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.usefixtures('undrawn')
def test_an_unfinished_study_says_what_is_missing(tmp_path: Path) -> None:
    text = report(
        tmp_path, targets=('trajectory',),
        skip=lambda method, k, lam, seed: (k, lam, seed) in [(4.0, 9.0, 2), (4.0, 1.0, 0)]
        or (method == 'trajectory' and (k, seed) == (2.0, 1)),
    )  # fmt: skip
    assert '> **Not finished.** 2 of its parts are missing' in text
    assert text.split('## What is missing\n')[1].split('##')[0].split('\n')[1:-2] == [
        '- width 4, constant λ: λ = 1 seed 0, λ = 9 seed 2',
        '- width 2, WAR (target: trajectory): seed 1',
    ]


@pytest.mark.usefixtures('unsaved')
@pytest.mark.parametrize(
    'changes',
    [
        {'seeds': (0,), 'targets': TARGETS},
        {'widths': (1.0,), 'lams': (3.0,), 'seeds': (0,)},
        {'targets': TARGETS, 'skip': lambda method, k, lam, seed: True},
        {'targets': TARGETS, 'skip': lambda method, k, lam, seed: method == 'fixed'},
        {'targets': TARGETS, 'skip': lambda method, k, lam, seed: (k, lam, seed) != (1.0, 3.0, 0)},
        {'targets': TARGETS, 'skip': lambda method, k, lam, seed: lam == (1.0, 3.0, 9.0)[seed]},
        {'targets': TARGETS, 'skip': lambda method, k, lam, seed: (method, k) == ('fixed', 4.0)},
        {'risk_ratio': lambda *_: None, 'local_lipschitz': lambda *_: None, 'targets': TARGETS},
    ],
)
def test_any_part_of_a_study_can_be_reported(tmp_path: Path, changes: dict[str, Any]) -> None:
    text = report(tmp_path, **changes)
    for line in text.splitlines():
        if line.startswith('!['):
            assert (tmp_path / 'study' / line.split('](')[1].rstrip(')')).is_file()
    assert 'nan' not in text.split() and 'inf' not in text.split() and 'None' not in text.split()
    if len(changes.get('seeds', (0, 1))) == 1:
        # What tuning costs is not over seeds.
        lines = [line for line in text.splitlines() if 'costs less' not in line]
        assert not any(line.startswith(('| supported', '| contradicted')) for line in lines)


@pytest.mark.usefixtures('undrawn')
def test_selection_on_test_images_is_called_what_it_is(tmp_path: Path) -> None:
    workdir = make_study(tmp_path / 'study', seeds=(0,))
    about = json.loads((workdir / 'study.json').read_text())
    about['config']['evaluation']['select_on'] = 'test'
    about['provenance']['command'] = None
    (workdir / 'study.json').write_text(json.dumps(about))
    text = write_report(workdir).read_text()
    assert 'selected on the test images' in text and 'started from Python' in text
