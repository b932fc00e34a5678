"""What of a run survives: its newest states, and its best network.

    checkpoints = Checkpoints(workdir / 'checkpoints', keep=2)
    checkpoints.save(state, progress)
    state, progress = checkpoints.restore(like=state)
    variables = checkpoints.restore_best(progress.best_step, like=state.evaluated)

`last/` holds whole training states, from which a run goes on bit for bit; `best/` the variables by
which the run is judged. Orbax writes each to a temporary name and renames it when it is complete,
so a kill at any time leaves the checkpoint before it in force.

A save returns when it is on disk. Orbax's asynchronous one writes while training goes on, but two
runs in two threads of a process, as a study has them, then take each other's files apart.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from war_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the loop must know again after an interruption, beyond the state's arrays."""

    best_step: int = 0
    best_score: float = -1.0  # accuracy on the selection split; below any real one at first
    validated_step: int = 0  # of the latest validation that was finished
    sums: dict[str, float] = dataclasses.field(default_factory=dict)  # of the meter's open row
    seconds: float = 0.0  # wall time so far


class Checkpoints:
    """Checkpoints below `directory`; the newest `keep` >= 1 states are kept."""

    def __init__(self, directory: Path, keep: int):
        self._last = _manager(directory / 'last', keep)
        # Two, because the newest state on disk may be from before the latest improvement.
        self._best = _manager(directory / 'best', 2)

    def save(self, state: TrainState, progress: Progress) -> None:
        """A state that is already there is not written again."""
        step = int(state.step)
        if step in self._last.all_steps():
            return
        _save(
            self._last,
            step,
            state=ocp.args.StandardSave(state),
            progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
        )

    def save_best(self, step: int, variables: dict[str, Any]) -> None:
        _save(self._best, step, variables=ocp.args.StandardSave(variables))

    def restore(self, like: TrainState) -> tuple[TrainState, Progress] | None:
        """The newest state, placed on the devices as `like` is; None if there is none."""
        step = self._last.latest_step()
        if step is None:
            return None
        restored = self._last.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(_abstract(like)), progress=ocp.args.JsonRestore()
            ),
        )
        progress = Progress(**restored['progress'])
        for later in [s for s in self._best.all_steps() if s > progress.best_step]:
            self._best.delete(later)  # saved behind this state, and about to be found again
        return restored['state'], progress

    def restore_best(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
        """The variables that `save_best` saved at `step`. FileNotFoundError if they are gone."""
        if step not in self._best.all_steps():
            raise FileNotFoundError(f'{self._best.directory / str(step)}: no such checkpoint')
        restored = self._best.restore(
            step,
            args=ocp.args.Composite(variables=ocp.args.StandardRestore(_abstract(like))),
        )
        return restored['variables']

    def best_step(self) -> int | None:
        """Step of the best network so far; None before the first validation."""
        return self._best.latest_step()

    def newest_step(self) -> int | None:
        """Step of the newest complete state."""
        return self._last.latest_step()

    def close(self) -> None:
        self._last.close()
        self._best.close()


def _manager(directory: Path, keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=True,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=False,
    )
    return ocp.CheckpointManager(directory.absolute(), options=options)


def _save(manager: ocp.CheckpointManager, step: int, **items: Any) -> None:
    # Orbax declines steps behind its newest one without an error.
    if not manager.save(step, args=ocp.args.Composite(**items)):
        raise RuntimeError(f'{manager.directory}: the checkpoint of step {step} was not written')


def _abstract(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )
