"""`python -m war_jax.evaluate`: see war_jax/robustness/command.py.

Never imported: `war_jax.evaluate` is the function of that name.
"""

import sys

from war_jax.robustness.command import main

if __name__ == '__main__':
    sys.exit(main(sys.argv))
