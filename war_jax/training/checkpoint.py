"""What of a run survives: its newest states, and its best network.

    checkpoints = Checkpoints(workdir / 'checkpoints', keep=2)
    checkpoints.save(state, progress)                   # to be written while training goes on
    state, progress = checkpoints.restore(like=state)
    variables = checkpoints.restore_best(progress.best_step, like=state.evaluated)

`last/` holds whole training states, from which a run goes on bit for bit; `best/` the variables by
which the run is judged. Orbax writes each to a temporary name and renames it when it is complete,
so a kill at any time leaves the checkpoint before it in force. What disks and people do to one
afterwards is found out from the digests of its files: it is put aside, in `unreadable/`, and the
one before it used.

Several processes write one checkpoint together, on a disk that they share, and any number of
processes and devices can go on from it.

A save returns when the host holds a copy; a thread of ours writes it, computes the digests and says
at the next call of any method, or in `wait`, what went wrong. Orbax has asynchronous saves of its
own, but two runs in two threads of a process, as a study has them, then take each other's files
apart.
"""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from war_jax.processes import LostError, agree, on_first
from war_jax.records.background import Background
from war_jax.records.files import write_json
from war_jax.training.state import TrainState

DIGESTS = 'digests.json'


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the loop must know again after an interruption, beyond the state's arrays."""

    best_step: int = 0
    best_score: float = -1.0  # accuracy on the selection split; below any real one at first
    validated_step: int = 0  # of the latest validation that was finished
    trained_score: float = 0.0  # accuracy of the latest training steps on their adversarial images
    best_trained_score: float = 1.0  # that of before the best step; above any, where none is known
    overfitted: bool = False  # the latest validation found catastrophic overfitting
    sums: dict[str, float] = dataclasses.field(default_factory=dict)  # of the meter's open row
    seconds: float = 0.0  # wall time so far


