"""Trains a grid of widths and lambdas, and WAR beside it: does wider help, and what lambda does
each width want?

    python -m war_jax.studies.width --config=configs/width_study.py --workdir=runs/study
    python -m war_jax.studies.width --config=configs/width_study.py --workdir=runs/study --shard=2/8

The same command again skips what is finished, resumes what was interrupted and runs the rest; at
its end the report is drawn from what is there. With --shard=i/n a process runs every n-th run,
i = 0 ... n - 1. Runs of study.war wait for those of thinner networks: where these were in other
shards, run the command once more when all shards are done, without --shard. Shards with disks of
their own: bring their folders runs/* together in one --workdir, then the same. Processes that share
a disk may share a --workdir without --shard, too.

Exit codes: 0 done, 1 a run or writing failed, 2 refused (one line on stderr says why), 75 another
process of the job was lost, 130 and 143 stopped by SIGINT and SIGTERM, with checkpoints. On CPU,
every core becomes a JAX device. Several processes of one job (launch/) take one run after the
other; those of shards are jobs of their own, on a cluster with --process=alone.
"""

import re
import sys
from pathlib import Path

from absl import flags

from war_jax import command_line
from war_jax.config import ConfigError
from war_jax.program import Program
from war_jax.studies.width.settings import Settings, resolve_study


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        'workdir',
        None,
        'the directory that the study is written to, or continued from',
        flag_values=values,
    )
    flags.DEFINE_string(
        'shard', '0/1', 'i/n: of n parts of the study only the i-th, from 0', flag_values=values
    )


def read(values: flags.FlagValues) -> tuple[Settings, Path, tuple[int, int]]:
    """Settings, workdir and shard. Raises ConfigError."""
    workdir = Path(command_line.check_workdir(values.workdir))
    return resolve_study(values.config), workdir, read_shard(values.shard)


def work(settings: tuple[Settings, Path, tuple[int, int]], command: str) -> int:
    from war_jax.mesh import spread_over_cores
    from war_jax.studies.width.runner import run_study

    study, workdir, shard = settings
    base = study.base
    part = base.optimizer.batch_size // base.optimizer.accumulation
    shared = (part, base.evaluation.batch_size)
    spread_over_cores(*(shared if study.study.devices_per_run > 1 else ()))
    return run_study(study, workdir, shard, command)


def read_shard(text: str) -> tuple[int, int]:
    """'2/8' -> (2, 8). Raises ConfigError."""
    match = re.fullmatch(r'(\d+)/(\d+)', text)
    shard = tuple(map(int, match.groups())) if match else (1, 0)
    if not 0 <= shard[0] < shard[1]:
        raise ConfigError(f'--shard={text}: must be i/n with i from 0 to n - 1; nearest: 0/1')
    return shard[0], shard[1]


main = Program('war_jax.studies.width', __doc__ or '', define_flags, read, work)

if __name__ == '__main__':
    sys.exit(main(sys.argv))
