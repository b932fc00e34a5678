"""The frame of an experiment: cells that are made one by one, each a file, and a page about them.

    EXPERIMENT = Experiment('toy', Settings, cells, Bench, claims, sections, TITLE)
    report = run(EXPERIMENT, settings, Path('runs/toy'), command='python -m ...')

An experiment says what its cells are, how one is made (its bench), which claims follow from the
rows, and which sections its page has. The frame does the rest: one process at a time in a workdir,
study.json, a bar with the remaining time, signals, a share of the cells for each process of a job,
what is missing, verdicts.json, rows.csv, report.md. An interruption loses no more than the cell in
work. The grid of a study may grow from call to call; what its cells are made of may not change.

In a workdir:

    study.json         experiment, settings (those of the grid apart), provenance, about the data
    FOLDER/NAME.json   the row (or rows) of a cell
    rows.csv           all of them, from which `read_rows` restores what the verdicts rest on
    verdicts.json, report.md, tables/, figures/
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import jax

from war_jax.lab import page
from war_jax.lab.estimates import Samples
from war_jax.lab.page import Section
from war_jax.lab.settings import read
from war_jax.lab.tables import csv_text
from war_jax.lab.verdicts import Claim, write_verdicts
from war_jax.processes import is_first, on_first, wait_for_all
from war_jax.records.console import progress_bar
from war_jax.records.files import ReportError, read_file, read_json, require, write_json, write_text
from war_jax.records.interrupt import Stop, signals
from war_jax.records.pages import write_page
from war_jax.records.provenance import claim_workdir, lock_workdir

Row = dict[str, Any]
S = TypeVar('S')


class Cell(Protocol):
    """What is made in one go and kept in one file; a frozen dataclass, with a `seed` where it has
    one."""

    @property
    def folder(self) -> str: ...

    @property
    def name(self) -> str: ...


class Bench(Protocol):
    """What makes cells: it has loaded the data, and compiles once for cells that are alike."""

    @property
    def data(self) -> str:
        """A sentence on the data, for the report."""
        ...

    @property
    def checksum(self) -> str:
        """Of the data: cells made of other data are not mixed in."""
        ...

    @property
    def about(self) -> Mapping[str, Any]:
        """What else the page needs to know of the data; goes into study.json."""
        ...

    def work(self, cell: Any) -> int:
        """A rough guess of its cost, for the bar."""
        ...

    def make(self, cell: Any, stop: Stop) -> Row | list[Row]:
        """The contents of its file. Long work asks `stop.leave_if_told()` now and then."""
        ...


@dataclass(frozen=True)
class Results(Generic[S]):
    """What is there of a study."""

    settings: S
    provenance: Mapping[str, Any]
    about: Mapping[str, Any]  # the bench's
    rows: Mapping[Any, Any]  # cell -> its row, or rows
    missing: Sequence[Any]  # cells

    def samples(
        self,
        value: Callable[[Any], float | None],
        over: str,
        kind: type | None = None,
        **where: Any,
    ) -> Samples:
        """x -> seed -> value(cell), of the finished cells of a kind whose fields are as in `where`.

        over: the field that is x. A value of None is left out.
        """
        found: dict[Any, dict[int, float]] = {}
        for cell in self.rows:
            if kind is not None and not isinstance(cell, kind):
                continue
            if all(getattr(cell, name) == wanted for name, wanted in where.items()):
                number = value(cell)
                if number is not None:
                    found.setdefault(getattr(cell, over), {})[cell.seed] = number
        return found


@dataclass(frozen=True)
class Experiment(Generic[S]):
    """All functions but `bench` are free of measuring: they run again on what is there."""

    name: str  # the module that holds it as EXPERIMENT, e.g. 'ntk.studies.capacity.findings'
    settings: type[S]
    cells: Callable[[S], Sequence[Any]]  # in the order in which they are made
    bench: Callable[[S, Path], Bench]  # settings and workdir; raises ConfigError, DataError
    claims: Callable[[Results[S]], Iterable[Claim]]
    title: Callable[[Results[S]], str]
    # What the page says, from its answer on; figures are drawn into the folder that is given.
    sections: Callable[[Results[S], Sequence[Claim], Path], Iterable[Section]]
    # Of a file that is there: it may have been made for a smaller grid.
    is_complete: Callable[[S, Any, Any], bool] = lambda settings, cell, row: True
    folders: Mapping[str, str] = field(default_factory=dict)  # folder -> what its bar is called


def run(experiment: Experiment[S], settings: S, workdir: Path, command: str) -> Path:
    """Makes what is missing and draws the page; returns its path.

    Raises ConfigError for a workdir that is in use or of another study and for settings that do not
    fit the data, DataError, and SystemExit(128 + signal number) after SIGINT or SIGTERM.
    """
    bench = experiment.bench(settings, workdir)
    config = asdict(settings)  # pyright: ignore[reportArgumentType]
    grid = config.pop('grid')
    with lock_workdir(workdir), signals() as stop:
        provenance = claim_workdir(
            workdir, config, bench.data, bench.checksum, command, jax.devices()
        )
        study = {
            'experiment': experiment.name, 'config': config, 'grid': grid,
            'provenance': {**provenance, 'command': command}, 'about': bench.about,
        }  # fmt: skip
        if is_first():
            write_json(workdir / 'study.json', study)
        wait_for_all()
        by_folder: dict[str, list[Any]] = {}
        for cell in experiment.cells(settings):
            by_folder.setdefault(cell.folder, []).append(cell)
        for folder, cells in by_folder.items():
            name = experiment.folders.get(folder, folder)
            _make_missing(experiment, settings, bench, name, cells, workdir, stop)
        return Path(on_first(lambda: str(write_report(experiment, workdir))))


def _make_missing(
    experiment: Experiment[S],
    settings: S,
    bench: Bench,
    name: str,
    cells: Sequence[Any],
    workdir: Path,
    stop: Stop,
) -> None:
    """Of several processes, each makes its share; all return when all are there."""
    missing = [cell for cell in cells if _row(experiment, settings, cell, workdir) is None]
    wait_for_all()  # before one of them makes what another one still looks for
    missing = missing[jax.process_index() :: jax.process_count()]
    total, left = (sum(map(bench.work, some)) for some in (cells, missing))
    with progress_bar(name, total, total - left) as bar:
        for cell in missing:
            bar.set_postfix_str(cell.name)
            write_json(path_of(workdir, cell), bench.make(cell, stop))
            stop.leave_if_told()
            bar.update(bench.work(cell))
    wait_for_all()


def path_of(workdir: Path, cell: Any) -> Path:
    return workdir / cell.folder / f'{cell.name}.json'


def _row(experiment: Experiment[S], settings: S, cell: Any, workdir: Path) -> Any:
    path = path_of(workdir, cell)
    if not path.exists():
        return None
    row = read_file(path, read_json)
    return row if experiment.is_complete(settings, cell, row) else None


def read_results(experiment: Experiment[S], folder: Path) -> Results[S]:
    """From the workdir of a study, or from a folder that holds study.json and rows.csv alone.

    Raises ReportError, one line, for files that cannot be read.
    """
    path = folder / 'study.json'
    if not path.is_file():
        raise ReportError(f'{folder}: missing study.json, which its experiment writes first')
    study = read_file(path, read_json)
    require(path, study, ('config', 'grid', 'provenance'))
    settings = read(experiment.settings, {**study['config'], 'grid': study['grid']})
    cells = experiment.cells(settings)
    if any((folder / cell.folder).is_dir() for cell in cells):
        found = {cell: _row(experiment, settings, cell, folder) for cell in cells}
    else:
        kept = read_file(folder / 'rows.csv', read_rows)
        found = {cell: kept.get((cell.folder, cell.name)) for cell in cells}
    rows = {cell: row for cell, row in found.items() if row is not None}
    missing = [cell for cell, row in found.items() if row is None]
    # Studies of before the frame had the data's properties on top, beside what is required.
    about = study.get('about', study)
    return Results(settings, study['provenance'], about, rows, missing)


def decide(experiment: Experiment[S], folder: Path) -> tuple[list[Claim], Mapping[str, Any]]:
    """The claims, decided anew from what `read_results` reads, and the provenance, with commit,
    data and command."""
    results = read_results(experiment, folder)
    return list(experiment.claims(results)), results.provenance


def write_report(experiment: Experiment[S], workdir: Path) -> Path:
    """Draws figures/*, writes rows.csv, verdicts.json, tables/ and report.md; returns its path.

    Nothing is measured; a study that is not finished is reported as far as it is.
    """
    results = read_results(experiment, workdir)
    claims = list(experiment.claims(results))
    command = results.provenance['command'] or ''
    write_text(workdir / 'rows.csv', rows_text(results.rows))
    write_verdicts(workdir / 'verdicts.json', claims, results.provenance, command)
    sections = list(experiment.sections(results, claims, workdir))
    names = [f'{cell.folder}/{cell.name}' for cell in results.missing]
    smoke = getattr(results.settings, 'smoke', False)
    text = page.text(experiment.title(results), sections, names, command, smoke)
    write_page(workdir / 'report.md', text)
    return workdir / 'report.md'


def rows_text(rows: Mapping[Any, Any]) -> str:
    """All rows as CSV: folder and name of the cell, then a column per key, as JSON if no number."""
    listed = [
        {'folder': cell.folder, 'name': cell.name, **{k: json.dumps(v) for k, v in row.items()}}
        for cell, several in rows.items()
        for row in (several if isinstance(several, list) else [several])
    ]
    columns = dict.fromkeys(key for row in listed for key in row)
    return csv_text(list(columns), listed)


def read_rows(path: Path) -> dict[tuple[str, str], Any]:
    """(folder, name) -> row or rows, from rows.csv. Raises ValueError for another form of file."""
    found: dict[tuple[str, str], list[Row]] = {}
    with path.open(newline='', encoding='utf-8') as file:
        for line in csv.DictReader(file):
            place = line.pop('folder'), line.pop('name')
            row = {key: json.loads(text) for key, text in line.items() if text}
            found.setdefault(place, []).append(row)
    return {place: rows if len(rows) > 1 else rows[0] for place, rows in found.items()}
