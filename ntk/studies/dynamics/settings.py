"""What is measured of each probe, and of how many of them.

    settings = read(Settings, ntk_run.get_config())     # war_jax.lab.settings.read
    settings.digest             # of the keys that a measured number depends on

Values and what they mean stand in configs/ntk_run.py.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from war_jax.config import Count
from war_jax.config_rules import Rule, key
from war_jax.lab.settings import SMOKE

# Without two images there is nothing to align, and without a first and a last probe no change.
NONE_OR_SEVERAL = Rule('must be 0 or at least 2', lambda v: v == 0 or v >= 2, lambda v: '2')
# Keys that change no number, up to rounding.
_FREE = ('block_size', 'max_probes', 'smoke')


@dataclass(frozen=True)
class Settings:
    num_train: Annotated[int, NONE_OR_SEVERAL]
    num_test: Count
    batch_norm: Literal['inference', 'batch']
    attack_steps: Count
    block_size: Count
    max_probes: Annotated[int, NONE_OR_SEVERAL]
    smoke: bool = key(False, SMOKE, absent=False)

    @property
    def digest(self) -> str:
        """Equal for settings that give equal numbers."""
        kept = {key: value for key, value in asdict(self).items() if key not in _FREE}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
