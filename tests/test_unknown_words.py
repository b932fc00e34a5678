"""Every word that chooses between computations is known, or refused: none falls through."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from configs import digits
from ntk.networks import Architecture
from war_jax.attacks.apgd import Apgd
from war_jax.attacks.fab import to_hyperplane
from war_jax.attacks.machine import Ascent
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.config import resolve
from war_jax.config_rules import ConfigError
from war_jax.models.wide_resnet import WideResNet
from war_jax.records.reference import Reference
from war_jax.training.adversary import AttackOptions
from war_jax.training.averaging import Averaging
from war_jax.training.build import make_rule, targets
from war_jax.training.networks import make_model
from war_jax.training.optimizer import make_schedule
from war_jax.training.step import StepOptions

CONFIG = resolve(digits.get_config('smoke'))
THREAT = ThreatModel('linf', 0.1)
IMAGES = jnp.zeros((1, 8, 8, 1))
REFERENCE = Reference(1.0, 1.0, (1.0,), 10, 1.0, 0, '', {}, {})


def network(**words: str) -> Any:
    model = WideResNet(10, 0.125, 3, **words)  # pyright: ignore[reportArgumentType]
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), IMAGES)


def with_word(group: str, key: str, word: str) -> Any:
    """The configuration with one word changed behind the back of its rules."""
    return replace(CONFIG, **{group: replace(getattr(CONFIG, group), **{key: word})})


# What takes the word, one word that it knows, and how it is called.
CHOICES: list[tuple[str, str, Callable[[Any], Any]]] = [
    ('norm', 'l2', lambda word: ThreatModel(word, 0.1)),
    ('norm', 'l2', lambda word: to_hyperplane(
        jnp.ones((1, 3)), jnp.ones((1, 3)), jnp.ones(1), word)),
    ('init', 'none', lambda word: Budget(1, 0.1, word, 1.0)),
    ('objective', 'dlr', lambda word: Apgd('apgd', THREAT, word)),
    ('objective', 'cw', lambda word: Ascent('cw1', THREAT, word, 1, 2.0, 1, True)),
    ('padding', 'tensorflow', lambda word: network(padding=word)),
    ('activation', 'swish', lambda word: network(activation=word)),
    ('optimizer.schedule', 'piecewise', lambda word: make_schedule(
        with_word('optimizer', 'schedule', word).optimizer, 10)),
    ('war.target', 'trajectory', lambda word: targets(REFERENCE, word, 3)),
    ('war.rule', 'fixed_step', lambda word: make_rule(
        with_word('war', 'rule', word), REFERENCE, 1)),
    ('batch_norm.statistics', 'per_device', lambda word: make_model(
        with_word('batch_norm', 'statistics', word), 3)),
    ('attack.batch_norm', 'train', lambda word: AttackOptions(batch_norm=word)),
    ('ema_batch_norm', 'copied', lambda word: Averaging(batch_norm=word)),
    ('bn_updates[1]', 'natural', lambda word: StepOptions(bn_updates=('natural', word))),
    ('kind', 'wrn', lambda word: Architecture(word)),
    ('activation', 'erf', lambda word: Architecture('fcn', activation=word)),
]  # fmt: skip
IDS = [f'{number}-{key}' for number, (key, _, _) in enumerate(CHOICES)]


@pytest.mark.parametrize(('key', 'known', 'call'), CHOICES, ids=IDS)
def test_unknown_words_are_refused(key, known, call):
    call(known)
    for word in ('banana', known.capitalize() + 's', '', None):
        with pytest.raises(ConfigError) as caught:
            call(word)
        message = str(caught.value)
        assert message.startswith(f'{key} = {word!r}: must be one of ') and known in message
        assert '\n' not in message
