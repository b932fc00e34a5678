"""Makes the cells of a study of Adv-NTK: one predictor each, a kernel's or a network's.

    bench = Bench(settings, Path('runs/adv-ntk'))
    row = bench.make(settings.cells[0], stop)

A cell is a width (or infinite width), a way to train and a seed, which draws the weights and which
images are trained on and which validate.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntk.infinite import fully_connected
from ntk.networks import Architecture, make_network, plain_weights
from ntk.networks.parametrization import PARAMETRIZATIONS
from ntk.studies.adversarial.attack import Images, accuracies
from ntk.studies.adversarial.kernel import coefficients, predictor, train_times
from ntk.studies.adversarial.networks import make_programs
from ntk.studies.adversarial.settings import INFINITE, Cell, Settings
from ntk.studies.images import balanced, centred_targets
from war_jax.data.sources import checksum, load
from war_jax.lab.experiment import Row
from war_jax.lowering import in_double_precision
from war_jax.records.interrupt import Stop

# Folded into a seed's key, so that no two uses share their random numbers.
_WEIGHTS, _TRAIN, _VALIDATE, _TEST = range(4)
_FULLY_LEARNED = 1e6  # times of a kernel that interpolates, in units of 1 / (mean diagonal)


class Bench:
    """Kernels on training images are solved in float64, all else is float32.

    Raises ConfigError if there are fewer images than the settings ask for, and DataError.
    """

    def __init__(self, settings: Settings, workdir: Path):
        del workdir
        self.settings, self.about = settings, {}
        splits = load(settings.data_config)
        self.data, self.checksum = splits.provenance, checksum(splits)
        sizes, network = settings.data, settings.network
        self.num_outputs = splits.num_classes
        self.pool = balanced(splits.train, sizes.num_train + sizes.num_validation)
        self.test = balanced(splits.test, sizes.num_test)
        self.kernel = fully_connected(
            network.num_layers, network.activation, network.weight_variance, network.output_variance
        )
        self.programs: tuple[Any, Any] | None = None
        kernel, ball = self.kernel, settings.ball
        budget = settings.budget(settings.attack.measure_steps)
        self.kernel_correct = jax.jit(
            lambda x, alpha, keys, images: accuracies(
                predictor(kernel, x, alpha), keys, images, ball, budget
            )
        )

    def work(self, cell: Cell) -> int:
        """A rough guess: a kernel's predictor costs about as much as a network's."""
        del cell
        return 1

    def make(self, cell: Cell, stop: Stop) -> Row:
        make = self.make_kernel if cell.width == INFINITE else self.make_network
        with in_double_precision():
            return {**cell.values, **make(cell, stop)}

    def images(self, seed: int) -> tuple[Images, Images]:
        """Training and validation images: which is which is a matter of the seed."""
        order = np.random.default_rng(seed).permutation(len(self.pool[1]))
        first, second = np.split(order, [self.settings.data.num_train])
        return tuple((self.pool[0][part], self.pool[1][part]) for part in (first, second))  # type: ignore[return-value]

    def make_kernel(self, cell: Cell, stop: Stop) -> Row:
        settings, key = self.settings, jax.random.key(cell.seed)
        (x, labels), validation = self.images(cell.seed)
        targets = centred_targets(labels, self.num_outputs).astype(float)
        matrix = self.kernel(x.astype(float), None, 'ntk')
        unit = 1.0 / float(jnp.diag(matrix).mean())
        if cell.method == 'adversarial':
            times = train_times(
                self.kernel,
                matrix,
                x,
                targets,
                validation,
                jax.random.fold_in(key, _TRAIN),
                settings.ball,
                settings.budget(settings.attack.num_steps),
                settings.kernel.num_steps,
                settings.kernel.learning_rate,
                settings.kernel.initial_time,
                stop.leave_if_told,
            )
        elif cell.method == 'natural':
            times = np.full(len(x), _FULLY_LEARNED * unit)
        else:
            keys = self.keys(key, _VALIDATE, 0, len(validation[1]))

            def accuracy(time: float) -> float:
                stop.leave_if_told()
                alpha = coefficients(matrix, jnp.full(len(x), time * unit), targets)
                natural, robust = self.kernel_correct(x, alpha, keys, validation).mean(1)
                return float(natural if cell.method == 'natural_stopped' else robust)

            # The first of equals is the earliest, as it is of the steps of a network.
            times = np.full(len(x), max(settings.kernel.common_times, key=accuracy) * unit)
        alpha = coefficients(matrix, jnp.asarray(times), targets)
        quartiles = np.percentile(times / unit, [25, 50, 75]).tolist()
        return {
            **self.scores(lambda keys, images: self.kernel_correct(x, alpha, keys, images), key),
            'times': quartiles,
            'best_step': settings.kernel.num_steps if cell.method == 'adversarial' else None,
        }

    def make_network(self, cell: Cell, stop: Stop) -> Row:
        settings, key = self.settings, jax.random.key(cell.seed)
        network, training = settings.network, settings.training
        images, validation = self.images(cell.seed)
        adversarial = cell.method == 'adversarial'
        shape = self.pool[0].shape[1:]
        model = make_network(
            Architecture('fcn', network.num_layers, activation=network.activation),
            cell.width,
            self.num_outputs,
        )
        scales = PARAMETRIZATIONS['ntk'].scales(
            model, shape, network.weight_variance, network.output_variance
        )
        if self.programs is None or self.programs[0] != (cell.width, adversarial):
            made = make_programs(
                model,
                scales.multipliers,
                adversarial,
                settings.ball,
                settings.budget(settings.attack.num_steps),
                settings.budget(settings.attack.measure_steps),
            )
            self.programs = ((cell.width, adversarial), made)
        programs = self.programs[1]
        drawn = scales.draw(plain_weights(model, jax.random.fold_in(key, _WEIGHTS), shape))
        start = weights = jax.tree.map(lambda w: w.astype(jnp.float32), drawn)
        velocity = jax.tree.map(jnp.zeros_like, weights)
        rate, momentum = jnp.float32(self.learning_rate(images[0])), jnp.float32(training.momentum)
        best, kept, best_step = -1.0, weights, 0
        which = int(adversarial)  # natural or robust accuracy decides
        for number in range(1, training.num_steps + 1):
            keys = self.keys(key, _TRAIN, number, len(images[1]))
            weights, velocity = programs.step(
                weights, velocity, start, keys, images, rate, momentum
            )
            if number % training.every == 0 or number == training.num_steps:
                keys = self.keys(key, _VALIDATE, number, len(validation[1]))
                score = float(programs.correct(weights, start, keys, validation)[which].mean())
                if score > best:
                    best, kept, best_step = score, weights, number
            stop.leave_if_told()
        found = self.scores(lambda keys, images: programs.correct(kept, start, keys, images), key)
        return {**found, 'times': None, 'best_step': best_step}

    def learning_rate(self, x: Array) -> float:
        """`training.speed` n / (largest eigenvalue of the infinite network's NTK)."""
        matrix = np.asarray(self.kernel(x, None, 'ntk'), np.float64)
        return self.settings.training.speed * len(x) / float(np.linalg.eigvalsh(matrix)[-1])

    def scores(self, correct: Any, key: Array) -> dict[str, float]:
        keys = self.keys(key, _TEST, 0, len(self.test[1]))
        natural, robust = np.asarray(correct(keys, self.test)).mean(1)
        return {'natural_accuracy': float(natural), 'robust_accuracy': float(robust)}

    def keys(self, key: Array, use: int, number: int, count: int) -> Array:
        return jax.random.split(jax.random.fold_in(jax.random.fold_in(key, use), number), count)
