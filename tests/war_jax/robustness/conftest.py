"""Attacks on the same network are traced once, not once for every test that runs them."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest

from war_jax.attacks.machine import Attack, Classifier
from war_jax.robustness import curve, ensemble
from war_jax.robustness.pool import Programs, make_programs


@pytest.fixture(autouse=True, scope='session')
def shared_attacks():
    """Under whichever epsilon, which is an argument of these programs."""
    known: dict[Any, Classifier] = {}
    programs = cache(make_programs)
    checked = ensemble.with_checked_logits

    def checked_once(classify: Classifier) -> Classifier:
        # A network is read anew for each evaluation; what it computes is its function and model.
        is_partial = isinstance(classify, partial)
        key = (classify.func, classify.args) if is_partial else classify
        return known.setdefault(key, checked(classify))

    def programs_once(attack: Attack, classify: Classifier, mesh: Any) -> Programs:
        machine: Any = attack
        at_any = replace(machine, threat=replace(attack.threat, epsilon=0.0))
        return programs(at_any, classify, mesh)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, 'with_checked_logits', checked_once)
        patch.setattr(ensemble, 'make_predict', cache(ensemble.make_predict))
        patch.setattr(ensemble, 'make_programs', programs_once)
        patch.setattr(curve, 'make_programs', programs_once)
        yield
