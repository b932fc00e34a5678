"""Rows as Markdown, LaTeX or CSV, and numbers as a reader wants to see them.

    columns = [
        Column('widen_factor', 'Width', '{:g}'.format),
        Column('robust', 'Robust', rate_mean),            # the rows hold (mean, lower, upper)
    ]
    rows = [{'widen_factor': 2.0, 'robust': (0.727, 0.689, 0.765)}]
    text = write_table(Path('runs/study/tables'), 'accuracy', columns, rows)

writes one table in three forms: the CSV file holds every number in full, and an interval as three
columns (robust, robust_lower, robust_upper); the Markdown text, which is also returned, and the
LaTeX file are for the eye.

A cell is plain text: whatever it holds (a path with underscores, a data set called `a|b`) comes
out of the renderer as the same characters and never as markup.
"""

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from war_jax.records.files import write_text

_MISSING = '—'
_MARKDOWN_SPECIAL = re.compile(r'[\\`*_\[\]<>|~$&#]')
_MARKDOWN_ALIGN = {'l': ':---', 'r': '---:', 'c': ':---:'}

# Every character that LaTeX reads as a command, or prints as another one, outside mathematics.
_LATEX = {
    '\\': r'\textbackslash{}',
    '{': r'\{',
    '}': r'\}',
    '$': r'\$',
    '&': r'\&',
    '#': r'\#',
    '%': r'\%',
    '_': r'\_',
    '^': r'\textasciicircum{}',
    '~': r'\textasciitilde{}',
    '<': r'\textless{}',
    '>': r'\textgreater{}',
    '|': r'\textbar{}',
    '"': r'\textquotedbl{}',
    '[': '{[}',  # behind the \\ of the row above it would open an optional argument
    '*': '{*}',  # likewise, \\* is a command of its own
    '`': r'\textasciigrave{}',
    "'": r'\textquotesingle{}',
    '\n': ' ',
    '\r': ' ',
    '\t': ' ',
    # What the reports use beyond ASCII and pdfLaTeX does not know.
    '–': '--',
    '—': '---',
    '′': r'\ensuremath{^{\prime}}',
    'ε': r'\ensuremath{\varepsilon}',
    'λ': r'\ensuremath{\lambda}',
    '∞': r'\ensuremath{\infty}',
    '‖': r'\ensuremath{\|}',
    '∩': r'\ensuremath{\cap}',
    '×': r'\ensuremath{\times}',
    '±': r'\ensuremath{\pm}',
    '≤': r'\ensuremath{\leq}',
    '−': r'\ensuremath{-}',
    '\u00a0': '~',
}
# A hyphen before another one is taken apart from it: LaTeX would join them to a dash.
_LATEX_LETTER = re.compile(r'(?P<hyphen>-)(?=-)|.', re.DOTALL)


def percent(rate: float | None, digits: int = 2) -> str:
    """0.9751 -> '97.51 %'; None and non-finite -> a dash. Rates are fractions, not percents."""
    if rate is None or not math.isfinite(rate):
        return _MISSING
    return f'{100.0 * rate:.{digits}f}\u00a0%'


def percent_interval(interval: Sequence[float], digits: int = 1) -> str:
    """(0.9532, 0.9871) -> '95.3–98.7 %'. Rounded outwards, so that the text covers the interval."""
    scale = 10.0**digits
    # The guard keeps 0.3 * 1000 = 299.99999999999994 from widening an exact bound by one digit.
    lower = math.floor(100.0 * interval[0] * scale + 1e-9) / scale
    upper = math.ceil(100.0 * interval[1] * scale - 1e-9) / scale
    return f'{lower:.{digits}f}–{upper:.{digits}f}\u00a0%'


def number(value: float | None, digits: int = 4) -> str:
    """`digits` significant digits; None and non-finite -> a dash."""
    if value is None or not math.isfinite(value):
        return _MISSING
    return f'{value:.{digits}g}'


def duration(seconds: float) -> str:
    """75 -> '1 min 15 s', 7260 -> '2 h 1 min': the two leading units."""
    total = round(seconds)
    if total < 60:
        return f'{seconds:.1f} s' if seconds < 10 else f'{total} s'
    minutes, rest = divmod(total, 60)
    if minutes < 60:
        return f'{minutes} min {rest} s'
    return f'{minutes // 60} h {minutes % 60} min'


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]], align: str) -> str:
    """A GitHub-flavoured table. `align`: one of l, r, c per column.

    Raises ValueError for a row or an `align` that has not one entry per column.
    """
    _check(header, rows, align)
    lines = [[markdown_text(cell) for cell in row] for row in (header, *rows)]
    lines.insert(1, [_MARKDOWN_ALIGN[letter] for letter in align])
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def markdown_text(value: object) -> str:
    """`value` as text that Markdown prints literally, in a table cell or within a paragraph."""
    escaped = _MARKDOWN_SPECIAL.sub(r'\\\g<0>', str(value))
    return re.sub(r'\r\n|\r|\n', '<br>', escaped)


