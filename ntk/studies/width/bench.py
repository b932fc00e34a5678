"""Makes the cells of a study of width: a network in all its phases, or what infinite width says.

    bench = Bench(settings, Path('runs/ntk-width'))
    rows = bench.make(settings.networks[0], stop)     # seconds to a minute
    limits = bench.make(Limit('ntk', 512.0), stop)    # {'initial': 1.0, 'trained': 0.9}

The learning rates that all cells of a parametrization share are kept in learning_rates/ of the
workdir.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntk.empirical import empirical_ntk, kernel_distance, largest_eigenvalue
from ntk.networks import plain_weights
from ntk.networks.parametrization import PARAMETRIZATIONS, Scales
from ntk.spectral import lipschitz_bound
from ntk.studies.images import balanced, centred_targets
from ntk.studies.width.measure import Programs
from ntk.studies.width.settings import INITIALISATION, Cell, Limit, Phase, Settings
from ntk.studies.width.theory import (
    Shape,
    TrainingData,
    features_of,
    gradient_limits,
    is_smooth,
    limit_kernel,
    scales_of,
)
from ntk.studies.width.training import Network, Rates, start
from war_jax.config_rules import ConfigError, refusal
from war_jax.data.sources import checksum, load
from war_jax.lab.experiment import Row
from war_jax.records.files import read_file, read_json, write_json
from war_jax.records.interrupt import Stop

# Folded into a seed's key, so that no two uses share their random numbers.
_WEIGHTS, _ATTACK, _MEASURE = range(3)


class Bench:
    """Raises ConfigError for widths that are the same network, and for too many images."""

    def __init__(self, settings: Settings, workdir: Path):
        self.settings, self.workdir = settings, workdir
        self._programs: Programs | None = None
        splits, sizes = load(settings.data_config), settings.data
        self.data, self.checksum = splits.provenance, checksum(splits)
        self.shape = Shape(splits.train.images.shape[1:], splits.num_classes)
        widths = settings.grid.widths
        if len({self.features(width) for width in widths}) < len(widths):
            raise refusal('grid.widths', widths, 'must give different numbers of channels')
        self.train = balanced(splits.train, sizes.num_train)
        self.test = balanced(splits.test, sizes.num_test)
        self.training_data = TrainingData(
            np.asarray(self.train[0]),
            np.asarray(centred_targets(self.train[1], self.shape.num_outputs)),
            np.asarray(self.test[0]),
            is_smooth(settings.network.activation),
        )
        # Of both sets, as kernels are compared on both.
        few = [balanced(split, sizes.num_kernel) for split in (splits.train, splits.test)]
        self.kernel_images = jnp.concatenate([images for images, _ in few])

    @property
    def about(self) -> dict[str, Any]:
        return {'shape': self.shape._asdict()}

    def work(self, cell: Cell | Limit) -> int:
        """Of a network it grows with the square of the width."""
        if isinstance(cell, Limit):
            return 1
        return round(4 + 60 * (cell.width / self.settings.grid.widths[-1]) ** 2)

    def make(self, cell: Cell | Limit, stop: Stop) -> Row | list[Row]:
        """Raises ConfigError for images of which infinite width says nothing."""
        if isinstance(cell, Limit):
            return self.limits(cell)
        return self.rows(cell, self.programs(cell.width), stop)

    def programs(self, width: float) -> Programs:
        """Compiled once for the cells of a width, which follow one another."""
        if self._programs is None or self._programs.width != width:
            self._programs = Programs(self.settings, width, self.shape.num_outputs)
        return self._programs

    def scales(self, name: str, width: float) -> Scales:
        return scales_of(self.settings, name, width, self.shape)

    def features(self, width: float) -> int:
        return features_of(self.scales('ntk', width))

    def learning_rate(self, name: str, width: float) -> float:
        """eta / n times the NTK's largest eigenvalue is `training.speed` at the tuned width."""
        path = self.workdir / 'learning_rates' / f'{name}.json'
        tuned = self.settings.training.tuned_width
        if not path.exists():
            programs = Programs(self.settings, tuned, self.shape.num_outputs)
            scales = self.scales(name, tuned)
            drawn = plain_weights(programs.model, jax.random.key(0), self.shape.image)
            f = programs.function(name, scales)
            largest = largest_eigenvalue(f, scales.draw(drawn), self.train[0])
            rate = self.settings.training.speed * len(self.train[1]) / largest
            write_json(path, {'largest_eigenvalue': largest, 'learning_rate': rate})
        rate = read_file(path, read_json)['learning_rate']
        factor = PARAMETRIZATIONS[name].learning_rate_factor
        return rate * factor(self.features(width)) / factor(self.features(tuned))

    def limits(self, cell: Limit) -> dict[str, float | None]:
        """Input gradients of infinite width, on the test images; see `ntk.studies.width.theory`."""
        scales = self.scales(cell.parametrization, cell.width)
        rate = self.learning_rate(cell.parametrization, cell.width)
        kernel = limit_kernel(self.settings, scales, rate)
        if kernel is None:
            return {'initial': None, 'trained': None}
        num_steps = self.settings.training.num_steps
        try:
            return gradient_limits(kernel, self.training_data, num_steps)._asdict()
        except ValueError as error:
            raise ConfigError(f'data.name = {self.settings.data.name!r}: {error}') from error

    def rows(self, cell: Cell, programs: Programs, stop: Stop) -> list[Row]:
        """Of the start and of the phases, all from the same start."""
        scales = self.scales(cell.parametrization, cell.width)
        key = jax.random.key(cell.seed)
        weights_key = jax.random.fold_in(key, _WEIGHTS)
        weights = scales.draw(plain_weights(programs.model, weights_key, self.shape.image))
        f = programs.function(cell.parametrization, scales)
        kernel = self.kernel(f, weights)
        limit = limit_kernel(self.settings, scales)
        first = start(weights, scales, 1.0)

        def row(network: Network, phase: str, lam: float, **values: Any) -> Row:
            return {
                'parametrization': cell.parametrization, 'width': cell.width,
                'features': features_of(scales), 'seed': cell.seed, 'phase': phase, 'lambda': lam,
                **self.measured(programs, network, key),
                'spectral_product': self.spectral_product(programs, network, scales),
                **values,
            }  # fmt: skip

        error = None if limit is None else kernel_distance(
            kernel, np.asarray(limit(self.kernel_images, None, 'ntk'))
        )  # fmt: skip
        rows = [row(first, INITIALISATION, 0.0, kernel_error=error)]
        for phase in self.settings.phases:
            network, losses = self.trained(cell, phase, programs, weights, scales, stop)
            if network is None:
                # Of a risk that was not reached nothing is measured, as of networks that diverged.
                rows.append({name: None for name in rows[0]} | asdict(cell) | {
                    'features': features_of(scales), 'phase': phase.label, 'lambda': phase.lam,
                })  # fmt: skip
                continue
            drift = kernel_distance(self.kernel(f, network.weights), kernel)
            rows.append(
                row(
                    network,
                    phase.label,
                    phase.lam,
                    **floats(programs.movement(network, self.test[0])),
                    kernel_drift=drift,
                    first_loss=losses[0],
                    last_loss=losses[-1],
                    num_steps=len(losses),
                )
            )
        return rows

    def trained(
        self,
        cell: Cell,
        phase: Phase,
        programs: Programs,
        weights: Any,
        scales: Scales,
        stop: Stop,
    ) -> tuple[Network | None, list[float]]:
        """The network after the phase, None if it ended elsewhere; the loss before each step."""
        training = self.settings.training
        alpha = training.lazy_scale if phase.lazy else 1.0
        plain_descent = phase.name == 'natural_lazy'
        if phase.own_rate:
            f = programs.function(cell.parametrization, scales)
            rate = (
                training.speed * len(self.train[1]) / largest_eigenvalue(f, weights, self.train[0])
            )
        else:
            rate = self.learning_rate(cell.parametrization, cell.width)
        rates = Rates(
            # KL adds to the curvature in proportion to lambda.
            learning_rate=jnp.float32(rate / (1.0 + phase.lam)),
            momentum=jnp.float32(0.0 if plain_descent else training.momentum),
            lam=jnp.float32(phase.lam),
        )
        key = jax.random.fold_in(jax.random.key(cell.seed), _ATTACK)
        network, losses = start(weights, scales, alpha), []
        for number in range(training.most_steps if phase.matched else training.num_steps):
            network, loss = programs.steps[phase.step](network, key, number, rates, *self.train)
            losses.append(float(loss))
            stop.leave_if_told()
            if phase.matched and programs.risk(network, *self.train) <= training.matched_risk:
                return network, losses
        return None if phase.matched else network, losses

    def measured(self, programs: Programs, network: Network, key: Array) -> Row:
        key = jax.random.fold_in(key, _MEASURE)
        values: Row = {}
        for split, examples in (('train', self.train), ('test', self.test)):
            found = floats(programs.measure(network, key, *examples))
            values |= {f'{name}_{split}': value for name, value in found.items()}
        return values

    def spectral_product(
        self, programs: Programs, network: Network, scales: Scales
    ) -> float | None:
        """None for g of a lazy phase, no composition of layers, and without Lipschitz constant."""
        if float(network.alpha) != 1.0 or self.settings.network.activation == 'relu2':
            return None
        matrices = {'params': scales.effective(network.weights)}
        return lipschitz_bound(programs.model, matrices, self.shape.image).bound

    def kernel(self, f: Any, weights: Any) -> np.ndarray:
        return empirical_ntk(f, weights, self.kernel_images)


def floats(values: dict[str, Array]) -> Row:
    return {name: float(value) for name, value in jax.device_get(values).items()}
