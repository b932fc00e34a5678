"""The command line of every program: a config file, overrides of its keys, further flags.

    values = parse(argv, define_flags)              # ConfigError: one line, what is wrong
    config = resolve(values.config)
    workdir = check_workdir(values.workdir)

The file is read first and the names of the overrides are compared with the keys it has, before
ml_collections parses them: its own errors are tracebacks of four kinds, and name no rule.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from glob import glob
from typing import Any

from absl import flags
from ml_collections import config_flags
from ml_collections.config_dict import ConfigDict

from war_jax.config_help import describe
from war_jax.config_rules import (
    TYPE_RULES,
    ConfigError,
    check_is_local,
    nearest,
    nearest_key,
    number,
)

_HELP = 'FILE.py[:ARGUMENT]; --config.KEY=VALUE then sets any of its keys'
CONFIGS = os.path.join(os.path.dirname(__file__), 'configs')  # those that travel with us
_EXAMPLE = 'configs/digits.py'
_KEYS = 'Keys, each with its default (a config file may set another) and what it may be:'
# What a config file raises: absl turns its TypeErrors and ValueErrors into a flags.Error,
# ml_collections keeps an OSError until the config is used, these pass through both.
_FILE_ERRORS = (OSError, SyntaxError, ImportError, NameError, AttributeError, LookupError)

DefineFlags = Callable[[flags.FlagValues], None]


class _NumberParser(flags.FloatParser):
    """Floats that may be written as fractions: --config.threat.epsilon=8/255."""

    def convert(self, argument: Any) -> float:
        return number(argument) if isinstance(argument, str) else float(argument)


config_flags.register_flag_parser_for_type(float, _NumberParser())


def parse(argv: Sequence[str], define_flags: DefineFlags) -> flags.FlagValues:
    """Returns the parsed flags, with the config (a ConfigDict, overrides applied) as `.config`.

    Args:
      argv: the program's name and its arguments.
      define_flags: adds the program's own flags; those whose default is None must be given.

    Raises:
      ConfigError: for anything that the command line cannot mean.
    """
    config, rest = _read_config(argv)
    keys = dict(_flatten(config))
    _check_keys(rest, keys)
    values = _new_flags(define_flags)
    own = list(values)
    try:
        config_flags.DEFINE_config_dict('config', config, _HELP, flag_values=values, sys_argv=rest)
        positional = values(rest)[1:]
    except flags.UnrecognizedFlagError as error:
        choice = nearest(error.flagname, ['config', 'help', *own])
        raise ConfigError(f'--{error.flagname}: no such flag; nearest: --{choice}') from error
    except (flags.Error, ValueError) as error:
        raise ConfigError(_explain_value(error, keys)) from error
    if positional:
        rule = 'must be a flag, such as --config.KEY=VALUE'
        raise ConfigError(f'{positional[0]!r}: {rule}; nearest: --{positional[0]}')
    for name in own:
        if values[name].default is None and values[name].value in (None, ''):
            raise ConfigError(f'--{name}: must be given; it is {values[name].help}')
    return values


def parse_flags(argv: Sequence[str], define_flags: DefineFlags) -> flags.FlagValues:
    """The parsed flags of a program without a config file; those of default None must be given.

    Raises ConfigError for anything that the command line cannot mean.
    """
    values = _new_flags(define_flags)
    try:
        positional = values(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        choice = nearest(error.flagname, ['help', *values])
        raise ConfigError(f'--{error.flagname}: no such flag; nearest: --{choice}') from error
    except flags.Error as error:
        raise ConfigError(_one_line(error)) from error
    if positional:
        raise ConfigError(f'{positional[0]!r}: must be a flag; nearest: --{positional[0]}')
    for name in values:
        if values[name].default is None and values[name].value in (None, ''):
            raise ConfigError(f'--{name}: must be given; it is {values[name].help}')
    return values


def usage_of_flags(doc: str, define_flags: DefineFlags) -> str:
    """The text of --help of such a program."""
    values = _new_flags(define_flags)
    return '\n'.join([doc, *(f'  --{name}: {values[name].help}' for name in values)])


def usage(doc: str, define_flags: DefineFlags, keys: type | None = None) -> str:
    """Returns the text of --help: the program's docstring, its flags and the keys of `keys`."""
    text = usage_of_flags(f'{doc}\n  --config: {_HELP}', define_flags)
    return text if keys is None else '\n'.join([text, '', _KEYS, *describe(keys)])


def check_workdir(path: str) -> str:
    """Returns `path`, absolute. Raises ConfigError if it cannot become a directory of ours."""
    check_is_local(path)
    path = os.path.abspath(os.path.expanduser(path))
    ancestor = path
    while not os.path.lexists(ancestor):
        ancestor = os.path.dirname(ancestor)
    if not os.path.isdir(ancestor):
        raise ConfigError(f'--workdir={path}: must be a directory, but {ancestor} is a file')
    if not os.access(ancestor, os.W_OK):
        raise ConfigError(f'--workdir={path}: must be writable, but {ancestor} is not')
    return path


