"""What a tuned thin network hands to a wide one: war.json.

    write_reference(workdir / 'war.json', reference)           # by a finished run of fixed lambda
    reference = read_reference('runs/thin')                    # that folder, or the file itself
    check_reference(reference, config, checksum)               # ConfigError: not comparable

A reference holds lambda and the risk ratio (natural risk / robust regularization) that the thin
network had with it, as its end value `zeta` and as a trajectory over training. A ratio means the
same thing only on the same images, under the same objective and attack: another run is refused.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from war_jax.config import Config, to_dict
from war_jax.config_rules import ConfigError, absent_values, refusal
from war_jax.records.files import plain, write_json

FILE = 'war.json'
# The keys of the configuration on which the meaning of the ratio depends.
CONDITIONS = (
    'data.name',
    'data.pad',
    'data.flip',
    'data.extra_fraction',
    'model.name',
    'model.activation',
    'model.normalization',
    'augment.randaugment',
    'augment.magnitude',
    'augment.cutout',
    'augment.cutmix',
    'augment.cutmix_alpha',
    'batch_norm.statistics',
    'threat.norm',
    'threat.epsilon',
    'attack.num_steps',
    'attack.step_size',
    'attack.init',
    'attack.init_scale',
    'attack.project_start',
    'attack.projection',
    'attack.batch_norm',
    'attack.early_stop',
    'attack.warmup_epochs',
    'objective.name',
    'objective.label_smoothing',
    'objective.grad_align',
    'objective.helper',
    'objective.helper_weight',
    'objective.helper_reach',
    'awp.gamma',
    'war.averaging_epochs',
)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A finished run of constant lambda, as far as width adjusted regularization needs it."""

    lam: float  # > 0
    zeta: float  # > 0, the averaged risk ratio at the end of training
    trajectory: tuple[float, ...]  # > 0, the same at the end of each epoch; the last one is zeta
    depth: int
    widen_factor: float
    seed: int
    checksum: str  # of the images and labels
    conditions: Mapping[str, Any]  # key -> value, for the keys in CONDITIONS
    provenance: Mapping[str, Any]  # of the run: commit, versions, device, command, data


def make_reference(
    config: Config,
    checksum: str,
    ratios: Sequence[float | None],
    provenance: Mapping[str, Any],
) -> Reference | None:
    """Of a finished run with these averaged risk ratios at the ends of its epochs.

    None where lambda or a ratio is no positive number (Madry's regularization can vanish, a
    natural training has none): such a run cannot serve as a reference.
    """
    positive = [ratio for ratio in ratios if ratio is not None and 0 < ratio < math.inf]
    if not positive or len(positive) < len(ratios) or config.objective.lam <= 0:
        return None
    return Reference(
        lam=config.objective.lam,
        zeta=positive[-1],
        trajectory=tuple(positive),
        depth=config.model.depth,
        widen_factor=config.model.widen_factor,
        seed=config.seed,
        checksum=checksum,
        conditions=_conditions(config),
        provenance=provenance,
    )


def write_reference(path: Path, reference: Reference) -> None:
    write_json(path, dataclasses.asdict(reference))


def read_reference(path: str | Path) -> Reference:
    """From a war.json or from the folder of the run that wrote it.

    Raises ConfigError, one line, if there is none or it cannot be read.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        rule = f'must be the folder of a finished run with constant lambda, or its {FILE}'
        raise refusal('war.reference', str(path), f'{rule}; there is no {file}')
    try:
        values = json.loads(file.read_text('utf-8'))
        reference = Reference(**{**values, 'trajectory': tuple(values['trajectory'])})
        numbers = (reference.lam, reference.zeta, *reference.trajectory)
        if not all(isinstance(x, int | float) and 0 < x < math.inf for x in numbers):
            raise ValueError('lambda or a risk ratio in it is not a positive number')
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        rule = f'must be a {FILE} that a run of this program wrote ({reason})'
        raise refusal('war.reference', str(path), rule) from error
    return reference


def check_reference(reference: Reference, config: Config, checksum: str) -> None:
    """Raises ConfigError, one line naming what differs, unless `config` may be held to it."""
    # A reference from before there was a key has what the key says of its absence.
    theirs = {**plain(absent_values(Config)), **reference.conditions}
    ours = plain(_conditions(config))
    changed = [
        f'{key} = {ours[key]!r} (there {theirs.get(key)!r})'
        for key in CONDITIONS
        if ours[key] != theirs.get(key)
    ]
    if not changed and checksum != reference.checksum:
        changed = ['other training, validation or test images']
    if changed:
        raise ConfigError(
            f'war.reference = {config.war.reference!r}: must be of the same data, threat, '
            f'objective and attack, else its risk ratio means something else: here '
            f'{"; ".join(changed)}; nearest: train the thin network under this configuration'
        )


def _conditions(config: Config) -> dict[str, Any]:
    tree = to_dict(config)

    def value(key: str) -> Any:
        group, name = key.split('.')
        return tree[group][name]

    return {key: value(key) for key in CONDITIONS}
