"""What a study decided, for programs to read: verdicts.json in its folder.

    write_verdicts(workdir / 'verdicts.json', [Verdict('robust_with_width', 'At equal λ ...', ...)])
    for verdict in read_verdicts(workdir / 'verdicts.json'): print(verdict.verdict, verdict.effect)

A list of objects with the fields of `Verdict`; benchmarks/findings.py puts those of several studies
on one page.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from war_jax.records.files import write_json
from war_jax.report.run_files import ReportError, read_file, read_json


@dataclass(frozen=True)
class Verdict:
    """One claim and what was measured of it; numbers are None where there are none."""

    name: str  # by which programs know the claim
    claim: str  # a sentence
    verdict: str  # 'supported', 'contradicted' or 'undecided'
    effect: float | None
    low: float | None  # of its 95 % interval
    high: float | None
    unit: str
    seeds: int
    command: str
    commit: str
    data: str  # a sentence on the images


def write_verdicts(path: Path, found: Sequence[Verdict]) -> None:
    """Infinite ends of intervals become null."""
    write_json(path, [asdict(verdict) for verdict in found])


def read_verdicts(path: Path) -> list[Verdict]:
    """Raises ReportError, one line, for a file that is no such list."""
    rows = read_file(path, read_json)
    # Others may write further keys, or leave out the name of a claim and the data.
    optional = {'name': '', 'data': ''}
    wanted = [field.name for field in fields(Verdict)]
    required = [name for name in wanted if name not in optional]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ReportError(f'{path}: must be a list of verdicts')
    for number, row in enumerate(rows):
        absent = [name for name in required if name not in row]
        if absent:
            raise ReportError(f'{path}: verdict {number} has no {", ".join(absent)}')
    return [Verdict(**{name: row.get(name, optional.get(name)) for name in wanted}) for row in rows]
