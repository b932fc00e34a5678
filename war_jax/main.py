"""Trains and evaluates one network.

    python -m war_jax.main --config=configs/digits.py --workdir=runs/demo
    python -m war_jax.main --config=configs/wrn.py:34-5,lambda=12 --workdir=runs/x \\
        --config.attack.step_size=0.01

The same command again continues a run that was stopped. --help explains every key of the
configuration, as does war_jax/config_keys.py; what may stand behind the colon, the config file says
at its top. Exit codes: 0 done, 1 training or writing failed, 2 refused (one line on stderr says
why), 75 another process of the job was lost, 130 and 143 stopped by SIGINT and SIGTERM, with a
checkpoint if there was anything to keep: after these three, start it again. On CPU, the cores
become as many JAX devices as divide the batch sizes. Several processes, on one machine or many,
train one network together: see launch/ and docs/scaling.md.
"""

import sys

from absl import flags

from war_jax import command_line
from war_jax.config import Config, resolve
from war_jax.program import Program


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        'workdir',
        None,
        'the directory that the run is written to, or continued from',
        flag_values=values,
    )


def read(values: flags.FlagValues) -> tuple[Config, str]:
    """Configuration and workdir. Raises ConfigError."""
    return resolve(values.config), command_line.check_workdir(values.workdir)


def work(settings: tuple[Config, str], command: str) -> int:
    from war_jax.run import spread, train

    config, workdir = settings
    spread(config)
    train(config, workdir, command)
    return 0


main = Program('war_jax.main', __doc__ or '', define_flags, read, work, keys=Config)

if __name__ == '__main__':
    sys.exit(main(sys.argv))
