"""Runs that kept their networks along training (probes), as experiments on them find these.

    found = find(sorted(path.parent for path in folder.glob('runs/*/config.json')))
    for run in found.runs:
        run.config.model.widen_factor, run.lam, run.probes           # {step: file}
    found.missing                                        # name of a run -> what it lacks

Everything comes out of config.json and the folder probes/ of each run: see the key ntk.every of a
run's configuration, and war_jax/records/probes.py.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from war_jax.config import Config, ConfigError, resolve
from war_jax.records.files import read_file, read_json, require
from war_jax.records.probes import list_probes

HOW_TO = 'train it, in a new workdir, with --config.ntk.every=N (steps between two probes)'
FIXED = 'fixed'


@dataclass(frozen=True)
class ProbedRun:
    """One run that has a probe of its start."""

    name: str
    workdir: Path
    config: Config
    method: str  # FIXED, or by what variant of WAR lambda moves
    lam: float  # at the start; stays if the method is FIXED
    data: str  # one sentence on its images
    checksum: str  # of its images and labels
    digest: str  # equal for runs that are the same run
    probes: dict[int, Path]  # step -> file, increasing, the first step is 0
    is_finished: bool


@dataclass(frozen=True)
class Found:
    runs: list[ProbedRun]  # in the order of width, method, lambda and seed
    missing: dict[str, str]  # name of a run -> why it is not among them


def find(workdirs: Iterable[Path]) -> Found:
    """Raises ReportError for a config.json that cannot be read, ConfigError for its contents."""
    runs, missing = [], {}
    for workdir in workdirs:
        probes = list_probes(workdir)
        if 0 in probes:
            runs.append(_read(workdir, probes))
        else:
            missing[workdir.name] = 'no probe of step 0' if probes else 'no probes'
    runs.sort(key=lambda run: (run.config.model.widen_factor, run.method, run.lam, run.config.seed))
    return Found(runs, missing)


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
        method=config.war.variant if held_to else FIXED,
        lam=_lambda_at_start(config, held_to),
        data=about['provenance']['data'],
        checksum=checksum,
        digest=hashlib.sha256(identity.encode()).hexdigest()[:16],
        probes=probes,
        is_finished=(workdir / 'summary.json').is_file(),
    )


def _lambda_at_start(config: Config, reference: dict[str, Any] | None) -> float:
    """As the rule sets it that holds the run to the contents of a war.json, if one does."""
    if reference is None:
        return config.objective.lam
    return reference['lam'] if config.war.rule == 'integral' else config.war.start
