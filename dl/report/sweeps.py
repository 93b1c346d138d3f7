"""What a sweep found: a table with mean and standard deviation over seeds, and plots."""

import functools
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from dl.core.errors import UserError
from dl.figures.canvas import new_figure, no_formula
from dl.figures.curves import PALETTE, curve_figure, lines, save_figure
from dl.platform import screen
from dl.report.page import Section, gallery, note, page, plain_table, svg, table
from dl.runs.files import lies_within, printable, replace
from dl.runs.readers import entry, numbers, read_object, read_result
from dl.runs.records import ENDED_WELL, REPEATS, counted, find_runs, grouped, mean_sd, show

AS_GIVEN = "in the order given (no selected value)"


def read_lanes(folder: Path) -> list[dict[str, Any]]:
    """One entry a lane: its overrides, name, and result (None while it runs)."""
    file = folder / "sweep.json"
    found = read_object(file)
    if found is None:
        raise UserError("not-a-sweep", f"{file} is missing: is {folder} the folder of a sweep?")
    spec = entry(file, found, "spec", dict) or {}
    overrides = entry(file, spec, "overrides", list) or []
    lanes = []
    for own, path in zip(overrides, sorted((folder / "lanes").glob("*/")), strict=False):
        if not isinstance(own, dict) or not lies_within(path, folder):
            raise UserError("record-damaged", f"{path} is no lane of {folder}: take it out")
        result = read_result(path)
        if result:
            result["metrics"] = numbers(result["metrics"])
        fields = {printable(name): _plain(value) for name, value in own.items()}
        lanes.append({"name": path.name, "path": path, "fields": fields, "result": result or None})
    if not lanes:
        raise UserError("not-a-sweep", f"{folder} holds no lanes: is it the folder of a sweep?")
    return lanes


def _plain(value: Any) -> Any:
    """A field's value as it is compared and shown; lists by their words."""
    return printable(show(value)) if isinstance(value, str | list | dict) else value


