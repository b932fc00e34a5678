"""What the sweep trains at each epsilon, and what is refused."""

from typing import Any

import pytest

from configs import regularization
from war_jax.config_rules import ConfigError
from war_jax.studies.regularization.settings import resolve_regularization


def settings(**changes: Any):
    config = regularization.get_config('smoke')
    for key, value in changes.items():
        group, _, name = key.partition('__')
        config[group][name] = value
    return resolve_regularization(config)


def test_attacks_are_in_proportion_to_epsilon():
    at = settings().at(0.2).base
    assert at.threat.epsilon == 0.2
    assert at.attack.step_size * at.attack.num_steps == pytest.approx(0.5)
    natural = settings().at(0.0).base
    assert natural.threat.epsilon == 0 and natural.attack.step_size > 0


@pytest.mark.parametrize(
    ('key', 'value', 'sentence'),
    [
        ('sweep__epsilons', (0.2, 0.1), r'sweep\.epsilons .* must be strictly increasing'),
        ('sweep__epsilons', (0.0, 2.0), r'sweep\.epsilons .* must be at most 1'),
        ('ntk__every', 0, r'ntk\.every = 0: must be at least 1'),
        ('study__war', ('constant',), r'study\.war .* must be \(\)'),
        ('study__autoattack_examples', 9, r'study\.autoattack_examples = 9: must be 0'),
        ('measure__num_distance', 1000, r'measure\.num_distance = 1000: must be at most'),
        ('measure__directions', 0, r'measure\.directions = 0: must be at least 1'),
    ],
)
def test_bad_values_are_refused(key: str, value: Any, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        settings(**{key: value})


def test_a_configuration_without_the_sweep_is_refused():
    config = regularization.get_config('smoke').to_dict()
    del config['sweep']
    with pytest.raises(ConfigError, match=r'^sweep: absent'):
        resolve_regularization(config)
