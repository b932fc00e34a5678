"""The networks that are measured: trained here at each epsilon, or those of a finished study.

train(settings, splits, workdir, stop, command)        # runs into workdir/eps0.1/runs/...
for cell, run in find(sweep_folders(settings, workdir)).items():
    cell.epsilon, cell.seed, run.probes                # {step: file}
"""

from collections.abc import Sequence
from pathlib import Path

from war_jax.config import ConfigError
from war_jax.data.sources import Splits
from war_jax.lab import probes
from war_jax.lab.probes import FIXED, HOW_TO, ProbedRun
from war_jax.records.files import ReportError
from war_jax.records.interrupt import Stop
from war_jax.studies.regularization.results import Cell
from war_jax.studies.regularization.settings import Settings
from war_jax.studies.width.runner import Runner, device_groups
from war_jax.studies.width.tasks import method_of
from war_jax.training.build import precision


def sweep_folders(settings: Settings, workdir: Path) -> list[Path]:
    return [workdir / f'eps{epsilon:g}' for epsilon in settings.sweep.epsilons]


def train(settings: Settings, splits: Splits, workdir: Path, stop: Stop, command: str) -> None:
    """Whatever is not finished; the networks of one epsilon share their compiled programs.

    Raises ReportError if a run failed, and SystemExit(128 + signal number) after a signal.
    """
    groups = device_groups(settings.study)
    epsilons, folders = settings.sweep.epsilons, sweep_folders(settings, workdir)
    with precision(settings.study.base):
        for number, (epsilon, folder) in enumerate(zip(epsilons, folders, strict=True)):
            print(f'epsilon = {epsilon:g} ({number + 1} of {len(folders)})')
            of_epsilon = settings.at(epsilon)
            outcome = Runner(of_epsilon, splits, folder, stop, groups, command, (0, 1))()
            for task, reason in outcome.failed.items():
                raise ReportError(f'{folder / "runs" / task.name}: failed: {reason}')


def find(folders: Sequence[Path]) -> dict[Cell, ProbedRun]:
    """The finished runs of constant lambda in runs/ of these folders, in the order of conditions.

    Raises ConfigError where there are none with probes, and ReportError for unreadable files.
    """
    workdirs = [path.parent for folder in folders for path in folder.glob('runs/*/summary.json')]
    runs = [
        run
        for run in probes.find(workdirs).runs
        if run.method == FIXED == method_of(run.name)  # of the grid, where it is that of a study
    ]
    if not runs:
        raise ConfigError(
            f'--runs={folders[0]}: holds no finished run of constant lambda with probes; {HOW_TO}'
        )
    if len({run.checksum for run in runs}) > 1:
        raise ConfigError(f'--runs={folders[0]}: holds runs on different images')
    found = {}
    for run in runs:
        epsilon, width = run.config.threat.epsilon, run.config.model.widen_factor
        name = f'eps{epsilon:g}-{run.name}'
        found[Cell(epsilon, width, run.lam, run.config.seed, name)] = run
    return dict(sorted(found.items()))
