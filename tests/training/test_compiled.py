"""The compiled programs of a run: what they hold in memory, and where they loop."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from dl.core.experiment import built
from dl.core.state import plain
from dl.models.cnn import CNN
from dl.runs.scripts import load_script
from dl.training.compiled import Compiled, has_slow_convolution
from dl.training.prefetch import prefetch

SCRIPT = Path(__file__).parents[1] / "scripts" / "tiny.py"


def test_the_state_is_donated_whole_so_that_there_is_one_of_it():
    config, build = load_script(SCRIPT)
    experiment = built(build, config(steps=5))
    compiled = Compiled(experiment)
    begin = compiled.beginning()
    program = compiled.step(begin.shapes, prefetch(experiment.data).at(0)[0])
    size = sum(x.nbytes for x in jax.tree.leaves(plain(begin.state())))
    assert program.compiled.memory_analysis().alias_size_in_bytes == size


@pytest.mark.parametrize("model", [CNN(3, (4, 4)), nn.Conv(3, (3, 3))], ids=["ours", "flax"])
def test_only_convolutions_slow_in_a_loop_keep_a_run_out_of_it(model):
    x = jnp.ones((1, 8, 8, 2))
    variables = model.init(jax.random.key(0), x)
    found = jax.make_jaxpr(jax.grad(lambda v: model.apply(v, x).sum()))(variables)
    assert has_slow_convolution(found.jaxpr) == isinstance(model, nn.Conv)