def fail(program: str, error: Exception | str, exit_code: int) -> int:
    """Says in one line on stderr why `program` ends; returns the exit code."""
    print(f'{program}: error: {" ".join(str(error).split())}', file=sys.stderr)
    return exit_code


def _new_flags(define_flags: DefineFlags) -> flags.FlagValues:
    values = flags.FlagValues()
    values.set_gnu_getopt()  # a forgotten `--config=` must not hide the flags behind it
    define_flags(values)
    return values


def config_file(path: str) -> str:
    """The file that --config=PATH means, as it was typed if it is there.

    'digits' and 'configs/digits.py' are the file of that name that came with the program, wherever
    it is called from; likewise 'recipes/awp'.
    """
    name = path.removeprefix('configs/').removesuffix('.py')
    own = os.path.join(CONFIGS, f'{name}.py')
    is_name = path in (name, f'configs/{name}.py') and '..' not in path
    return own if is_name and not os.path.isfile(path) and os.path.isfile(own) else path


def _with_config_file(argument: str) -> str:
    flag, equals, value = argument.partition('=')
    if flag.lstrip('-') != 'config' or not equals:
        return argument
    path, colon, rest = value.partition(':')
    return f'{flag}={config_file(path)}{colon}{rest}'


def _read_config(argv: Sequence[str]) -> tuple[ConfigDict, list[str]]:
    """Returns what --config names, and the command line without it."""
    argv = [argv[0], *map(_with_config_file, argv[1:])]
    values = _new_flags(lambda _: None)
    # sys_argv without overrides: those are parsed later, by `parse`.
    config_flags.DEFINE_config_file('config', None, _HELP, flag_values=values, sys_argv=[argv[0]])
    try:
        # Absl keeps the order of what it does not know, the overrides included.
        rest = values(argv, known_only=True)
        if not values['config'].present:
            guess = next((argument for argument in rest[1:] if '.py' in argument), _EXAMPLE)
            raise ConfigError(f'--config: must be given, {_HELP}; nearest: --config={guess}')
        path = config_flags.get_config_filename(values['config'])
        _check_file(path.partition(':')[0])
        config = values['config'].value
        getattr(config, 'items', None)  # raises the OSError that ml_collections has kept, if any
        if not isinstance(config, ConfigDict):
            raise ConfigError(f'--config={path}: get_config() must return a ConfigDict')
    except _FILE_ERRORS as error:
        raise ConfigError(f'--config: {_one_line(error)}') from error
    except flags.IllegalFlagValueError as error:
        raise _first_cause(error) from error
    except flags.Error as error:
        raise ConfigError(_one_line(error)) from error
    return config, list(rest)


def _check_file(path: str) -> None:
    if not os.path.isfile(path):
        if not os.path.dirname(path) and not path.endswith('.py'):
            names = [os.path.basename(own)[:-3] for own in glob(os.path.join(CONFIGS, '[!_]*.py'))]
            rule = 'no such configuration'
            raise ConfigError(f'--config={path}: {rule}; nearest: --config={nearest(path, names)}')
        there = glob(os.path.join(os.path.dirname(path), '*.py')) or glob('configs/*.py')
        choice = nearest(path, there) if there else _EXAMPLE
        raise ConfigError(f'--config={path}: no such file; nearest: --config={choice}')


def _first_cause(error: BaseException) -> ConfigError:
    """The error as the config file raised it: absl and ml_collections re-raise copies of it."""
    chain = [error]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
    refused = [link for link in chain if isinstance(link, ConfigError)]
    return refused[-1] if refused else ConfigError(f'--config: {_one_line(chain[-1])}')


def _one_line(error: BaseException) -> str:
    text = ' '.join(str(error).split())
    return text if isinstance(error, flags.Error) else f'{type(error).__name__}: {text}'


def _flatten(config: ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _flatten(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value


def _check_keys(argv: Sequence[str], keys: dict[str, Any]) -> None:
    for argument in argv:
        match = re.match(r'--?(?:no)?config\.([^=]*)', argument)
        if match and match[1] not in keys:
            members = [key for key in keys if key.startswith(f'{match[1]}.')]
            rule = 'is a group of keys, set one of them' if members else 'no such key'
            choice = nearest_key(match[1], members or list(keys))
            raise ConfigError(f'{argument}: {rule}; nearest: --config.{choice}')


def _explain_value(error: Exception, keys: dict[str, Any]) -> str:
    """Says what an override's value must be, where absl says how reading it failed."""
    match = re.match(r'flag --config\.([\w.]+)=(.*?): ', str(error), re.DOTALL)
    if not match or match[1] not in keys:
        return ' '.join(str(error).split())
    default = keys[match[1]]
    rule = TYPE_RULES.get(type(default), 'must be a tuple')
    return f'--config.{match[1]}={match[2]}: {rule}; nearest: {default!r}, as in the config file'
