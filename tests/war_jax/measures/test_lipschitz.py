"""Local Lipschitzness. Oracle: for f(x) = ±(w·x), ||f(x) - f(x')||_1 / ||x - x'|| has the maximum
2 ||w||_1 in L-infinity and 2 ||w||_2 in L2, at any x and any radius."""

import jax
import numpy as np
import pytest

from tests.war_jax.measures.test_accuracy import Linear
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.data.batches import eval_plan
from war_jax.data.device import DeviceData
from war_jax.data.sources import Dataset
from war_jax.measures.lipschitz import make_lipschitz, run_lipschitz
from war_jax.mesh import make_mesh


@pytest.mark.parametrize(('norm', 'order'), [('linf', 1), ('l2', 2)])
def test_linear_classifier(norm, order):
    rng = np.random.default_rng(0)
    images = rng.uniform(0.3, 0.7, (13, 8, 8, 1)).astype(np.float32)
    w = rng.normal(size=64).astype(np.float32)
    variables = {'params': {'w': w, 'b': np.float32(0.2)}}
    mesh = make_mesh()
    data = DeviceData(mesh, Dataset(images, np.zeros(13, np.int32)))
    budget = Budget(10, 0.05, 'gaussian', 0.001)
    ratio = make_lipschitz(Linear(), mesh, ThreatModel(norm, 0.1), budget)
    local = run_lipschitz(ratio, variables, jax.random.key(0), data, eval_plan(13, 8))
    values = local.ratio
    assert values.shape == (13,)
    # The logits are ±(w·x + b), so that one exceeds the other by twice its size.
    expected = 2 * np.abs(images.reshape(13, -1) @ w + 0.2)
    np.testing.assert_allclose(local.margin, expected, rtol=1e-4, atol=1e-5)
    maximum = 2 * np.linalg.norm(w, order)
    assert np.all(values <= maximum * (1 + 1e-5))
    # In L-infinity sign ascent on the ratio also pulls back the coordinates that attain the norm
    # and matter little to the numerator: a lower bound, as the module says, and a good one.
    assert values.mean() > maximum * (0.999 if norm == 'l2' else 0.95)


def test_refuses_to_start_at_the_clean_image():
    threat, budget = ThreatModel('linf', 0.1), Budget(10, 0.05, 'none', 1.0)
    with pytest.raises(ValueError, match='0/0'):
        make_lipschitz(Linear(), make_mesh(), threat, budget)
