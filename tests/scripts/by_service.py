"""``python by_service.py SCRIPT ARGS...`` is ``python SCRIPT ARGS...``; its processes agree as on accelerators."""

import runpy
import sys
from pathlib import Path
from unittest import mock

from dl.parallel import processes

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    with mock.patch.object(processes, "by_devices", return_value=False):
        runpy.run_path(sys.argv[0], run_name="__main__")
