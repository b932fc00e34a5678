"""The page and the claims on planted probes. Oracles: what was planted, the number of rows and
files, and SciPy's t-test."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from ntk.studies.dynamics import pictures
from ntk.studies.dynamics.findings import decide, write_report
from ntk.studies.dynamics.tabulate import TABLES
from tests.ntk.studies.dynamics.planted_probes import COMMAND, single, study, write
from tests.war_jax.lab.markdown_cells import parse_markdown
from war_jax.lab.verdicts import read_verdicts
from war_jax.records.files import ReportError, write_text


def page(folder: Path, rows, is_study: bool = True, missing=None) -> str:
    path = write_report(write(folder, rows, is_study, missing))
    assert path == folder / 'report.md'
    return path.read_text()


def table_under(text: str, heading: str) -> list[list[str]]:
    section = text.split(f'## {heading}\n')[1].split('\n## ')[0]
    return parse_markdown(section)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Figures are made but not drawn, which takes most of the time: name of the file -> figure."""
    made = {}

    def save(figure: Figure, path: Path) -> None:
        made[path.name] = figure
        write_text(path, 'not drawn')

    monkeypatch.setattr(pictures.plots, 'save', save)
    return made


def powers(p: float, spread: float = 0.01) -> Any:
    return lambda k, lam, seed: 2.0 * k ** (p + spread * (seed - 1))


@pytest.mark.usefixtures('undrawn')
def test_the_answer_comes_first(tmp_path: Path) -> None:
    """Of three seeds with exponents p - s, p, p + s the interval is p -+ 4.303 s / sqrt(3)."""
    truths = {
        'kernel_drift': powers(-0.5),
        'output_gradient_train': powers(0.0),
        'output_gradient_test': powers(0.2),
        'local_lipschitz_train': powers(-0.25),
        'local_lipschitz_test': powers(0.75),
    }
    starts = {
        'output_gradient_test': powers(0.0),
        'local_lipschitz_test': powers(0.1, 0.2),
        'spectral_product': powers(0.5),
    }
    text = page(tmp_path, study(truths=truths, starts=starts))
    title, answer = text.split('\n\n')[:2]
    assert title == (
        '# Kernel, input gradients and Lipschitzness along 18 runs of WRN-10-k, k = 1 … 4, on '
        'digits'
    )
    asked, found, sure = answer.split('\n')
    assert asked.startswith('- **Asked.** What do trained networks’ kernels')
    assert sure.startswith('- **How sure.** Of ') and sure.endswith('Behind each are 3 seeds.')
    end, start = found.removeprefix('- **Found.** ').split(' At initialisation: ')
    assert end == (
        'After training, at equal λ (the mean over λ = 1, 9): what **falls** with width: kernel '
        'drift (k^−0.50, −0.52 to −0.48), local Lipschitzness (output ratio) on training images '
        '(k^−0.25, −0.27 to −0.23); what **grows** with width: the input gradient on test images '
        '(k^0.20, 0.18 to 0.22), local Lipschitzness (output ratio) on test images (k^0.75, 0.73 '
        'to 0.77); not shown to grow or to fall: the input gradient on training images (k^0.00, '
        '−0.02 to 0.02).'
    )
    assert start == (
        'what **grows** with width: the product of spectral norms (k^0.50, 0.48 to 0.52); not '
        'shown to grow or to fall: the input gradient on test images (k^0.00, −0.02 to 0.02), '
        'local Lipschitzness (output ratio) on test images (k^0.10, −0.40 to 0.60).'
    )


