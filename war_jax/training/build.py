"""From a configuration to the objects of a run: network, optimizer, step and measures.

    mesh = make_mesh()
    parts = build(config, splits, mesh)
    state = parts.create_state()
    state, metrics = parts.step(state, parts.key, parts.rule, batch)
    another = parts.rerun(replace(config, seed=1), None)       # one program for all seeds, lambdas
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, get_type_hints

import jax
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh

from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import BoxOnly, ThreatModel
from war_jax.config import Config
from war_jax.config_keys import WarConfig
from war_jax.config_model import constants
from war_jax.config_rules import convert, refusal
from war_jax.data.sources import Splits
from war_jax.families import network_name
from war_jax.measures.network import Measures, make_measures
from war_jax.mesh import replicate
from war_jax.models.residual import ResidualNetwork
from war_jax.records.reference import Reference
from war_jax.training.adversary import AttackOptions
from war_jax.training.averaging import Averaging
from war_jax.training.helper import read_helper
from war_jax.training.networks import make_model
from war_jax.training.objective import OBJECTIVES, Objective
from war_jax.training.optimizer import make_optimizer, make_schedule
from war_jax.training.state import TrainState, create_state
from war_jax.training.step import StepOptions, TrainStep, make_train_step
from war_jax.training.war import WarRule, fixed_rule, fixed_step_rule, integral_rule

# XLA's options for what runs once: compiled in less than half the time (docs/performance.md).
_QUICKLY = {'xla_backend_optimization_level': 1}


@dataclass(frozen=True)
class Parts:
    """What one run is made of; the functions are compiled, each at its first call."""

    config: Config
    reference: Reference | None
    mesh: Mesh
    model: ResidualNetwork
    tx: optax.GradientTransformation
    schedule: optax.Schedule
    steps_per_epoch: int
    fresh_state: Callable[[Array, WarRule], TrainState]
    step: TrainStep
    objective: Objective
    measures: Measures

    @property
    def total_steps(self) -> int:
        return self.config.optimizer.epochs * self.steps_per_epoch

    @property
    def selected_by(self) -> str:
        """The accuracy by which checkpoints are compared."""
        return 'robust_accuracy' if self.objective.uses_attack else 'natural_accuracy'

    def describe(self, splits: Splits) -> str:
        """What is about to run, and on what: a wrong device should be seen at once."""
        config = self.config
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.shapes.params))
        sizes = ', '.join(
            f'{len(getattr(splits, split).labels):,} {split}'
            for split in ('train', 'validation', 'test')
        )
        return (
            f'{network_name(asdict(config.model))} ({parameters:,} parameters), '
            f'{config.objective.name}{self._lambda()}, '
            f'on {len(self.devices)} x {self.devices[0].device_kind}; '
            f'{splits.name}: {sizes} images'
        )

    def position(self, state: TrainState) -> str:
        step = int(state.step)
        where = f'after step {step} of {self.total_steps}' if step else f'{self.total_steps} steps'
        return (
            f'{where} ({self.steps_per_epoch} per epoch); the first one compiles, which takes '
            'seconds to a minute'
        )

    @property
    def devices(self) -> list[Any]:
        return list(self.mesh.devices.flat)

    @property
    def key(self) -> Array:
        """The key of all of training's randomness, on every device."""
        return replicate(self.mesh, jax.random.key(self.config.seed))

    @property
    def rule(self) -> WarRule:
        """How lambda moves, on every device."""
        return replicate(self.mesh, self._rule())

    def rerun(self, config: Config, reference: Reference | None) -> 'Parts':
        """The parts of another run of the same compiled programs.

        Raises ValueError unless `config` differs in nothing but the seed, lambda and its rule.
        """
        ours = replace(
            self.config,
            seed=config.seed,
            war=config.war,
            objective=replace(self.config.objective, lam=config.objective.lam),
        )
        if ours != config:
            raise ValueError('only seed, objective.lam and war may differ within one program')
        return replace(self, config=config, reference=reference)

    @property
    def shapes(self) -> TrainState:
        """Those of a state; nothing is computed."""
        return jax.eval_shape(self.fresh_state, jax.random.key(0), self._rule())

    def create_state(self) -> TrainState:
        """A fresh state, on every device."""
        return self.fresh_state(self.key, self.rule)

    def _rule(self) -> WarRule:
        return make_rule(self.config, self.reference, self.steps_per_epoch)

    def _lambda(self) -> str:
        """' with λ = 6', or by what rule it moves; nothing without a regularization."""
        if not self.objective.regularizes:
            return ''
        start = float(self._rule().lam_start)
        if self.reference is None:
            return f' with λ = {start:g}'
        war = self.config.war
        return f' with λ from {start:g} on by WAR ({war.variant}, held to {war.reference})'


