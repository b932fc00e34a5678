"""A run's metrics as it goes: JSON Lines for programs, TensorBoard events for people.

Of several processes, only the first one writes.

    with Logbook(workdir, step=1200, tensorboard=True) as log:       # 0 for a new run
        log.write({'kind': 'train', 'step': 1300, 'epoch': 3.7, 'natural_risk': 0.41})
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from war_jax.processes import is_first
from war_jax.records.files import append_json_line, read_json_lines, rewind_json_lines


class Logbook:
    """Appends rows behind `step`; what an interrupted run wrote past it is dropped first."""

    def __init__(self, workdir: Path, *, step: int, tensorboard: bool):
        self._path = workdir / 'metrics.jsonl'
        self._events = None
        self._written: set[tuple[str, int]] = set()
        if not is_first():
            return
        rewind_json_lines(self._path, step=step)
        rows = read_json_lines(self._path) if self._path.exists() else []
        self._written = {(row['kind'], row['step']) for row in rows}
        if tensorboard:
            self._events = SummaryWriter(str(workdir / 'tensorboard'), purge_step=step + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        """One row with 'kind' and 'step'; its other numbers become TensorBoard scalars.

        A training or validation row that is there already is not written twice: an interrupted
        run may repeat a validation that it had finished.
        """
        name = (row['kind'], row['step'])
        if not is_first() or (name in self._written and row['kind'] != 'session'):
            return
        self._written.add(name)
        append_json_line(self._path, row)
        if self._events is None:
            return
        for name, value in row.items():
            if name != 'step' and isinstance(value, int | float):
                self._events.add_scalar(f'{row["kind"]}/{name}', value, row['step'])
        self._events.flush()

    def __enter__(self) -> 'Logbook':
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()