@pytest.mark.usefixtures('undrawn')
def test_tables_hold_what_was_planted(tmp_path: Path) -> None:
    truths = {
        'kernel_drift': lambda k, lam, seed: 2.0 ** (seed - 1) * k**-0.5 * lam,
        'label_alignment': lambda k, lam, seed: 0.4 + 0.01 * seed + 0.02 * math.log2(k),
    }
    text = page(tmp_path, study(truths=truths, starts={'kernel_trace': powers(1.0)}))
    exponents = {row[0]: row[1:] for row in table_under(text, 'Change with width')}
    assert exponents['Quantity'] == ['At initialisation', 'λ = 1', 'λ = 9', 'Mean over λ']
    assert exponents['Kernel drift'] == ['—'] + ['−0.50 (−0.50 to −0.50)'] * 3
    assert exponents['Kernel trace per image'][0] == '1.00 (0.98 to 1.02)'
    assert exponents['Alignment with the labels (+)'][1] == '0.02 (0.02 to 0.02)'
    header, *kernel = table_under(text, 'The kernel and the weights')
    assert header[:6] == [
        'When', 'Width k', 'λ', 'Seeds', 'Kernel drift', 'Alignment with the first kernel',
    ]  # fmt: skip
    assert [row[:4] for row in kernel] == [
        *(['at initialisation', k, '—', '3'] for k in '124'),
        *(['after training', k, lam, '3'] for k in '124' for lam in '19'),
    ]
    assert kernel[0][4:6] == ['—', '—'] and kernel[0][6] != '—'
    # 2^(4.303 / sqrt(3)) = 5.59; 0.01 * 4.303 / sqrt(3) = 0.0248
    assert kernel[-1][4] == '4.5 (0.804 to 25.2)'
    assert kernel[-1][6] == '0.45 (0.425 to 0.475)'


@pytest.mark.usefixtures('undrawn')
def test_claims_are_decided_at_each_lambda_and_without_the_page(tmp_path: Path) -> None:
    """Planted: at λ = 1 Lipschitzness grows and drift falls, at λ = 9 both are noise."""
    noise = {0: -0.4, 1: 0.1, 2: 0.3}
    truths = {
        'local_lipschitz_test': lambda k, lam, seed: k ** (
            0.5 + 0.02 * seed if lam == 1 else noise[seed]
        ),
        'kernel_drift': lambda k, lam, seed: k ** (-0.5 if lam == 1 else noise[seed]),
    }
    rows = study(truths=truths, starts={'local_lipschitz_test': powers(-0.2)})
    page(tmp_path, rows)
    start, lipschitz, drift = read_verdicts(tmp_path / 'verdicts.json')
    assert start.name == 'local_lipschitz_with_width_at_start'
    assert (start.verdict, start.effect) == ('contradicted', pytest.approx(-0.2))
    assert (lipschitz.name, lipschitz.verdict) == ('local_lipschitz_with_width', 'supported')
    assert lipschitz.where == 'supported at λ = 1' and lipschitz.seeds == 3
    assert lipschitz.effect == pytest.approx((0.52 + 0.0) / 2)
    # Of two lambdas, the smaller p-value is doubled (Holm).
    p_value = stats.ttest_1samp([0.5, 0.52, 0.54], 0.0).pvalue  # pyright: ignore
    assert lipschitz.p_value == pytest.approx(2 * p_value)
    assert (drift.name, drift.where) == ('kernel_drift_with_width', 'supported at λ = 1')
    assert {drift.commit, start.commit} == {'0123456789ab'} and drift.command == COMMAND
    (tmp_path / 'alone').mkdir()
    claims, provenance = decide(write(tmp_path / 'alone', rows))
    assert [claim.verdict for claim in claims] == ['contradicted', 'supported', 'supported']
    assert provenance['data'] == '1,797 handwritten digits.'


@pytest.mark.usefixtures('undrawn')
def test_nothing_is_claimed_without_widths_or_from_two_seeds(tmp_path: Path) -> None:
    assert decide(write(tmp_path, single(), is_study=False))[0] == []
    claims, _ = decide(write(tmp_path, study(seeds=(0, 1))))
    assert [claim.verdict for claim in claims] == ['undecided'] * 3
    claims, _ = decide(write(tmp_path, study(method='trajectory')))
    assert [claim.name for claim in claims] == ['local_lipschitz_with_width_at_start']
    assert 'from fewer than 3 seeds: kernel drift (k^' in page(tmp_path, study(seeds=(0, 1)))


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r'missing study\.json'):
        decide(tmp_path)
    write(tmp_path, study())
    about = json.loads((tmp_path / 'study.json').read_text())
    del about['provenance']
    (tmp_path / 'study.json').write_text(json.dumps(about))
    with pytest.raises(ReportError, match=r'study\.json: no provenance'):
        decide(tmp_path)


