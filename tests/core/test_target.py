"""What a program is traced for, and where its arrays are held."""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from dl.core.target import FREE, ROWS, SEQUENCE, Target, computing, hold, target, tracing_for


def test_a_program_is_for_the_platform_here_unless_it_is_said():
    assert target() == Target("cpu")
    with computing(deterministic=True, remat="all"), tracing_for(Target("tpu")):
        assert target() == Target("tpu")
    with computing(deterministic=True, remat="all"):
        assert target() == Target("cpu", deterministic=True, remat="all")
    assert target() == Target("cpu")


def test_no_program_is_taken_for_another_platforms():
    seen = []

    @jax.jit
    def function(x):
        seen.append(target().platform)
        return x

    function(1.0)
    with tracing_for(Target("gpu")):
        function(1.0)
        function(2.0)
    function(2.0)
    assert seen == ["cpu", "gpu"]


def test_precision_holds_within():
    def product(x):
        return jax.make_jaxpr(jnp.matmul)(x, x).eqns[0].params["precision"]

    x = jnp.ones((2, 2))
    with computing(precision="float32"):
        assert "HIGHEST" in str(product(x))
    assert product(x) is None


def test_without_a_mesh_nothing_is_held():
    x = jnp.ones((4, 4))
    assert hold(x, ROWS, None) is x


def test_holding_cuts_what_divides_and_leaves_the_rest_to_the_compiler():
    mesh = AbstractMesh((2, 2, 1, 1, 2), (*ROWS, SEQUENCE, "tensor"))

    def spec(*axes, shape):
        with tracing_for(Target("cpu", mesh)):
            jaxpr = jax.make_jaxpr(lambda x: hold(x, *axes))(jnp.ones(shape))
        return jaxpr.eqns[0].params["sharding"].spec

    assert spec(ROWS, None, shape=(4, 6, 2)) == P(ROWS, None, FREE)
    assert spec(ROWS, FREE, "tensor", shape=(4, 6, 2)) == P(ROWS, FREE, "tensor")
    assert spec(ROWS, FREE, "tensor", shape=(6, 6, 3)) == P(FREE, FREE, FREE)
