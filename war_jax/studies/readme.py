"""The tables of README.md that hold measured numbers, made from what was measured.

    python -m war_jax.studies.readme                              # from docs/measured, docs/studies
    python -m war_jax.studies.readme demo=runs/demo natural=runs/twin            # keeps runs first

NAME=RUN copies what the table needs of a finished run to docs/measured/digits_NAME.json. A table
stands in README.md between two comments, `<!-- demo -->` and `<!-- end -->`; all else is written by
hand. A test asserts that the tables are those of the files. Exit codes: 0 done, 2 refused (one line
on stderr says why).
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from war_jax.lab.tables import markdown, percent, percent_interval, small, small_interval
from war_jax.lab.verdicts import Record, after_holm, read_verdicts
from war_jax.measures.statistics import binomial_interval
from war_jax.records.files import (
    ReportError,
    read_file,
    read_json,
    require,
    write_json,
    write_text,
)
from war_jax.report.conditions import OBJECTIVES
from war_jax.studies.findings import ROOT

RUNS = ('natural', 'demo')
_SUMMARY = ('natural_accuracy', 'robust_accuracy', 'perturbation_stability', 'num_examples')
_BLOCK = re.compile(r'(<!-- (?!end)(\w+) -->\n).*?(?=<!-- end -->)', re.DOTALL)
# Claims of the width study that the table leaves to docs/findings.md, by how their names begin
# and end.
_LEFT_OUT = re.compile(
    'natural_accuracy|perturbation_stability|local_lipschitz_kl|risk_ratio|best_lambda_robust|'
    '.*_thin_lambda$'
)


def keep(name: str, run: Path, root: Path = ROOT) -> None:
    """Copies what the table needs of a finished run. Raises ReportError."""
    if name not in RUNS:
        raise ReportError(f'{name}={run}: must be one of {", ".join(RUNS)}')
    summary = read_file(run / 'summary.json', read_json)
    about = read_file(run / 'config.json', read_json)
    require(run / 'summary.json', summary, (*_SUMMARY, 'attacks'))
    kept = {key: summary[key] for key in _SUMMARY}
    together = summary['attacks']['all']
    row = {
        **kept, 'robust_accuracy_all': together['robust_accuracy'],
        'restarts': about['config']['evaluation']['restarts'],
        'num_steps': about['config']['evaluation']['num_steps'],
        'objective': about['config']['objective'], 'commit': about['provenance']['commit'],
        'versions': about['provenance']['versions'], 'python': about['provenance']['python'],
    }  # fmt: skip
    write_json(root / 'docs' / 'measured' / f'digits_{name}.json', row)


def demo_table(root: Path) -> str:
    """Of the kept runs: rates with Wilson's intervals over the test images."""
    rows = [_kept(root / 'docs' / 'measured' / f'digits_{name}.json') for name in RUNS]
    attack = f'PGD-{rows[0]["num_steps"]} × {rows[0]["restarts"]}'
    titles = {
        'natural_accuracy': 'natural accuracy',
        'robust_accuracy': f'robust accuracy, {attack}',
        'robust_accuracy_all': 'robust accuracy, all attacks together',
        'perturbation_stability': f'perturbation stability, {attack}',
    }
    header = ['the demo: real digits, WRN-10-2, L∞ ε = 0.2', *map(_trained, rows)]
    cells = [[title, *(_rate(row, key) for row in rows)] for key, title in titles.items()]
    commits = ' and '.join(dict.fromkeys(row['commit'] for row in rows))
    note = (
        f'{rows[0]["num_examples"]} test images, 95 % intervals in brackets, one seed; commit '
        f'{commits}, Python {rows[0]["python"]}, jax {rows[0]["versions"]["jax"]}.'
    )
    return f'{markdown(header, cells, "lll")}\n{note}'


def _kept(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ReportError(f'{path}: missing; give NAME=RUN once')
    return read_file(path, read_json)


def _trained(row: Mapping[str, Any]) -> str:
    objective = row['objective']
    if objective['name'] == 'natural':
        return 'naturally trained'
    return f'{OBJECTIVES[objective["name"]]}, λ = {objective["lam"]:g}'


def _rate(row: Mapping[str, Any], key: str) -> str:
    interval = binomial_interval(round(row[key] * row['num_examples']), row['num_examples'])
    return f'{percent(row[key], 1)} ({percent_interval(interval)})'


def width_table(root: Path) -> str:
    """The leading claims of the width study on digits; beside each verdict the one that is left
    after Holm's correction for all tested claims of the study."""
    found = read_verdicts(root / 'docs/studies/width_digits/verdicts.json')
    corrected = after_holm([(record.verdict, record.p_value) for record in found])
    cells = [
        [record.claim, record.verdict, left, *_effect(record), record.seeds or '—']
        for record, left in zip(found, corrected, strict=True) if not _LEFT_OUT.match(record.name)
    ]  # fmt: skip
    header = ['claim', 'verdict', 'after Holm', 'effect', '95 % interval', 'seeds']
    return markdown(header, cells, 'lllllr')


def _effect(record: Record) -> tuple[str, str]:
    if record.effect is None:
        return '—', '—'
    interval = (
        '—'
        if record.low is None or record.high is None
        else small_interval((record.low, record.high))
    )
    return f'{small(record.effect)} {record.unit}', interval


TABLES: dict[str, Callable[[Path], str]] = {'demo': demo_table, 'width': width_table}


def filled(text: str, root: Path = ROOT) -> str:
    """README.md with its tables made anew. Raises ReportError for a table of no known name."""

    def block(match: re.Match[str]) -> str:
        if match[2] not in TABLES:
            raise ReportError(f'README.md: {match[1].strip()}: no such table')
        return f'{match[1]}{TABLES[match[2]](root).rstrip()}\n'

    return _BLOCK.sub(block, text)


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    try:
        for argument in arguments:
            name, equals, run = argument.partition('=')
            if not equals:
                raise ReportError(f'{argument}: must be NAME=RUN')
            keep(name, Path(run), root)
        path = root / 'README.md'
        write_text(path, filled(path.read_text(encoding='utf-8'), root))
    except ReportError as error:
        print(f'war_jax.studies.readme: error: {error}', file=sys.stderr)
        return 2
    print(f'tables: {path}')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
