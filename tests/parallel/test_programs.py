"""What is read of compiled programs, against programs whose work is known."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from dl.parallel.programs import Program, _groups, products, shape_bytes

TEXT = """HloModule step

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %p = (s32[], f32[4,8]{1,0}) parameter(0)
  %x = f32[4,8]{1,0} get-tuple-element(%p), index=1
  %y = f32[4,8]{1,0} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %out = (s32[], f32[4,8]{1,0}) tuple(%i, %y)
}

%fused (a: f32[12,4,8], i: s32[]) -> f32[1,4,8] {
  %a = f32[12,4,8]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %cut = f32[1,4,8]{2,1,0} dynamic-slice(%a, %i, %i, %i), dynamic_slice_sizes={1,4,8}
}

ENTRY %main (s: f32[12,4,8], g: bf16[64]) -> f32[] {
  %s = f32[12,4,8]{2,1,0} parameter(0)
  %g = bf16[64]{0} parameter(1)
  %i = s32[] parameter(2)
  %next = s32[] add(%i, %i)
  %slice = f32[1,4,8]{2,1,0} fusion(%s, %i), kind=kLoop, calls=%fused
  %loop = (s32[], f32[4,8]{1,0}) while(%t), body=%body, backend_config={"known_trip_count":{"n":"12"}}
  %sum = bf16[64]{0} all-reduce(%g), replica_groups={{0,4},{1,5},{2,6},{3,7}}, to_apply=%add
  ROOT %call = (bf16[64]{0}, s8[4194304]{0}) custom-call(%g), custom_call_target="__cublas$gemm"
}
"""


def test_loops_of_known_length_count_every_turn():
    work = Program(TEXT).work
    gather, total = sorted(work.collectives, key=lambda one: one.kind)
    assert (gather.kind, gather.times) == ("all-gather", 12)
    assert gather.groups == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert gather.result == 4 * 8 * 4
    assert gather.wire == gather.result * 3 / 4
    assert (total.kind, total.times) == ("all-reduce", 1)
    assert total.groups == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert total.wire == 64 * 2  # twice a half of it
    kernels = {"all-gather": 12, "fusion": 1, "all-reduce": 1, "cublas$gemm": 1}
    assert work.kernels == kernels | {"of single numbers": 1}
    assert work.largest == "f32[1,4,8]"
    # Each turn's gathering, the slice read and written with its place, a sum, a place, and a product without
    # the room that it works in.
    assert work.memory == 12 * 2 * 128 + (2 * 128 + 4) + 2 * 128 + 3 * 4 + 2 * 128


def test_a_group_over_the_border_of_two_hosts_is_not_within_one():
    gather, total = sorted(Program(TEXT).work.collectives, key=lambda one: one.kind)
    assert gather.within(4)
    assert not total.within(4)
    assert total.within(8)
    # Six neighbours of eight a host: those from 6 to 11 lie on two.
    assert not gather._replace(groups=[[*range(6)], [*range(6, 12)]]).within(8)


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        ("replica_groups={{0,4},{1,5}}", [[0, 4], [1, 5]]),
        ("replica_groups=[2,2]<=[4]", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['x'=2,'y'=2] {'y'}", [[0, 1], [2, 3]]),
        ("replica_groups=mesh['x'=2,'y'=2] {'x'}", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['x'=2,'y'=2], device_ids=([2,2]T(1,0)) {'y'}", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['x'=4] {'x':(1)2}", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['x'=4] {'x':(2)2}", [[0, 1], [2, 3]]),
        ("source_target_pairs={{0,1},{1,0}}", [[0, 1], [1, 0]]),
    ],
)
def test_who_speaks_to_whom(written, groups):
    assert _groups(f", channel_id=1, {written}, dimensions={{0}}") == groups


def test_a_collective_of_one_number_is_one_that_does_not_wait_too():
    for kind in ("all-reduce", "all-reduce-start"):
        text = TEXT.replace("%sum = bf16[64]{0} all-reduce(", f"%sum = f32[] {kind}(")
        assert text != TEXT
        kernels = Program(text).work.kernels
        assert (kernels["all-reduce"], kernels["of single numbers"]) == (1, 1)


def test_a_loop_that_counts_up_to_a_constant_turns_as_often():
    condition = """%until (p: (s32[], f32[4,8])) -> pred[] {
  %twelve = s32[]{:T(128)} constant(12), metadata={}
  %q = (s32[], f32[4,8]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%q), index=0
  ROOT %more = pred[] compare(%n, %twelve), direction=LT
}

ENTRY"""
    known = 'while(%t), body=%body, backend_config={"known_trip_count":{"n":"12"}}'
    assert known in TEXT
    text = TEXT.replace("ENTRY", condition).replace(
        known, "while(%t), condition=%until, body=%body"
    )
    assert Program(text).work.kernels["all-gather"] == 12


def test_of_a_slice_only_the_slice_is_read():
    kernels = Program(TEXT)
    fusion = next(line for _, _, line in kernels.executed() if line.kind == "fusion")
    shapes = {line.name: line.shape for line in kernels.computations["main"]}
    assert kernels._moved(fusion, shapes) == 2 * 4 * 8 * 4 + 4  # read and written, and its place


def test_what_lies_on_the_core_of_a_tpu_is_not_read_from_its_memory():
    far, near = "{1,0:T(8,128)}", "{1,0:T(8,128)S(1)}"
    text = f"""HloModule step

