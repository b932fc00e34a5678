"""Which networks there are to measure: the probes of one run, or of all runs of a study.

    found = find_runs(Path('runs/study'), max_probes=5)
    for run in found.runs:
        run.config.model.widen_factor, run.probes            # {step: file}, thinned
    found.missing                                            # name of a run -> what it lacks

Everything comes out of config.json and the folder probes/ of each run: see configs/default.py at
`ntk`, and war_jax/records/probes.py.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from war_jax.config import Config, ConfigError, resolve
from war_jax.records.files import read_file, read_json, require
from war_jax.records.probes import list_probes
from war_jax.studies.width.results import FIXED

HOW_TO = 'train it, in a new workdir, with --config.ntk.every=N (steps between two probes)'


@dataclass(frozen=True)
class ProbedRun:
    """One run that has probes."""

    name: str
    workdir: Path
    config: Config
    method: str  # 'fixed', or by what target WAR moves lambda
    lam: float  # at the start; stays if the method is 'fixed'
    data: str  # one sentence on its images
    checksum: str  # of its images and labels
    digest: str  # equal for runs that are the same run
    probes: dict[int, Path]  # step -> file, increasing, the first step is 0


@dataclass(frozen=True)
class Found:
    runs: list[ProbedRun]  # in the order of width, method, lambda and seed
    missing: dict[str, str]  # name of a run -> why it is not among them
    is_study: bool


def find_runs(run_dir: Path, max_probes: int = 0) -> Found:
    """The runs in a folder of war_jax.main, or in runs/ of one of war_jax.studies.width.

    max_probes: of each run, see `thinned`.

    Raises ConfigError, one line, for a folder that is neither and where no run has probes, and
    ReportError for a config.json that cannot be read.
    """
    is_study = (run_dir / 'runs').is_dir()
    workdirs = [run_dir]
    if is_study:
        workdirs = sorted(path.parent for path in (run_dir / 'runs').glob('*/config.json'))
    if not workdirs or not (workdirs[0] / 'config.json').is_file():
        raise ConfigError(
            f'--run={run_dir}: must be the folder of a run of war_jax.main, with config.json, or '
            'of a study of war_jax.studies.width, with runs/*/config.json'
        )
    runs, missing = [], {}
    for workdir in workdirs:
        probes = list_probes(workdir)
        if 0 in probes:
            runs.append(_read(workdir, thinned(probes, max_probes)))
        else:
            missing[workdir.name] = 'no probe of step 0' if probes else 'no probes'
    if not runs:
        raise ConfigError(f'--run={run_dir}: there are no probes; {HOW_TO}')
    runs.sort(key=lambda run: (run.config.model.widen_factor, run.method, run.lam, run.config.seed))
    return Found(runs, missing, is_study)


def thinned(probes: Mapping[int, Path], at_most: int) -> dict[int, Path]:
    """At most so many of them (0: all; else at least 2), evenly, the first and the last kept."""
    steps = list(probes)
    if at_most and len(steps) > at_most:
        last = len(steps) - 1
        steps = [steps[round(last * i / (at_most - 1))] for i in range(at_most)]
    return {step: probes[step] for step in steps}


def _read(workdir: Path, probes: dict[int, Path]) -> ProbedRun:
    path = workdir / 'config.json'
    about = read_file(path, read_json)
    require(path, about, ('config', 'provenance', 'reference'))
    require(path, about['provenance'], ('data', 'checksum'))
    recorded: dict[str, Any] = about['config']
    try:
        # A run that began before there were probes may have gone on with them.
        config = resolve({'ntk': {'every': 0}, **recorded})
    except ConfigError as error:
        raise ConfigError(f'{path}: {error}') from error
    checksum = about['provenance']['checksum']
    identity = json.dumps([recorded, checksum], sort_keys=True)
    held_to = about['reference']
    return ProbedRun(
        name=workdir.name,
        workdir=workdir,
        config=config,
        method=config.war.target if held_to else FIXED,
        lam=held_to['lam'] if held_to else config.objective.lam,
        data=about['provenance']['data'],
        checksum=checksum,
        digest=hashlib.sha256(identity.encode()).hexdigest()[:16],
        probes=probes,
    )
