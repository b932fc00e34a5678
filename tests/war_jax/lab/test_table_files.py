"""Tables in three forms. Oracles: Python's csv reader, markdown-it, cells written out by hand."""

import csv
import math
from pathlib import Path

import pytest

from tests.war_jax.lab.markdown_cells import parse_markdown
from war_jax.lab import tables
from war_jax.lab.tables import Column, write_table

COLUMNS = [
    Column('width', 'Width', '{:g}'.format),
    Column('rate', 'Rate (%)', tables.rate_mean),
    Column('change', 'Change', tables.decimal_interval),
    Column('note', 'Note', align='l'),
]
ROWS = [
    {'width': 1.0, 'rate': (0.7, 0.65, 0.75), 'change': (-1.0, 0.1 + 0.2), 'note': 'a|b_c'},
    {'width': 0.125, 'rate': (0.5, -math.inf, math.inf), 'change': None, 'note': None},
    {'width': 2.0, 'rate': None, 'change': (-math.inf, math.inf), 'note': 'x'},
]


def test_people_read_rounded_cells(tmp_path: Path) -> None:
    text = write_table(tmp_path / 'tables', 'rates', COLUMNS, ROWS)
    assert parse_markdown(text) == [
        ['Width', 'Rate (%)', 'Change', 'Note'],
        ['1', '70.0 (65.0 to 75.0)', '−1.00 to 0.30', 'a|b_c'],
        ['0.125', '50.0', '—', '—'],
        ['2', '—', '—', 'x'],
    ]
    assert (tmp_path / 'tables/rates.md').read_text() == text
    assert tables.as_markdown(COLUMNS, ROWS) == text
    latex = (tmp_path / 'tables/rates.tex').read_text()
    assert latex.startswith('\\begin{tabular}{rrrl}') and '70.0 (65.0 to 75.0)' in latex


def test_programs_read_whole_numbers(tmp_path: Path) -> None:
    write_table(tmp_path, 'rates', COLUMNS, ROWS)
    with (tmp_path / 'rates.csv').open(newline='') as file:
        first, second, third = csv.DictReader(file)
    names = ['width', 'rate', 'rate_lower', 'rate_upper', 'change_lower', 'change_upper', 'note']
    assert list(first) == names
    assert [float(first[name]) for name in names[:-1]] == [1.0, 0.7, 0.65, 0.75, -1.0, 0.1 + 0.2]
    assert second['change_lower'] == '' and float(second['rate_upper']) == math.inf
    assert [third[name] for name in names[:4]] == ['2.0', '', '', '']


def test_a_table_without_rows_has_its_header(tmp_path: Path) -> None:
    text = write_table(tmp_path, 'none', COLUMNS, [])
    assert parse_markdown(text) == [['Width', 'Rate (%)', 'Change', 'Note']]
    assert (tmp_path / 'none.csv').read_text() == 'width,rate,change,note\n'


@pytest.mark.parametrize(
    ('value', 'expected'),
    [((4.0, 2.0, 8.0), '4 (2 to 8)'), ((0.12345, 0.1, 0.1523), '0.123 (0.1 to 0.152)'),
     ((3.0, 0.0, math.inf), '3')],
)  # fmt: skip
def test_factor_mean(value: tuple[float, float, float], expected: str) -> None:
    assert tables.factor_mean(value) == expected


def test_decimal_has_the_minus_of_print() -> None:
    assert [tables.decimal(value) for value in (-1.234, 0.0, 2.5)] == ['−1.23', '0.00', '2.50']
