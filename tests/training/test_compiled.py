"""The compiled programs of a run: what they hold in memory, and where they loop."""

from pathlib import Path

import jax

from dl.core.experiment import built
from dl.core.state import plain
from dl.runs.scripts import load_script
from dl.training.compiled import Compiled
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
