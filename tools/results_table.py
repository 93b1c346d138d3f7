"""Write the tables of docs/results.md from experiments/results.toml.

python tools/results_table.py            write the page
python tools/results_table.py --check    change nothing, end with 1 where the page is stale
"""

import itertools
import re
import sys
import textwrap
import tomllib
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN = "<!-- written by tools/results_table.py from experiments/results.toml -->"
END = "<!-- end of what is written -->"
NAMED = {
    *("name", "area", "command", "first", "data", "measured", "metric", "scale", "reached", "sd"),
    *("seen", "bar", "seeds", "minutes", "machine", "versions", "date", "baseline", "reference"),
    *("note", "figures", "flags"),
}
HEAD = ("run", "data", "measured", "reached", "aimed at", "beside it", "others report")


def tables(written: dict) -> str:
    """Every area: its table, then each row's command, what it cost and what must be known of it."""
    rows = [{**written["every"], **row} for row in written["row"]]
    for row in rows:
        if wrong := set().union(row, *figures(row)) - NAMED:
            sys.exit(f"results.toml, {row['name']}: no row has {', '.join(sorted(wrong))}")
    parts = []
    for area, found in itertools.groupby(rows, lambda row: row["area"]):
        found = list(found)
        about = written["about"].get(area, "")
        lines = [line(HEAD), line(["---"] * len(HEAD)), *(line(cells(row)) for row in found)]
        text = [f"## {area}", *([fold(about)] if about else []), "\n".join(lines)]
        parts += [*text, "\n".join(fold(story(row, written["every"]), "- ") for row in found)]
    return "\n\n".join(parts)


def figures(row: dict) -> list[dict]:
    return row.get("figures", [{}])


def cells(row: dict) -> list[str]:
    """A row of the table; several figures stand side by side, each by its name."""
    each = [{**row, **figure} for figure in figures(row)]
    names = [f"{figure['name']}: " if "figures" in row else "" for figure in each]
    reached = [
        f"{name}{figure.get('reached', row.get('seen', 'not measured yet'))}"
        + (f" ± {figure['sd']}" if "sd" in figure else "")
        for name, figure in zip(names, each, strict=True)
    ]
    bars = list(dict.fromkeys(aim(figure) for figure in each if "bar" in figure))
    given = ("data", "measured"), ("baseline", "reference")
    before, after = ([row.get(name, "") for name in part] for part in given)
    return [f"`{row['name']}`", *before, ", ".join(reached), ", ".join(bars), *after]


def aim(figure: dict) -> str:
    """The bar, and whether the figure stated falls short of it."""
    bar, reached = figure["bar"], figure.get("reached")
    sign = -1 if figure["metric"].startswith("-") else 1
    short = reached is not None and sign * Decimal(reached) < sign * Decimal(bar)
    return f"{bar} (short)" if short else str(bar)


def story(row: dict, every: dict) -> str:
    """The command, and in words how it was measured."""
    count, each = int(row["seeds"]), [f for f in figures(row) if "flags" in f]
    seeds = f" --seeds {count}" if count > 1 else ""
    command = f"`{row['command']}{seeds}`"
    flags = {figure["flags"].split()[0] for figure in each}
    if len(flags) == 1 and len(each) > 1:
        values = ", ".join(f"`{figure['flags'].split()[1]}`" for figure in each)
        command += f" with `{flags.pop()}` {values}"
    else:
        command += "".join(f", `{figure['name']}` with `{figure['flags']}`" for figure in each)
    machine = "" if row["machine"] == every["machine"] else f"on {row['machine']}"
    versions = "" if row["versions"] == every["versions"] else row["versions"]
    minutes = row.get("minutes")
    took = (f"{minutes} min" + (" each" if len(each) > 1 else "")) if minutes else ""
    cost = " ".join(filter(None, (took, machine)))
    seeds = f"{count} seed{'s' * (count > 1)}"
    how = ", ".join(filter(None, (seeds, cost, str(row["date"]), versions)))
    first = f" After `{row['first']}`." if "first" in row else ""
    return f"`{row['name']}`: {command} ({how}).{first} {row.get('note', '')}".strip()


def line(values) -> str:
    return f"| {' | '.join(values)} |"


def fold(text: str, bullet: str = "") -> str:
    """``text`` in lines of 110 characters; what stands between backticks is not torn."""
    whole = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), text)
    indent = " " * len(bullet)
    folded = textwrap.fill(
        whole, 110, initial_indent=bullet, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return folded.replace("\0", " ")


def main(*words: str) -> int:
    page = ROOT / "docs" / "results.md"
    text = (ROOT / "experiments" / "results.toml").read_text("utf-8")
    before, rest = page.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    made = tables(tomllib.loads(text, parse_float=str))  # digits stay as they are written
    whole = f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"
    if "--check" not in words:
        page.write_text(whole, "utf-8")
    elif whole != page.read_text("utf-8"):
        print("docs/results.md is stale: run python tools/results_table.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if set(sys.argv[1:]) - {"--check"}:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
