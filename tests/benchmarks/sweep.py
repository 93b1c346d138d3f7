"""What 32 lanes cost against 32 launches of the same script, and 32 runs in one Python loop.

    python tests/benchmarks/sweep.py [mlp|cnn] [lanes]

The task is the digits MLP (or small CNN), 200 steps of 64, a learning rate a lane. One launch and one
run in the loop are timed and multiplied; the sweep is timed whole, from its launch to its last result.
Where torch is installed, the same MLP is trained in it, in the same kind of Python loop.
"""

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
        steps=200,
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
    command = [sys.executable, str(script), "--no-progress", "--eval-every", "200", *flags]
    subprocess.run(command, cwd=script.parent, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def python_loop(script):
    """Seconds of one more run in a process that has done one already."""
    from dl.core.experiment import built
    from dl.training.run import train
    from dl.training.scripts import load_script

    config, build = load_script(script)
    for seed in (0, 1):
        begun = time.perf_counter()
        experiment = built(build, config(seed=seed))
        train(
            experiment,
            script,
            runs=script.parent,
            name=f"loop{seed}",
            progress=False,
            eval_every=200,
        )
    return time.perf_counter() - begun


def torch_loop():
    """Seconds of the MLP's 200 steps in torch, or None."""
    try:
        import torch
    except ImportError:
        return None
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
    layers = [torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 128), torch.nn.ReLU()]
    for _ in range(2):
        begun = time.perf_counter()
        model = torch.nn.Sequential(*layers, torch.nn.Linear(128, 10))
        adam = torch.optim.Adam(model.parameters())
        for step in range(200):
            rows = torch.randperm(1257)[:64] if step else torch.arange(64)
            adam.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            adam.step()
    return time.perf_counter() - begun


def main(kind="mlp", lanes="32"):
    count = int(lanes)
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "digits.py"
        script.write_text(SCRIPT.replace("MODEL", MODELS[kind]))
        launch(script, "--name", "warm")
        separate = min(launch(script, "--name", f"one{i}") for i in range(2)) * count
        rates = "learning_rate=1e-4:1e-2:" + f"{count}:log"
        results = {}
        for mode in ("map", "vmap"):
            flags = ("--sweep", rates, "--lanes", mode, "--name")
            launch(script, *flags, "warm-" + mode)
            results[mode] = launch(script, *flags, "timed-" + mode)
        looped = python_loop(script) * count
        print(f"{kind}, {count} lanes on {os.cpu_count()} cores, seconds in all")
        print(f"separate launches  {separate:8.1f}")
        print(f"python loop        {looped:8.1f}")
        if kind == "mlp" and (torch := torch_loop()) is not None:
            print(
                f"torch loop         {torch * count:8.1f}   (steps alone: no start, evaluation or folder)"
            )
        for mode, seconds in results.items():
            print(
                f"sweep, {mode:<5}       {seconds:8.1f}   {separate / seconds:.1f}x over launches, "
                f"{looped / seconds:.1f}x over the loop"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
