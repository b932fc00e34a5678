"""Counting in XLA's text. Oracles: texts written by hand, and a program whose loops are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from war_jax.mesh import AXIS, make_mesh
from war_jax.rehearsal.program_text import num_bytes, read

TEXT = """HloModule jit_step, is_scheduled=true

%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %tanh.0 = f32[4]{0} tanh(%p)
}

%body (state: (s32[], f32[4])) -> (s32[], f32[4]) {
  %state = (s32[], f32[4]{0}) parameter(0)
  %x = f32[4]{0} get-tuple-element(%state), index=1
  %y = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"100"}
  %sum = f32[4]{0} all-reduce(%y), replica_groups={{0,1}}, to_apply=%add
  ROOT %next = (s32[], f32[4]{0}) tuple(%i, %sum)
}

%cond (state: (s32[], f32[4])) -> pred[] {
  %state = (s32[], f32[4]{0}) parameter(0)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

%short (p: f32[4]) -> f32[4] {
  ROOT %copy.1 = f32[4]{0} copy(%p)
}

%long (p: f32[4]) -> f32[4] {
  %copy.2 = f32[4]{0} copy(%p)
  ROOT %copy.3 = f32[4]{0} copy(%copy.2)
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %start = f32[4]{0} all-reduce-start(%a), to_apply=%add
  %done = f32[4]{0} all-reduce-done(%start)
  %gather = (f32[4]{0:T(8,128)}, f32[8]{0}) all-gather-start(%a), dimensions={0}
  %all = f32[8]{0} all-gather-done(%gather)
  %later = ((f32[4]{0}), f32[4]{0}) async-start(%a), calls=%short
  %now = f32[4]{0} async-done(%later)
  %loop = (s32[], f32[4]{0}) while(%t), condition=%cond, body=%body, LOOP
  %c = f32[4]{0} conditional(%p, %a, %a), branch_computations={%short, %long}
  ROOT %end = f32[4]{0} fusion(%c), calls=%fused, backend_config={"estimated_cycles":"7"}
}
"""
KNOWN = 'backend_config={"known_trip_count":{"n":"10"},"x":"y"}'


def test_loops_count_as_often_as_they_run():
    counts = read(TEXT.replace('LOOP', KNOWN))
    assert counts.launches == {
        'fusion': 11, 'all-reduce': 11, 'compare': 10, 'copy': 3, 'all-gather': 1,
    }  # fmt: skip
    assert counts.num_launches == 36
    assert counts.collectives == {'all-reduce': 11, 'all-gather': 1}
    # What starts a gathering has its operand beside its result, which alone counts.
    assert counts.collective_bytes == {'all-reduce': 11 * 16, 'all-gather': 32}
    assert counts.cycles == 10 * 100 + 7
    assert counts.unknown_loops == 0


def test_a_loop_of_unknown_length_counts_once_and_is_told():
    counts = read(TEXT.replace('LOOP', 'metadata={}'))
    assert (counts.launches['fusion'], counts.unknown_loops) == (2, 1)


def test_a_loop_that_counts_up_to_a_constant_is_known():
    """As in texts for TPUs: the condition of JAX's loops, but for what else may stand in one."""
    text = TEXT.replace('LOOP', 'metadata={}')
    plain = '  ROOT %less = pred[] compare(%i, %n), direction=LT'
    bound = '  %n = s32[]{:T(128)} constant(10), metadata={}\n'
    counted = text.replace(plain, bound + plain)
    assert (read(counted).cycles, read(counted).unknown_loops) == (10 * 100 + 7, 0)
    for condition in (
        bound + plain.replace('LT', 'GT'),
        bound + '  %m = s32[] constant(3)\n' + plain,
        bound.replace('(10)', '(-1)') + plain,
        bound + '  %both = pred[] and(%less, %found)\n' + plain,
    ):
        unknown = read(text.replace(plain, condition))
        assert (unknown.cycles, unknown.unknown_loops) == (100 + 7, 1)


def test_bytes_of_a_shape():
    assert num_bytes('(f32[2,3]{1,0:T(8,128)}, bf16[4], pred[], u8[3])') == 24 + 8 + 1 + 3


def test_another_text_is_refused():
    with pytest.raises(ValueError, match='no ENTRY'):
        read('HloModule x')


def test_a_compiled_program():
    mesh = make_mesh(jax.devices()[:2])

    def five_sums(x):
        def body(carry, _):
            return jnp.sin(jax.lax.psum(carry, AXIS)) / carry, None

        return jax.lax.scan(body, x, length=5)[0]

    mapped = jax.shard_map(
        five_sums, mesh=mesh, in_specs=P(AXIS), out_specs=P(AXIS), check_vma=False
    )
    compiled = jax.jit(mapped).lower(np.ones(8, np.float32)).compile()
    counts = read(compiled.as_text() or '')
    assert counts.collectives['all-reduce'] == 5
    assert counts.collective_bytes['all-reduce'] == 5 * 4 * 4
    assert counts.num_launches >= 10
