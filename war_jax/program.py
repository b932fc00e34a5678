"""The frame of every command: flags, the processes of the job, errors as one line and exit codes.

    main = Program('war_jax.main', __doc__, define_flags, read, work)
    sys.exit(main(sys.argv))

A command adds what is its own: `read` makes of the parsed flags what it needs, and refuses; `work`
does it. JAX is imported in between, since that takes seconds and a typo should be told at once.
"""

import os
import shlex
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from absl import flags

from war_jax import command_line
from war_jax.config_rules import ConfigError

_PROCESS = (
    'i/n@host:port, or alone: which of the n processes of this job this one is, where the cluster '
    'does not say so itself (environment variable WAR_JAX_PROCESS)'
)


@dataclass(frozen=True)
class Program:
    """Called with the command line, it returns the exit code, or raises SystemExit.

    name: as in `python -m name`; doc: the text of --help; define_flags: its own flags.
    read: parsed flags -> anything; raises ConfigError. Nothing of JAX yet.
    work: what `read` returned, and the command that was typed -> exit code.
    has_config: there is a flag --config, whose file `read` finds as `.config`.
    keys: the dataclass of that file's keys, for --help.
    keeps_programs: what one process by itself compiles is kept in the user's cache.
    """

    name: str
    doc: str
    define_flags: command_line.DefineFlags
    read: Callable[[flags.FlagValues], Any]
    work: Callable[[Any, str], int]
    has_config: bool = True
    keys: type | None = None
    keeps_programs: bool = True

    def __call__(self, argv: list[str]) -> int:
        try:
            return self._run(argv)
        except KeyboardInterrupt:  # while modules or data are loaded; later, signals are noted
            return command_line.fail(self.name, 'interrupted', 130)

    def _run(self, argv: list[str]) -> int:
        if {'-h', '--help', '--helpfull'} & set(argv):
            if self.has_config:
                print(command_line.usage(self.doc, self.define, self.keys))
            else:
                print(command_line.usage_of_flags(self.doc, self.define))
            return 0
        parse = command_line.parse if self.has_config else command_line.parse_flags
        command = shlex.join(['python', '-m', self.name, *argv[1:]])
        try:
            values = parse(argv, self.define)
            settings = self.read(values)
        except ConfigError as error:
            return command_line.fail(self.name, error, 2)
        import jax

        from war_jax import compilation_cache, processes

        try:
            processes.join(values.process)
            # Of several processes some would find what others have to compile.
            if self.keeps_programs and not processes.is_one_of_several():
                compilation_cache.keep_programs()
            if processes.is_one_of_several() and not processes.is_first():
                sys.stdout = open(os.devnull, 'w')  # until this process ends
            with jax.default_matmul_precision('highest'):  # see war_jax/lowering.py
                return self.work(settings, command)
        except Exception as error:
            code = processes.exit_code(error)
            if code is not None:
                command_line.fail(self.name, error, code)
            elif processes.is_one_of_several():
                traceback.print_exc()
            else:
                raise
            if processes.is_one_of_several():
                # Its regular end would wait for the others, which wait for it.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(1 if code is None else code)
            return code or 1

    def define(self, values: flags.FlagValues) -> None:
        self.define_flags(values)
        flags.DEFINE_string('process', '', _PROCESS, flag_values=values)
