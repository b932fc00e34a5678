"""The runs of the variants, once the sweeps that they wait for are finished.

    names = {task.name for task in all_tasks(plan, rows)}
    for task in tasks_of('power_law', 2.0, plan, rows): ...

Which there are and what each is: war_jax/studies/width/tasks.py.
"""

import math
from collections.abc import Sequence

import numpy as np

from war_jax.studies.width import tuning
from war_jax.studies.width.results import Row, fixed
from war_jax.studies.width.tasks import Plan, Task, variants, waits_for


def all_tasks(plan: Plan, rows: Sequence[Row]) -> list[Task]:
    """The runs of all variants of which the rows tell the lambda."""
    return [task for cell in variants(plan) for task in tasks_of(*cell, plan, rows)]


def tasks_of(method: str, width: float, plan: Plan, rows: Sequence[Row]) -> list[Task]:
    """One per seed, from the rows of the grid; [] where these do not tell its lambda."""
    best, needed = tuning.best_lambdas(rows), waits_for(method, width, plan)
    if any(thinner not in best for thinner in needed):
        return []
    if method == 'power_law':
        lam = tuning.power_law(rows, needed, width)
        return [] if lam is None else [Task(width, lam, method, seed) for seed in plan['seeds']]
    held_to = tuple((thinner, best[thinner]) for thinner in needed)
    return [Task(width, best[needed[0]], method, seed, held_to) for seed in plan['seeds']]


def extrapolated(task: Task, rows: Sequence[Row]) -> float | None:
    """zeta of a task of that name; None if one of its thin runs has no ratio > 0."""
    runs = [fixed(rows).get((width, lam, task.seed)) for width, lam in task.held_to]
    ratios = [run['risk_ratio'] if run else None for run in runs]
    known = [ratio for ratio in ratios if ratio is not None and 0 < ratio < math.inf]
    if len(known) < len(ratios):
        return None
    x = np.log([width for width, _ in task.held_to])
    share = (math.log(task.width) - x[0]) / (x[1] - x[0])
    thin, wider = np.log(known)
    return float(np.exp(thin + share * (wider - thin)))
