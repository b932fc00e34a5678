"""The studies of docs/, each with its command, and all of them from one that can be resumed.

    python -m war_jax.studies.catalogue                       # what there is, and what is left
    python -m war_jax.studies.catalogue --run                 # `make findings`: the papers' claims
    python -m war_jax.studies.catalogue --run NAME ...        # these
    python -m war_jax.studies.catalogue --run all             # everything

What the papers claim is studied on what is embedded, in two to three hours on two cores; the other
studies ask it on CIFAR-10, which has to be there, or ask further questions. Each study runs in
runs/findings/NAME by its own command, which goes on where it stopped; what it measured is then kept
in docs/studies/NAME (see war_jax/studies/findings.py), and docs/findings.md is written anew at the
end. Before each, a guess is said of the time that the rest will take: what it took on two cores, or
an earlier form of it in proportion to the runs. Exit codes: 0 done, 2 refused; otherwise that of
the study that ended with it.
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
    training: str = ''  # another, before it: of the runs that --run of the first one measures

    @property
    def workdir(self) -> Path:
        return Path('runs') / 'findings' / self.name

    @property
    def commands(self) -> list[str]:
        if not self.training:
            return [f'{self.command} --workdir={self.workdir}']
        runs = f'{self.workdir}_runs'
        return [
            f'{self.training} --workdir={runs}',
            f'{self.command} --run={runs} --workdir={self.workdir}',
        ]

    @property
    def is_finished(self) -> bool:
        """Its commands ended well: only then was what it measured kept."""
        return (self.workdir / '.kept').exists()


PAPERS = (
    Study('capacity', f'{_NTK}/ntk_capacity.py', 3),
    Study('capacity_many_pairs', f'{_NTK}/ntk_capacity.py:many_pairs', 8),
    Study('convergence', f'{_NTK}/ntk_convergence.py', 6),
    Study('adv_ntk', f'{_NTK}/adv_ntk.py', 5),
    Study('ntk_width', f'{_NTK}/ntk_width.py', 8),
    Study('ntk_theorem', f'{_NTK}/ntk_theorem.py', 5),
    Study(
        'ntk_run', f'{_NTK}/ntk_run.py', 15,
        f"{_WIDTH} '--config.study.lams=(3.0,)' '--config.study.war=()' --config.ntk.every=80",
    ),
    Study(
        'epsilon_to_02', f"{_EPSILON} '--config.sweep.epsilons=(0.0, 0.05, 0.1, 0.15, 0.2)'", 9
    ),
    Study('epsilon_to_03', _EPSILON, 6),
    Study('width_digits', f'{_WIDTH} --config.study.autoattack_examples=100', 68),
)  # fmt: skip
FURTHER = (
    Study('adv_ntk_cifar10', f'{_NTK}/adv_ntk.py:cifar10', 15),
    Study('scaling', _SCALING, 26),
    Study('scaling_depth', f'{_SCALING}:depth', 30),
    Study('scaling_data', f'{_SCALING}:data', 14),
    Study('scaling_last_stage', f'{_SCALING}:last_stage', 20),
    Study('scaling_switches', f'{_SCALING}:switches', 27),
    Study('width_cifar10', f"{_WIDTH}:cifar10 '--config.study.widths=(0.25, 1.0)'", 86),
)
STUDIES = PAPERS + FURTHER


def run(studies: Sequence[Study], root: Path = findings.ROOT) -> int:
    """Runs what is not finished; returns an exit code."""
    left = [study for study in studies if not study.is_finished]
    for number, study in enumerate(left):
        rest = sum(other.minutes for other in left[number:])
        print(f'{study.name}, {number + 1} of {len(left)}: about {rest} min left', flush=True)
        for command in study.commands:
            code = subprocess.run([sys.executable, '-m', *shlex.split(command)]).returncode
            if code:
                return code if code > 0 else 128 - code
        findings.keep(study.name, study.workdir, root)
        (study.workdir / '.kept').touch()
    return findings.main([], root)


def main(argv: Sequence[str]) -> int:
    known = {study.name: [study] for study in STUDIES} | {'all': list(STUDIES)}
    names = [argument for argument in argv if argument != '--run']
    unknown = [name for name in names if name not in known]
    if unknown:
        print(
            f'war_jax.studies.catalogue: error: {unknown[0]}: no such study; nearest: '
            f'{nearest(unknown[0], known)}',
            file=sys.stderr,
        )
        return 2
    chosen = list(dict.fromkeys(study for name in names for study in known[name]))
    if '--run' in argv:
        return run(chosen or PAPERS)
    for study in chosen or STUDIES:
        state = 'finished' if study.is_finished else f'about {study.minutes} min'
        commands = ' && '.join(f'python -m {command}' for command in study.commands)
        print(f'{study.name:19} {state:14} {commands}')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