def test_files_are_there_and_agree(tmp_path: Path) -> None:
    text = page(tmp_path, study())
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*') if path.is_file()}
    tables = {f'tables/{name}.{form}' for name in [*TABLES, 'claims', 'exponents', 'changes']
              for form in ('csv', 'md', 'tex')}  # fmt: skip
    drawn = ('width', 'gradients', 'kernel', 'epochs')
    figures = {f'figures/{name}.{form}' for name in drawn for form in ('png', 'pdf')}
    assert names == tables | figures | {
        'report.md', 'report.html', 'rows.csv', 'study.json', 'verdicts.json',
    }  # fmt: skip
    for name in drawn:
        assert f'](figures/{name}.png)' in text
        with Image.open(tmp_path / f'figures/{name}.png') as image:
            image.verify()
    with (tmp_path / 'tables/changes.csv').open(newline='') as file:
        changes = list(csv.DictReader(file))
    drift = [row for row in changes if row['quantity'] == 'kernel_drift']
    assert [row['lambda'] for row in drift] == ['1', '9', 'mean over 1, 9']
    assert {(row['when'], row['unit'], row['num_seeds']) for row in drift} == {
        ('after training', 'exponent of the width', '3')
    }
    assert float(drift[0]['effect_lower']) <= float(drift[0]['effect'])
    assert 'Nothing.' in text and f'\n    {COMMAND}\n' in text


def test_a_single_run_has_curves_and_steps(tmp_path: Path) -> None:
    rows = single(
        kernel_drift=lambda *_: 1.5,
        weight_movement=lambda *_: 0.25,
        label_alignment=lambda *_: 0.75,
    )
    text = page(tmp_path, rows, is_study=False)
    title, answer = text.split('\n\n')[:2]
    assert title.endswith('along k1-fixed-lam3-seed0 (WRN-10-1) on digits')
    assert answer.startswith('In 20 steps the kernel moved by 1.5 times its norm while the weights')
    assert 'moved by 0.25 times theirs' in answer and 'labels went from 0.' in answer
    assert ' to 0.75. The input gradient went from ' in answer
    kernel = table_under(text, 'The kernel and the weights')
    assert [row[:3] for row in kernel[1:]] == [['0', '0', '0'], ['10', '5', '0.75'],
                                              ['20', '10', '1.5']]  # fmt: skip
    assert 'Change with width' not in text and not (tmp_path / 'tables/changes.csv').exists()
    with Image.open(tmp_path / 'figures/curves.png') as image:
        image.verify()


@pytest.mark.usefixtures('undrawn')
def test_how_the_numbers_were_obtained(tmp_path: Path) -> None:
    text = page(tmp_path, study())
    found = {row[0]: row[1] for row in table_under(text, 'How the numbers were obtained')}
    assert found['Runs'] == '18 in runs/x/runs'
    assert found['Images measured on'].startswith('64 training and 128 test images')
    assert found['BatchNorm’s statistics'].startswith('the moments of the training images')
    assert 'of 10 PGD steps' in found['Robust accuracy, KL gradient']
    assert 'L∞ ball of ε = 0.2' in found['Robust accuracy, KL gradient']
    assert found['Training'].startswith('TRADES, λ as the tables say')
    assert found['Probes'] == 'steps 0, 10, 20 of 20'
    assert found['Time'] == '1 min 21 s for 54 probes, with compilation'
    assert '- *Kernel drift*: ‖Θ_t − Θ_0‖_F / ‖Θ_0‖_F' in text
    assert text.count('*Input gradient of the outputs*') == 1


