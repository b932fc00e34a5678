"""Does robustness grow with width, depth, images and compute, by which law, and where does it end?

    python -m war_jax.studies.scaling --config=configs/scaling.py --workdir=runs/scaling
    python -m war_jax.studies.scaling --config=configs/scaling.py:depth --workdir=runs/depth

Trains a grid over axes by name (config group `grid`: width, depth, last_stage, images, epochs, lam,
objective, activation, cutmix, generated, awp, ema), measures best and last networks, under
AutoAttack where asked, and fits a saturating power law of the robust error whose prediction of the
largest networks is checked. The same command again makes what is missing and draws the report
again. Exit codes: 0 done, 1 a run or writing failed, 2 refused (one line on stderr says why), 130
and 143 stopped by SIGINT and SIGTERM, with a checkpoint. WAR and its verdicts:
war_jax.studies.width.
"""

import sys
from pathlib import Path

from absl import flags

from war_jax import command_line
from war_jax.config import ConfigError
from war_jax.program import Program
from war_jax.studies.scaling.settings import Settings, resolve_scaling


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        'workdir',
        None,
        'the directory that the study is written to, or continued from',
        flag_values=values,
    )


def read(values: flags.FlagValues) -> tuple[Settings, Path]:
    """Settings and workdir. Raises ConfigError."""
    workdir = Path(command_line.check_workdir(values.workdir))
    return resolve_scaling(values.config), workdir


def work(about: tuple[Settings, Path], command: str) -> int:
    from war_jax import processes
    from war_jax.lab.experiment import run
    from war_jax.records.console import SMOKE_SENTENCE
    from war_jax.run import spread
    from war_jax.studies.scaling.findings import EXPERIMENT

    settings, workdir = about
    if processes.is_one_of_several():
        raise ConfigError('--process: war_jax.studies.scaling runs as one process')
    spread(settings.base)
    print(f'report: {run(EXPERIMENT, settings, workdir, command)}')
    if settings.smoke:
        print(SMOKE_SENTENCE)
    return 0


main = Program('war_jax.studies.scaling', __doc__ or '', define_flags, read, work)

if __name__ == '__main__':
    sys.exit(main(sys.argv))
