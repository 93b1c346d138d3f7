"""``python slow_to_end.py SCRIPT ARGS...`` is ``python SCRIPT ARGS...``, which takes a second longer to end."""

import runpy
import sys
import time
from pathlib import Path
from unittest import mock

from dl.training.prefetch import Streamed

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    close = Streamed.close
    with mock.patch.object(Streamed, "close", lambda own: (time.sleep(1), close(own))):
        runpy.run_path(sys.argv[0], run_name="__main__")