@pytest.mark.usefixtures('undrawn')
def test_what_is_missing_is_said(tmp_path: Path) -> None:
    rows = [
        row for row in study() if row['run'] != 'k4-fixed-lam9-seed2' or row['step'] < 20
    ]
    text = page(tmp_path, rows, missing={'k8-lam1-seed0': 'no probes'})
    assert '> **Not finished.** 2 of its parts are missing' in text.split('\n## ')[0]
    listed = text.split('## What is missing\n')[1].split('\n## ')[0].strip().splitlines()
    assert listed[0].startswith('- k8-lam1-seed0: no probes; train it')
    assert '--config.ntk.every=N' in listed[0]
    assert listed[1:] == [
        '- k4-fixed-lam9-seed2: its probes end at step 10 of 20; let it finish'
    ]


@pytest.mark.usefixtures('undrawn')
@pytest.mark.parametrize(
    'changes',
    [
        {'seeds': (0,)},
        {'widths': (1.0,)},
        {'widths': (1.0,), 'lams': (3.0,), 'seeds': (0,)},
        {'steps': (0,)},
        {'steps': (0, 10)},
        {'method': 'trajectory'},
        {'skip': lambda k, lam, seed: k == 4.0 and lam == 9.0},
        {'skip': lambda k, lam, seed: lam == (1.0, 9.0)[seed % 2]},
        {'truths': {'kernel_drift': lambda *_: None, 'spectral_product': lambda *_: None}},
    ],
)
def test_any_part_of_a_study_can_be_reported(tmp_path: Path, changes: dict[str, Any]) -> None:
    text = page(tmp_path, study(**changes))
    for line in text.splitlines():
        if line.startswith('!['):
            assert (tmp_path / line.split('](')[1].rstrip(')')).is_file()
    words = text.replace('(', ' ').replace(')', ' ').split()
    assert not {'nan', 'inf', '-inf', '−inf', 'None'} & set(words)
    if len(changes.get('seeds', (0, 1))) == 1:
        assert '**grows**' not in text and '**falls**' not in text
    if changes == {'seeds': (0,)}:
        assert 'from fewer than 3 seeds: kernel drift (k^' in text
    if changes.get('widths') == (1.0,) or changes.get('method'):
        assert 'Of trained networks nothing follows' in text


def test_what_has_no_value_can_be_drawn(tmp_path: Path) -> None:
    nothing: Any = dict.fromkeys(('kernel_drift', 'local_lipschitz_test'), lambda *_: None)
    rows = study(lams=(3.0,), seeds=(0,), steps=(0, 20), truths=nothing)
    drawn = pictures.draw(rows, True, tmp_path)
    assert [picture.file for picture in drawn] == [*pictures.WIDTH_PANELS, 'epochs.png']
    for picture in drawn:
        with Image.open(tmp_path / picture.file) as image:
            image.verify()


@pytest.mark.usefixtures('undrawn')
def test_a_run_with_its_first_probe_alone_can_be_drawn(tmp_path: Path) -> None:
    assert 'In 0 steps' in page(tmp_path, single(steps=(0,)), is_study=False)


def test_train_and_test_share_their_scale(tmp_path: Path, undrawn: dict[str, Figure]) -> None:
    """Planted: test values a hundred times those on training images."""
    truths = {
        'local_lipschitz_train': lambda k, lam, seed: 1.0 + 0.1 * seed,
        'local_lipschitz_test': lambda k, lam, seed: 100.0 + seed,
    }
    pictures.draw(study(truths=truths, starts=truths), True, tmp_path)
    panels = [axes for file in pictures.WIDTH_PANELS for axes in undrawn[file].axes]
    assert all(axes.get_ylabel() for axes in panels)
    limits = {axes.get_title(loc='left'): axes.get_ylim() for axes in panels}
    title = 'Local Lipschitzness,\noutput ratio, '
    train, test = (limits[f'{title}{split}'] for split in ('train', 'test'))
    assert train == test and train[0] < 1.0 and train[1] > 100.0
    assert limits['Kernel drift'] != train
