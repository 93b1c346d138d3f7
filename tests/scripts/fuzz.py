"""Feed spoilt files to every reader, for as long as you like.

``python tests/scripts/fuzz.py --minutes 8`` prints how many files were taken and refused in a line, and what
went wrong otherwise: a traceback, a hang, too much memory, several lines. It exits with 1 where anything did;
``--seed`` and the example's number make it again. ``--only`` names readers.
"""

import argparse
import functools
import itertools
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import fuzzing


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    words.add_argument("--minutes", type=float, default=8.0)
    words.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    words.add_argument("--only", nargs="+", choices=fuzzing.READERS, default=list(fuzzing.READERS))
    given = words.parse_args()
    place = Path(tempfile.mkdtemp(prefix="dl-fuzz-"))
    until, shown = time.monotonic() + 60 * given.minutes, time.monotonic()
    print(f"seed {given.seed}", flush=True)
    fuzzing.preload()
    count, wrong = Counter[str](), dict[str, str]()
    try:
        for name in given.only:
            master = place / name
            master.mkdir()

            def make(name=name, master=master) -> str:
                fuzzing.READERS[name][0](master)
                return ""

            fine, line = fuzzing.apart(make, place / "said", 120)
            if not fine:
                raise SystemExit(f"{name} cannot be made: {line}")
        for number in itertools.count(given.seed):
            for name in given.only:
                folder = fuzzing.copied(place / name, place / "try")
                call = functools.partial(fuzzing.example, name, folder, number)
                fine, line = fuzzing.apart(call, place / "said")
                count["wrong" if not fine else "refused" if line else "taken"] += 1
                key = f"{name}: {where(line)}"
                if not fine and key not in wrong:
                    wrong[key] = line
                    print(f"\n{name}, example {number}:\n{line[-1500:]}", flush=True)
                if time.monotonic() - shown > (1 if sys.stderr.isatty() else 60):
                    shown = time.monotonic()
                    end = "\r" if sys.stderr.isatty() else "\n"
                    print(
                        f"{(until - shown) / 60:5.1f} min left: {told(count)}",
                        end=end,
                        file=sys.stderr,
                    )
                if time.monotonic() > until:
                    raise TimeoutError
    except TimeoutError:
        status = 0
    except KeyboardInterrupt:
        status = 130
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(f"\n{told(count)}, of {len(wrong)} kinds", flush=True)
    return 1 if wrong else status


def where(line: str) -> str:
    """The kind of a failure: its last place in the code and the error's type."""
    lines = line.strip().splitlines() or [""]
    places = [each for each in lines if each.lstrip().startswith("File ")]
    return f"{places[-1].strip() if places else ''} {lines[-1].partition(':')[0]}"


def told(count: Counter) -> str:
    return (
        f"{count.total():,} files: {count['taken']:,} taken, {count['refused']:,} refused in a line, "
        f"{count['wrong']:,} wrong"
    )


if __name__ == "__main__":
    sys.exit(main())
