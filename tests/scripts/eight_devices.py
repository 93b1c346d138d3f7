"""What the tests of scale ask of one process with eight simulated devices; prints it as JSON.

One process for all of it, for starting one takes longer than most of what is asked.
"""

import json
import os
import signal
import sys
from pathlib import Path

# Some fifty programs that no cache keeps: at LLVM's first level they compile in half of the time.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),  # the last of two values counts
        "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1",
    ]
)

sys.path.insert(0, str(Path(__file__).parents[1]))

import faults
import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import dl
from dl.core import digests
from dl.core.experiment import built
from dl.parallel.programs import COLLECTIVES, Program
from dl.parallel.sharding import gathered, lane_layout, slicing
from dl.proofs.replay import replay_run
from dl.runs.folder import read_json
from dl.runs.scripts import load_script
from dl.training.compiled import Compiled
from dl.training.placing import layout_of
from dl.training.plan import step_cost, tree_bytes
from dl.training.prefetch import prefetch

RUNS = Path(sys.argv[1])
OPTIONS = {"runs": RUNS, "log_every": 4, "eval_every": 6, "save_every": 6, "progress": False}


def experiment(script, **changes):
    config, build = load_script(Path(__file__).parent / f"{script}.py")
    return built(build, config(**changes))


MLP = experiment("tiny", steps=12, batch_size=48, optimizer="momentum")
GPT = experiment("small_gpt")


def told(run):
    return {
        "loss": run.history()["train/loss"].tolist(),
        "metrics": run.metrics,
        "digest": run.result["digest"],
    }


def on_meshes():
    """Both experiments on several meshes."""
    found = {}
    for name, one, mesh in (
        ("mlp", MLP, None),
        ("mlp", MLP, "data=8"),
        ("gpt", GPT, None),
        ("gpt", GPT, "data=2,fsdp=2,tensor=2"),
    ):
        found[f"{name} {mesh}"] = told(
            dl.train(one.build, one.config, name=f"{name}-{mesh}", mesh=mesh, **OPTIONS)
        )
    return found


def replayed():
    """Whether a run on a mesh is made again on that mesh, to the bit."""
    return replay_run(RUNS / "mlp-data=8", say=lambda _: None)


def memory():
    """Of the compiled step on one device, by mesh: bytes of its arguments, of the parameters, and of the results
    of each kind of collective."""
    found = {}
    wide = experiment("small_gpt", width=256)
    for mesh in ("data=8", "fsdp=8", "data=2,fsdp=4", "tensor=4"):
        layout = layout_of(mesh, wide)
        compiled = Compiled(wide, layout=layout)
        state = compiled.beginning().state()
        batches = prefetch(wide.data, layout=layout).at(0)[0]
        program = compiled.step(state, batches)
        sent = dict.fromkeys(COLLECTIVES, 0.0)
        for one in Program(program.compiled.as_text()).work.collectives:
            sent[one.kind] += one.times * one.result
        params = tree_bytes(state.variables["params"])
        found[mesh] = {"arguments": step_cost(program)["arguments"], "params": params, **sent}
    return found


def elastic():
    """A run stopped by SIGTERM on one device and on eight, ended on two."""
    for step, mesh in ((3, None), (8, "data=2,fsdp=4"), (99, "data=2")):
        with faults.at("step", step, lambda: os.kill(os.getpid(), signal.SIGTERM)):
            run = dl.train(MLP.build, MLP.config, name="elastic", mesh=mesh, resume=True, **OPTIONS)
    noted = read_json(run.folder.lock)["resumed"]
    return told(run) | {"resumed": [(each["step"], each["changed"]) for each in noted]}


def same_bits():
    """Digests of runs with a deterministic topology, by experiment and mesh."""
    found = {}
    for name, one, mesh in (
        ("mlp", MLP, "data=1"),
        ("mlp", MLP, "data=8"),
        ("gpt", GPT, "data=2"),
        ("gpt", GPT, "data=8"),
    ):
        run = dl.train(
            one.build,
            one.config,
            name=f"{name}-same-{mesh}",
            mesh=mesh,
            deterministic_topology=True,
            **OPTIONS,
        )
        found[f"{name} {mesh}"] = told(run)
    return found


def lanes():
    """Digests of three lanes, and the devices that they were dealt to."""
    layout = lane_layout(3)
    runs = dl.sweep(MLP.build, MLP.config, seeds=3, lanes="map", name="sweep", **OPTIONS)
    folders = sorted((runs.folder / "lanes").iterdir())
    digests = [read_json(folder / "result.json")["digest"] for folder in folders]
    return {"devices": layout.mesh.size, "digests": digests}


def gathering():
    """Whether leaves that lie in parts are whole on the host; and the bytes that one piece of one sends."""
    mesh, chance = layout_of("data=2,fsdp=4", MLP).mesh, np.random.default_rng(0)
    cuts = {
        (30, 8, 16): P(None, "fsdp"),
        (8, 16, 30): P(("data", "fsdp")),
        (8, 4096): P("data", "fsdp"),
        (7, 3000): P(),
    }
    same = []
    for shape, cut in cuts.items():
        array = chance.normal(size=shape).astype(np.float32)
        leaf = jax.device_put(array, NamedSharding(mesh, cut))
        same.append(np.array_equal(gathered(leaf, most=2**12), array))
    leaf = jax.device_put(np.ones((64, 8, 16), np.float32), NamedSharding(mesh, P(None, "fsdp")))
    program = Program(slicing(mesh, 0, 8).lower(leaf, 0).compile().as_text())
    sent = sum(one.result for one in program.work.collectives)
    return {"same": same, "sent": sent, "piece": 8 * 8 * 16 * 4}


def digested():
    """The digests of one array wherever its parts lie, and the kinds of what devices send each other for one."""
    array = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    lying = [
        jax.device_put(array, NamedSharding(layout_of(mesh, MLP).mesh, cut))
        for mesh, cut in (
            ("fsdp=8", P("fsdp")),
            ("fsdp=8", P(None, "fsdp")),
            ("data=2,tensor=4", P("tensor")),
            ("data=2,fsdp=2,tensor=2", P("fsdp", "tensor")),
            ("data=8", P()),
        )
    ]
    near, digests._near = digests._near, lambda leaf: isinstance(leaf, np.ndarray)  # CPUs as GPUs
    found = [digests.lane_digests({"x": leaf})[0]["x"] for leaf in (array, *lying)]
    digests._near = near
    program = digests._program(lying[0].sharding.mesh).lower(lying[0]).compile()
    work = Program(program.as_text()).work
    return {"found": found, "sent": {one.kind: one.result for one in work.collectives}}


PARTS = (on_meshes, replayed, memory, elastic, same_bits, lanes, gathering, digested)

if __name__ == "__main__":
    print(json.dumps({f.__name__: f() for f in PARTS}))
