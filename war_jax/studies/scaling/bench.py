"""Makes the cells of a study of size and compute: trains a network, and measures it.

    bench = Bench(settings, Path('runs/scaling'))
    row = bench.make(cell, stop)               # trains into runs/NAME, or goes on with it there
    row['parameters'], row['forward_flops'], row['passes'], row['robust_accuracy']

Cells that differ in seed and lambda alone share their compiled programs.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from war_jax.attacks.threat import ThreatModel
from war_jax.config import Config
from war_jax.config_keys import DataConfig
from war_jax.config_rules import refusal
from war_jax.data.sources import Splits, balanced_subset, checksum, load
from war_jax.lab.runs import read_run
from war_jax.mesh import check_divisible, make_mesh
from war_jax.models import forward
from war_jax.records.console import QuietDisplay
from war_jax.records.interrupt import Stop
from war_jax.robustness.functions import evaluate
from war_jax.robustness.network import read_network
from war_jax.run import finish
from war_jax.studies.scaling import start
from war_jax.studies.scaling.settings import Cell, Settings
from war_jax.training.build import Parts, build, extra_per_batch, precision

Row = dict[str, Any]


class Bench:
    def __init__(self, settings: Settings, workdir: Path):
        """Loads the data of the base. Raises DataError, and ConfigError for batches that the
        devices cannot share."""
        self.settings, self.runs = settings, workdir / 'runs'
        self.mesh = make_mesh()
        optimizer, evaluation = settings.base.optimizer, settings.base.evaluation
        check_divisible(
            self.mesh, 'optimizer.batch_size', optimizer.batch_size, optimizer.accumulation
        )
        check_divisible(self.mesh, 'evaluation.batch_size', evaluation.batch_size)
        self.splits: dict[DataConfig, Splits] = {}
        self.parts: dict[Config, Parts] = {}  # by what their programs are made for
        own = self.of(settings.base.data)
        self.data, self.checksum = own.provenance, checksum(own)
        largest, there = max(settings.grid.images, default=0), len(own.train.labels)
        if not settings.base.data.max_train_examples and largest > there:
            raise refusal('grid.images', largest, f'must be at most the {there} images there are')
        self.about: Mapping[str, Any] = {}

    def of(self, data: DataConfig) -> Splits:
        if data not in self.splits:
            self.splits = {data: load(data)}  # of one at a time
        return self.splits[data]

    def work(self, cell: Cell) -> int:
        """A fixed cost and one that grows with the channels' square, times depth, images and
        epochs: only the remaining time that is shown depends on it."""
        size = (1 + 2 * cell.value('width') ** 2) * cell.value('depth') * cell.value('epochs')
        return max(1, round(size * (cell.value('images') or 50_000) / 100))

    def make(self, cell: Cell, stop: Stop) -> Row:
        config = self.settings.config(cell)
        splits = self.of(config.data)
        with precision(config):
            parts = self.parts_of(config, splits)
            workdir = self.runs / cell.name
            finish(parts, splits, workdir, stop, QuietDisplay())
            run = read_run(workdir)
            row = {
                **dict(cell.point), 'seed': cell.seed,
                'parameters': sum(leaf.size for leaf in jax.tree.leaves(parts.shapes.params)),
                'forward_flops': forward_flops(parts, splits.train.images.shape[1:]),
                'train_images': len(splits.train.labels), 'passes': passes(config),
                'local_lipschitz_start': start.local_lipschitz(parts, splits), **run.measured,
            }  # fmt: skip
            stop.leave_if_told()
            count = self.settings.measure.autoattack_examples
            if count:
                row['autoattack_accuracy'] = self.autoattack(config, workdir, splits, count)
        return row

    def parts_of(self, config: Config, splits: Splits) -> Parts:
        """Compiled once for cells that differ in seed and lambda alone, which come one by one."""
        same = replace(config, seed=0, objective=replace(config.objective, lam=0.0))
        if same not in self.parts:
            self.parts[same] = build(config, splits, self.mesh)
        return self.parts[same].rerun(config, None)

    def autoattack(self, config: Config, workdir: Path, splits: Splits, count: int) -> float:
        """Robust accuracy on `count` test images, of the run's best network."""
        chosen = balanced_subset(splits.test.labels, count)
        found = evaluate(
            read_network(str(workdir)), splits.test.images[chosen], splits.test.labels[chosen],
            ThreatModel(config.threat.norm, config.threat.epsilon), stability=False,
            batch_size=config.evaluation.batch_size, curve_examples=0, mesh=self.mesh,
        )  # fmt: skip
        return found['robust_accuracy']


def forward_flops(parts: Parts, shape: tuple[int, ...]) -> float:
    """Operations of one forward pass of one image (h, w, c), as XLA counts them unoptimised."""
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    classify = jax.jit(lambda variables, x: forward.evaluate(parts.model, variables, x))
    lowered = classify.lower(parts.shapes.variables, image)
    return float((lowered.cost_analysis() or {})['flops'])


def passes(config: Config) -> float:
    """Of each own training image in one epoch, in units of a forward pass; reckoned.

    The gradient of an attack step in the image costs one more than the pass, that of the update in
    weights and activations two more. Extra images go through beside the own ones.
    """
    objective, awp = config.objective, config.awp
    if objective.name == 'natural':
        count = 3.0
    else:
        count = 2.0 * config.attack.num_steps + 2 * 3 + (objective.name == 'trades')
    if awp.gamma:
        count += 2 * 3 * (1 - awp.warmup_epochs / config.optimizer.epochs)
    if objective.helper:
        count += 1 + 3
    if objective.grad_align:
        count += 2 * 2 * 3  # two gradients in the image, and the update through them
    batch_size = config.optimizer.batch_size
    return count * batch_size / (batch_size - extra_per_batch(config))
