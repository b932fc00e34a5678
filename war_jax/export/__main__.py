"""Writes a run's best network for PyTorch, with a model card.

    python -m war_jax.export runs/demo --to=demo.safetensors
    python -m war_jax.export runs/demo --to=demo.pt --layout=robustbench

The first argument is the folder of a run of war_jax.main. --to ends with .safetensors, which also
says how the network is to be called, or with .pt, which PyTorch writes if it is installed. The card
is written beside it, with the end .md, and for --layout=robustbench a result with the end .json.
Exit codes: 0 done, 1 writing failed, 2 refused (one line on stderr says why).
"""

import sys
from pathlib import Path

from absl import flags

from war_jax.config_rules import ConfigError, nearest
from war_jax.program import Program

LAYOUTS = ('trades', 'robustbench')
SUFFIXES = ('.safetensors', '.pt')


def define_flags(values: flags.FlagValues) -> None:
    text = flags.DEFINE_string
    text('run', None, 'the folder of a run; may stand first, without --run=', flag_values=values)
    text('to', None, f'the file to write, {" or ".join(SUFFIXES)}', flag_values=values)
    text(
        'layout', LAYOUTS[0], f'whose class is to load it: {" or ".join(LAYOUTS)}',
        flag_values=values,
    )  # fmt: skip


def read(values: flags.FlagValues) -> tuple[Path, Path, str]:
    """The run's folder, the file to write and its layout. Raises ConfigError."""
    run, to = Path(values.run).expanduser(), Path(values.to).expanduser()
    if not (run / 'config.json').is_file():
        raise ConfigError(f'--run={run}: must be the folder of a run; it has no config.json')
    if to.suffix not in SUFFIXES:
        rule = f'must end with {" or ".join(SUFFIXES)}'
        raise ConfigError(f'--to={to}: {rule}; nearest: --to={to.with_suffix(SUFFIXES[0])}')
    is_again = any(to.with_suffix(suffix).exists() for suffix in SUFFIXES)
    for beside in (to.with_suffix('.md'), to.with_suffix('.json')):
        if beside.exists() and not is_again:
            raise ConfigError(
                f'--to={to}: {beside} is there and would be replaced; choose another name'
            )
    if values.layout not in LAYOUTS:
        rule = f'must be one of {", ".join(LAYOUTS)}'
        choice = nearest(values.layout, LAYOUTS)
        raise ConfigError(f'--layout={values.layout}: {rule}; nearest: --layout={choice}')
    return run, to, values.layout


def work(settings: tuple[Path, Path, str], command: str) -> int:
    from war_jax.export.files import export

    del command
    exported = export(*settings)
    for difference in exported.differences:
        print(f'warning: that class, as published, computes something else: {difference}')
    print('\n'.join(f'{name}: {path}' for name, path in exported.paths.items()))
    return 0


program = Program('war_jax.export', __doc__ or '', define_flags, read, work, has_config=False)


def main(argv: list[str]) -> int:
    """As `Program`, with the run's folder as first argument also without its flag."""
    name, *arguments = argv
    if arguments and not arguments[0].startswith('-'):
        arguments[0] = f'--run={arguments[0]}'
    return program([name, *arguments])


if __name__ == '__main__':
    sys.exit(main(sys.argv))
