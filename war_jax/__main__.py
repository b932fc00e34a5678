"""All commands of war_jax and ntk under one name.

    war-jax COMMAND [FLAGS]        # or: python -m war_jax COMMAND [FLAGS]
    war-jax COMMAND --help
    war-jax --version
"""

import sys
from importlib import import_module

from war_jax import __version__, command_line
from war_jax.config_rules import nearest

# Command -> the module whose `main` it is, and what it does.
_STUDIES = 'war_jax.studies'
COMMANDS = {
    'train': ('war_jax.main', 'train and evaluate one network'),
    'evaluate': ('war_jax.robustness.command', 'robust accuracy under strong attacks'),
    'study': (f'{_STUDIES}.width.__main__', 'does wider help? Widths and λ, and WAR beside them'),
    'scaling': (f'{_STUDIES}.scaling.__main__', 'which size or switch helps, and by which law?'),
    'regularization': (f'{_STUDIES}.regularization.__main__', 'is robustness a regularization?'),
    'export': ('war_jax.export.__main__', 'weights for PyTorch, with a model card'),
    'rehearse': ('war_jax.rehearse', 'compile a run for chips that are not there: does it fit?'),
    'data': ('war_jax.get_data', 'CIFAR-10 and CIFAR-100 from their published archives'),
    'ntk': ('ntk.main', 'numerical checks of the theory of wide networks'),
}


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code, 2 for one that there is not."""
    _, *arguments = sys.argv if argv is None else argv
    name = arguments[0] if arguments else '--help'
    if name == '--version':
        print(f'war-jax {__version__}')
        return 0
    if name in ('--help', '-h', 'help'):
        lines = [f'    {command:16}{about}' for command, (_, about) in COMMANDS.items()]
        print('\n'.join([__doc__ or '', *lines]))
        return 0
    if name not in COMMANDS:
        choice = nearest(name, COMMANDS)
        return command_line.fail('war-jax', f'{name}: no such command; nearest: {choice}', 2)
    found = import_module(COMMANDS[name][0])
    return found.main([f'war-jax {name}', *arguments[1:]])


if __name__ == '__main__':
    sys.exit(main())
