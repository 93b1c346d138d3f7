"""``python killed.py PHASE:STEP[:SIGNAL] SCRIPT ARGS...`` is ``python SCRIPT ARGS...``, which sends itself
SIGKILL, or another signal, at that moment (`tests/faults.py`)."""

import os
import runpy
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import faults

if __name__ == "__main__":
    phase, step, *name = sys.argv[1].split(":")
    number = signal.Signals[name[0] if name else "SIGKILL"]
    sys.argv = sys.argv[2:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    with faults.at(phase, int(step), lambda: os.kill(os.getpid(), number)):
        runpy.run_path(sys.argv[0], run_name="__main__")
