"""What a sweep found: a table with mean and standard deviation over seeds, and plots."""

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from dl.core.errors import UserError

REPEATS = ("seed", "fold")  # fields that repeat a setting instead of changing it


def read_lanes(folder: Path) -> list[dict[str, Any]]:
    """One entry a lane: its overrides, name, and result (None while it runs)."""
    file = folder / "sweep.json"
    if not file.exists():
        raise UserError(f"{file} is missing: is {folder} the folder of a sweep?")
    overrides = json.loads(file.read_text())["spec"]["overrides"]
    lanes = []
    for own, path in zip(overrides, sorted((folder / "lanes").iterdir()), strict=False):
        result = path / "result.json"
        found = json.loads(result.read_text()) if result.exists() else None
        lanes.append({"name": path.name, "path": path, "fields": own, "result": found})
    return lanes


def settings(lanes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lanes that differ in their seed or fold alone, together; best by the selection rule first.

    Each has ``fields``, ``lanes``, ``value`` (mean of the selected value over seeds), and ``metrics``
    as ``{name: (mean, sd, count)}``.
    """
    groups: dict[str, dict[str, Any]] = {}
    for lane in lanes:
        fields = {k: v for k, v in lane["fields"].items() if k not in REPEATS}
        group = groups.setdefault(json.dumps(fields), {"fields": fields, "lanes": []})
        group["lanes"].append(lane)
    for group in groups.values():
        results = [x["result"] for x in group["lanes"] if x["result"]]
        good = [r for r in results if r["ended"] in ("done", "early", "halved")]
        names = sorted(
            {n for r in good for n, v in r["metrics"].items() if isinstance(v, float | int)}
        )
        group["metrics"] = {}
        for name in names:
            values = [r["metrics"][name] for r in good if name in r["metrics"]]
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            group["metrics"][name] = (float(np.mean(values)), sd, len(values))
        picked = [r["selected"]["value"] for r in good if r["selected"]["value"] is not None]
        group["value"] = float(np.mean(picked)) if picked else float("nan")
        group["lost"] = [
            x["name"] for x in group["lanes"] if (x["result"] or {}).get("ended") == "non-finite"
        ]
    rule = next((x["result"]["selected"]["rule"] for x in lanes if x["result"]), None) or ""
    sign = 1.0 if rule.startswith("-") else -1.0
    return sorted(groups.values(), key=lambda g: (np.isnan(g["value"]), sign * g["value"]))


def _columns(found: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    fields = sorted({name for group in found for name in group["fields"]})
    metrics = sorted({name for group in found for name in group["metrics"]})
    return fields, metrics


def _cells(group: dict[str, Any], fields: list[str], metrics: list[str]) -> list[str]:
    def show(value):
        return f"{value:g}" if isinstance(value, float) else str(value)

    cells = [show(group["fields"].get(name, "")) for name in fields]
    for name in metrics:
        mean, sd, count = group["metrics"].get(name, (float("nan"), 0.0, 0))
        cells.append(f"{mean:.4f} ± {sd:.4f}" if count > 1 else f"{mean:.4f}")
    ended = [(lane["result"] or {}).get("ended", "unfinished") for lane in group["lanes"]]
    odd = sorted({e for e in ended if e != "done"})
    cells.append(
        str(len(ended)) + (f" ({', '.join(f'{ended.count(e)} {e}' for e in odd)})" if odd else "")
    )
    return cells


def print_report(folder: Path, rows: int = 20) -> None:
    """The table on the terminal; the best setting by validation comes first."""
    found = settings(read_lanes(folder))
    fields, metrics = _columns(found)
    title, names = "best by validation first, mean ± sd over seeds", [*fields, *metrics, "lanes"]
    console = Console(highlight=False)
    if len(names) * 18 > console.width:  # many metrics: a line each, and a column a setting
        rows = min(rows, max(1, (console.width - 34) // 20))
        table = Table(
            "", *["best", *(f"{n}." for n in range(2, rows + 1))][: len(found)], title=title
        )
        columns = [_cells(group, fields, metrics) for group in found[:rows]]
        for name, *cells in zip(names, *columns, strict=True):
            table.add_row(name, *cells)
    else:
        table = Table(*names, title=title)
        for group in found[:rows]:
            table.add_row(*_cells(group, fields, metrics))
    console.print(table)
    if len(found) > rows:
        console.print(f"and {len(found) - rows} more settings: dl sweep report {folder}")


def write_report(folder: Path) -> list[Path]:
    """``report.png`` and ``report.html`` in the sweep's folder."""
    found = settings(read_lanes(folder))
    picture = folder / "report.png"
    figures(found).savefig(picture, dpi=120)
    fields, metrics = _columns(found)
    head = "".join(f"<th>{html.escape(n)}</th>" for n in [*fields, *metrics, "lanes"])
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in _cells(g, fields, metrics)) + "</tr>"
        for g in found
    )
    import base64

    image = base64.b64encode(picture.read_bytes()).decode()
    page = folder / "report.html"
    page.write_text(
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<style>body{font:15px system-ui;margin:2em}table{border-collapse:collapse}td,th{padding:.3em "
        ".8em;border-bottom:1px solid #ddd;text-align:right}img{max-width:100%}</style>"
        f"<title>{html.escape(folder.name)}</title><h1>{html.escape(folder.name)}</h1>"
        f"<img src='data:image/png;base64,{image}'><table><tr>{head}</tr>{rows}</table>"
    )
    return [picture, page]


def figures(found: list[dict[str, Any]]) -> Any:
    """The selected value against each field (seeds as points, their mean as a line), and all fields
    together as parallel coordinates."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    fields, _ = _columns(found)
    panels = max(len(fields), 1) + (len(fields) > 1)
    figure = Figure(figsize=(4.6 * panels, 3.8), layout="constrained")
    good = [g for g in found if np.isfinite(g["value"])]
    for number, name in enumerate(fields or ["seed"], 1):
        axes = figure.add_subplot(1, panels, number)
        points = [
            (lane["fields"].get(name), lane["result"]["selected"]["value"])
            for group in good
            for lane in group["lanes"]
            if lane["result"] and lane["result"]["selected"]["value"] is not None
        ]
        _field_panel(axes, name, points)
    if len(fields) > 1:
        axes = figure.add_subplot(1, panels, panels)
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
        axes.set_xticks(range(len(fields) + 1), [*fields, "selected"], rotation=20)
        axes.set_yticks([])
        axes.set_title("all fields together")
    return figure


def _field_panel(axes: Any, name: str, points: list[tuple[Any, float]]) -> None:
    levels = sorted({p[0] for p in points}, key=_number)
    numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in levels)
    place = {x: (x if numeric else i) for i, x in enumerate(levels)}
    axes.plot([place[x] for x, _ in points], [y for _, y in points], ".", alpha=0.5)
    values = [np.array([y for x, y in points if x == level]) for level in levels]
    means, spread = np.array([v.mean() for v in values]), np.array([v.std() for v in values])
    across = [place[x] for x in levels]
    axes.plot(across, means, "-")
    axes.fill_between(across, means - spread, means + spread, alpha=0.15)
    if numeric and len(levels) > 2 and min(levels) > 0 and max(levels) / min(levels) > 50:
        axes.set_xscale("log")
    if not numeric:
        axes.set_xticks(range(len(levels)), [str(x) for x in levels], rotation=20)
    axes.set_xlabel(name)
    axes.set_ylabel("selected value")
    axes.grid(alpha=0.3)


def _number(value: Any) -> tuple[int, float, str]:
    try:
        return 0, float(value), ""
    except (TypeError, ValueError):
        return 1, 0.0, str(value)