class Checkpoints:
    """Checkpoints below `directory`; the newest `keep` >= 1 states are kept.

    say: is told, in one line, what was found to be unreadable. Whatever reads waits for what is
    being written first; every method raises OSError for an earlier save that could not be written.
    """

    def __init__(self, directory: Path, keep: int, say: Callable[[str], object] = print):
        self._directory, self._say = directory, say
        self._last = _manager(directory / 'last', keep)
        # Two, because the newest state on disk may be from before the latest improvement.
        self._best = _manager(directory / 'best', 2)
        self._behind = Background()

    def save(self, state: TrainState, progress: Progress) -> None:
        """Of a state that may be donated as soon as this returns. One that is already there is not
        written again.
        """
        self._write(
            self._last,
            int(state.step),
            state=ocp.args.StandardSave(_held(state)),
            progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
        )

    def save_best(self, step: int, variables: dict[str, Any]) -> None:
        """Before the state that names this step, which is written only if these are."""
        self._write(self._best, step, variables=ocp.args.StandardSave(_held(variables)))

    def _write(self, manager: ocp.CheckpointManager, step: int, **items: Any) -> None:
        if jax.process_count() == 1:
            self._behind.start(lambda: _save(manager, step, items))
        else:
            # At once: what the processes exchange in it (`on_first`) are programs of all devices,
            # which all processes have to start in one order with the steps. A thread would start
            # them whenever it has its turn, and two processes could wait for each other for ever.
            _save(manager, step, items)

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""
        self._behind.wait()

    def restore(self, like: TrainState) -> tuple[TrainState, Progress] | None:
        """The newest state that can be read, placed on the devices as `like` is; None if there is
        none at all.

        A state counts as readable only if the best network that it names is, too. What is not is
        put aside. Raises UnreadableError if there are states and none of them can be read.
        """
        self.wait()
        steps = sorted(self._last.all_steps(), reverse=True)
        for step in steps:
            try:
                state, progress = self._restore(step, like)
                if progress.best_step:
                    _check(self._best, progress.best_step)
            except UnreadableError as error:
                self._say(f'{error}; it is put aside, and the one before it used')
                self._put_aside(step)
                continue
            for later in [s for s in self._best.all_steps() if s > progress.best_step]:
                self._best.delete(later)  # saved behind this state, and about to be found again
            return state, progress
        if steps:
            raise UnreadableError(
                f'{self._directory}: none of its checkpoints can be read: use a new workdir, or '
                'remove that folder to begin again'
            )
        return None

    def _restore(self, step: int, like: TrainState) -> tuple[TrainState, Progress]:
        restored = _restore(
            self._last,
            step,
            state=ocp.args.StandardRestore(_abstract(like)),
            progress=ocp.args.JsonRestore(),
        )
        return restored['state'], Progress(**restored['progress'])

    def _put_aside(self, step: int) -> None:
        aside = self._directory / 'unreadable'

        def move() -> None:
            aside.mkdir(exist_ok=True)
            free = next(n for n in itertools.count() if not (aside / f'{step}-{n}').exists())
            os.rename(self._last.directory / str(step), aside / f'{step}-{free}')

        on_first(move)
        self._last.reload()

    def restore_best(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
        """The variables that `save_best` saved at `step`. UnreadableError if they are gone."""
        self.wait()
        arguments = ocp.args.StandardRestore(_abstract(like))
        return _restore(self._best, step, variables=arguments)['variables']

    def best_shapes(self, step: int) -> dict[str, Any]:
        """What `save_best` saved at `step`, as a tree of what has a shape and a dtype.

        Raises UnreadableError if that is gone or damaged.
        """
        self.wait()
        folder = epath.Path(_check(self._best, step)) / 'variables'
        return ocp.StandardCheckpointHandler().metadata(folder).tree

    def best_step(self) -> int | None:
        """Step of the best network so far; None before the first validation."""
        self.wait()
        return self._best.latest_step()

    def newest_step(self) -> int | None:
        """Step of the newest complete state."""
        self.wait()
        return self._last.latest_step()

    def close(self) -> None:
        try:
            self._behind.close()
        finally:
            self._last.close()
            self._best.close()


class UnreadableError(ValueError):
    """A checkpoint that is not what was written; one line that says which, and why."""

    exit_code = 1


def _manager(directory: Path, keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=True,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=False,
    )
    return ocp.CheckpointManager(directory.absolute(), options=options)


def _held(tree: Any) -> Any:
    """The arrays as they are now, on the host, whatever becomes of them on the devices.

    Where they are in the host's memory already this copies nothing: while they are looked at, JAX
    lets no program that they are donated to write over them, and gives it other memory. What
    several processes write together stays on their devices.
    """
    return jax.device_get(tree) if jax.process_count() == 1 else tree


def _save(manager: ocp.CheckpointManager, step: int, items: dict[str, Any]) -> None:
    """Nothing where the step is there already. Raises OSError, or LostError."""
    if step in manager.all_steps():
        return
    where = f'{manager.directory}: the checkpoint of step {step} was not written'
    try:
        written = manager.save(step, args=ocp.args.Composite(**items))
    except Exception as error:
        # A full disk comes out of Orbax as errors of many kinds, and so does a lost process.
        kind = OSError if jax.process_count() == 1 or _is_about_disk(error) else LostError
        raise kind(f'{where}: {_brief(error)}') from error
    # Orbax declines steps behind its newest one without an error.
    if not written:
        raise RuntimeError(where)
    folder = Path(manager.directory) / str(step)
    on_first(lambda: write_json(folder / DIGESTS, _digests(folder)))


def _restore(manager: ocp.CheckpointManager, step: int, **items: Any) -> Any:
    """Raises UnreadableError, on all processes alike."""
    folder = _check(manager, step)
    restored, failure = None, None
    try:
        restored = manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:
        # Orbax and what is below it raise errors of many kinds for files that do not fit.
        failure = error
    if int(agree(failure is not None)):
        reason = 'another process cannot read it' if failure is None else _brief(failure)
        raise UnreadableError(f'{folder}: does not hold what it should: {reason}') from failure
    return restored


def _check(manager: ocp.CheckpointManager, step: int) -> Path:
    """The folder of a checkpoint, its files as they were written. Raises UnreadableError."""
    folder = Path(manager.directory) / str(step)
    reason = on_first(lambda: _damage(folder))
    if reason:
        raise UnreadableError(f'{folder}: {reason}')
    return folder


def _damage(folder: Path) -> str:
    """What is wrong with the files of a checkpoint, '' if nothing is found.

    One that was complete when its process was killed, but had no digests yet, is taken as it is.
    """
    if not folder.is_dir():
        return 'no such checkpoint'
    there = _digests(folder)
    if not there:
        return 'holds no files'
    try:
        expected = json.loads((folder / DIGESTS).read_text())
    except FileNotFoundError:
        return ''
    except ValueError:
        return f'{DIGESTS} is damaged'
    for name in expected.keys() - there.keys():
        return f'{name} is missing'
    for name, digest in expected.items():
        if there[name] != digest:
            return f'{name} is damaged'
    return ''


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint but this list itself."""
    result = {}
    for path in sorted(folder.rglob('*')):
        if path.is_file() and path.name != DIGESTS:
            with path.open('rb') as file:
                digest = hashlib.file_digest(file, 'sha256').hexdigest()
            result[path.relative_to(folder).as_posix()] = digest
    return result


def _is_about_disk(error: BaseException | None) -> bool:
    """Whether this error, or one that it came from, is the file system's."""
    while error is not None:
        if isinstance(error, OSError) or 'No space left' in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _brief(error: BaseException) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'


def _abstract(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )
