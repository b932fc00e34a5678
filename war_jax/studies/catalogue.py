"""The studies of docs/, each with its command, and all of them from one that can be resumed.

    python -m war_jax.studies.catalogue                       # what there is, and what is left
    python -m war_jax.studies.catalogue --run [NAME ...]      # `make findings`: all, or these

Each study runs in runs/findings/NAME by its own command, which goes on where it stopped; what it
measured is then kept in docs/studies/NAME (see war_jax/studies/findings.py), and docs/findings.md
is written anew at the end. Before each, a guess is said of the time that the rest will take: what
earlier forms took on two cores, in proportion to the seeds. Exit codes: 0 done, 2 refused;
otherwise that of the study that ended with it.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from war_jax.config_rules import nearest
from war_jax.studies import findings

_WIDTH = 'war_jax.studies.width --config=configs/width_study.py'
_EPSILON = 'war_jax.studies.regularization --config=configs/regularization.py'
_SCALING = 'war_jax.studies.scaling --config=configs/scaling.py'
_NTK = 'ntk.main --config=configs'


class Study(NamedTuple):
    name: str
    command: str  # behind python -m, without its workdir
    minutes: int  # a guess, for two idle cores and an empty folder


STUDIES = (
    Study('capacity', f'{_NTK}/ntk_capacity.py', 3),
    Study('capacity_many_pairs', f'{_NTK}/ntk_capacity.py:many_pairs', 15),
    Study('convergence', f'{_NTK}/ntk_convergence.py', 4),
    Study('adv_ntk', f'{_NTK}/adv_ntk.py', 4),
    Study('adv_ntk_cifar10', f'{_NTK}/adv_ntk.py:cifar10', 15),
    Study('ntk_width', f'{_NTK}/ntk_width.py', 12),
    Study('ntk_theorem', f'{_NTK}/ntk_theorem.py', 7),
    Study(
        'epsilon_to_02', f"{_EPSILON} '--config.sweep.epsilons=(0.0, 0.05, 0.1, 0.15, 0.2)'", 9
    ),
    Study('epsilon_to_03', _EPSILON, 11),
    Study('scaling', _SCALING, 20),
    Study('scaling_depth', f'{_SCALING}:depth', 20),
    Study('scaling_data', f'{_SCALING}:data', 15),
    Study('scaling_last_stage', f'{_SCALING}:last_stage', 20),
    Study('scaling_switches', f'{_SCALING}:switches', 15),
    Study('width_digits', f'{_WIDTH} --config.study.autoattack_examples=100', 105),
    Study('width_cifar10', f"{_WIDTH}:cifar10 '--config.study.widths=(0.25, 1.0)'", 60),
)


def workdir(study: Study) -> Path:
    return Path('runs') / 'findings' / study.name


def is_finished(study: Study) -> bool:
    """Its command ended well: only then was what it measured kept."""
    return (workdir(study) / '.kept').exists()


def run(studies: Sequence[Study], root: Path = findings.ROOT) -> int:
    """Runs what is not finished; returns an exit code."""
    left = [study for study in studies if not is_finished(study)]
    for number, study in enumerate(left):
        rest = sum(other.minutes for other in left[number:])
        print(f'{study.name}, {number + 1} of {len(left)}: about {rest} min left', flush=True)
        command = [
            sys.executable, '-m', *shlex.split(study.command), f'--workdir={workdir(study)}',
        ]  # fmt: skip
        code = subprocess.run(command).returncode
        if code:
            return code if code > 0 else 128 - code
        findings.keep(study.name, workdir(study), root)
        (workdir(study) / '.kept').touch()
    return findings.main([], root)


def main(argv: Sequence[str]) -> int:
    known = {study.name: study for study in STUDIES}
    names = [argument for argument in argv if argument != '--run']
    unknown = [name for name in names if name not in known]
    if unknown:
        print(
            f'war_jax.studies.catalogue: error: {unknown[0]}: no such study; nearest: '
            f'{nearest(unknown[0], known)}',
            file=sys.stderr,
        )
        return 2
    chosen = [known[name] for name in names] or list(STUDIES)
    if '--run' in argv:
        return run(chosen)
    for study in chosen:
        state = 'finished' if is_finished(study) else f'about {study.minutes} min'
        print(f'{study.name:19} {state:14} python -m {study.command} --workdir={workdir(study)}')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
