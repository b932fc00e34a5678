"""What of a run survives: its newest states, and its best network.

    checkpoints = Checkpoints(workdir / 'checkpoints', keep=2)
    checkpoints.save(state, progress)                          # returns while the disk still writes
    state, progress = checkpoints.restore(like=state)
    variables = checkpoints.restore_best(like=state.evaluated)

`last/` holds whole training states, from which a run goes on bit for bit; `best/` the variables by
which the run is judged. Orbax writes each to a temporary name and renames it when it is complete,
so a kill at any time leaves the checkpoint before it in force.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from war_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the loop must know again after an interruption, beyond the state's arrays."""

    best_step: int = 0
    best_score: float = -1.0  # accuracy on the selection split; below any real one at first
    sums: dict[str, float] = dataclasses.field(default_factory=dict)  # of the meter's open row
    seconds: float = 0.0  # wall time so far


class Checkpoints:
    """Checkpoints below `directory`; the newest `keep` >= 1 states are kept."""

    def __init__(self, directory: Path, keep: int):
        self._last = _manager(directory / 'last', keep)
        self._best = _manager(directory / 'best', 1)

    def save(self, state: TrainState, progress: Progress) -> None:
        """Asynchronously; a state that is already there is not written again."""
        step = int(state.step)
        if step in self._last.all_steps():
            return
        self._last.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_copy(state)),
                progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
            ),
        )

    def save_best(self, step: int, variables: dict[str, Any]) -> None:
        if step not in self._best.all_steps():  # else an interrupted run has come here before
            self._best.save(
                step, args=ocp.args.Composite(variables=ocp.args.StandardSave(_copy(variables)))
            )

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
        return restored['state'], Progress(**restored['progress'])

    def restore_best(self, like: dict[str, Any]) -> dict[str, Any]:
        """The variables saved by the last `save_best`. Raises FileNotFoundError if none were."""
        self.wait()
        step = self._best.latest_step()
        if step is None:
            raise FileNotFoundError(f'{self._best.directory}: holds no checkpoint')
        restored = self._best.restore(
            step,
            args=ocp.args.Composite(variables=ocp.args.StandardRestore(_abstract(like))),
        )
        return restored['variables']

    def newest_step(self) -> int | None:
        """Step of the newest complete state."""
        self.wait()
        return self._last.latest_step()

    def wait(self) -> None:
        """Until everything saved so far is on disk."""
        self._last.wait_until_finished()
        self._best.wait_until_finished()

    def close(self) -> None:
        self.wait()
        self._last.close()
        self._best.close()


def _manager(directory: Path, keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, create=True, cleanup_tmp_directories=True
    )
    return ocp.CheckpointManager(directory.absolute(), options=options)


def _copy(tree: Any) -> Any:
    # The next step donates its state's buffers; on CPU the asynchronous writer may still read them.
    return jax.tree.map(jnp.copy, tree)


def _abstract(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )
