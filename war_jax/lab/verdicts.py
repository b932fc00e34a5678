"""What a study decided, for programs to read: verdicts.json in its folder.

    write_verdicts(workdir / 'verdicts.json', claims, provenance, command='python -m ...')
    for verdict in read_verdicts(workdir / 'verdicts.json'): print(verdict.verdict, verdict.effect)

A list of objects with the fields of `Verdict`; war_jax/studies/findings.py puts those of several
studies on one page.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from war_jax.records.files import ReportError, read_file, read_json, write_json

# What a file of another program may leave out.
_OPTIONAL = ('name', 'data')


class Claim(Protocol):
    """As the studies of war_jax and ntk have it, each with further fields of its own."""

    @property
    def name(self) -> str: ...

    @property
    def statement(self) -> str: ...

    @property
    def effect(self) -> float | None: ...

    @property
    def interval(self) -> tuple[float, float] | None: ...

    @property
    def unit(self) -> str: ...

    @property
    def num_seeds(self) -> int: ...

    @property
    def verdict(self) -> str: ...


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


def write_verdicts(
    path: Path, claims: Iterable[Claim], provenance: Mapping[str, Any], command: str
) -> None:
    """provenance: with 'commit' and 'data'. Infinite ends of intervals become null."""
    found = [
        Verdict(
            claim.name, claim.statement, claim.verdict, claim.effect,
            *(claim.interval or (None, None)), claim.unit, claim.num_seeds, command,
            provenance['commit'], provenance['data'],
        )
        for claim in claims
    ]  # fmt: skip
    write_json(path, [asdict(verdict) for verdict in found])


def read_verdicts(path: Path) -> list[Verdict]:
    """Raises ReportError, one line, for a file that is no such list."""
    rows = read_file(path, read_json)
    wanted = [field.name for field in fields(Verdict)]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ReportError(f'{path}: must be a list of verdicts')
    for number, row in enumerate(rows):
        absent = [name for name in wanted if name not in row and name not in _OPTIONAL]
        if absent:
            raise ReportError(f'{path}: verdict {number} has no {", ".join(absent)}')
    return [Verdict(**{name: row.get(name, '') for name in wanted}) for row in rows]
