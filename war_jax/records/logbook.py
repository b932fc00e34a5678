"""A run's metrics as it goes: JSON Lines for programs; TensorBoard and Weights & Biases for people.

Of several processes, only the first one writes.

    with Logbook(workdir, step=1200, tensorboard=True) as log:       # 0 for a new run
        log.write({'kind': 'train', 'step': 1300, 'epoch': 3.7, 'natural_risk': 0.41})
"""

import uuid
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from war_jax.config_rules import refusal
from war_jax.processes import is_first
from war_jax.records.files import (
    append_json_line,
    read_json_lines,
    rewind_json_lines,
    write_text,
)


class Logbook:
    """Appends rows behind `step`; what an interrupted run wrote past it is dropped first.

    wandb: a project of Weights & Biases, which is shown `config` too; '' for none.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        step: int,
        tensorboard: bool,
        wandb: str = '',
        config: Mapping[str, Any] | None = None,
    ):
        self._path = workdir / 'metrics.jsonl'
        self._events = self._wandb = None
        self._written: set[tuple[str, int]] = set()
        if not is_first():
            return
        rewind_json_lines(self._path, step=step)
        rows = read_json_lines(self._path) if self._path.exists() else []
        self._written = {(row['kind'], row['step']) for row in rows}
        if tensorboard:
            self._events = SummaryWriter(str(workdir / 'tensorboard'), purge_step=step + 1)
        if wandb:
            self._wandb = _wandb_run(workdir, wandb, config or {})

    def write(self, row: Mapping[str, Any]) -> None:
        """One row with 'kind' and 'step'; its other numbers become scalars named kind/name.

        A training or validation row that is there already is not written twice: an interrupted
        run may repeat a validation that it had finished.
        """
        name = (row['kind'], row['step'])
        if not is_first() or (name in self._written and row['kind'] != 'session'):
            return
        self._written.add(name)
        append_json_line(self._path, row)
        scalars = {
            f'{row["kind"]}/{name}': value
            for name, value in row.items()
            if name != 'step' and isinstance(value, int | float)
        }
        if self._events is not None:
            for scalar, value in scalars.items():
                self._events.add_scalar(scalar, value, row['step'])
            self._events.flush()
        if self._wandb is not None:
            self._wandb.log(scalars, step=row['step'])

    def __enter__(self) -> 'Logbook':
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()
        if self._wandb is not None:
            self._wandb.finish()


def check_is_there(project: str) -> None:
    """Raises ConfigError where Weights & Biases is asked for and not installed."""
    if project and find_spec('wandb') is None:
        rule = "needs wandb, which is not installed: pip install 'war-jax[wandb]'"
        raise refusal('log.wandb', project, rule, "''")


def _wandb_run(workdir: Path, project: str, config: Mapping[str, Any]) -> Any:
    """The same run for each session of a workdir, by a number that is kept in it."""
    import wandb  # pyright: ignore[reportMissingImports] (an extra)

    path = workdir / 'wandb_id.txt'
    if not path.exists():
        write_text(path, uuid.uuid4().hex)
    return wandb.init(
        project=project, name=workdir.name, dir=str(workdir), config=dict(config),
        id=path.read_text(), resume='allow',
    )  # fmt: skip
