"""The default configuration of a run: of every key what war_jax/config_keys.py says.

Not run by itself: configs/digits.py and configs/wrn.py start from it and change what differs.
`python -m war_jax.main --help` prints all keys.
"""

from dataclasses import asdict

from ml_collections.config_dict import ConfigDict

from war_jax.config import Config
from war_jax.config_argument import Tree


def get_config() -> Tree:
    """Returns a locked ConfigDict: a key that is not there cannot be set."""
    return ConfigDict(asdict(Config())).lock()
