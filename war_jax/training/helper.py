"""Helper-based adversarial training (HAT; Rade & Moosavi-Dezfooli 2022).

    helper = read_helper(config, (32, 32, 3), mesh)    # None without objective.helper
    x_help = helper.examples(x, x_adv)                 # x + 2 r, r the adversarial perturbation
    labels = helper.label(x_adv, helper.variables)     # by a network trained without an adversary

Adversarial training moves decision boundaries further away than the attack needs, which costs
natural accuracy. Beyond the attack, at x + 2 r, HAT asks for the class that a standard network sees
at x + r: a further cross-entropy in the loss, which lambda does not weigh.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from war_jax.config import Config
from war_jax.config_rules import refusal
from war_jax.mesh import replicate
from war_jax.models import forward
from war_jax.models.parts import by_parts
from war_jax.training.networks import best_network


@dataclass(frozen=True, eq=False)
class Helper:
    """classify(variables, images) -> logits of the standard network; `weight` of the further
    cross-entropy, at x + `reach` * (x_adv - x)."""

    classify: Callable[[Any, Array], Array]
    variables: Any
    weight: float
    reach: float

    def examples(self, x: Array, x_adv: Array) -> Array:
        """Not cut to the pixels' box, as in the authors' code."""
        return x + self.reach * (x_adv - x)

    def label(self, x_adv: Array, variables: Any) -> Array:
        """(b, h, w, c) -> (b,): the standard network's classes."""
        return by_parts(lambda z: self.classify(variables, z).argmax(-1), x_adv)


def read_helper(config: Config, image_shape: tuple[int, ...], mesh: Mesh) -> Helper | None:
    """Of the run that objective.helper names. Raises ConfigError if it cannot serve."""
    objective = config.objective
    if not objective.helper:
        return None
    found = best_network(Path(objective.helper), 'objective.helper')
    if (theirs := found.config.objective.name) != 'natural':
        rule = f'must be of a network trained without an adversary, not by {theirs}'
        raise refusal('objective.helper', objective.helper, rule)
    if found.channels != image_shape[-1] or found.config.data.name != config.data.name:
        rule = f'must be of a network for the images of {config.data.name}'
        raise refusal('objective.helper', objective.helper, rule)
    variables = replicate(mesh, jax.tree.map(np.asarray, found.variables))
    classify = partial(forward.evaluate, found.model)
    return Helper(classify, variables, objective.helper_weight, objective.helper_reach)


class WithVariables:
    """A jitted step whose last argument is always the same; as a constant of the program, weights
    would be compiled into it."""

    def __init__(self, program: Any, variables: Any):
        self.program, self._variables = program, variables

    def __call__(self, *arguments: Any) -> Any:
        return self.program(*arguments, self._variables)

    def lower(self, *arguments: Any) -> Any:
        return self.program.lower(*arguments, self._variables)
