"""``python killed.py PHASE:STEP[:SIGNAL] SCRIPT ARGS...`` is ``python SCRIPT ARGS...``, which sends itself
SIGKILL, or another signal, at that moment (`tests/faults.py`), finds its disk full (``ENOSPC``), crashes
(``BUG``), or can from then on write no file of more than 64 bytes (``EFBIG``)."""

import errno
import os
import resource
import runpy
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import faults

if __name__ == "__main__":
    phase, step, *name = sys.argv[1].split(":")
    named = name[0] if name else "SIGKILL"

    def strike() -> None:
        if named == "ENOSPC":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")
        if named == "BUG":
            raise ValueError("a bug")
        if named == "EFBIG":
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
            return
        os.kill(os.getpid(), signal.Signals[named])

    sys.argv = sys.argv[2:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    with faults.at(phase, int(step), strike):
        runpy.run_path(sys.argv[0], run_name="__main__")