def build(config: Config, splits: Splits, mesh: Mesh, reference: Reference | None = None) -> Parts:
    """Nothing is compiled or allocated on a device yet.

    reference: what config.war.reference names, read and checked.
    Raises ConfigError where images have another number of channels than model.normalization.
    """
    num_train, *image_shape = splits.train.images.shape
    check_cutout(config.augment.cutout, min(image_shape[:2]))
    model = make_model(config, splits.num_classes)
    _check_channels(config, image_shape[-1])
    batch_size = config.optimizer.batch_size - extra_per_batch(config)
    steps_per_epoch = -(-num_train // batch_size)
    schedule = make_schedule(config.optimizer, steps_per_epoch)
    tx = make_optimizer(config.optimizer, schedule, steps_per_epoch)
    threat = ThreatModel(config.threat.norm, config.threat.epsilon)
    averaging = Averaging(
        config.ema_decay,
        round(config.ema_start * steps_per_epoch),
        config.ema_ramp,
        config.ema_batch_norm,
    )
    attack = config.attack
    options = StepOptions(
        pad=config.data.pad,
        flip=config.data.flip,
        augment=config.augment,
        bn_momentum=config.batch_norm.momentum,
        bn_updates=tuple(config.batch_norm.updates.split(',')),
        awp_gamma=config.awp.gamma,
        awp_start=config.awp.warmup_epochs * steps_per_epoch,
        averaging=averaging,
        attack=AttackOptions(
            round(attack.warmup_epochs * steps_per_epoch), attack.early_stop, attack.batch_norm
        ),
        grad_align=config.objective.grad_align,
        helper=read_helper(config, splits.train.images.shape[1:], mesh),
        accumulation=config.optimizer.accumulation,
        matmul_precision=config.model.matmul_precision,
    )
    train_threat = BoxOnly(threat.norm, threat.epsilon) if attack.projection == 'box' else threat
    train_budget = Budget(
        attack.num_steps, attack.step_size, attack.init, attack.init_scale, attack.project_start
    )
    objective = OBJECTIVES[config.objective.name](config.objective.label_smoothing)
    step = make_train_step(model, objective, train_threat, train_budget, tx, mesh, options)

    is_cpu = mesh.devices.flat[0].platform == 'cpu'

    def fresh_state(key: Array, rule: WarRule) -> TrainState:
        shape = (image_shape[0], image_shape[1], image_shape[2])
        return create_state(key, model, tx, shape, rule, bool(averaging))

    test = config.evaluation
    test_budget = Budget(test.num_steps, test.step_size, test.init, test.init_scale)
    return Parts(
        config=config,
        reference=reference,
        mesh=mesh,
        model=model,
        tx=tx,
        schedule=jax.jit(schedule),
        steps_per_epoch=steps_per_epoch,
        # One program rather than one per layer: quicker to start, and no copies of the constants.
        fresh_state=jax.jit(fresh_state, compiler_options=_quickly() if is_cpu else None),
        step=step,
        objective=objective,
        # In bfloat16 an attack meets rounding as large as its perturbation; accuracies so obtained
        # could not be compared with anybody's.
        measures=make_measures(model.clone(dtype=model.param_dtype), mesh, threat, test_budget),
    )


def _quickly() -> dict[str, int] | None:
    """`_QUICKLY`, unless JAX is told to optimise even less."""
    return None if jax.config.read('jax_disable_most_optimizations') else _QUICKLY


def check_cutout(side: int, limit: int) -> None:
    """Raises ConfigError unless something is left of images whose shorter side is `limit`."""
    if side >= limit:
        rule = f'must be below the shorter side of the images, {limit} pixels'
        raise refusal('augment.cutout', side, rule, f'{limit // 2}')


def make_rule(config: Config, reference: Reference | None, steps_per_epoch: int) -> WarRule:
    """How lambda moves: not at all without a reference, else by the rule of config.war.

    Raises ConfigError for a rule that is none.
    """
    war, epochs = config.war, config.optimizer.epochs
    convert('war.rule', war.rule, get_type_hints(WarConfig)['rule'])
    total_steps = epochs * steps_per_epoch
    decay = max(0.0, 1 - 1 / (war.averaging_epochs * steps_per_epoch))
    if reference is None:
        return fixed_rule(config.objective.lam, decay, total_steps, epochs)
    if war.rule == 'fixed_step':
        zeta = targets(reference, 'constant', epochs)
        return fixed_step_rule(war.start, war.step, decay, total_steps, zeta)
    return integral_rule(
        reference.lam,
        war.gain / total_steps,
        war.max_factor * reference.lam,
        decay,
        total_steps,
        targets(reference, war.target, epochs),
    )


def targets(reference: Reference, target: str, epochs: int) -> np.ndarray:
    """(epochs,) the risk ratio to hold at the end of each epoch.

    A trajectory of another number of epochs is read at the same shares of training, along straight
    lines between the logarithms. Raises ConfigError for a target that is neither.
    """
    convert('war.target', target, get_type_hints(WarConfig)['target'])
    if target == 'constant':
        return np.full(epochs, reference.zeta)
    recorded = np.log(reference.trajectory)
    shares = np.arange(1, len(recorded) + 1) / len(recorded)
    return np.exp(np.interp(np.arange(1, epochs + 1) / epochs, shares, recorded))


def _check_channels(config: Config, channels: int) -> None:
    text = config.model.normalization
    numbers = max(map(len, constants(text)))
    if numbers not in (1, channels):
        rule = f'has {numbers} channels, images of {config.data.name} have {channels}'
        raise refusal('model.normalization', text, rule, "'0.5:0.25'")


def extra_per_batch(config: Config) -> int:
    """How many examples of each batch come from the extra data."""
    return round(config.data.extra_fraction * config.optimizer.batch_size)


@contextmanager
def precision(config: Config) -> Iterator[None]:
    """float64 if the configuration asks for it; JAX alone would quietly use float32."""
    wanted = 'float64' in (config.model.param_dtype, config.model.compute_dtype)
    if not wanted or jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        yield  # Nothing is set: what is read here may be of a context of this thread alone.
        return
    jax.config.update('jax_enable_x64', True)  # for all threads, as a study trains in several
    try:
        yield
    finally:
        jax.config.update('jax_enable_x64', False)
