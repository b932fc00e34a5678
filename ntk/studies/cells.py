"""What the studies of this package share: a workdir of their own, and one file per piece of work.

    with opened(workdir, config, grid, about_data, checksum, command) as stop:
        pieces = [Piece(cell.name, 1, path(cell).exists(), lambda: make(cell)) for cell in cells]
        make_missing('networks', pieces, stop)

An interruption loses no more than the piece in work. The grid of a study may grow from call to
call; what its pieces are made of may not change.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax

from war_jax.config_rules import build
from war_jax.processes import is_first, wait_for_all
from war_jax.records.console import progress_bar
from war_jax.records.files import write_json
from war_jax.records.interrupt import Stop, signals
from war_jax.records.provenance import claim_workdir, lock_workdir

S = TypeVar('S')


class Piece(NamedTuple):
    name: str
    work: int  # a rough guess of its cost, for the bar
    finished: bool
    make: Callable[[], None]  # writes its file


@contextmanager
def opened(
    workdir: Path,
    config: Mapping[str, Any],
    grid: Mapping[str, Any],
    data: str,
    checksum: str,
    command: str,
    **more: Any,
) -> Iterator[Stop]:
    """Locks the workdir and writes study.json; signals are noted meanwhile, see `leave_if_told`.

    `more` goes into study.json. Raises ConfigError for a workdir that is in use, or of a study of
    another config or other data; its grid may differ.
    """
    with lock_workdir(workdir), signals() as stop:
        about = claim_workdir(workdir, config, data, checksum, command, jax.devices())
        study = {'config': config, 'grid': grid, 'provenance': about, **more}
        if is_first():
            write_json(workdir / 'study.json', study)
        yield stop


def make_missing(name: str, pieces: Sequence[Piece], stop: Stop) -> None:
    """Of several processes, each makes its share; all return when all are there.

    Raises SystemExit(128 + signal number) after SIGINT or SIGTERM.
    """
    missing = [piece for piece in pieces if not piece.finished]
    wait_for_all()  # before one of them makes what another one still looks for
    missing = missing[jax.process_index() :: jax.process_count()]
    total, left = (sum(piece.work for piece in some) for some in (pieces, missing))
    with progress_bar(name, total, total - left) as bar:
        for piece in missing:
            bar.set_postfix_str(piece.name)
            piece.make()
            leave_if_told(stop)
            bar.update(piece.work)
    wait_for_all()


def study_settings(kind: type[S], config: Any) -> S:
    """The settings of a ConfigDict or mapping with exactly their keys, and `experiment`.

    Raises ConfigError, one line, for a key or value that cannot be.
    """
    values = dict(config if isinstance(config, Mapping) else config.to_dict())
    values.pop('experiment', None)
    return build(kind, values)


def leave_if_told(stop: Stop) -> None:
    if stop.signum:
        print('Stopped; the same command again goes on from the last finished piece of work.')
        raise SystemExit(128 + stop.signum)
