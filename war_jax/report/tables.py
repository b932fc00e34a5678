"""Rows as Markdown, LaTeX or CSV text, and numbers as a reader wants to see them.

    header = ('Measure', 'Rate', '95 % interval')
    rows = [('natural', percent(0.975), percent_interval((0.953, 0.987)))]
    print(markdown(header, rows, align='lrr'))

A cell is plain text: whatever it holds (a path with underscores, a data set called `a|b`) comes
out of the renderer as the same characters and never as markup. CSV is for programs: its numbers
are not rounded, and read back as what they were.
"""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

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
