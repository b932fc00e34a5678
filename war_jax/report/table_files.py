"""One table in the three forms that people and programs read: CSV, Markdown, LaTeX.

    columns = [
        Column('widen_factor', 'Width', '{:g}'.format),
        Column('robust', 'Robust', percent_mean),         # the rows hold (mean, lower, upper)
    ]
    rows = [{'widen_factor': 2.0, 'robust': (0.727, 0.689, 0.765)}]
    text = write_table(Path('runs/study/tables'), 'accuracy', columns, rows)

The CSV file holds every number in full, and an interval as three columns: robust, robust_lower,
robust_upper. The Markdown text, which is also returned, and the LaTeX file are for the eye.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from war_jax.records.files import write_text
from war_jax.report import tables


@dataclass(frozen=True)
class Column:
    key: str  # in the rows
    title: str
    shown: Callable[[Any], str] = str  # a value as text; None is shown as a dash without it
    align: str = 'r'


def write_table(
    folder: Path, name: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]
) -> str:
    """Writes folder/name.csv, .md and .tex; returns the Markdown.

    A value of three numbers is a mean and its interval, of two numbers an interval.
    """
    flat = [_flat({column.key: row[column.key] for column in columns}) for row in rows]
    # Of all rows: where one has no interval, another may have one.
    keys = list(dict.fromkeys(key for column in columns for key in _keys(column.key, rows)))
    text = as_markdown(columns, rows)
    write_text(folder / f'{name}.csv', tables.csv_text(keys, flat))
    write_text(folder / f'{name}.md', text)
    write_text(folder / f'{name}.tex', tables.latex(*_printed(columns, rows)))
    return text


def as_markdown(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown text only."""
    return tables.markdown(*_printed(columns, rows))


def percent_mean(value: tuple[float, float, float]) -> str:
    """(0.727, 0.689, 0.765) -> '72.7 ± 3.8': a mean and half its interval, in percent."""
    mean, lower, upper = value
    half = 50.0 * (upper - lower)
    return f'{100.0 * mean:.1f}' + (f' ± {half:.1f}' if math.isfinite(half) else '')


def factor_mean(value: tuple[float, float, float]) -> str:
    """(4.0, 2.0, 8.0) -> '4 (2 to 8)': a geometric mean, whose interval is not symmetric."""
    mean, lower, upper = value
    return f'{mean:.3g}' + (f' ({lower:.3g} to {upper:.3g})' if math.isfinite(upper) else '')


def decimal(value: float) -> str:
    """-1.234 -> '−1.23', with the minus sign of print."""
    return f'{value:.2f}'.replace('-', '−')


def decimal_interval(value: tuple[float, float]) -> str:
    """(-2.0, 0.41) -> '−2.00 to 0.41'; a dash for the infinite one of a single value."""
    lower, upper = value
    return f'{decimal(lower)} to {decimal(upper)}' if math.isfinite(upper - lower) else '—'


def _printed(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[list[str]], str]:
    """Header, cells and alignment."""
    header = [column.title for column in columns]
    cells = [['—' if row[c.key] is None else c.shown(row[c.key]) for c in columns] for row in rows]
    return header, cells, ''.join(column.align for column in columns)


def _keys(key: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    longest = max((row[key] for row in rows if isinstance(row[key], tuple)), key=len, default=())
    return [key, f'{key}_lower', f'{key}_upper'][3 - len(longest) :] if longest else [key]


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {}
    for key, value in row.items():
        names = _keys(key, [row])
        flat.update(zip(names, value if isinstance(value, tuple) else (value,), strict=True))
    return flat
