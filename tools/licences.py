"""List the licence of every package that ``dl`` depends on, directly or through others, as installed here.

``python tools/licences.py`` prints name, version and licence, and exits with 1 where one is unknown or asks that
what is built with it be passed on under the same terms (the GPL and its kin), but for those in ALLOWED.
``--names`` prints ``name==version``, as constraints.txt has it.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
OPTIONAL = ("text", "hub", "detection", "speech", "interop", "tensorboard", "test")
# Known by hand, and why it is no hindrance.
ALLOWED = {
    "tqdm": "MPL-2.0 covers its own files alone",
    "certifi": "MPL-2.0 covers its own files alone",
    "pathspec": "MPL-2.0 covers its own files alone",
    "hypothesis": "MPL-2.0 covers its own files alone; for tests",
    "soxr": "LGPL-2.1: a library of its own, loaded when asked for",
}
BOUND = re.compile(r"GPL|General Public|MPL|Mozilla|EUPL|CDDL|SSPL|Affero", re.I)


def asked(project: Path, extras: Iterable[str] = OPTIONAL) -> list[str]:
    """The requirements of the project, and those of its extras."""
    said = tomllib.loads(project.read_text("utf-8"))["project"]
    return said["dependencies"] + [r for e in extras for r in said["optional-dependencies"][e]]


def closure(requirements: Iterable[str]) -> Iterator[metadata.Distribution]:
    """What the requirements bring, by name, as far as it is installed."""
    found: dict[str, metadata.Distribution] = {}
    left = [(Requirement(each), frozenset[str]()) for each in requirements]
    seen = set()
    while left:
        need, extras = left.pop()
        name = canonicalize_name(need.name)
        if need.marker and not any(need.marker.evaluate({"extra": e}) for e in (extras or {""})):
            continue
        own = frozenset(need.extras)
        if (name, own) in seen:
            continue
        seen.add((name, own))
        try:
            found[name] = metadata.distribution(need.name)
        except metadata.PackageNotFoundError:  # an extra that is not installed here
            continue
        left += [(Requirement(each), own) for each in found[name].requires or ()]
    return (found[name] for name in sorted(found))


def licence(package: metadata.Distribution) -> str:
    """What a package says of its licence, in a few words; "" where it says nothing."""
    said = package.metadata
    if said.get("License-Expression"):
        return said["License-Expression"]
    classes = [c.rpartition(" :: ")[2] for c in said.get_all("Classifier", ()) if "License ::" in c]
    named = [each for each in classes if each != "OSI Approved"]
    return ", ".join(named) or (said.get("License") or "").strip().partition("\n")[0][:60]


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    words.add_argument("--names", action="store_true")
    given = words.parse_args()
    bad = []
    for package in closure(asked(PROJECT)):
        name, found = package.metadata["Name"], licence(package)
        if given.names:
            print(f"{name}=={package.version}")
            continue
        why = ALLOWED.get(canonicalize_name(name), "")
        print(f"{name:28} {package.version:18} {found}{f'  ({why})' if why else ''}")
        if (found in ("", "UNKNOWN") or BOUND.search(found)) and not why:
            bad.append(f"{name} ({found or 'it names none'})")
    if bad:
        print(f"not to be built upon before someone looks: {', '.join(bad)}", file=sys.stderr)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
