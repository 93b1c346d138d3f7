"""Give every notebook its "Open in Colab" badge, and the address it installs from, on GitHub.

    python tools/badges.py OWNER/REPOSITORY [BRANCH]

Run it once the repository has an address, and again when that changes.
"""

import json
import re
import sys
from pathlib import Path

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
CLONE = ", of a clone in this folder, dl"  # what a notebook says while there is no address


def addressed(notebook: dict, name: str, repository: str, branch: str) -> dict:
    """``notebook``, called ``name``, with the badge over its title and ``%pip install`` from GitHub."""
    title, install, *rest = notebook["cells"]
    page = f"https://colab.research.google.com/github/{repository}/blob/{branch}/colab/{name}"
    lines = title["source"]
    if BADGE in lines[0]:  # of an earlier address
        lines = lines[2:]
    badge = [f"[![Open in Colab]({BADGE})]({page})\n", "\n"]
    code = "".join(install["source"])
    extras = "".join(re.findall(r"%pip install .*(\[\w+\])", code))
    origin = f'"dl-functional{extras} @ git+https://github.com/{repository}@{branch}"'
    code = re.sub(r"%pip install .*", f"%pip install -q {origin}", code).replace(CLONE, "")
    cells = [
        {**title, "source": badge + lines},
        {**install, "source": code.splitlines(keepends=True)},
        *rest,
    ]
    return {**notebook, "cells": cells}


def main(folder: Path, repository: str, branch: str = "main") -> None:
    for path in sorted(folder.glob("*.ipynb")):
        notebook = addressed(
            json.loads(path.read_text(encoding="utf-8")), path.name, repository, branch
        )
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path.name}: {repository}, {branch}")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3 or not re.fullmatch(r"[\w.-]+/[\w.-]+", sys.argv[1]):
        sys.exit(__doc__)
    main(Path(__file__).parents[1] / "colab", *sys.argv[1:])
