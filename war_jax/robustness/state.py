"""An evaluation on disk: what is known so far, from which the same command goes on.

    save(workdir / 'state.npz', ensemble)
    load(workdir / 'state.npz', ensemble)          # as if it had not been interrupted

Runs of attacks that were under way are made again from their start, which gives the same numbers.
"""

from pathlib import Path

import numpy as np

from war_jax.config_rules import ConfigError
from war_jax.records.files import replacing
from war_jax.robustness.ensemble import Ensemble, Result
from war_jax.robustness.pool import Search

FIELDS = ('stage_of', 'no_gradient', 'not_finite', 'no_answer')


def save(path: Path, ensemble: Ensemble) -> None:
    arrays: dict[str, np.ndarray] = {}
    for number, result in enumerate(ensemble.results):
        search = result.search
        found = sorted(search.adversarial)
        arrays |= {f'{number}/{name}': getattr(search, name) for name in FIELDS}
        arrays |= {
            f'{number}/seen': result.seen,
            f'{number}/passed': np.packbits(search.passed, axis=-1),
            f'{number}/found': np.array(found, np.int32),
            f'{number}/images': np.array(
                [search.adversarial[i] for i in found], np.float32
            ).reshape(-1, *search.image_shape),
            f'{number}/counts': np.array(
                [result.seconds, result.steps, search.withdrawn, result.is_finished], np.float64
            ),
        }
    # Not compressed: images with noise in them would take long and gain little.
    with replacing(path) as temporary, temporary.open('wb') as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(path: Path, ensemble: Ensemble) -> None:
    """Nothing happens if there is no such file. ConfigError for one of something else."""
    if not path.exists():
        return
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        ensemble.results = [
            _restore(arrays, number, attack.name, ensemble)
            for number, attack in enumerate(ensemble.attacks)
            if f'{number}/seen' in arrays
        ]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f'{path}: not the state of this evaluation ({error}): use a new workdir'
        ) from error


def _restore(
    arrays: dict[str, np.ndarray], number: int, name: str, ensemble: Ensemble
) -> Result:
    def of(key: str) -> np.ndarray:
        return arrays[f'{number}/{key}']

    seconds, steps, withdrawn, is_finished = of('counts')
    num_examples = len(ensemble.labels)
    passed = np.unpackbits(of('passed'), axis=-1, count=num_examples).astype(bool)
    search = Search(num_examples, len(passed), ensemble.images.shape[1:])
    for field in FIELDS:
        setattr(search, field, of(field))
    search.passed, search.withdrawn = passed, int(withdrawn)
    search.adversarial = dict(zip(map(int, of('found')), of('images'), strict=True))
    return Result(name, of('seen'), search, float(seconds), int(steps), bool(is_finished))
