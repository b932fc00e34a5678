"""What is varied: axes by name, each a key of a run, and the cells of their grid.

    settings = resolve_scaling(scaling.get_config())
    for cell in cells(settings): cell.name, cell.value('width'), settings.config(cell)

An axis without values stays at what the run's own keys say. Axes of size (width, depth, the width
of the last stage, images, epochs) are drawn on logarithmic axes and have slopes; lambda is tuned;
all others are switches, of which each value is compared with the first one.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from war_jax.config import (
    AugmentConfig,
    Config,
    Count,
    NonNegative,
    Positive,
    Width,
    resolve,
    to_dict,
)
from war_jax.config_rules import build, increasing, key, refusal
from war_jax.lab.settings import Seeds, distinct


class Axis(NamedTuple):
    key: str  # of a run's configuration
    title: str
    letter: str
    kind: Literal['size', 'lam', 'switch']


AXES = {
    'width': Axis('model.widen_factor', 'width', 'k', 'size'),
    'depth': Axis('model.depth', 'depth', 'depth', 'size'),
    'last_stage': Axis('model.stage_widths', 'width of the last stage', 'last stage', 'size'),
    'images': Axis('data.max_train_examples', 'number of training images', 'n', 'size'),
    'epochs': Axis('optimizer.epochs', 'number of epochs', 'epochs', 'size'),
    'lam': Axis('objective.lam', 'λ', 'λ', 'lam'),
    'objective': Axis('objective.name', 'objective', 'objective', 'switch'),
    'activation': Axis('model.activation', 'activation', 'activation', 'switch'),
    'cutmix': Axis('augment.cutmix', 'probability of CutMix', 'cutmix', 'switch'),
    'generated': Axis('data.extra_fraction', 'share of extra images', 'extra', 'switch'),
    'awp': Axis('awp.gamma', 'weight perturbation γ', 'awp', 'switch'),
    'ema': Axis('ema_decay', 'decay of the averaged weights', 'ema', 'switch'),
}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The values of each axis; () leaves it at the run's own key."""

    seeds: Seeds = key((0, 1, 2, 3, 4), 'Of every cell.')
    width: Annotated[tuple[Width, ...], increasing()] = key((), 'Widen factors.')
    depth: Annotated[tuple[Positive, ...], increasing()] = key((), 'Depths.')
    last_stage: Annotated[tuple[Width, ...], increasing()] = key(
        (), 'Factors of the width of the last stage alone (Huang et al. 2021).', absent=()
    )
    images: Annotated[tuple[Positive, ...], increasing()] = key((), 'Numbers of training images.')
    epochs: Annotated[tuple[Positive, ...], increasing()] = key(
        (), 'Lengths of training; each has a learning-rate schedule of its own length.'
    )
    lam: Annotated[tuple[NonNegative, ...], increasing()] = key(
        (), 'Weights of the regularization; every size is judged at its own best one, too.'
    )
    objective: tuple[str, ...] = key((), 'Objectives.')
    activation: tuple[str, ...] = key((), 'Activations.', absent=())
    cutmix: tuple[float, ...] = key((), 'Probabilities of CutMix.', absent=())
    generated: tuple[float, ...] = key((), 'Shares of every batch that data.extra_path fills.')
    awp: tuple[float, ...] = key((), 'Sizes of the adversarial weight perturbation.')
    ema: tuple[float, ...] = key((), 'Decays of the moving average of the weights.')


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is measured of a trained network beside its own evaluation."""

    rank_by: Literal['robust_accuracy', 'robust_accuracy_all', 'autoattack_accuracy'] = key(
        'robust_accuracy',
        'The accuracy that the claims are about: under the PGD of the evaluation, under all of its '
        'attacks together, or under AutoAttack.',
    )
    autoattack_examples: Count = key(
        0, 'Test images on which AutoAttack is run, spread over the classes. 0: none.'
    )


@dataclass(frozen=True)
class Cell:
    """One training run. point: (axis, value) of all axes, in the order of AXES."""

    name: str
    seed: int
    point: tuple[tuple[str, Any], ...]
    folder: str = 'cells'

    def value(self, axis: str) -> Any:
        return dict(self.point)[axis]

    def without(self, *axes: str) -> tuple[tuple[str, Any], ...]:
        """The point but for these axes: equal for cells that differ in nothing else but the
        seed."""
        return tuple(pair for pair in self.point if pair[0] not in axes)


@dataclass(frozen=True)
class Settings:
    base: Config  # of every run, but for the axes and the seed
    measure: Measure
    grid: Grid

    @property
    def smoke(self) -> bool:
        return self.base.smoke

    @property
    def varied(self) -> list[str]:
        """The axes of two or more values."""
        return [axis for axis in AXES if len(getattr(self.grid, axis)) > 1]

    def check(self) -> None:
        """Raises ConfigError for a grid that is none and for runs that cannot be."""
        for axis in AXES:
            distinct(f'grid.{axis}', getattr(self.grid, axis))
        if not self.varied:
            rule = 'must vary something: give an axis two values or more'
            raise refusal('grid', (), rule, 'grid.width = (0.25, 0.5, 1.0)')
        base, measure = self.base, self.measure
        if base.war.reference:
            rule = 'must be empty here; war_jax.studies.width has WAR'
            raise refusal('war.reference', base.war.reference, rule, "''")
        if measure.rank_by == 'autoattack_accuracy' and not measure.autoattack_examples:
            rule = "must be at least 1 with measure.rank_by = 'autoattack_accuracy'"
            raise refusal('measure.autoattack_examples', 0, rule, '500')
        if base.evaluation.select_on == 'test':
            rule = 'must not be that: networks and λ would be chosen on what they are judged by'
            raise refusal('evaluation.select_on', 'test', rule, "'validation'")
        if 'epochs' in self.varied:
            self._check_lengths()
        for cell in cells(self):
            self.config(cell)

    def _check_lengths(self) -> None:
        """Raises ConfigError for what would be of the same length in a training of any length."""
        base = self.base
        if (schedule := base.optimizer.schedule) in ('piecewise', 'halving'):
            rule = 'has boundaries at fixed epochs: must not be that where grid.epochs varies'
            raise refusal('optimizer.schedule', schedule, rule, "'cosine'")
        has_awp = base.awp.gamma > 0 or any(self.grid.awp)
        for name, epochs in (
            ('optimizer.warmup_epochs', base.optimizer.warmup_epochs),
            ('attack.warmup_epochs', base.attack.warmup_epochs),
            ('ema_start', base.ema_start),
            ('awp.warmup_epochs', base.awp.warmup_epochs if has_awp else 0),
        ):
            if epochs:
                rule = 'is a number of epochs: must be 0 where grid.epochs varies'
                raise refusal(name, epochs, rule, '0')

    def config(self, cell: Cell) -> Config:
        """Of its run. Raises ConfigError for values that do not go together."""
        values = to_dict(self.base)
        values['seed'] = cell.seed
        for axis, value in cell.point:
            _set(values, axis, value)
        if not values['data']['extra_fraction']:
            values['data']['extra_path'] = ''
        if not values['ema_decay']:
            values['ema_start'], values['ema_ramp'] = 0.0, False
            values['ema_batch_norm'] = 'averaged'
        if not values['augment']['cutmix']:
            values['augment']['cutmix_alpha'] = AugmentConfig().cutmix_alpha
        return resolve(values)


def cells(settings: Settings) -> list[Cell]:
    """All combinations, the cheaper ones of the axes of size first; a seed through all of them
    before the next one, so that what is there of a study is as even as it can be."""
    own = to_dict(settings.base)
    usual = {axis: _get(own, axis) for axis in AXES}
    values = [getattr(settings.grid, axis) or (usual[axis],) for axis in AXES]
    points = [tuple(zip(AXES, point, strict=True)) for point in itertools.product(*values)]
    return [
        Cell(_name(point, usual, seed), seed, point)
        for seed in settings.grid.seeds
        for point in points
    ]


def _name(point: tuple[tuple[str, Any], ...], usual: Mapping[str, Any], seed: int) -> str:
    """'width0.5-epochs20-seed0': what differs from the base, which is the same for a study."""
    parts = [f'{axis}{described(value)}' for axis, value in point if value != usual[axis]]
    return '-'.join([*parts, f'seed{seed}'])


def described(value: Any) -> str:
    return value if isinstance(value, str) else f'{value:g}'


def _get(values: Mapping[str, Any], axis: str) -> Any:
    """What a configuration has of an axis."""
    *groups, last = AXES[axis].key.split('.')
    for part in groups:
        values = values[part]
    if axis == 'last_stage':
        return values[last][-1] if values[last] else 1.0
    return values[last]


def _set(values: dict[str, Any], axis: str, value: Any) -> None:
    *groups, last = AXES[axis].key.split('.')
    for part in groups:
        values = values[part]
    if axis == 'last_stage':
        others = values[last] or [1.0] * len(values['strides'])  # one for each stage
        value = [] if value == 1.0 and not values[last] else [*others[:-1], value]
    values[last] = value


def resolve_scaling(config: Any) -> Settings:
    """The settings of a ConfigDict or mapping: a run's keys, and the groups `grid` and `measure`.

    Raises ConfigError, one line, as `resolve` does, and for a configuration of a single run.
    """
    values = dict(config if isinstance(config, Mapping) else config.to_dict())
    groups = {name: values.pop(name, None) for name in ('grid', 'measure')}
    for name, group in groups.items():
        if not isinstance(group, Mapping):
            rule = 'absent; this study needs the group, as configs/scaling.py has it'
            raise refusal(name, group, rule)
    settings = Settings(
        resolve(values),
        build(Measure, groups['measure'], 'measure.'),
        build(Grid, groups['grid'], 'grid.'),
    )
    settings.check()
    return settings
