"""Meshes from text, and where rules put an array."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P
from mistakes import raises

from dl.parallel.mesh import AXES, make_mesh, parse_mesh
from dl.parallel.sharding import TRANSFORMER, padded, spec
from dl.training.prefetch import own_shard

MESH = AbstractMesh((2, 4, 1, 1, 2), AXES)


def test_axes_left_out_are_one_and_minus_one_is_the_rest():
    assert parse_mesh("data=2, fsdp=4", 8) == {
        "data": 2,
        "fsdp": 4,
        "expert": 1,
        "sequence": 1,
        "tensor": 1,
    }
    sizes = {"data": 4, "fsdp": 1, "expert": 1, "sequence": 1, "tensor": 2}
    assert parse_mesh("data=-1,tensor=2", 8) == sizes
    with raises("mesh-malformed", "8 devices", "no multiple of 3"):
        parse_mesh("data=-1,fsdp=3", 8)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date=2", ("unknown", "did you mean 'data'")),
        ("data=two", ("mesh-malformed", "write an axis as data=4")),
        ("data=0", ("mesh-malformed", "1 or more")),
        ("data=-1,fsdp=-1", ("mesh-malformed", "one of them may be -1")),
        ("data=2,data=4", ("mesh-malformed", "data stands there twice")),
        (
            "data=4096",
            (
                "mesh-too-large",
                "4096 devices",
                "XLA_FLAGS=--xla_force_host_platform_device_count=4096",
            ),
        ),
    ],
)
def test_a_wrong_mesh_is_answered(text, said):
    with raises(*said):
        make_mesh(text)


@dataclasses.dataclass(frozen=True)
class Chip:
    """What is asked of a TPU's chip before it is put into a mesh."""

    id: int
    coords: tuple[int, int, int]
    process_index: int = 0
    core_on_chip: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5"
    slice_index: int = 0


@pytest.mark.parametrize("text", ["fsdp=64", "data=8,fsdp=8", "data=4,fsdp=16", "data=2,tensor=32"])
def test_a_mesh_on_a_torus_may_cut_its_axes(text):
    places = itertools.product(range(4), repeat=3)
    chips = [Chip(number, place[::-1]) for number, place in enumerate(places)]
    mesh = make_mesh(text, chips)
    assert mesh.shape == parse_mesh(text, 64)
    assert {chip.id for chip in mesh.devices.flat} == set(range(64))


def test_fsdp_cuts_the_largest_dimension_that_it_divides():
    assert spec("Dense_0/kernel", (30, 64), MESH, ()) == P(None, "fsdp")
    assert spec("Dense_0/kernel", (128, 64), MESH, ()) == P("fsdp")
    assert spec("Dense_0/kernel", (31, 63), MESH, ()) == P()
    assert spec("Dense_0/bias", (64,), MESH, ()) == P()  # too small to be worth it


@pytest.mark.parametrize("before", ["variables/params/body/", "opt_state/0/mu/body/", "body/"])
@pytest.mark.parametrize("stacked", [(), (6,)])
def test_a_transformer_is_cut_by_columns_then_by_rows(before, stacked):
    layers = "layers" if stacked else "layer_3"
    none = [None] * len(stacked)

    def axes(name, *shape):
        return spec(f"{before}{layers}/{name}", (*stacked, *shape), MESH, TRANSFORMER)

    assert axes("attention/qkv/kernel", 64, 192) == P(*none, "fsdp", "tensor")
    assert axes("attention/out/kernel", 64, 64) == P(*none, "tensor", "fsdp")
    assert axes("in/kernel", 64, 256) == P(*none, "fsdp", "tensor")
    assert axes("out/kernel", 256, 64) == P(*none, "tensor", "fsdp")


def test_an_experiment_s_own_rule_comes_first():
    rules = (("head/kernel", ("tensor", None)), *TRANSFORMER)
    assert spec("params/head/kernel", (64, 10), MESH, rules) == P("tensor")


def test_padding_adds_rows_that_do_not_count():
    batch = {"x": np.arange(5.0), "mask": np.array([1.0, 1, 1, 1, 0])}
    filled = padded(jax.tree.map(jax.numpy.asarray, batch), 4)
    assert filled["x"].shape == filled["mask"].shape == (8,)
    assert filled["mask"].sum() == 4
    np.testing.assert_array_equal(filled["x"][:5], batch["x"])


@pytest.mark.parametrize(
    ("processes", "each", "mesh"),
    [
        (2, 4, (8, 1)),
        (2, 4, (2, 4)),
        (2, 4, (1, 8)),
        (3, 8, (8, 3)),
        (3, 4, (4, 3)),
        (4, 2, (2, 4)),
        (3, 5, (5, 3)),
    ],
)
def test_a_process_reads_the_rows_of_its_devices_whatever_lies_across(processes, each, mesh):
    rows = np.repeat(np.arange(mesh[0]), mesh[1]).reshape(
        processes, each
    )  # of each device, in order
    spans = {p: {(int(r), int(r) + 1) for r in own} for p, own in enumerate(rows)}
    shards = {p: own_shard(spans, p) for p in spans}
    (count,) = {
        count for _, count in shards.values()
    }  # JAX takes equal pieces from all, or the whole
    for process, (index, _) in shards.items():
        read = range(index * mesh[0] // count, (index + 1) * mesh[0] // count)
        assert {row for row, _ in spans[process]} <= set(read)
    even = processes % mesh[0] == 0 or mesh[0] % processes == 0
    assert count == (min(processes, mesh[0]) if even else 1)
