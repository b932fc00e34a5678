"""What accelerators would be given to compile, read off the programs' text on a machine without.

JAX lowers a program for platforms that are not there. In its text every convolution and product
says how exactly it is to be computed, and none of the forms that XLA's CPU backend is helped with
may be in it. Nothing is compiled here.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntk.empirical.blocks import _contract, _multiply, _write_jacobians
from ntk.functional import functional
from ntk.gradients import largest_over_ball, loss_gradient_norms, output_gradient_norms
from war_jax.attacks.losses import cross_entropy
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.data.batches import Batch
from war_jax.lowering import (
    for_mesh,
    in_double_precision,
    in_full_precision,
    is_for_cpu,
    lowering_for,
)
from war_jax.measures.network import make_measures
from war_jax.mesh import AXIS, make_mesh
from war_jax.models import forward
from war_jax.models.wide_resnet import WideResNet
from war_jax.robustness.ensemble import make_attacks, make_predict
from war_jax.robustness.pool import Examples, make_programs
from war_jax.training.adversary import AttackOptions
from war_jax.training.objective import Natural, Trades
from war_jax.training.state import create_state
from war_jax.training.step import StepOptions, make_train_step
from war_jax.training.war import fixed_rule

NUM, CLASSES, IMAGE = 8, 3, (8, 8, 3)
# No tests of what is computed: the shortest attacks, the smallest network.
THREAT, BUDGET = ThreatModel('linf', 0.1), Budget(1, 0.05, 'gaussian', 0.001)
RULE = fixed_rule(1.0, decay=0.99, total_steps=10)
MODEL = WideResNet(
    depth=10, widen_factor=0.125, num_classes=CLASSES, stem_channels=4, axis_name=AXIS
)


def shapes(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


BATCH = shapes(
    Batch(
        np.zeros((NUM, *IMAGE), np.uint8), np.zeros(NUM, np.int32), np.ones(NUM, bool),
        np.arange(NUM, dtype=np.int32),
    )
)  # fmt: skip


@pytest.fixture(scope='module')
def mesh():
    return make_mesh()


@pytest.fixture(scope='module')
def state():
    def fresh():
        return create_state(jax.random.key(0), MODEL, optax.sgd(0.1), IMAGE, RULE, False)

    return jax.eval_shape(fresh)


def lowered(program, *arguments) -> str:
    """For accelerators of both kinds at once; in one text."""
    with lowering_for('gpu'):
        traced = jax.jit(lambda *a: program(*a)).trace(*arguments)
        return traced.lower(lowering_platforms=('cuda', 'tpu')).as_text()


def products(text: str) -> list[str]:
    return re.findall(r'stablehlo\.(?:convolution|dot_general)\b.*', text)


def precisions(lines: list[str]) -> set[str]:
    """Of all products of a text: both factors' precision."""
    found = [re.findall(r'\b(DEFAULT|HIGH|HIGHEST)\b', line) for line in lines]
    return {'/'.join(sorted(set(words))) or 'not said' for words in found}


def step_text(mesh, state, objective, **options) -> str:
    step = make_train_step(
        MODEL, objective, THREAT, BUDGET, optax.sgd(0.1), mesh, StepOptions(**options)
    )
    return lowered(step, state, jax.random.key(0), shapes(RULE), BATCH)


def test_in_training_the_stem_alone_is_exact(mesh, state):
    lines = products(step_text(mesh, state, Trades()))
    # Its kernel is 3 x 3 x 3 x 4; no other tensor of the network has these axes.
    stem = [line for line in lines if '3x3x3x4x' in line]
    # Of the clean images for the target, in the attack (forward and backward), of both passes of
    # the update (forward, and the kernel's gradient).
    assert len(stem) >= 5
    assert precisions(stem) == {'HIGHEST'}
    others = [line for line in lines if line not in stem]
    assert len(others) > 40
    assert precisions(others) == {'DEFAULT'}


def test_training_is_as_exact_as_it_is_told(mesh, state):
    text = step_text(mesh, state, Natural(), matmul_precision='highest')
    assert len(products(text)) > 20
    assert precisions(products(text)) == {'HIGHEST'}


def test_what_is_written_for_cpus_stays_there(mesh, state):
    model = MODEL.clone(axis_name=None)
    images = jax.ShapeDtypeStruct((NUM, *IMAGE), np.float32)

    def text(platform):
        with lowering_for(platform):
            program = jax.jit(lambda variables, x: forward.evaluate(model, variables, x))
            return program.lower(state.variables, images).as_text()

    # Neighbours at once: kernels are padded with zeros.
    assert 'stablehlo.pad' in text('cpu')
    assert 'stablehlo.pad' not in text('tpu')


@pytest.mark.parametrize('measure', ['attack', 'lipschitz'])
def test_measures_are_exact(mesh, state, measure):
    measures = make_measures(MODEL.clone(axis_name=None), mesh, THREAT, BUDGET)
    arguments = (state.variables, jax.random.key(0), BATCH)
    if measure == 'attack':
        text = lowered(measures.attacks['ce'], *arguments, jnp.float32(1.0))
    else:
        text = lowered(measures.lipschitz, *arguments)
    assert len(products(text)) > 10
    assert precisions(products(text)) == {'HIGHEST'}


def in_loops(program: Any, is_within: bool = False) -> list[Any]:
    """The equations of a traced program that are done in each round of a loop."""
    found = []
    for equation in getattr(program, 'jaxpr', program).eqns:
        name = equation.primitive.name
        found += [equation] * is_within
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                if hasattr(inner, 'eqns') or hasattr(inner, 'jaxpr'):
                    found += in_loops(inner, is_within or name in ('scan', 'while'))
    return found


