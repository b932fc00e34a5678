"""Tables read back by parsers that know nothing of war_jax: markdown-it, a LaTeX reader."""

import csv
import io
import math
import re

import pytest
from markdown_it import MarkdownIt

from tests.war_jax.lab.markdown_cells import parse_markdown
from war_jax.lab import tables

HOSTILE = [
    'a|b', r'a\|b', r'ends with \ ', 'back`tick`', '**bold** _it_ __x__', '[a](http://b)', '~~no~~',
    '<b>&amp;</b>', '$x_1$', '#1', '100 % & more', 'perturbation_stability', '--config=a.py', "'q'",
    r'\textbf{x}', '{a}^2~', '[1]', '* star', '"quoted", comma', 'λ = 6, ε ≤ ∞', '![x](y)', r'\\',
]  # fmt: skip


@pytest.mark.parametrize('cell', HOSTILE)
def test_markdown_shows_a_cell_as_it_is(cell: str) -> None:
    rows = parse_markdown(tables.markdown(('name', cell), [(cell, 'end'), (1, 'x')], 'lr'))
    cell = cell.strip()
    assert rows == [['name', cell], [cell, 'end'], ['1', 'x']]


def test_markdown_keeps_a_line_break_inside_its_cell() -> None:
    rows = parse_markdown(tables.markdown(('a', 'b'), [('one\ntwo', 'three\r\nfour')], 'll'))
    assert rows == [['a', 'b'], ['one\ntwo', 'three\nfour']]


def test_markdown_alignment_is_the_renderers() -> None:
    html = (
        MarkdownIt('commonmark')
        .enable('table')
        .render(tables.markdown(('a', 'b', 'c'), [(1, 2, 3)], 'lrc'))
    )
    found = re.findall(r'<td style="text-align:(\w+)">(\d)</td>', html)
    assert found == [('left', '1'), ('right', '2'), ('center', '3')]


def read_latex(text: str) -> str:
    """What LaTeX prints for this text; an unescaped special character is an error."""
    names = {
        'textbackslash': '\\', 'textasciicircum': '^', 'textasciitilde': '~', 'textless': '<',
        'textgreater': '>', 'textbar': '|', 'textquotedbl': '"', 'textasciigrave': '`',
        'textquotesingle': "'",
    }  # fmt: skip
    symbols = {r'\lambda': 'λ', r'\varepsilon': 'ε', r'\leq': '≤', r'\infty': '∞'}
    part = re.compile(
        r'\\(?P<name>text\w+)\{\}|\\ensuremath\{(?P<symbol>[^}]*)\}|\\(?P<escaped>[{}$&#%_])'
        r'|\{(?P<group>[\[*])\}|(?P<hyphen>-)\{\}(?=-)|(?P<letter>[^\\{}$&#%_^~<>|"`\'\[*])'
    )
    shown, position = '', 0
    while position < len(text):
        match = part.match(text, position)
        assert match, f'LaTeX would not print this literally: {text[position:]!r}'
        assert match['letter'] != '-' or text[position + 1 : position + 2] != '-', 'a dash'
        shown += (
            names.get(match['name'], '')
            or symbols.get(match['symbol'], '')
            or match['escaped']
            or match['group']
            or match['hyphen']
            or match['letter']
        )
        position = match.end()
    return shown


@pytest.mark.parametrize('cell', HOSTILE)
def test_latex_prints_a_cell_as_it_is(cell: str) -> None:
    assert read_latex(tables.latex_text(cell)) == cell


def test_latex_rows_have_as_many_cells_as_columns() -> None:
    lines = tables.latex(('a & b', 'c'), [('[1]', '5 %'), ('*', 'x')], 'lr').splitlines()
    assert lines[0] == r'\begin{tabular}{lr}' and lines[-1] == r'\end{tabular}'
    body = [line for line in lines if line.endswith(r' \\')]
    cells = [re.split(r'(?<!\\)&', line.removesuffix(r' \\')) for line in body]
    assert [[read_latex(cell.strip()) for cell in row] for row in cells] == [
        ['a & b', 'c'], ['[1]', '5 %'], ['*', 'x'],
    ]  # fmt: skip


def test_a_ragged_row_or_a_wrong_alignment_is_refused() -> None:
    with pytest.raises(ValueError, match='has 1 cells, the header 2'):
        tables.latex(('a', 'b'), [(1,)], 'll')
    for align in ('l', 'lx', 'lrr'):
        with pytest.raises(ValueError, match='expected 2 letters of l, r, c'):
            tables.markdown(('a', 'b'), [(1, 2)], align)


@pytest.mark.parametrize(
    ('rate', 'digits', 'expected'),
    [
        (0.9751, 2, '97.51\u00a0%'), (0.0, 1, '0.0\u00a0%'), (1.0, 0, '100\u00a0%'),
        (None, 2, '—'), (math.nan, 2, '—'),
    ],
)  # fmt: skip
def test_percent(rate: float | None, digits: int, expected: str) -> None:
    assert tables.percent(rate, digits) == expected


@pytest.mark.parametrize(
    ('interval', 'expected'),
    [  # rounded outwards by hand; exact bounds stay, although 100 * 0.29 < 29 and 100 * 0.07 > 7
        ((0.95321, 0.98719), '95.3–98.8\u00a0%'),
        ((0.29, 0.57), '29.0–57.0\u00a0%'),
        ((0.01, 0.07), '1.0–7.0\u00a0%'),
        ((0.0, 1.0), '0.0–100.0\u00a0%'),
        ((0.70249, 0.70251), '70.2–70.3\u00a0%'),
    ],
)
def test_percent_interval_covers_the_interval(interval: tuple[float, float], expected: str) -> None:
    assert tables.percent_interval(interval) == expected


def test_the_mean_of_a_rate_shows_an_interval_that_it_is_not_in_the_middle_of() -> None:
    assert tables.rate_mean((0.727, 0.6894, 1.0)) == '72.7 (68.9 to 100.0)'
    assert tables.rate_mean((0.5, -math.inf, math.inf)) == '50.0'


def test_number_and_duration() -> None:
    assert [tables.number(value) for value in (3.01649, 6.0, 0.06214, None, math.inf)] == [
        '3.016', '6', '0.06214', '—', '—',
    ]  # fmt: skip
    assert [tables.duration(value) for value in (3.21, 42, 59.7, 75, 3599.8, 7265)] == [
        '3.2 s', '42 s', '1 min 0 s', '1 min 15 s', '1 h 0 min', '2 h 1 min',
    ]  # fmt: skip


def test_csv_reads_back_exactly() -> None:
    rows = [
        {'name': 'a, "b"\nc', 'value': 0.1 + 0.2, 'left out': 1},
        {'name': 'λ', 'value': None, 'left out': 2},
    ]
    text = tables.csv_text(('name', 'value'), rows)
    first, second = csv.DictReader(io.StringIO(text, newline=''))
    assert first == {'name': 'a, "b"\nc', 'value': '0.30000000000000004'}
    assert second == {'name': 'λ', 'value': ''}
    assert text.startswith('name,value\n') and '\r' not in text


def test_points_have_the_minus_of_print_and_no_infinite_interval() -> None:
    assert tables.points_mean((-1.25, -3.44, 0.94)) == '−1.2 (−3.4 to 0.9)'
    assert tables.points_mean((2.0, -math.inf, math.inf)) == '2.0'
