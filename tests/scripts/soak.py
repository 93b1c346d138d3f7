"""Kill a run with SIGKILL at many random moments, from the start of its process to the end of a write.

``python soak.py RUNS KILLS SEED`` carries ``RUNS/killed`` out and prints how many kills it took. The run's
processes are forked from this one, which has imported everything and started nothing, so that a kill
costs no imports.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import jax  # noqa: F401  (imported here once, for every process forked)
import orbax.checkpoint  # noqa: F401
from tiny import Config, build

import dl
import dl.figures.curves
import dl.training.run


def start(flags: list[str]) -> int:
    """Run the experiment in a process of its own; its id."""
    child = os.fork()
    if child:
        return child
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        dl.main(Config, build, flags)
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        os._exit(code)


def grown(folder: Path, since: float) -> bool:
    """Whether the run wrote a line since then: it has started again, and trains."""
    file = folder / "metrics.jsonl"
    return file.exists() and file.stat().st_mtime_ns > since


def soak(runs: Path, kills: int, seed: int, flags: list[str]) -> int:
    """Carry the run out; returns how often it was killed."""
    chance, done = random.Random(seed), 0
    command = [*flags, "--runs", str(runs), "--name", "killed", "--resume", "--no-progress"]
    while True:
        begun = time.time_ns()
        child = start(command)
        if done < kills:
            if chance.random() < 0.3:  # anywhere from the start on
                time.sleep(chance.uniform(0, 4))
            else:  # while it trains, evaluates and saves
                while not grown(runs / "killed", begun) and os.waitpid(child, os.WNOHANG)[0] == 0:
                    time.sleep(0.002)
                time.sleep(chance.uniform(0, 0.3))
        try:
            if done < kills:
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        except (ChildProcessError, ProcessLookupError):
            raise SystemExit("the run ended before it was killed often enough") from None
        if os.WIFSIGNALED(status):
            done += 1
            continue
        if os.WEXITSTATUS(status) or done < kills:
            raise SystemExit(f"ended with {status} after {done} kills")
        return done


if __name__ == "__main__":
    place, count, number = sys.argv[1:4]
    print(soak(Path(place), int(count), int(number), sys.argv[4:]))
