"""One training step against the WAR authors' PyTorch code, recorded in float64.

Oracle: tests/fixtures/*.npz (provenance in the README there), which shares no code with ours.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from war_jax.attacks import pgd
from war_jax.attacks.losses import cross_entropy, kl_divergence
from war_jax.attacks.threat import ThreatModel
from war_jax.config import OptimizerConfig
from war_jax.data.batches import Batch
from war_jax.mesh import AXIS, make_mesh, replicate, shard
from war_jax.models import forward, torch_io
from war_jax.models.wide_resnet import WideResNet
from war_jax.training.objective import OBJECTIVES
from war_jax.training.optimizer import make_optimizer, make_schedule
from war_jax.training.state import TrainState, create_state
from war_jax.training.step import Metrics, StepOptions, make_train_step
from war_jax.training.war import fixed_rule

pytestmark = pytest.mark.usefixtures('optimized')

FIXTURES = Path(__file__).parents[2] / 'fixtures'
FLOAT64 = jnp.dtype('float64')
# Jitted with the weights as arguments: as constants they would be worked on by the compiler.
evaluate = functools.partial(jax.jit, static_argnums=0)(forward.evaluate)


@functools.partial(jax.jit, static_argnums=0)
def training_logits(model, variables, both):
    """(2, b, h, w, c) -> (2, b, classes), each of the two with its own batch statistics."""
    seen = jnp.ones(both.shape[1], bool)
    return forward.train(model.clone(axis_name=None), variables, both, seen)[0]


class Recorded:
    """One recorded step, images in our layout."""

    def __init__(self, method: str):
        self.arrays = np.load(FIXTURES / f'{method}_step_wrn10-1.npz')
        self.method = method
        self.x = jnp.asarray(self['x'].transpose(0, 2, 3, 1))
        self.x_adv = self['x_adv'].transpose(0, 2, 3, 1)
        self.noise = jnp.asarray(self['noise'].transpose(0, 2, 3, 1))
        self.labels = self['y'].astype(np.int32)
        self.before = self.state_dict('before')
        self.after = self.state_dict('after')
        self.threat = ThreatModel('linf', float(self['epsilon']))
        self.budget = pgd.Budget(
            int(self['num_steps']), float(self['step_size']), 'gaussian', 0.001
        )
        self.model = WideResNet(
            int(self['depth']),
            int(self['widen_factor']),
            num_classes=10,
            axis_name=AXIS,
            dtype=FLOAT64,
            param_dtype=FLOAT64,
        )

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def state_dict(self, prefix: str) -> dict:
        names = [name for name in self.arrays.files if name.startswith(prefix + '/')]
        return torch_io.from_torch({n.split('/', 1)[1]: self.arrays[n] for n in names})

    def gradients(self) -> dict:
        """Recorded gradients as our tree; the statistics that the reader wants are put in."""
        names = {n: self.arrays[n] for n in self.arrays.files}
        state = {n.split('/', 1)[1]: names[n] for n in names if n.startswith('before/')}
        state |= {n.split('/', 1)[1]: names[n] for n in names if n.startswith('grad/')}
        return torch_io.from_torch(state)['params']


@pytest.fixture(params=['trades', 'madry_per_example'])
def recorded(request):
    with jax.enable_x64(True):
        yield Recorded(request.param)


def assert_trees_close(actual, desired, rtol: float) -> None:
    """Largest difference of each tensor relative to that tensor's largest entry."""

    def check(path, a, d):
        scale = np.abs(np.asarray(d)).max()
        error = np.abs(np.asarray(a) - np.asarray(d)).max() / scale
        assert error < rtol, f'{jax.tree_util.keystr(path)}: relative error {error:.2e}'

    jax.tree_util.tree_map_with_path(check, actual, desired)


def test_evaluation_logits(recorded):
    logits = evaluate(recorded.model, recorded.before, recorded.x)
    np.testing.assert_allclose(logits, recorded['logits_eval'], rtol=0, atol=1e-10)


def test_attack_and_its_gradient_norms(recorded, monkeypatch):
    monkeypatch.setattr(pgd, 'random_start', lambda keys, x, *_: x + 0.001 * recorded.noise)
    clean = evaluate(recorded.model, recorded.before, recorded.x)
    objective = OBJECTIVES[recorded.method]()

    keys = jax.random.split(jax.random.key(0), 16)

    @jax.jit
    def attack(variables, x):
        def loss(z):
            logits = forward.evaluate(recorded.model, variables, z)
            return objective.attack_loss(logits, clean, recorded.labels)

        return pgd.attack_trace(keys, loss, x, recorded.threat, recorded.budget)

    trace = attack(recorded.before, recorded.x)
    np.testing.assert_allclose(trace.x_adv, recorded.x_adv, rtol=0, atol=1e-12)
    if recorded.method == 'trades':
        np.testing.assert_allclose(trace.max_grad_l1.sum(), recorded['sum_max_grad_l1'], rtol=1e-10)
        x_adv_logits = evaluate(recorded.model, recorded.before, trace.x_adv)
        assert float(kl_divergence(clean, x_adv_logits).mean()) > float(trace.loss[0].mean())


