"""Programs on simulated devices, each in a process of its own, since a process has as many as it began with."""

import json
import os
import subprocess
import sys
from typing import Any


def told_by_eight(code: str) -> Any:
    """What the Python program ``code`` prints last, as JSON, where JAX has eight CPU devices."""
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}"  # of which the last value counts
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
