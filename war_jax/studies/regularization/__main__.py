"""Does adversarial training act as a regularization? A sweep of epsilon, or a study's networks.

    python -m war_jax.studies.regularization --config=configs/regularization.py \\
        --workdir=runs/epsilon
    python -m war_jax.studies.regularization --config=configs/regularization.py --runs=runs/study

Without --runs, networks are trained at every epsilon of the configuration; with it, those of a
study made with --config.ntk.every=STEPS are measured, against whatever differs between them:
epsilon, width, lambda. Margins, confidence, distances to the boundary, spectra and gains of layers,
at the end of training and at the same training loss. The same command again makes what is missing
and draws the report again. Exit codes: 0 done, 1 training or writing failed, 2 refused (one line on
stderr says why), 130 and 143 stopped by SIGINT and SIGTERM, with what is finished kept.
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path

from absl import flags

from war_jax import command_line
from war_jax.config import ConfigError, to_dict
from war_jax.program import Program
from war_jax.studies.regularization.settings import Settings, resolve_regularization


def define_flags(values: flags.FlagValues) -> None:
    text = flags.DEFINE_string
    text('workdir', '', 'the directory that is written to, or continued from', flag_values=values)
    text('runs', '', 'the folder of a study whose networks are measured', flag_values=values)


def read(values: flags.FlagValues) -> tuple[Settings, Path, str]:
    """What to do, the folder to write to and the study to measure. Raises ConfigError."""
    settings = resolve_regularization(values.config)
    if not values.runs and not values.workdir:
        raise ConfigError('--workdir: must be given, unless --runs is the folder of a study')
    if values.runs and not os.path.isdir(values.runs):
        raise ConfigError(f'--runs={values.runs}: no such folder')
    target = values.workdir or os.path.join(values.runs, 'regularization')
    return settings, Path(command_line.check_workdir(target)), values.runs


def work(read: tuple[Settings, Path, str], command: str) -> int:
    from war_jax import processes
    from war_jax.mesh import spread_over_cores
    from war_jax.records.console import SMOKE_SENTENCE

    if processes.is_one_of_several():
        raise ConfigError('--process: war_jax.studies.regularization runs as one process')
    spread_over_cores()
    print(f'report: {study(*read, command)}')
    if read[0].study.base.smoke:
        print(SMOKE_SENTENCE)
    return 0


def study(settings: Settings, workdir: Path, runs: str, command: str) -> Path:
    """Trains (unless `runs` names a study), measures, reports; returns the report's path."""
    import jax

    from war_jax.data.sources import checksum, load
    from war_jax.records.files import write_json
    from war_jax.records.interrupt import signals
    from war_jax.records.provenance import claim_workdir, lock_workdir
    from war_jax.studies.regularization import findings
    from war_jax.studies.regularization.bench import Bench, measure_all
    from war_jax.studies.regularization.networks import find, sweep_folders, train

    measure = asdict(settings.measure)
    with lock_workdir(workdir), signals() as stop:
        base = settings.study.base
        found = find([Path(runs)]) if runs else {}
        config = next(iter(found.values())).config if found else base
        splits = load(config.data)
        digest = checksum(splits)
        if any(run.checksum != digest for run in found.values()):
            raise ConfigError(f'--runs={runs}: was trained on other images than there are now')
        # Which networks there are may grow from call to call; how they are measured may not.
        claimed = {'measure': measure, **({} if runs else {'base': to_dict(base)})}
        provenance = claim_workdir(
            workdir, claimed, splits.provenance, digest, command, jax.local_devices()
        )
        contents = {
            'experiment': findings.NAME, 'config': to_dict(config), 'measure': measure,
            'provenance': {**provenance, 'command': command},
        }  # fmt: skip
        write_json(workdir / 'study.json', contents)
        if not runs:
            train(settings, splits, workdir, stop, command)
            found = find(sweep_folders(settings, workdir))
        networks = measure_all(found, Bench(settings.measure, splits, workdir), stop)
        return findings.write_report(workdir, networks)


main = Program('war_jax.studies.regularization', __doc__ or '', define_flags, read, work)

if __name__ == '__main__':
    sys.exit(main(sys.argv))
