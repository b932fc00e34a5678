"""A robust accuracy from a network to a report, interruptible at any time.

    evaluation = run(settings, 'runs/demo/evaluation', command)        # contents of evaluation.json

workdir/ then holds evaluation.json, evaluation.md, examples.npz (a row per image), state.npz (the
adversarial images, too) and figures/stability_curve.png.
"""

import hashlib
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from war_jax.attacks.threat import ThreatModel
from war_jax.config import Config, ConfigError, DataConfig
from war_jax.data.arrays import DataError, Dataset
from war_jax.data.sources import balanced_subset, load
from war_jax.mesh import check_divisible, make_mesh
from war_jax.processes import is_first
from war_jax.records.console import Display
from war_jax.records.files import write_json, write_npz
from war_jax.records.interrupt import Interrupted, Stop, signals
from war_jax.records.provenance import claim_workdir, lock_workdir
from war_jax.robustness import state
from war_jax.robustness.doubts import doubts
from war_jax.robustness.ensemble import Ensemble, Result, make_attacks
from war_jax.robustness.network import NO_OPTIONS, FileOptions, Network, read_network
from war_jax.robustness.page import contents, write_page
from war_jax.robustness.progress import CURVE_EXAMPLES, bars, curve

SECONDS_BETWEEN_SAVES = 60.0


@dataclass(frozen=True)
class Settings:
    """norm, epsilon and data: '' or 0 for those of the run that is evaluated."""

    checkpoint: str
    attack: str = 'autoattack'
    norm: Literal['', 'linf', 'l2'] = ''
    epsilon: float = 0.0
    data: str = ''
    data_dir: str = ''
    file: FileOptions = NO_OPTIONS  # of a network in a file
    num_examples: int = 0  # of the test set, balanced over the classes; 0: all
    batch_size: int = 256
    seed: int = 0
    stability: bool = True
    curve_examples: int = CURVE_EXAMPLES


def run(settings: Settings, workdir: str | Path, command: str | None = None) -> dict[str, Any]:
    """Evaluates a checkpoint, or goes on where an earlier call stopped.

    Raises ConfigError for a checkpoint or setting that cannot be, for data that cannot be had, and
    for a workdir that is in use or holds another evaluation; SystemExit(128 + signal number) after
    SIGINT or SIGTERM, with everything found so far on disk.
    """
    workdir, mesh, display = Path(workdir), make_mesh(), Display()
    check_divisible(mesh, '--batch_size', settings.batch_size)
    network = read_network(settings.checkpoint, settings.file)
    settings, data = completed(settings, network.config)
    try:
        splits = load(data)
    except DataError as error:
        raise ConfigError(f'{error}; other data can be named by --data') from error
    images, labels, indices = chosen(splits.test, settings.num_examples)
    _check_fits(network, splits.num_classes, images)
    threat = ThreatModel(settings.norm or 'linf', settings.epsilon)
    height, width, channels = images.shape[1:]
    attacks = make_attacks(settings.attack, threat, (height, width, channels))
    about = {**asdict(settings), 'network': network.description}
    with lock_workdir(workdir), signals() as stop:
        digest = checksum(network.params, images, labels)
        devices = list(mesh.devices.flat)
        # What the sentence says of training images behind the semicolon is of no interest here.
        shown = f'{len(labels):,} of {len(splits.test.labels):,} test images'
        sentence = f'{splits.provenance.partition(";")[0]}; {shown}.'
        origin = claim_workdir(workdir, about, sentence, digest, command, devices)
        display.say(
            f'{network.description}; {splits.name}: {shown}, '
            f'{settings.attack}, {threat.norm} epsilon = {threat.epsilon:.4g}, on {len(devices)} x '
            f'{devices[0].device_kind}'
        )
        ensemble = Ensemble(
            network.classify, network.params, images, labels, attacks, settings.epsilon, mesh,
            settings.batch_size, settings.seed, settings.stability,
        )  # fmt: skip
        path = workdir / 'state.npz'
        state.load(path, ensemble)
        work(ensemble, display, stop, path)
        radii = curve(ensemble, threat, settings.curve_examples, display)
        found = doubts(ensemble, radii, network.assumed)
        result = {'settings': about, **contents(ensemble, threat, radii, found), 'origin': origin}
        if is_first():
            write_npz(workdir / 'examples.npz', per_example(ensemble, indices))
            write_page(workdir, result)
            write_json(workdir / 'evaluation.json', result)
    return result


