"""Numerical checks of the theory of wide networks.

    python -m ntk.main --config=configs/ntk_width.py --workdir=runs/ntk-width
    python -m ntk.main --config=configs/ntk_run.py --run=runs/study
    python -m ntk.main --config=configs/ntk_convergence.py --workdir=runs/convergence
    python -m ntk.main --config=configs/ntk_capacity.py --workdir=runs/capacity
    python -m ntk.main --config=configs/ntk_theorem.py --workdir=runs/theorem
    python -m ntk.main --config=configs/adv_ntk.py --workdir=runs/adv-ntk

configs/ntk_width.py trains networks of many widths and parametrizations and fits how input
gradients, Lipschitzness and kernels scale. configs/ntk_run.py measures the same along a run of
war_jax.main, or along all runs of a study, that was made with --config.ntk.every=STEPS; its results
go to RUN/ntk unless a --workdir is given. configs/ntk_convergence.py and configs/ntk_capacity.py
hold the theorems of Gao et al. 2019 against trainings: how close adversarial training comes to the
best there is near its start, and how wide a network must be to interpolate robustly.
configs/ntk_theorem.py climbs input gradients over balls of weights and inputs, of which the theorem
of Wu et al. 2021 speaks.
configs/adv_ntk.py trains the infinitely wide network adversarially. The same command again makes
what is missing and draws the report again; each config file says what its keys mean.

Exit codes: 0 done, 1 measuring or writing failed, 2 refused (one line on stderr says why), 75
another process of the job was lost, 130 and 143 stopped by SIGINT and SIGTERM, with everything
finished so far kept. Several processes of one job (launch/) share the work out.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from absl import flags

from war_jax import command_line
from war_jax.config import ConfigError
from war_jax.config_rules import nearest, refusal
from war_jax.lab.settings import read as read_settings
from war_jax.program import Program

PACKAGES = {
    'width': 'ntk.studies.width',
    'run': 'ntk.studies.dynamics',
    'convergence': 'ntk.studies.convergence',
    'capacity': 'ntk.studies.capacity',
    'theorem': 'ntk.studies.theorem',
    'adv_ntk': 'ntk.studies.adversarial',
}


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        'workdir',
        '',
        'the directory that is written to, or continued from',
        flag_values=values,
    )
    flags.DEFINE_string(
        'run',
        '',
        'with configs/ntk_run.py: the folder of a finished run, or of a study',
        flag_values=values,
    )


def read(values: flags.FlagValues) -> tuple[str, Any, Path, Path]:
    """Experiment, its settings, the folder to measure and the one to write to.

    Raises ConfigError.
    """
    experiment = check_experiment(values.config)
    folders = check_folders(experiment, values.run, values.workdir)
    settings = import_module(f'{PACKAGES[experiment]}.settings').Settings
    return experiment, read_settings(settings, values.config), *folders


def work(about: tuple[str, Any, Path, Path], command: str) -> int:
    experiment, settings, source, workdir = about
    from war_jax.records.console import SMOKE_SENTENCE

    if experiment == 'run':
        from ntk.studies.dynamics.bench import run_dynamics
        from war_jax.mesh import spread_over_cores

        spread_over_cores()
        report = run_dynamics(settings, source, workdir, command)
    else:
        from war_jax.lab.experiment import run

        findings = import_module(f'{PACKAGES[experiment]}.findings')
        report = run(findings.EXPERIMENT, settings, workdir, command)
    print(f'report: {report}')
    if settings.smoke:
        print(SMOKE_SENTENCE)
    return 0


def check_experiment(config: Any) -> str:
    """What the config file is for. Raises ConfigError."""
    experiment = config.get('experiment')
    if experiment is None:
        raise ConfigError(
            '--config: has no key experiment, so it configures none of the programs here; nearest: '
            '--config=configs/ntk_width.py'
        )
    if experiment not in PACKAGES:
        rule = f'must be one of {", ".join(PACKAGES)}'
        choice = nearest(str(experiment), PACKAGES)
        raise refusal('experiment', experiment, rule, repr(choice))
    return experiment


def check_folders(experiment: str, source: str, workdir: str) -> tuple[Path, Path]:
    """(folder to measure, folder to write to); the first is of use to 'run' alone.

    Raises ConfigError for flags that are missing or that the experiment does not have.
    """
    if experiment != 'run':
        if source:
            raise ConfigError(f'--run={source}: only configs/ntk_run.py measures a run')
        if not workdir:
            raise ConfigError('--workdir: must be given; it is the directory that is written to')
    elif not source:
        raise ConfigError('--run: must be given; it is the folder of a run, or of a study')
    elif not os.path.isdir(source):
        raise ConfigError(f'--run={source}: no such folder')
    target = command_line.check_workdir(workdir or os.path.join(source, 'ntk'))
    return Path(source), Path(target)


main = Program('ntk.main', __doc__ or '', define_flags, read, work)

if __name__ == '__main__':
    sys.exit(main(sys.argv))
