"""The networks that are measured: trained here at each epsilon, or those of a finished study.

train(settings, splits, workdir, stop, command)        # runs into workdir/eps0.1/runs/...
found = find(sweep_folders(settings, workdir))
found[0].conditions, found[0].probes                   # epsilon, width, lambda, seed; {step: file}
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from war_jax.config import Config, ConfigError, resolve
from war_jax.data.sources import Splits
from war_jax.mesh import check_divisible, make_mesh
from war_jax.records.files import ReportError, read_file, read_json, require
from war_jax.records.interrupt import Stop
from war_jax.records.probes import list_probes
from war_jax.studies.regularization.settings import Settings
from war_jax.studies.width.runner import Runner, device_groups
from war_jax.training.build import precision


class Conditions(NamedTuple):
    epsilon: float
    width: float
    lam: float
    seed: int


@dataclass(frozen=True)
class Trained:
    """One finished run with the networks along it."""

    name: str
    config: Config
    conditions: Conditions
    checksum: str  # of its images and labels
    probes: dict[int, Path]  # step -> file, increasing


def sweep_folders(settings: Settings, workdir: Path) -> list[Path]:
    return [workdir / f'eps{epsilon:g}' for epsilon in settings.epsilons]


def train(settings: Settings, splits: Splits, workdir: Path, stop: Stop, command: str) -> None:
    """Whatever is not finished; the networks of one epsilon share their compiled programs.

    Raises ReportError if a run failed, and SystemExit(128 + signal number) after a signal.
    """
    base = settings.study.base
    groups = device_groups(settings.study.study.devices_per_run)
    mesh, optimizer = make_mesh(groups[0]), base.optimizer
    check_divisible(mesh, 'optimizer.batch_size', optimizer.batch_size, optimizer.accumulation)
    check_divisible(mesh, 'evaluation.batch_size', base.evaluation.batch_size)
    folders = sweep_folders(settings, workdir)
    with precision(base):
        for number, (epsilon, folder) in enumerate(zip(settings.epsilons, folders, strict=True)):
            print(f'epsilon = {epsilon:g} ({number + 1} of {len(folders)})')
            of_epsilon = settings.at(epsilon)
            outcome = Runner(of_epsilon, splits, folder, stop, groups, command, (0, 1))()
            for task, reason in outcome.failed.items():
                raise ReportError(f'{folder / "runs" / task.name}: failed: {reason}')


def find(folders: Sequence[Path]) -> list[Trained]:
    """The finished runs of constant lambda in runs/ of these folders, in the order of conditions.

    Raises ConfigError where there are none with probes, and ReportError for unreadable files.
    """
    paths = [path for folder in folders for path in sorted(folder.glob('runs/*/summary.json'))]
    runs = [_read(path.parent) for path in paths]
    found = [run for run in runs if run is not None]
    if not found:
        raise ConfigError(
            f'--runs={folders[0]}: holds no finished run of constant lambda with probes; train '
            'the study, in a new workdir, with --config.ntk.every=N (steps between two probes)'
        )
    if len({run.checksum for run in found}) > 1:
        raise ConfigError(f'--runs={folders[0]}: holds runs on different images')
    return sorted(found, key=lambda run: run.conditions)


def _read(workdir: Path) -> Trained | None:
    path = workdir / 'config.json'
    about = read_file(path, read_json)
    require(path, about, ('config', 'provenance', 'reference'))
    require(path, about['provenance'], ('checksum',))
    probes = list_probes(workdir)
    if about['reference'] or 0 not in probes:  # lambda moves, or there is no start
        return None
    config = resolve(about['config'])
    conditions = Conditions(
        config.threat.epsilon, config.model.widen_factor, config.objective.lam, config.seed
    )
    name = f'eps{config.threat.epsilon:g}-{workdir.name}'
    return Trained(name, config, conditions, about['provenance']['checksum'], probes)
