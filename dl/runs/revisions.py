"""The commit that a folder is at."""

import os
import subprocess
from pathlib import Path

SAFE = {"GIT_OPTIONAL_LOCKS": "0", "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}


def revision(folder: Path) -> str | None:
    """The git commit that ``folder`` is at, with '+' where files were changed since; None outside git.

    The repository may be a stranger's, so none of its settings that name a program is heeded: a monitor, hooks,
    filters of what files hold, what speaks to a remote. Submodules, which have settings of their own, are not
    looked into.
    """
    settings = ["core.fsmonitor=false", f"core.hooksPath={os.devnull}"]

    def git(*args: str) -> str:
        given = (word for setting in settings for word in ("-c", setting))
        return subprocess.run(
            ["git", "-C", str(folder), *given, *args],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=True,
            env={**os.environ, **SAFE},
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        names = git("config", "--list", "--name-only", "-z").split("\0")
        filters = [name for name in names if name.startswith("filter.")]
        if any("=" in name for name in filters):  # which could not be set to something else
            return commit
        settings += [f"{n}={'false' if n.endswith('.required') else ''}" for n in filters]
        changed = git("status", "--porcelain", "-uno", "--ignore-submodules=all")
        return commit + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
