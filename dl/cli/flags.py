"""A script's own flags, where a command of `dl` takes them after ``--``."""

import sys
from pathlib import Path
from typing import Any

from dl.cli.arguments import parse


def extra() -> list[str]:
    """What stands after ``--``: flags for the experiment script."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def load(script: Path) -> tuple[Any, Any, Any, Any]:
    """``(config, build, options, sweep)`` of a script under the flags after ``--``."""
    from dl.data.readers.files import use_data_folder
    from dl.runs.scripts import load_script

    config, build = load_script(script)
    chosen, options, wish = parse(config, build, extra(), script.name)
    use_data_folder(options.data_dir)
    return chosen, build, options, wish
