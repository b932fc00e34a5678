"""The runs of a study: a grid of constant lambdas, and variants that are to spare a sweep.

    for task in grid(plan): task.name                           # plan: study.json's, or as a dict
    for method, width in variants(plan):
        waits_for(method, width, plan)                          # widths whose sweeps it needs

Width adjusted regularization (WAR; Wu et al. 2021) starts from the best lambda of the thin network,
the first width, and holds to a risk ratio (natural risk / robust regularization):

    trajectory      the integral rule; the thin network's ratio at the same share of training
    constant        the integral rule; the thin network's ratio at the end, zeta
    fixed_step      the paper's Algorithm 1 as we understand it; the same zeta
    extrapolated    as `constant`, with log zeta from a line in log k through those of the two
                    thinnest networks at their best lambdas

`power_law` has no rule: lambda stays at what a power of the width predicts from the best lambdas
(the peaks of tuning.peaks) of all thinner networks. Each of these runs has a seed of its own, and
holds to the thin runs of that seed. `power_law` and `extrapolated` need two thinner networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from war_jax.lab.probes import FIXED

Variant = Literal['trajectory', 'constant', 'fixed_step', 'power_law', 'extrapolated']
TITLES: dict[str, str] = {
    'trajectory': 'WAR (target: trajectory)',
    'constant': 'WAR (target: constant)',
    'fixed_step': 'WAR (fixed step)',
    'power_law': 'Power law of the best λ',
    'extrapolated': 'WAR (target: extrapolated)',
}
# By which war.rule lambda moves, of those under which it does.
RULES = {
    'trajectory': 'integral', 'constant': 'integral', 'fixed_step': 'fixed_step',
    'extrapolated': 'integral',
}  # fmt: skip
# They look at how something changes from one thinner network to the next.
FROM_TWO = ('power_law', 'extrapolated')
Plan = Mapping[str, Any]  # widths, lams, seeds, war


@dataclass(frozen=True)
class Task:
    """One run of the study."""

    width: float
    lam: float  # the constant one; with WAR that of the thin network
    method: str  # 'fixed', or one of TITLES
    seed: int
    held_to: tuple[tuple[float, float], ...] = ()  # width and lambda of the runs that WAR looks at

    @property
    def name(self) -> str:
        """Of its folder, by which a run is known: 'k2-lam3-seed0', 'k2-power_law-lam7.4-seed0',
        'k2-war-constant-from-k0.25-lam3-seed0', 'k2-war-extrapolated-from-k0.25-lam3-k0.5-lam9-…'.
        """
        held_to = '-'.join(f'k{width:g}-lam{lam:g}' for width, lam in self.held_to)
        rule = f'war-{self.method}-from-{held_to}' if held_to else f'{self.method}-lam{self.lam:g}'
        rule = rule.removeprefix(f'{FIXED}-')
        return f'k{self.width:g}-{rule}-seed{self.seed}'


def grid(plan: Plan) -> list[Task]:
    """Thin networks first, since others wait for them; then from the widest down, so that the last
    runs, in which some devices idle, are short."""
    first, *wider = plan['widths']
    return [
        Task(width, lam, FIXED, seed)
        for width in (first, *reversed(wider))
        for seed in plan['seeds']
        for lam in plan['lams']
    ]


def variants(plan: Plan) -> list[tuple[str, float]]:
    """(method, width) of all that is planned beside the grid, the widest first."""
    _, *wider = plan['widths']
    return [
        (method, width)
        for width in reversed(wider)
        for method in plan['war']
        if method not in FROM_TWO or width != wider[0]
    ]


def waits_for(method: str, width: float, plan: Plan) -> list[float]:
    """The widths whose sweeps must be finished before it can be run."""
    thinner = [other for other in plan['widths'] if other < width]
    return {'power_law': thinner, 'extrapolated': thinner[:2]}.get(method, thinner[:1])


def method_of(name: str) -> str:
    """Of the run in a folder that `Task.name` names."""
    return next((method for method in TITLES if f'-{method}-' in name), FIXED)
