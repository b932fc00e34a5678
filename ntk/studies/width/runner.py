"""Makes what is not yet there of a study of width: one file per network, then the report.

    run_width(settings, Path('runs/ntk-width'), command='python -m ntk.main ...')

A cell (parametrization, width, seed) is trained in all phases and measured in one go of seconds to
a minute; an interruption loses no more than that. The grid of a study may grow from call to call,
by widths, seeds, parametrizations and phases; what cells are made of may not change.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntk.empirical import empirical_ntk, kernel_distance, largest_eigenvalue
from ntk.networks import make_network, plain_weights
from ntk.networks.parametrization import PARAMETRIZATIONS, Scales
from ntk.spectral import lipschitz_bound
from ntk.studies.cells import Piece, leave_if_told, make_missing, opened
from ntk.studies.width.measure import Programs
from ntk.studies.width.report import write_report
from ntk.studies.width.settings import Cell, Phase, Settings
from ntk.studies.width.theory import (
    INITIALISATION,
    TrainingData,
    gradient_limits,
    is_smooth,
    limit_kernel,
)
from ntk.studies.width.training import Network, Rates, centred_targets, start
from war_jax.config_rules import ConfigError, refusal
from war_jax.data.device import as_unit_interval
from war_jax.data.sources import Dataset, Splits, balanced_subset, checksum, load
from war_jax.processes import on_first
from war_jax.records.files import plain, read_file, read_json, write_json
from war_jax.records.interrupt import Stop

Row = dict[str, Any]
# Folded into a seed's key, so that no two uses share their random numbers.
_WEIGHTS, _ATTACK, _MEASURE, _SPECTRAL = range(4)


def run_width(settings: Settings, workdir: Path, command: str) -> Path:
    """Returns the path of the report.

    Raises ConfigError for a workdir that is in use or of another study, DataError, and
    SystemExit(128 + signal number) after SIGINT or SIGTERM.
    """
    splits = load(settings.data_config)
    config = asdict(settings)
    grid = config.pop('grid')
    shape = {'image': splits.train.images.shape[1:], 'num_outputs': splits.num_classes}
    about_data = splits.provenance, checksum(splits)
    with opened(workdir, config, grid, *about_data, command, shape=shape) as stop:
        Runner(settings, splits, workdir, stop)()
        return Path(on_first(lambda: str(write_report(workdir))))


class Runner:
    """Calling it makes all cells and limits that are not there; of several processes, each makes
    its share, on its own device."""

    def __init__(self, settings: Settings, splits: Splits, workdir: Path, stop: Stop):
        self.settings, self.workdir, self.stop = settings, workdir, stop
        self._programs: Programs | None = None
        data = settings.data
        self.num_outputs = splits.num_classes
        self.train = chosen(splits.train, data.num_train)
        self.test = chosen(splits.test, data.num_test)
        self.image_shape = self.train[0].shape[1:]
        self.training_data = TrainingData(
            np.asarray(self.train[0]),
            np.asarray(centred_targets(self.train[1], self.num_outputs)),
            np.asarray(self.test[0]),
            is_smooth(settings.network.activation),
        )
        # Of both sets, as kernels are compared on both.
        few = [chosen(split, data.num_kernel) for split in (splits.train, splits.test)]
        self.kernel_images = jnp.concatenate([images for images, _ in few])

    def __call__(self) -> None:
        # First what infinite width says, which is quick and may find the data unsuitable.
        pairs = dict.fromkeys((cell.parametrization, cell.width) for cell in self.settings.cells)
        limits = [self.limit_piece(*pair) for pair in pairs]
        make_missing('infinite width', limits, self.stop)
        make_missing('networks', [self.piece(cell) for cell in self.settings.cells], self.stop)

    def limit_piece(self, name: str, width: float) -> Piece:
        path = self.limit_path(name, width)
        return Piece(
            path.stem, 1, path.exists(), lambda: write_json(path, self.limits(name, width))
        )

    def piece(self, cell: Cell) -> Piece:
        return Piece(
            cell.name,
            self.work(cell),
            self.is_finished(cell),
            lambda: self.make(cell, self.programs(cell.width)),
        )

    def programs(self, width: float) -> Programs:
        """Compiled once for the cells of a width, which follow one another."""
        if self._programs is None or self._programs.width != width:
            self._programs = Programs(self.settings, width, self.num_outputs)
        return self._programs

    def work(self, cell: Cell) -> int:
        """A rough guess of a cost that grows with the square of the width, for the bar."""
        largest = self.settings.grid.widths[-1]
        return round(4 + 60 * (cell.width / largest) ** 2)

    def path(self, cell: Cell) -> Path:
        return self.workdir / 'cells' / f'{cell.name}.json'

    def limit_path(self, name: str, width: float) -> Path:
        return self.workdir / 'limits' / f'{name}-m{width:g}.json'

    def is_finished(self, cell: Cell) -> bool:
        """In all phases of the grid, which may have grown since."""
        if not self.path(cell).exists():
            return False
        there = {row['phase'] for row in read_file(self.path(cell), read_json)}
        return {phase.label for phase in self.settings.phases} <= there

    def scales(self, name: str, width: float) -> Scales:
        network = self.settings.network
        model = make_network(self.settings.architecture, width, self.num_outputs)
        return PARAMETRIZATIONS[name].scales(
            model, self.image_shape, network.weight_variance, network.output_variance
        )

    def learning_rate(self, name: str, width: float) -> float:
        """eta / n times the NTK's largest eigenvalue is `training.speed` at the tuned width."""
        path = self.workdir / 'learning_rates' / f'{name}.json'
        tuned = self.settings.training.tuned_width
        if not path.exists():
            programs = Programs(self.settings, tuned, self.num_outputs)
            scales = self.scales(name, tuned)
            weights = scales.draw(
                plain_weights(programs.model, jax.random.key(0), self.image_shape)
            )
            f = programs.function(name, scales)
            largest = largest_eigenvalue(f, weights, self.train[0])
            rate = self.settings.training.speed * len(self.train[1]) / largest
            write_json(path, {'largest_eigenvalue': largest, 'learning_rate': rate})
        rate = read_file(path, read_json)['learning_rate']
        factor = PARAMETRIZATIONS[name].learning_rate_factor
        return rate * factor(self.features(width)) / factor(self.features(tuned))

    def features(self, width: float) -> int:
        """m: how many units or channels the last layer sees."""
        return round(self.scales('ntk', width).fan_ins['head']['kernel'])

    def make(self, cell: Cell, programs: Programs) -> None:
        scales = self.scales(cell.parametrization, cell.width)
        key = jax.random.key(cell.seed)
        plain_draw = plain_weights(
            programs.model, jax.random.fold_in(key, _WEIGHTS), self.image_shape
        )
        weights = scales.draw(plain_draw)
        f = programs.function(cell.parametrization, scales)
        kernel = self.kernel(f, weights)
        limit = self.limit_of_kernel(cell.parametrization, cell.width)
        network = start(weights, scales, 1.0)
        first = {
            **self.measured(programs, network, key),
            'spectral_product': self.spectral_product(programs, network, scales, key),
            'kernel_error': None if limit is None else kernel_distance(kernel, limit),
        }
        rows = [self.row(cell, scales, INITIALISATION, 0.0, first)]
        for phase in self.settings.phases:
            network, losses = self.trained(cell, phase, programs, weights, scales)
            rows.append(
                self.row(
                    cell,
                    scales,
                    phase.label,
                    phase.lam,
                    {
                        **self.measured(programs, network, key),
                        'spectral_product': self.spectral_product(
                            programs, network, scales, key
                        ),
                        **floats(programs.movement(network, self.test[0])),
                        'kernel_drift': kernel_distance(
                            self.kernel(f, network.weights), kernel
                        ),
                        'first_loss': losses[0],
                        'last_loss': losses[-1],
                    },
                )
            )
        write_json(self.path(cell), rows)

    def trained(
        self, cell: Cell, phase: Phase, programs: Programs, weights: Any, scales: Scales
    ) -> tuple[Network, list[float]]:
        """The network after the phase, and the loss before its first and its last step."""
        training = self.settings.training
        alpha = training.lazy_scale if phase.lazy else 1.0
        plain_descent = phase.name == 'natural_lazy'
        rate = self.learning_rate(cell.parametrization, cell.width)
        rates = Rates(
            # KL adds to the curvature in proportion to lambda.
            learning_rate=jnp.float32(rate / (1.0 + phase.lam)),
            momentum=jnp.float32(0.0 if plain_descent else training.momentum),
            lam=jnp.float32(phase.lam),
        )
        key = jax.random.fold_in(jax.random.key(cell.seed), _ATTACK)
        network, losses = start(weights, scales, alpha), []
        for number in range(training.num_steps):
            network, loss = programs.steps[phase.name](network, key, number, rates, *self.train)
            if number in (0, training.num_steps - 1):
                losses.append(float(loss))
            leave_if_told(self.stop)
        return network, losses

    def measured(self, programs: Programs, network: Network, key: Array) -> Row:
        key = jax.random.fold_in(key, _MEASURE)
        values: Row = {}
        for split, examples in (('train', self.train), ('test', self.test)):
            found = floats(programs.measure(network, key, *examples))
            values |= {f'{name}_{split}': value for name, value in found.items()}
        return values

    def spectral_product(
        self, programs: Programs, network: Network, scales: Scales, key: Array
    ) -> float | None:
        """None for g of a lazy phase, no composition of layers, and without Lipschitz constant."""
        if float(network.alpha) != 1.0 or self.settings.network.activation == 'relu2':
            return None
        matrices = {'params': scales.effective(network.weights)}
        key = jax.random.fold_in(key, _SPECTRAL)
        return lipschitz_bound(programs.model, matrices, self.image_shape, key).bound

    def kernel(self, f: Any, weights: Any) -> np.ndarray:
        return empirical_ntk(f, weights, self.kernel_images)

    def limit_of_kernel(self, name: str, width: float) -> np.ndarray | None:
        kernel = limit_kernel(self.settings, self.scales(name, width))
        if kernel is None:
            return None
        return np.asarray(kernel(self.kernel_images, None, 'ntk'))

    def limits(self, name: str, width: float) -> dict[str, float | None]:
        """Input gradients of infinite width, on the test images; see `ntk.studies.width.theory`."""
        rate = self.learning_rate(name, width)
        kernel = limit_kernel(self.settings, self.scales(name, width), rate)
        if kernel is None:
            return {'initial': None, 'trained': None}
        num_steps = self.settings.training.num_steps
        try:
            return gradient_limits(kernel, self.training_data, num_steps)._asdict()
        except ValueError as error:
            raise ConfigError(f'data.name = {self.settings.data.name!r}: {error}') from error

    def row(self, cell: Cell, scales: Scales, phase: str, lam: float, values: Row) -> Row:
        return {
            'parametrization': cell.parametrization,
            'width': cell.width,
            'features': round(scales.fan_ins['head']['kernel']),
            'seed': cell.seed,
            'phase': phase,
            'lambda': lam,
            **plain(values),
        }


def chosen(dataset: Dataset, count: int) -> tuple[Array, Array]:
    """So many images in [0, 1], balanced over the classes, and their labels.

    Raises ConfigError if there are fewer.
    """
    if count > len(dataset.labels):
        rule = f'must be at most {len(dataset.labels)}, the number of images'
        raise refusal('data.num_train or data.num_test', count, rule, f'{len(dataset.labels)}')
    few = dataset.take(balanced_subset(dataset.labels, count))
    return as_unit_interval(jnp.asarray(few.images), jnp.dtype('float32')), jnp.asarray(few.labels)


def floats(values: dict[str, Array]) -> Row:
    return {name: float(value) for name, value in jax.device_get(values).items()}

