"""`war-jax data`: see war_jax/data/cifar.py."""

import sys

from war_jax import command_line
from war_jax.config_rules import ConfigError
from war_jax.data import cifar


def main(argv: list[str]) -> int:
    """Without `Program`, which would start JAX."""
    if {'-h', '--help'} & set(argv):
        print(command_line.usage_of_flags(cifar.__doc__ or '', cifar.define_flags))
        return 0
    try:
        values = command_line.parse_flags(argv, cifar.define_flags)
        path = cifar.keep(values.name, values.data_dir, values.archive)
    except ConfigError as error:
        return command_line.fail('war-jax data', error, 2)
    except KeyboardInterrupt:
        return command_line.fail('war-jax data', 'interrupted', 130)
    print(f'{path}: {values.name} is there')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv))
