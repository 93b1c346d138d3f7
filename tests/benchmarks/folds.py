"""What 5 folds times 8 seeds of the digits MLP cost in one program against 40 launches of the same script.

    python tests/benchmarks/folds.py [map,vmap] [steps]

Two launches of one fold are timed and the quicker one counted 40 times; the sweep is timed whole, from its launch
to the last result, with the predictions out of folds. All compile but for what the compilation cache holds.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = '''"""Digits for the benchmark of folds."""
import dataclasses
import dl
from dl.data.own.pictures import OwnPictures
from dl.models.mlp import MLP
from dl.tasks.classification import classification


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures):
    seed: int = 0


def build(config):
    splits = dl.data.open("digits", "pictures", config)
    return dl.Experiment(
        task=classification(MLP((128, 128, 10))),
        data=dl.train_batches(splits.train, 64, config.seed),
        optimizer=dl.optimizer("adam", 1e-3),
        steps=STEPS,
        seed=config.seed,
        **dl.held_out(splits, 500),
        select="validation/accuracy",
    )


if __name__ == "__main__":
    dl.main(Config, build)
'''


def launch(script, name, *flags):
    """Wall and processor seconds of the script in a new process."""
    command = [
        sys.executable,
        str(script),
        "--no-progress",
        "--eval-every",
        "100000",
        "--folds",
        "5",
    ]
    before, begun = os.times(), time.perf_counter()
    command += ["--name", name, *flags]
    subprocess.run(command, cwd=script.parent, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - begun, os.times()
    used = after.children_user + after.children_system
    return wall, used - before.children_user - before.children_system


def main(modes="map,vmap", steps="200"):
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "digits.py"
        script.write_text(SCRIPT.replace("STEPS", steps))
        ones = [launch(script, f"one{fold}", "--fold", str(fold)) for fold in (0, 1, 2)]
        alone = [min(each) for each in zip(*ones[1:], strict=True)]
        print(
            f"5 folds x 8 seeds, {steps} steps: seconds of the clock and of {os.cpu_count()} cores"
        )
        print(f"40 launches  {40 * alone[0]:8.1f} {40 * alone[1]:8.1f}")
        for mode in modes.split(","):
            spent = launch(script, mode, "--seeds", "8", "--lanes", mode)
            ratios = [40 * one / whole for one, whole in zip(alone, spent, strict=True)]
            print(
                f"sweep, {mode:<5} {spent[0]:8.1f} {spent[1]:8.1f}   "
                f"{ratios[0]:.1f} and {ratios[1]:.1f} times as fast"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