def latex(header: Sequence[str], rows: Sequence[Sequence[object]], align: str) -> str:
    """A `tabular` with the rules of the booktabs package, for pdfLaTeX with T1 fonts and textcomp.

    Raises ValueError as `markdown` does.
    """
    _check(header, rows, align)
    lines = [' & '.join(map(latex_text, row)) + r' \\' for row in (header, *rows)]
    body = '\n'.join(lines[1:])
    return (
        f'\\begin{{tabular}}{{{align}}}\n\\toprule\n{lines[0]}\n\\midrule\n'
        f'{body}\n\\bottomrule\n\\end{{tabular}}\n'
    )


def latex_text(value: object) -> str:
    """`value` as text that LaTeX prints literally."""
    return _LATEX_LETTER.sub(
        lambda match: '-{}' if match['hyphen'] else _LATEX.get(match[0], match[0]), str(value)
    )


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """These columns of the rows, with a header line. A float in full, None as nothing."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, extrasaction='ignore', lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _check(header: Sequence[str], rows: Sequence[Sequence[object]], align: str = '') -> None:
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f'row {list(row)} has {len(row)} cells, the header {len(header)}')
    if align and (len(align) != len(header) or set(align) - set(_MARKDOWN_ALIGN)):
        raise ValueError(f'align {align!r}: expected {len(header)} letters of l, r, c')


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
    write_text(folder / f'{name}.csv', csv_text(keys, flat))
    write_text(folder / f'{name}.md', text)
    write_text(folder / f'{name}.tex', latex(*_printed(columns, rows)))
    return text


def as_markdown(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown text only."""
    return markdown(*_printed(columns, rows))


def rate_mean(value: tuple[float, float, float]) -> str:
    """(0.727, 0.689, 1.0) -> '72.7 (68.9 to 100.0)', in percent: where an interval ends at 0 or
    100 %, the mean is not in its middle."""
    mean, lower, upper = (100.0 * number for number in value)
    return f'{mean:.1f}' + (f' ({lower:.1f} to {upper:.1f})' if math.isfinite(upper) else '')


def factor_mean(value: tuple[float, float, float]) -> str:
    """(4.0, 2.0, 8.0) -> '4 (2 to 8)': a geometric mean, whose interval is not symmetric."""
    mean, lower, upper = value
    return f'{mean:.3g}' + (f' ({lower:.3g} to {upper:.3g})' if math.isfinite(upper) else '')


def points_mean(value: tuple[float, float, float]) -> str:
    """(-1.2, -3.4, 1.0) -> '−1.2 (−3.4 to 1.0)': differences in points."""
    mean, lower, upper = (f'{number:.1f}'.replace('-', '−') for number in value)
    return mean + (f' ({lower} to {upper})' if math.isfinite(value[2]) else '')


def decimal(value: float) -> str:
    """-1.234 -> '−1.23', with the minus sign of print."""
    return f'{value:.2f}'.replace('-', '−')


def decimal_interval(value: tuple[float, float]) -> str:
    """(-2.0, 0.41) -> '−2.00 to 0.41'; a dash for the infinite one of a single value."""
    lower, upper = value
    return f'{decimal(lower)} to {decimal(upper)}' if math.isfinite(upper - lower) else '—'


def small(value: float) -> str:
    """Two decimals, and for small numbers two digits, '0.0012'; what is but rounding is 0."""
    value = value if abs(value) >= 1e-9 else 0.0
    return decimal(value) if abs(value) >= 0.1 or value == 0 else f'{value:.2g}'.replace('-', '−')


def small_interval(value: tuple[float, float]) -> str:
    """'0.0012 to 0.31'; a dash for the infinite one of a single value."""
    lower, upper = value
    return f'{small(lower)} to {small(upper)}' if math.isfinite(upper - lower) else '—'


def estimated(value: tuple[float, float, float]) -> str:
    """(-0.93, -0.96, -0.9) -> '−0.93 (−0.96 to −0.90)'."""
    interval = f' ({small_interval(value[1:])})' if math.isfinite(value[2]) else ''
    return small(value[0]) + interval


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