@pytest.mark.parametrize('program', ['step', 'step by the batch', 'attack', 'lipschitz'])
def test_an_attack_makes_what_weights_alone_decide_once(mesh, state, program):
    """BatchNorm's factors, whose square roots are the only ones here, and kernels' bfloat16."""
    model = MODEL.clone(dtype=jnp.dtype('bfloat16'))
    arguments = (state.variables, jax.random.key(0), BATCH)
    by_the_batch = program == 'step by the batch'  # whose moments change from round to round
    with lowering_for('gpu'):
        if program.startswith('step'):
            model = model.clone(remat=by_the_batch)
            attack = AttackOptions(batch_norm='train' if by_the_batch else 'eval')
            step = make_train_step(
                model, Trades(), THREAT, BUDGET, optax.sgd(0.1), mesh, StepOptions(attack=attack)
            )
            traced = jax.make_jaxpr(step)(state, jax.random.key(0), shapes(RULE), BATCH)
        else:
            measures = make_measures(model.clone(axis_name=None), mesh, THREAT, BUDGET)
            measure: Any = measures.lipschitz
            if program == 'attack':
                measure, arguments = measures.attacks['ce'], (*arguments, jnp.float32(1.0))
            traced = jax.make_jaxpr(lambda *a: measure(*a))(*arguments)
    equations = in_loops(traced)
    names = [equation.primitive.name for equation in equations]
    assert names.count('conv_general_dilated') > 10
    assert ('rsqrt' in names) == by_the_batch
    rounded = [e.invars[0].aval for e in equations if e.primitive.name == 'convert_element_type']
    assert all(array.shape[:2] not in ((3, 3), (1, 1)) for array in rounded)


@pytest.mark.parametrize('name', ['apgd-ce', 'fab-t', 'square', 'pgd20'])
def test_strong_attacks_are_exact(mesh, state, name):
    def classify(variables, x):
        return forward.evaluate(MODEL.clone(axis_name=None), variables, x)

    (attack,) = make_attacks(name, THREAT, IMAGE)
    programs = make_programs(attack, classify, mesh)
    shaped: Any = Examples
    examples = shaped(
        jax.ShapeDtypeStruct((NUM, *IMAGE), np.float32),
        jax.ShapeDtypeStruct((NUM,), np.int32),
        jax.ShapeDtypeStruct((NUM, CLASSES), np.float32),
    )
    ids = jax.ShapeDtypeStruct((NUM,), np.int32)
    is_new = jax.ShapeDtypeStruct((NUM,), bool)
    key, epsilon = jax.random.key(0), jnp.float32(0.1)
    with lowering_for('gpu'):
        slots = jax.eval_shape(programs.enter, key, epsilon, examples, None, ids, ids, is_new)
    text = lowered(programs.step, state.variables, epsilon, slots)
    assert len(products(text)) >= 10
    assert precisions(products(text)) == {'HIGHEST'}
    predict = lowered(make_predict(classify, mesh), state.variables, examples.images)
    assert precisions(products(predict)) == {'HIGHEST'}


def test_kernels_are_exact(mesh, state):
    variables = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state.variables)
    f, params = functional(MODEL.clone(axis_name=None), variables, train=False)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    x = jax.ShapeDtypeStruct((mesh.size, *IMAGE), np.float32)
    buffer = jax.ShapeDtypeStruct((CLASSES, 2, mesh.size, size), np.float32)
    block = jax.ShapeDtypeStruct((2, *IMAGE), np.float32)
    slot = jax.ShapeDtypeStruct((), np.int32)
    texts = [
        lowered(lambda *a: _write_jacobians(f, *a, mesh=mesh), params, buffer, slot, x),
        lowered(lambda *a: _contract(*a, outputs='mean', mesh=mesh), buffer, buffer),
        lowered(lambda *a: _multiply(f, *a, outputs='mean', mesh=mesh), params, x, block),
    ]
    for text in texts:
        assert precisions(products(text)) == {'HIGHEST'}


def test_input_gradients_are_exact():
    x, w = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((NUM, 5), (5, 5)))
    y = jnp.zeros(NUM, int)
    keys = jax.random.split(jax.random.key(0), NUM)

    def norms(w, x):
        def f(z):
            return jnp.tanh(z @ w) @ w

        def of_loss(z):
            return loss_gradient_norms(f, lambda logits: cross_entropy(logits, y), z)

        largest = largest_over_ball(keys, of_loss, x, THREAT, BUDGET)
        return output_gradient_norms(f, x), of_loss(x), largest

    lines = products(lowered(norms, w, x))
    assert len(lines) > 12  # those of the gradient of a gradient among them
    assert precisions(lines) == {'HIGHEST'}


def test_a_platform_is_part_of_what_is_cached(mesh):
    @jax.jit
    def which(x):
        return x + (1 if is_for_cpu() else 2)

    assert which(0) == 1
    with lowering_for('tpu'):
        assert which(0) == 2
    assert which(0) == 1
    # What is asked for by name goes before the mesh, whose devices are CPUs here.
    assert for_mesh(is_for_cpu, mesh)()
    with lowering_for('tpu'):
        assert not for_mesh(is_for_cpu, mesh)()
        assert not in_full_precision(is_for_cpu)()


@pytest.mark.parametrize('backend', ['cpu', 'tpu'])
def test_double_precision_is_the_hosts_on_a_tpu(backend, monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    with in_double_precision():
        assert jnp.ones(()).dtype == np.float64
        chosen = jax.config.jax_default_device  # type: ignore[attr-defined]
    assert (chosen is not None and chosen.platform == 'cpu') == (backend == 'tpu')
    assert jnp.ones(()).dtype == np.float32
