"""What 32 lanes cost against 32 launches of the same script, and 32 runs in one Python loop.

    python tests/benchmarks/sweep.py [mlp|cnn] [lanes] [steps] [python with torch]

The task is the digits MLP (or small CNN), by default 200 steps of 64, a learning rate a lane. One launch
and one run in the loop are timed and multiplied; the sweep is timed whole, from its launch to its last
result, and its steps alone. Given an interpreter that has torch, the same MLP is trained there, in the
same kind of Python loop: its steps alone.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = '''"""Digits for the sweep benchmark."""
import dataclasses
import dl
from dl.data import load
from dl.data.batches import eval_batches, train_batches
from dl.models.cnn import CNN
from dl.models.mlp import MLP
from dl.tasks.classification import classification


@dataclasses.dataclass(frozen=True)
class Config:
    learning_rate: float = 1e-3
    seed: int = 0


def build(config):
    digits = load("digits")
    return dl.Experiment(
        task=classification(MODEL),
        data=train_batches(digits.train, 64, 0),
        optimizer=dl.optimizer("adam", config.learning_rate),
        steps=STEPS,
        seed=config.seed,
        evals={"validation": eval_batches(digits.validation, 500)},
        tests={"test": eval_batches(digits.test, 500)},
        select="validation/accuracy",
    )


if __name__ == "__main__":
    dl.main(Config, build)
'''
MODELS = {"mlp": "MLP((128, 128, 10))", "cnn": "CNN(10, (16, 32))"}


def launch(script, *flags):
    """Wall seconds of the script in a new process, compile cache warm."""
    begun = time.perf_counter()
    command = [sys.executable, str(script), "--no-progress", "--eval-every", "100000", *flags]
    subprocess.run(command, cwd=script.parent, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def python_loop(script):
    """Seconds of one more run in a process that has done one already."""
    from dl.runs.scripts import load_script
    from dl.training.train import train

    config, build = load_script(script)
    for seed in (0, 1):
        begun = time.perf_counter()
        train(
            build,
            config(seed=seed),
            script=script,
            runs=script.parent,
            name=f"loop{seed}",
            progress=False,
            eval_every=100000,
        )
    return time.perf_counter() - begun


TORCH = """
import sys, time, torch
x, y = torch.rand(1257, 64) * 16, torch.randint(0, 10, (1257,))
for _ in range(3):
    begun = time.perf_counter()
    layers = [torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 128), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(128, 10))
    adam = torch.optim.Adam(model.parameters())
    for step in range(int(sys.argv[1])):
        rows = torch.randint(0, 1257, (64,))
        adam.zero_grad()
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        adam.step()
print(time.perf_counter() - begun)
"""


def torch_loop(python, steps):
    """Seconds of the MLP's steps in torch, on data of the digits' shapes."""
    command = [python, "-c", TORCH, str(steps)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def steps_alone(folder, steps):
    """Seconds that the lanes of a sweep took for their steps, all together."""
    result = json.loads(next((folder / "lanes").glob("*/result.json")).read_text())
    return steps * 64 / result["examples_per_second"]


def main(kind="mlp", lanes="32", length="200", torch=None):
    count, steps = int(lanes), int(length)
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "digits.py"
        script.write_text(SCRIPT.replace("MODEL", MODELS[kind]).replace("STEPS", length))
        launch(script, "--name", "warm")
        separate = min(launch(script, "--name", f"one{i}") for i in range(2)) * count
        rates = "learning_rate=1e-4:1e-2:" + f"{count}:log"
        results, alone = {}, {}
        for mode in ("map", "vmap"):
            flags = ("--sweep", rates, "--lanes", mode, "--name")
            launch(script, *flags, "warm-" + mode)
            results[mode] = launch(script, *flags, "timed-" + mode)
            alone[mode] = steps_alone(script.parent / "runs" / ("timed-" + mode), steps)
        looped = python_loop(script) * count
        print(f"{kind}, {count} lanes of {steps} steps on {os.cpu_count()} cores, seconds in all")
        print(f"separate launches  {separate:8.1f}")
        print(f"python loop        {looped:8.1f}")
        eager = torch_loop(torch, steps) * count if kind == "mlp" and torch else None
        if eager:
            print(
                f"torch loop         {eager:8.1f}   (steps alone: no start, evaluation or folder)"
            )
        for mode, seconds in results.items():
            print(
                f"sweep, {mode:<5}       {seconds:8.1f}   {separate / seconds:.1f}x over launches, "
                f"{looped / seconds:.1f}x over the loop"
            )
            over = f"   {eager / alone[mode]:.1f}x over torch" if eager else ""
            print(f"  its steps alone  {alone[mode]:8.1f}{over}")


if __name__ == "__main__":
    main(*sys.argv[1:])