ENTRY %main (w: f32[256,128]) -> f32[64,128] {{
  %w = f32[256,128]{far} parameter(0)
  %begun = (f32[256,128]{near}, f32[256,128]{far}, u32[]{{:S(2)}}) copy-start(%w)
  %whole = f32[256,128]{near} copy-done(%begun)
  %cut = ((f32[256,128]{far}), f32[64,128]{near}, s32[]{{:S(2)}}) slice-start(%w), slice={{[0:64], [0:128]}}
  %part = f32[64,128]{near} slice-done(%cut)
  %again = f32[64,128]{near} slice(%whole), slice={{[0:64], [0:128]}}
  %sum = f32[64,128]{near} add(%part, %again)
  ROOT %out = f32[64,128]{far} multiply(%sum, %part)
}}
"""
    whole, part = 4 * 256 * 128, 4 * 64 * 128
    # Fetched whole, and a part; then a part is written.
    assert Program(text).work.memory == whole + part + part
    everywhere = text.replace("S(1)", "").replace("u32[]{:S(2)}", "u32[]").replace(":T(8,128)", "")
    assert Program(everywhere).work.memory == 2 * whole + 2 * part + 2 * part + 3 * part + 3 * part


def test_the_start_of_a_gathering_is_read_and_written_once():
    gathering = "f32[4,8]{1,0} all-gather("
    started = TEXT.replace(gathering, "(f32[4,8]{1,0}, f32[4,8]{1,0}) all-gather-start(")
    assert started != TEXT
    assert Program(started).work.memory == Program(TEXT).work.memory


@pytest.mark.parametrize(
    ("text", "size"),
    [("f32[2,3]{1,0}", 24), ("(bf16[4]{0}, s32[])", 12), ("pred[8]{0}", 8), ("f8e4m3fn[16]", 16)],
)
def test_bytes_of_a_shape(text, size):
    assert shape_bytes(text) == size


def test_products_count_loops_conditions_and_gradients():
    def layer(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: jnp.tanh(x @ w), lambda: x), None

    def loss(weights, x):
        return jax.lax.scan(layer, x, weights)[0].sum()

    x, weights = jnp.ones((4, 8)), jnp.ones((5, 8, 8))
    once = 2 * 4 * 8 * 8
    assert products(jax.make_jaxpr(loss)(weights, x).jaxpr) == {"float32": 5 * once}
    both = jax.make_jaxpr(jax.grad(loss, (0, 1)))(weights, x).jaxpr
    assert products(both) == {"float32": 3 * 5 * once}


def test_products_along_an_idle_axis_count_once():
    mesh = AbstractMesh((2, 4), ("data", "tensor"))

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"))
    def mapped(x, w):
        return x @ w

    jaxpr = jax.make_jaxpr(mapped)(jnp.ones((4, 8)), jnp.ones((8, 8))).jaxpr
    once = 2 * 4 * 8 * 8
    assert products(jaxpr) == {"float32": 4 * once}  # each of four computes all
    assert products(jaxpr, idle=["tensor"]) == {"float32": once}


@pytest.mark.parametrize("stride", [1, 2])
def test_products_count_convolutions_and_their_gradients(stride):
    def convolved(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    x, w = jnp.ones((2, 6, 6, 3), jnp.bfloat16), jnp.ones((2, 2, 3, 5), jnp.bfloat16)
    side = 5 if stride == 1 else 3
    once = 2 * (2 * side * side * 5) * (2 * 2 * 3)
    assert products(jax.make_jaxpr(convolved)(x, w).jaxpr) == {"bfloat16": once}
    # Through the weights as many again, and through the inputs: each product of numbers comes once in each,
    # but for those with the zeros of a padding, which count.
    both = jax.make_jaxpr(jax.grad(lambda *of: convolved(*of).sum(), (0, 1)))(x, w).jaxpr
    through_inputs = 2 * x.size * (2 * 2 * 5) / stride**2
    assert products(both) == {"bfloat16": 2 * once + through_inputs}
    assert stride == 1 or through_inputs == once


@pytest.mark.parametrize(
    ("precision", "kind"),
    [
        (None, "float32"),
        ("bfloat16", "float32"),
        ("tensorfloat32", "tensorfloat32"),
        ("float32", "exact float32"),
    ],
)
def test_products_of_float32_go_by_the_precision_asked_for(precision, kind):
    with jax.default_matmul_precision(precision):
        jaxpr = jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 3)), jnp.ones((3, 4)))
    assert products(jaxpr.jaxpr) == {kind: 2 * 2 * 3 * 4}