def test_their_positive_part_is_of_each_example():
    """The form of batch means is off, as three of the sixteen have an adversarial loss below the
    natural one."""
    with jax.enable_x64(True):
        recorded = Recorded('madry_per_example')
        both = jnp.stack([recorded.x, jnp.asarray(recorded.x_adv)])
        clean, adversarial = training_logits(recorded.model, recorded.before, both)
        labels = jnp.asarray(recorded.labels)
        losses = [np.asarray(cross_entropy(z, labels)) for z in (clean, adversarial)]
        assert (losses[1] < losses[0]).sum() == 3
        theirs = float(recorded['weighted_regularization'] / recorded['lam'])
        arguments = (clean, adversarial, labels, jnp.mean)
        per_example, of_means = (
            OBJECTIVES[name]().risk(*arguments) for name in ('madry_per_example', 'madry')
        )
    np.testing.assert_allclose(per_example.natural, recorded['natural'], rtol=1e-10)
    np.testing.assert_allclose(per_example.robust, theirs, rtol=1e-9)
    of_losses = losses[1].mean() - losses[0].mean()
    np.testing.assert_allclose(of_means.robust, of_losses, rtol=1e-9)
    assert of_losses < 0.97 * theirs


def test_whole_step(recorded, monkeypatch):
    """Risks, gradients (through the update that they make), statistics and weights."""
    # One of the two on several devices; that devices agree is test_step's subject.
    mesh = make_mesh(jax.devices()[: 4 if recorded.method == 'trades' else 1])
    noise = shard(mesh, np.asarray(recorded.noise))

    def recorded_start(keys, x, *_):
        i = jax.lax.axis_index(AXIS) * x.shape[0]
        return x + 0.001 * jax.lax.dynamic_slice_in_dim(noise_everywhere, i, x.shape[0])

    noise_everywhere = jnp.asarray(np.asarray(noise))
    monkeypatch.setattr(pgd, 'random_start', recorded_start)
    settings = OptimizerConfig(
        epochs=1,
        batch_size=16,
        accumulation=1,
        learning_rate=float(recorded['learning_rate']),
        momentum=float(recorded['momentum']),
        nesterov=False,
        weight_decay=float(recorded['weight_decay']),
        decay_norm_and_bias=True,
        schedule='piecewise',
        boundaries=(),
        factor=0.1,
        warmup_epochs=0.0,
    )
    tx = make_optimizer(settings, make_schedule(settings, 10), 10)
    objective = OBJECTIVES[recorded.method]()
    # That code runs the natural pass first in TRADES, and the adversarial one first in Madry.
    order = ('natural', 'adversarial')
    options = StepOptions(bn_updates=order if recorded.method == 'trades' else order[::-1])
    step = make_train_step(
        recorded.model, objective, recorded.threat, recorded.budget, tx, mesh, options
    )
    lam = float(recorded['lam'])
    rule = fixed_rule(lam, decay=0.99, total_steps=10)
    state: TrainState = create_state(
        jax.random.key(0), recorded.model, tx, (32, 32, 3), rule, False
    )
    state = state.replace(
        params=jax.tree.map(jnp.asarray, recorded.before['params']),
        batch_stats=jax.tree.map(jnp.asarray, recorded.before['batch_stats']),
    )
    ids = np.arange(16, dtype=np.int32)
    batch = Batch(np.asarray(recorded.x), recorded.labels, np.ones(16, bool), ids)
    new, metrics = step(replicate(mesh, state), jax.random.key(0), rule, shard(mesh, batch))
    metrics = Metrics(*metrics)

    np.testing.assert_allclose(metrics.natural_risk, recorded['natural'], rtol=1e-10)
    np.testing.assert_allclose(
        lam * metrics.robust_regularization, recorded['weighted_regularization'], rtol=1e-9
    )
    np.testing.assert_allclose(metrics.loss, recorded['loss'], rtol=1e-9)
    # The first momentum buffer is gradient + weight decay * weight.
    trace = new.opt_state[1].trace
    decay = settings.weight_decay
    gradients = jax.tree.map(lambda t, w: t - decay * w, trace, recorded.before['params'])
    assert_trees_close(gradients, recorded.gradients(), rtol=1e-7)
    assert_trees_close(new.params, recorded.after['params'], rtol=1e-9)
    assert_trees_close(new.batch_stats, recorded.after['batch_stats'], rtol=1e-9)