def work(ensemble: Ensemble, display: Display, stop: Stop, path: Path) -> None:
    """All attacks with a bar for each; SystemExit after a signal, with the state saved."""
    saved, took = time.monotonic(), 0.0

    def on_step(result: Result, remaining: int) -> None:
        nonlocal saved, took
        show(result, remaining)
        now = time.monotonic()
        if stop.poll():
            raise Interrupted
        if is_first() and now - saved > max(SECONDS_BETWEEN_SAVES, 20 * took):
            state.save(path, ensemble)
            saved = time.monotonic()
            took = saved - now

    try:
        with bars(ensemble, display) as show:
            ensemble.run(on_step)
    except Interrupted:
        raise SystemExit(128 + stop.poll()) from None
    finally:
        if is_first():
            state.save(path, ensemble)


def completed(settings: Settings, config: Config | None) -> tuple[Settings, DataConfig]:
    """With what the run says in place of what was left open. Raises ConfigError."""
    if config is None:
        for name, example in (('norm', 'linf'), ('epsilon', '8/255'), ('data', 'cifar10')):
            if not getattr(settings, name):
                raise ConfigError(
                    f'--{name}: must be given, since a file does not say how its network was '
                    f'trained; for example --{name}={example}'
                )
        return settings, DataConfig.whole(settings.data, settings.data_dir)
    norm: Any = settings.norm or config.threat.norm
    epsilon = settings.epsilon or config.threat.epsilon
    if not epsilon > 0:
        raise ConfigError('--epsilon: must be given and above 0; that of the run is 0')
    data = settings.data or config.data.name
    data_dir = settings.data_dir or config.data.data_dir
    settings = replace(settings, norm=norm, epsilon=epsilon, data=data)
    return settings, DataConfig.whole(data, data_dir)


def chosen(test: Dataset, num_examples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels, and their numbers in the test set. Raises ConfigError."""
    if num_examples > len(test.labels):
        raise ConfigError(
            f'--num_examples={num_examples}: must be at most {len(test.labels)}, the test images'
        )
    indices = balanced_subset(test.labels, num_examples)
    return test.images[indices], test.labels[indices], indices


def checksum(params: Any, images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of all weights and data: a state file belongs to these alone."""
    digest = hashlib.sha256()
    for array in (*jax.tree.leaves(params), images, labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def per_example(ensemble: Ensemble, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays (n,): broken_by is the number of the attack, -1 for none; stage, its target or run."""
    broken_by = np.full(len(indices), -1, np.int32)
    stage = np.full(len(indices), -1, np.int32)
    for number, result in enumerate(ensemble.results):
        broken = result.search.broken & (broken_by < 0)
        broken_by[broken], stage[broken] = number, result.search.stage_of[broken]
    return {
        'index': indices.astype(np.int32),
        'label': ensemble.labels,
        'prediction': ensemble.predictions,
        'natural': ensemble.natural,
        'stable': ensemble.stable,
        'robust': ensemble.robust,
        'broken_by': broken_by,
        'stage': stage,
        'attacks': np.array([result.name for result in ensemble.results]),
    }


def _check_fits(network: Network, num_classes: int, images: np.ndarray) -> None:
    if num_classes != network.num_classes or images.shape[-1] != network.channels:
        raise ConfigError(
            f'--checkpoint: a network of {network.num_classes} classes and {network.channels} '
            f'channels, for data of {num_classes} classes and {images.shape[-1]} channels; '
            'use --data'
        )