def settings(lanes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lanes that differ in their seed or fold alone, together; best by the selection rule first.

    Each has ``fields``, ``lanes``, ``value`` (mean of the selected value over seeds), and ``metrics``
    as ``{name: (mean, sd, count)}``, where lanes of one seed and fold count once.
    """
    groups: dict[str, dict[str, Any]] = {}
    for lane in lanes:
        fields = {k: v for k, v in lane["fields"].items() if k not in REPEATS}
        group = groups.setdefault(json.dumps(fields), {"fields": fields, "lanes": []})
        group["lanes"].append(lane)
    for group in groups.values():
        done = [x for x in group["lanes"] if x["result"]]
        good = [x for x in done if x["result"]["ended"] in ENDED_WELL]
        repeats = [tuple(str(x["fields"].get(name)) for name in REPEATS) for x in good]
        group["metrics"] = mean_sd([x["result"]["metrics"] for x in good], repeats)
        chosen = [x["result"]["selected"].get("value") for x in good]
        picked = mean_sd([{"": value} for value in chosen], repeats)  # None is no number
        group["value"] = picked[""][0] if picked else float("nan")
        group["lost"] = [
            x["name"] for x in group["lanes"] if (x["result"] or {}).get("ended") == "non-finite"
        ]
    rule = next((x["result"]["selected"].get("rule") for x in lanes if x["result"]), None) or ""
    sign = 1.0 if rule.startswith("-") else -1.0
    return sorted(groups.values(), key=lambda g: (np.isnan(g["value"]), sign * g["value"]))


def ranked(found: list[dict[str, Any]]) -> bool:
    """Whether any of the :func:`settings` has a selected value to be ordered by; else they stand as given."""
    return any(np.isfinite(group["value"]) for group in found)


def _columns(found: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    fields = sorted({name for group in found for name in group["fields"]})
    metrics = sorted({name for group in found for name in group["metrics"]})
    return fields, metrics


def _cells(group: dict[str, Any], fields: list[str], metrics: list[str]) -> list[str]:
    def show(value):
        return f"{value:g}" if isinstance(value, float) else str(value)

    cells = [show(group["fields"].get(name, "")) for name in fields]
    ended = [(lane["result"] or {}).get("ended", "unfinished") for lane in group["lanes"]]
    for name in metrics:
        mean, sd, count = group["metrics"].get(name, (float("nan"), 0.0, 0))
        text = f"{mean:.4f} ± {sd:.4f}" if count > 1 else f"{mean:.4f}"
        cells.append(counted(text, count, sum(e in ENDED_WELL for e in ended)))
    odd = sorted({e for e in ended if e != "done"})
    cells.append(
        str(len(ended)) + (f" ({', '.join(f'{ended.count(e)} {e}' for e in odd)})" if odd else "")
    )
    return cells


def print_report(folder: Path, rows: int = 20) -> None:
    """The table on the terminal; the best setting by validation comes first, where runs select by a metric."""
    found = settings(read_lanes(folder))
    fields, metrics = _columns(found)
    first, order = ("best", "best by validation first") if ranked(found) else ("1.", AS_GIVEN)
    title: str | None = f"{order}, mean ± sd over seeds"
    names = [*fields, *metrics, "lanes"]
    console = screen()
    if len(names) * 18 > console.width:  # many metrics: a line each, and a column a setting
        across = max(1, (console.width - 34) // 20)
        rows = min(rows, 3 * across)
        for begin in range(0, min(rows, len(found)), across):
            places = range(begin, min(begin + across, rows, len(found)))
            table = Table("", *(f"{n + 1}." if n else first for n in places), title=title)
            columns = [_cells(found[place], fields, metrics) for place in places]
            for name, *cells in zip(names, *columns, strict=True):
                table.add_row(name, *cells)
            console.print(table)
            title = None
    else:
        table = Table(*names, title=title)
        for group in found[:rows]:
            table.add_row(*_cells(group, fields, metrics))
        console.print(table)
    if len(found) > rows:
        more = shlex.join(["dl", "sweep", "report", str(folder)])
        console.print(f"and {len(found) - rows} more settings: {more}", soft_wrap=True)


def html_table(found: list[dict[str, Any]], rows: int = 20) -> str:
    """The table for a notebook, best first where runs select by a metric."""
    fields, metrics = _columns(found)
    order = "best first" if ranked(found) else AS_GIVEN
    title = f"{order}, mean ± sd over seeds; {len(found)} settings"
    cells = [_cells(group, fields, metrics) for group in found[:rows]]
    return plain_table([*fields, *metrics, "lanes"], cells, title)


def write_report(folder: Path) -> list[Path]:
    """``report.png``, ``curves.png`` and ``report.html`` in the sweep's folder."""
    from dl.report.runs import learning_curves

    found = settings(read_lanes(folder))
    runs = grouped(find_runs([folder / "lanes"]))
    picture, drawn, file = (folder / n for n in ("report.png", "curves.png", "report.html"))
    save_figure(figures(found), picture)
    save_figure(curve_figure(lines(runs)), drawn)
    fields, metrics = _columns(found)
    panels = gallery(svg(figure, "the selected value") for figure in _panels(found))
    rule = runs[0].runs[0].rule
    words = (
        f"Mean ± sd over seeds, {f'best by {rule} first' if rule and ranked(found) else AS_GIVEN}."
    )
    rows = [_cells(group, fields, metrics) for group in found]
    sections = [
        Section("Settings", note(words) + table([*fields, *metrics, "lanes"], rows, sortable=True)),
        Section("Fields", note("The selected value; bands: one sd over the lanes.") + panels),
        Section("Learning curves", learning_curves(runs)),
    ]
    lanes = sum(len(group["lanes"]) for group in found)
    one = shlex.join(["dl", "report", str(found[0]["lanes"][0]["path"])])
    lead = f"{lanes} lanes of {len(found)} settings. One lane, such as the first: {one}"
    replace(file, page(folder.name, lead, sections).encode())
    return [picture, drawn, file]


def figures(found: list[dict[str, Any]]) -> Any:
    """The selected value against each field (seeds as points, their mean as a line), and all fields
    together as parallel coordinates."""
    draw = _drawings(found)
    figure = new_figure(4.6 * len(draw), 3.8)
    for place, panel in enumerate(draw, 1):
        panel(figure.add_subplot(1, len(draw), place))
    return figure


def _panels(found: list[dict[str, Any]]) -> Iterator[Any]:
    """The panels of :func:`figures`, a figure each."""
    for panel in _drawings(found):
        figure = new_figure(4.6, 3.2)
        panel(figure.add_subplot())
        yield figure


def _drawings(found: list[dict[str, Any]]) -> list[Callable[[Any], None]]:
    """What to draw into each panel's axes."""
    fields, _ = _columns(found)
    if not ranked(found):
        return [_nothing_panel]
    good = [g for g in found if np.isfinite(g["value"])]
    panels: list[Callable[[Any], None]] = []
    for name in fields or ["seed"]:
        points = [
            (lane["fields"].get(name), lane["result"]["selected"]["value"])
            for group in good
            for lane in group["lanes"]
            if lane["result"] and lane["result"]["selected"].get("value") is not None
        ]
        panels.append(functools.partial(_field_panel, name=name, points=points))
    if len(fields) > 1:
        panels.append(functools.partial(_parallel_panel, fields=fields, good=good))
    return panels


def _nothing_panel(axes: Any) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no selected value to draw", ha="center")


def _parallel_panel(axes: Any, fields: list[str], good: list[dict[str, Any]]) -> None:
    from matplotlib import colormaps

    levels = [sorted({str(g["fields"].get(n)) for g in good}, key=_number) for n in fields]
    values = np.array([g["value"] for g in good])
    span = np.ptp(values) or 1.0
    for group, value in zip(good, values, strict=True):
        places = [
            level.index(str(group["fields"].get(n))) / max(len(level) - 1, 1)
            for n, level in zip(fields, levels, strict=True)
        ]
        shade = (value - values.min()) / span
        axes.plot([*places, shade], color=colormaps["viridis"](shade), alpha=0.7)
    for place, level in enumerate(levels):
        for rank, name in enumerate(level):
            height = rank / max(len(level) - 1, 1)
            axes.annotate(
                no_formula(name),
                (place, height),
                (4, 4),
                textcoords="offset points",
                fontsize="small",
            )
    for height, value in ((0, values.min()), (1, values.max())) if len(values) else ():
        axes.annotate(
            f"{value:.4g}",
            (len(fields), height),
            (4, 4),
            textcoords="offset points",
            fontsize="small",
        )
    axes.set_xticks(range(len(fields) + 1), [*fields, "selected"], rotation=20)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(fields) + 0.45)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title("all fields together", loc="left", fontsize="medium", fontweight="bold")


def _field_panel(axes: Any, name: str, points: list[tuple[Any, float]]) -> None:
    levels = sorted({p[0] for p in points}, key=_number)
    numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in levels)
    place = {x: (x if numeric else i) for i, x in enumerate(levels)}
    axes.plot(
        [place[x] for x, _ in points], [y for _, y in points], ".", color=PALETTE[0], alpha=0.5
    )
    values = [np.array([y for x, y in points if x == level]) for level in levels]
    means, spread = np.array([v.mean() for v in values]), np.array([v.std() for v in values])
    across = [place[x] for x in levels]
    axes.plot(across, means, "-", color=PALETTE[0])
    axes.fill_between(across, means - spread, means + spread, alpha=0.15, color=PALETTE[0], lw=0)
    if numeric and len(levels) > 2 and min(levels) > 0 and max(levels) / min(levels) > 50:
        axes.set_xscale("log")
    if not numeric:
        axes.set_xticks(range(len(levels)), [no_formula(x) for x in levels], rotation=20)
    axes.set_title(name, loc="left", fontsize="medium", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


def _number(value: Any) -> tuple[int, float, str]:
    try:
        return 0, float(value), ""
    except (TypeError, ValueError):
        return 1, 0.0, str(value)
