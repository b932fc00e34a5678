"""Trains and evaluates one network.

    python -m war_jax.main --config=configs/digits.py --workdir=runs/demo
    python -m war_jax.main --config=configs/wrn.py:34-5,lambda=12 --workdir=runs/x \\
        --config.attack.step_size=0.01

The same command again continues a run that was stopped. Every key of the configuration is explained
in configs/default.py. Exit codes: 0 done, 1 training or writing failed, 2 refused (one line on
stderr says why), 130 and 143 stopped by SIGINT and SIGTERM, with a checkpoint if there was anything
to keep. On CPU, the cores become as many JAX devices as divide the batch sizes.
"""

import shlex
import sys

from absl import flags

from war_jax import command_line
from war_jax.config import ConfigError, resolve

PROGRAM = 'war_jax.main'


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        'workdir',
        None,
        'the directory that the run is written to, or continued from',
        flag_values=values,
    )


def main(argv: list[str]) -> int:
    try:
        return run(argv)
    except KeyboardInterrupt:  # while modules or data are loaded; train handles what comes later
        return command_line.fail(PROGRAM, 'interrupted', 130)


def run(argv: list[str]) -> int:
    """Returns the exit code. Raises KeyboardInterrupt."""
    if {'-h', '--help', '--helpfull'} & set(argv):
        print(command_line.usage(__doc__ or '', define_flags))
        return 0
    try:
        values = command_line.parse(argv, define_flags)
        config = resolve(values.config)
        workdir = command_line.check_workdir(values.workdir)
    except ConfigError as error:
        return command_line.fail(PROGRAM, error, 2)
    # Only now, since JAX takes seconds to import and a typo should be told at once.
    from war_jax.data.sources import DataError
    from war_jax.mesh import spread_over_cores
    from war_jax.report.run_files import ReportError
    from war_jax.run import train
    from war_jax.training.loop import TrainingError

    if config.batch_norm.statistics == 'global':  # else the number of devices changes the result
        spread_over_cores(config.optimizer.batch_size, config.evaluation.batch_size)
    try:
        train(config, workdir, shlex.join(['python', '-m', 'war_jax.main', *argv[1:]]))
    except (ConfigError, DataError) as error:
        return command_line.fail(PROGRAM, error, 2)
    except (TrainingError, ReportError, OSError) as error:  # OSError: a full disk, permissions
        return command_line.fail(PROGRAM, error, 1)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv))
