"""The claims of Wen et al. 2020, held against networks trained at several epsilons (or lambdas).

    for claim in evaluate(networks, 'epsilon'):
        print(claim.verdict, claim.statement, claim.effect, claim.interval)

For each seed the effect is Spearman's rank correlation of a quantity with epsilon (-1: it falls at
every step, whatever the scale), or the share of the layers in which that correlation is negative.
The interval is Student's t over seeds, at 95 %. A claim of a fall is supported if the interval lies
wholly below 0, contradicted if wholly above; "in most layers" is supported if the interval of the
share lies wholly above one half. Everything is told twice: at the end of training, and where all
networks had the same training loss.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy import stats

from war_jax.measures.statistics import mean_interval
from war_jax.studies.regularization.measure import OF_LAYERS, SCALARS
from war_jax.studies.regularization.networks import Conditions
from war_jax.studies.regularization.work import Network
from war_jax.studies.width.claims import UNDECIDED, decide

Axis = Literal['epsilon', 'lam', 'width']
When = Literal['final', 'matched']
AXES: dict[Axis, str] = {'epsilon': 'ε', 'lam': 'λ', 'width': 'width'}
WHEN: dict[When, str] = {'final': 'at the end', 'matched': 'at the same training loss'}
RANK, SHARE = 'rank correlation', 'share of layers'

# key -> (statement, claimed sign); of scalars.
CLAIMED = {
    'accuracy_test': ('test accuracy falls', -1),
    'loss_train': ('training loss grows', 1),
    'loss_gap': ('the gap between test and training loss shrinks', -1),
    'confidence': ('confidence falls', -1),
    'margin': ('the margin of the logits falls', -1),
    'distance': ('test images come nearer to the boundary', -1),
}
# Of layers: all are claimed to fall, in most of them.
CLAIMED_OF_LAYERS = {
    'std': 'the spread of the singular values falls',
    'spread': 'the spread of the singular values falls, relative to their mean',
    'random_cv': 'the gain of random perturbations varies less',
    'adversarial_cv': 'the gain of adversarial perturbations varies less',
    'random_gain': 'the gain of random perturbations falls',
    'adversarial_gain': 'the gain of adversarial perturbations falls',
}


@dataclass(frozen=True)
class Claim:
    name: str  # 'margin_with_epsilon_matched'
    statement: str
    effect: float | None
    interval: tuple[float, float] | None  # infinite with one seed
    unit: str
    num_seeds: int
    verdict: str


def axes(networks: Sequence[Network]) -> list[Axis]:
    """What differs between the networks, besides their seeds."""
    return [axis for axis in AXES if len({getattr(n.conditions, axis) for n in networks}) > 1]


def common_layers(networks: Sequence[Network]) -> list[str]:
    """Those that every network has: of some widths, the first block needs no projection."""
    first, *others = (network.final['layers'] for network in networks)
    return [name for name in first if all(name in layers for layers in others)]


def evaluate(networks: Sequence[Network], axis: Axis) -> Iterator[Claim]:
    for when, where in WHEN.items():
        for key, (statement, sign) in CLAIMED.items():
            if (key, when) == ('loss_train', 'matched'):
                continue
            text = f'As {AXES[axis]} grows, {statement} ({where})'
            by_seed = correlations(networks, axis, when, key)
            yield _claim(_name(key, axis, when), text, by_seed, RANK, sign, 0.0)
        for key, statement in CLAIMED_OF_LAYERS.items():
            text = f'As {AXES[axis]} grows, {statement} in most layers ({where})'
            by_seed = falling_layers(networks, axis, when, key)
            yield _claim(_name(key, axis, when), text, by_seed, SHARE, 1, 0.5)


def trends(networks: Sequence[Network], axis: Axis) -> Iterator[Claim]:
    """Of every quantity, whatever was claimed: verdicts are 'rises', 'falls', 'undecided'."""
    for when, where in WHEN.items():
        for key, text in SCALARS.items():
            by_seed = correlations(networks, axis, when, key)
            yield _trend(_name(key, axis, when), f'{text} ({where})', by_seed)
        for key, text in OF_LAYERS.items():
            for layer in common_layers(networks):
                by_seed = correlations(networks, axis, when, key, layer)
                name = _name(f'{layer}:{key}', axis, when)
                yield _trend(name, f'{layer}: {text} ({where})', by_seed)


def correlations(
    networks: Sequence[Network], axis: Axis, when: When, key: str, layer: str = ''
) -> dict[int, float]:
    """seed -> rank correlation with the axis, the mean over what else differs."""
    return _by_seed(networks, axis, lambda group: _correlation(group, axis, when, key, layer))


def falling_layers(
    networks: Sequence[Network], axis: Axis, when: When, key: str
) -> dict[int, float]:
    """seed -> share of the layers with a negative rank correlation, likewise."""

    def share(group: Sequence[Network]) -> float | None:
        layers = common_layers(group)
        found = [_correlation(group, axis, when, key, layer) for layer in layers]
        if any(value is None for value in found):
            return None
        return sum(value < 0 for value in found if value is not None) / len(found)

    return _by_seed(networks, axis, share)


def _by_seed(
    networks: Sequence[Network],
    axis: Axis,
    of_group: Callable[[Sequence[Network]], float | None],
) -> dict[int, float]:
    """Groups differ in the axis alone; a seed counts if it has every group, all values in it."""
    groups: dict[Conditions, list[Network]] = {}
    for network in networks:
        groups.setdefault(network.conditions._replace(**{axis: 0.0}), []).append(network)
    largest = max(map(len, groups.values()))
    rest = {key._replace(seed=0) for key in groups}
    found: dict[int, list[float]] = {}
    for key, group in groups.items():
        value = of_group(group) if len(group) == largest else None
        if value is not None:
            found.setdefault(key.seed, []).append(value)
    return {
        seed: math.fsum(values) / len(values)
        for seed, values in sorted(found.items())
        if len(values) == len(rest)
    }


def _correlation(
    group: Sequence[Network], axis: Axis, when: When, key: str, layer: str
) -> float | None:
    rows = [getattr(network, when) for network in group]
    values = [(row['layers'][layer] if layer else row)[key] for row in rows]
    if len(values) < 2 or any(value is None for value in values):
        return None
    if len(set(values)) == 1:
        return 0.0  # what does not change neither rises nor falls
    x = [getattr(network.conditions, axis) for network in group]
    return float(stats.spearmanr(x, values).statistic)  # pyright: ignore[reportAttributeAccessIssue]


def _name(key: str, axis: Axis, when: When) -> str:
    return f'{key}_with_{axis}{"_matched" if when == "matched" else ""}'


def _claim(
    name: str, text: str, by_seed: dict[int, float], unit: str, sign: int, neutral: float
) -> Claim:
    if not by_seed:
        return Claim(name, text, None, None, unit, 0, UNDECIDED)
    mean, lower, upper = mean_interval(list(by_seed.values()))
    verdict = decide((lower - neutral, upper - neutral), sign)
    return Claim(name, text, mean, (lower, upper), unit, len(by_seed), verdict)


def _trend(name: str, text: str, by_seed: dict[int, float]) -> Claim:
    claim = _claim(name, text, by_seed, RANK, 1, 0.0)
    word = {'supported': 'rises', 'contradicted': 'falls'}.get(claim.verdict, claim.verdict)
    return replace(claim, verdict=word)
