"""From a configuration to the objects of a run: network, optimizer, step and measures.

    mesh = make_mesh()
    parts = build(config, splits, mesh)
    state = parts.create_state()
    state, metrics = parts.step(state, parts.key, batch)
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.config import Config
from war_jax.data.sources import Splits
from war_jax.measures.evaluation import Measures, make_measures
from war_jax.mesh import AXIS, replicate
from war_jax.models.wide_resnet import WideResNet
from war_jax.training.objective import OBJECTIVES
from war_jax.training.optimizer import make_optimizer, make_schedule
from war_jax.training.state import TrainState, create_state
from war_jax.training.step import StepOptions, TrainStep, make_train_step


@dataclass(frozen=True)
class Parts:
    config: Config
    mesh: Mesh
    model: WideResNet
    tx: optax.GradientTransformation
    schedule: optax.Schedule
    steps_per_epoch: int
    step: TrainStep
    image_shape: tuple[int, int, int]
    measures: Measures
    selected_by: str  # the accuracy by which checkpoints are compared

    @property
    def total_steps(self) -> int:
        return self.config.optimizer.epochs * self.steps_per_epoch

    @property
    def key(self) -> Array:
        """The key of all of training's randomness, on every device."""
        return replicate(self.mesh, jax.random.key(self.config.seed))

    def create_state(self) -> TrainState:
        """A fresh state, on every device."""
        config = self.config
        # One program rather than one per layer: quicker to start, and no copies of the constants.
        create = jax.jit(
            lambda key: create_state(
                key,
                self.model,
                self.tx,
                self.image_shape,
                config.objective.lam,
                config.ema_decay > 0,
            )
        )
        return replicate(self.mesh, create(jax.random.key(config.seed)))


def build(config: Config, splits: Splits, mesh: Mesh) -> Parts:
    """Nothing is compiled or allocated on a device yet."""
    num_train, *image_shape = splits.train.images.shape
    model = make_model(config, splits.num_classes)
    batch_size = config.optimizer.batch_size - extra_per_batch(config)
    steps_per_epoch = -(-num_train // batch_size)
    schedule = make_schedule(config.optimizer, steps_per_epoch)
    tx = make_optimizer(config.optimizer, schedule)
    threat = ThreatModel(config.threat.norm, config.threat.epsilon)
    options = StepOptions(
        pad=config.data.pad,
        flip=config.data.flip,
        bn_momentum=config.batch_norm.momentum,
        bn_updates=tuple(config.batch_norm.updates.split(',')),
        awp_gamma=config.awp.gamma,
        awp_start=config.awp.warmup_epochs * steps_per_epoch,
        ema_decay=config.ema_decay,
    )
    attack = config.attack
    train_budget = Budget(attack.num_steps, attack.step_size, attack.init, attack.init_scale)
    objective = OBJECTIVES[config.objective.name](config.objective.label_smoothing)
    step = make_train_step(model, objective, threat, train_budget, tx, mesh, options)
    test = config.evaluation
    test_budget = Budget(test.num_steps, test.step_size, test.init, test.init_scale)
    return Parts(
        config=config,
        mesh=mesh,
        model=model,
        tx=tx,
        schedule=schedule,
        steps_per_epoch=steps_per_epoch,
        step=step,
        image_shape=tuple(image_shape),
        measures=make_measures(model, mesh, threat, test_budget),
        selected_by='robust_accuracy' if objective.uses_attack else 'natural_accuracy',
    )


def make_model(config: Config, num_classes: int) -> WideResNet:
    return WideResNet(
        depth=config.model.depth,
        widen_factor=config.model.widen_factor,
        num_classes=num_classes,
        stem_channels=config.model.stem_channels,
        strides=tuple(config.model.strides),
        axis_name=AXIS if config.batch_norm.statistics == 'global' else None,
        dtype=jnp.dtype(config.model.compute_dtype),
        param_dtype=jnp.dtype(config.model.param_dtype),
    )


def extra_per_batch(config: Config) -> int:
    """How many examples of each batch come from the extra data."""
    return round(config.data.extra_fraction * config.optimizer.batch_size)
