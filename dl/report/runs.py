"""One page about runs: what they reached, how they differ, how they learned and what is inside."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dl.figures.canvas import new_figure
from dl.figures.curves import CROWD, PANELS, baselines, curve_panel, lines, metric_names
from dl.report import examples
from dl.report.inspection import Inspection
from dl.report.layers import HEAD, engineering
from dl.report.page import (
    Html,
    Section,
    amount,
    captioned,
    escape,
    facts,
    folded,
    gallery,
    legend,
    note,
    page,
    pairs,
    picture,
    svg,
    table,
)
from dl.runs.files import read_plain, replace
from dl.runs.readers import read_baselines
from dl.runs.records import RunRecord, Setting, differences, grouped, show

DRAWN = 10  # settings with curves of their own, as many as there are colours
SHOWN = 12  # pictures of one run
LARGEST = 2**24  # bytes of a picture, or of a text, that a page shows
CLASSES = 40  # of a confusion matrix drawn whole

Inside = Mapping[Path, Inspection | str]  # by the run's folder; a string says why there is none


def write_page(runs: Sequence[RunRecord], inside: Inside, file: Path) -> Path:
    """The report of ``runs`` as one self-contained HTML file.

    Args:
      inside: what was found in those runs that were rebuilt (see :func:`dl.report.inspection.inspect`).
    """
    settings = grouped(runs)
    sections = [
        Section("Summary", _summary(settings)),
        Section("Configuration", _configuration(settings)),
        Section("Learning curves", learning_curves(settings)),
        Section("Evaluation", _evaluation(settings)),
        Section("Pictures", _pictures(settings)),
        Section("Confusion", _confusion(inside)),
        Section("Rows", _rows(inside)),
        Section("Layers", _layers(inside)),
        Section("Time and memory", _time(settings, inside)),
        Section("Lock and digests", _locks(settings)),
    ]
    several = len(settings) > 1
    title = f"{len(settings)} settings compared" if several else _title_of_one(settings[0])
    replace(file, page(title, _lead(settings), sections).encode())
    return file


def _title_of_one(setting: Setting) -> str:
    first = setting.runs[0]
    if len(setting.runs) == 1:
        return first.name
    return f"{first.script.stem if first.script else first.name}, {_count(setting)}"


def _count(setting: Setting) -> str:
    """``5 seeds``; ``5 runs of 2 seeds`` where some share theirs."""
    runs, apart = len(setting.runs), len({run.repeat for run in setting.runs})
    return f"{runs} seeds" if apart == runs else f"{runs} runs of {apart} seed{'s' * (apart > 1)}"


def _lead(settings: Sequence[Setting]) -> str:
    runs = [run for setting in settings for run in setting.runs]
    scripts = sorted({run.script.stem for run in runs if run.script})
    ended = [run.ended for run in runs]
    told = ", ".join(f"{ended.count(e)} {e}" for e in dict.fromkeys(ended))
    rules = {run.rule for run in runs if run.rule}
    chosen = f" Selected by {_rule(rules.pop())}." if len(rules) == 1 else ""
    noun = "run" if len(runs) == 1 else "runs"
    origin = f" of {', '.join(scripts)}" if scripts else ""
    return f"{len(runs)} {noun}{origin}: {told}.{chosen}"


def _rule(rule: str) -> str:
    return f"lowest {rule[1:]}" if rule.startswith("-") else f"highest {rule}"


# -- the sections -----------------------------------------------------------------------------------


def _summary(settings: Sequence[Setting]) -> str:
    if len(settings) == 1:
        setting = settings[0]
        first = setting.runs[0].result
        told = [(name, setting.shown(name)) for name in setting.metrics]
        for rival, reached in read_baselines(setting.runs[0].path).items():
            told += [(f"{name}, {rival}", f"{value:.4g}") for name, value in reached.items()]
        told.append(("steps", f"{first.get('steps', setting.runs[0].steps):,}"))
        if first.get("selected"):
            told.append(("selected step", f"{first['selected']['step']:,}"))
        seeds = [r.config.get("seed") for r in setting.runs if "seed" in r.config]
        told.append(("seeds" if len(seeds) > 1 else "seed", ", ".join(map(show, seeds)) or "none"))
        told.append(
            ("wall time", duration(sum(r.result.get("wall_seconds", 0) for r in setting.runs)))
        )
        return facts(told)
    names = list(dict.fromkeys(name for s in settings for name in s.metrics))
    names.sort(key=lambda name: (not name.startswith("test/"), name))
    apart = differences([s.runs[0] for s in settings])
    head = [*(apart or ["run"]), *names, "runs", "seconds"]
    rows = []
    for place, setting in enumerate(settings):
        own = [show(values[place]) for values in apart.values()] or [setting.title]
        found = [setting.shown(n) if n in setting.metrics else "" for n in names]
        odd = sorted({run.ended for run in setting.runs} - {"done"})
        apart_by = len({run.repeat for run in setting.runs})
        same = [f"(of {apart_by} seeds)"] if apart_by < len(setting.runs) else []
        count = " ".join([str(len(setting.runs)), *same, *odd])
        seconds = np.mean([run.result.get("wall_seconds", 0.0) for run in setting.runs])
        rows.append([*own, *found, count, f"{seconds:,.0f}"])
    return (
        note("A setting's runs differ by seed or fold alone: mean ± sd over them. Click a heading to sort.")
        + table(head, rows, sortable=True)
    )  # fmt: skip


def _configuration(settings: Sequence[Setting]) -> str:
    firsts = [s.runs[0] for s in settings]
    apart = differences(firsts)
    if len(settings) == 1:
        body = ""
    elif apart:
        head = ["field", *(f"{i + 1}" for i in range(len(settings)))]
        rows = [[name, *map(show, values)] for name, values in apart.items()]
        body = note("Fields that differ; the numbers follow the order of the summary.") + table(
            head, rows
        )
    else:
        body = note("No field that all of them have differs.")
    same = [
        (n, v) for n, v in firsts[0].config.items() if n not in apart and n not in ("seed", "fold")
    ]
    if not same:
        return body + note("The run was started without a config, so none is stored.")
    shared = pairs((name, show(value)) for name, value in same)
    return body + (folded("Fields that are the same", shared) if body else shared)


def learning_curves(settings: Sequence[Setting]) -> str:
    """A panel for each metric, a band of one sd where a setting has several seeds."""
    drawn = settings[:DRAWN]
    found, rivals = lines(drawn), baselines([s.runs[0].path for s in drawn])
    names = metric_names(found)
    if not names:
        return note("Nothing was logged yet.")
    several = len(drawn) > 1
    key = legend([s.title for s in drawn]) if several else ""
    figures = []
    for name in names[:PANELS]:
        figure = new_figure(4.6, 3.2)
        axes = figure.add_subplot()
        curve_panel(axes, name, found, rivals.get(name))
        if not several:
            axes.legend(fontsize="small", framealpha=0, labelcolor="linecolor")
        figures.append(svg(figure, f"{name} over the steps"))
    words = []
    if any(len(s.runs) > 1 for s in drawn):
        words.append("Lines are means over seeds, bands one standard deviation.")
    if several and len(drawn) <= CROWD:
        words.append("Dotted: training.")
    if len(names) > PANELS:
        words.append(
            f"The first {PANELS} of {len(names)} metrics are drawn; the evaluation has all."
        )
    if len(settings) > DRAWN:
        words.append(f"The first {DRAWN} of {len(settings)} settings are drawn.")
    return (note(" ".join(words)) if words else "") + key + gallery(figures)


def _evaluation(settings: Sequence[Setting]) -> str:
    rows: list[tuple[list[str], dict[str, float]]] = []
    for setting in settings:
        for run in setting.runs:
            chosen = run.result.get("selected", {}).get("step")
            own = [run.name, run.ended, "" if chosen is None else f"{chosen:,}"]
            rows.append((own, run.metrics))
    names = list(dict.fromkeys(name for _, metrics in rows for name in metrics))
    head = ["run", "ended", "selected step", *names]
    cells = [[*row, *(f"{m[n]:.4g}" if n in m else "" for n in names)] for row, m in rows]
    return note("Metrics of the selected state, a row a run.") + table(head, cells, sortable=True)


def _pictures(settings: Sequence[Setting]) -> str:
    parts = []
    for setting in settings[:DRAWN]:
        run = setting.runs[0]
        views = run.views()
        if not views:
            continue
        each = max(1, SHOWN // len(views))
        figures = []
        for name, files in views.items():
            places = np.unique(np.linspace(0, len(files) - 1, min(each, len(files), 4)).round())
            shown: dict[bytes, str] = {}  # what comes again is shown once, as it was last
            for place in places.astype(int):
                step, file = files[place]
                words = f"{name}, step {step:,}"
                if (size := file.stat().st_size) > LARGEST:
                    figures.append(captioned("", f"{words}: {size:,} bytes are not shown"))
                    continue
                content, drawn = read_plain(file, run.path), file.suffix == ".png"
                text = "" if drawn else escape(content.decode("utf-8", "replace").strip())
                shown.pop(content, None)
                inner = picture(content, words) if drawn else f"<pre>{text}</pre>"
                shown[content] = captioned(inner, words)
            figures += shown.values()
        parts.append(
            (f"<h3>{escape(run.name)}</h3>" if len(settings) > 1 else "") + gallery(figures)
        )
    return "".join(parts) or note("The experiment draws no pictures (its field views).")


def _confusion(inside: Inside) -> str:
    parts = []
    for path, found in inside.items():
        if isinstance(found, str):
            parts.append(f"<h3>{escape(path.name)}</h3>{note(found)}")
            continue
        for name, one in found.judged.items():
            parts.append(
                f"<h3>{escape(path.name)}, {escape(name)}</h3>{_matrix(one.counts, found.classes)}"
            )
    if parts:
        return note("Examples by true class (rows) and predicted class (columns).") + "".join(parts)
    if inside:
        return note("The task does not sort examples into classes.")
    return note("No run was rebuilt for this page (--inspect).")


def _rows(inside: Inside) -> str:
    """What was said of single rows."""
    looked = {p.name: one for p, one in inside.items() if isinstance(one, Inspection)}
    judged = {name: one for name, one in looked.items() if one.judged or one.far or one.slices}
    parts = [f"<h3>{escape(name)}</h3>{examples.judged(one)}" for name, one in judged.items()]
    return "".join(parts) or note("No run of classes or numbers a row was rebuilt for this page.")


def _matrix(counts: np.ndarray, classes: Sequence[str]) -> str:
    known = len(classes) == len(counts)
    names = list(classes) if known else [str(number) for number in range(len(counts))]
    off = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    told = f"{amount(np.trace(counts))} of {amount(counts.sum())} right."
    order = np.argsort(off, axis=None)[::-1][:8]
    places = [np.unravel_index(i, counts.shape) for i in order]
    mistakes = ", ".join(
        f"{names[a]} taken for {names[b]} ({amount(off[a, b])}×)" for a, b in places if off[a, b]
    )
    words = note(told + (f" Most often: {mistakes}." if mistakes else ""))
    if len(counts) > CLASSES:
        return words
    share = counts / np.where(counts.any(1, keepdims=True), counts.sum(1, keepdims=True), 1)
    # Words stand upright over their column, so that columns stay narrow.
    head = "".join(f"<th><span>{escape(name)}</span></th>" for name in names)
    body = ""
    for row in range(len(counts)):
        cells = "".join(
            f'<td style="--a:{share[row, column] ** 0.5:.2f};'
            f'--hue:var(--{"accent" if row == column else "c7"})">{amount(count) if count else ""}</td>'
            for column, count in enumerate(counts[row])
        )
        body += f"<tr><th>{escape(names[row])}</th>{cells}</tr>"
    style = "confusion words" if known else "confusion"
    return (
        f'{words}<div class="scroll"><table class="{style}"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _layers(inside: Inside) -> str:
    parts = []
    for path, found in inside.items():
        if isinstance(found, str):
            parts.append(f"<h3>{escape(path.name)}</h3>{note(found)}")
            continue
        slopes = [f.gradient for f in found.flows.values() if f.gradient]
        low, high = (np.log10(min(slopes)), np.log10(max(slopes))) if slopes else (0.0, 1.0)
        rows = []
        for row, layer in zip(found.layers.rows(), found.layers.layers, strict=True):
            flow = found.flows.get(layer.path)
            cells = ["", "", "", "", ""]
            if flow and flow.rms is not None:
                cells[:3] = [f"{flow.mean:.2g}", f"{flow.rms:.2g}", f"{flow.zeros:.0%}"]
            if flow and flow.weight is not None:
                cells[3] = f"{flow.weight:.2g}"
            if flow and flow.gradient is not None:
                length = (np.log10(max(flow.gradient, 1e-30)) - low) / max(high - low, 1.0)
                bar = (
                    f'<span class="bar"><i style="width:{8 + 92 * max(length, 0):.0f}%"></i></span>'
                )
                cells[4] = Html(f"{bar}{flow.gradient:.1e}")
            rows.append([*row, *cells])
        head = [*HEAD, "mean", "rms", "zeros", "weight", "gradient"]
        parts.append(
            f"<h3>{escape(path.name)}: {escape(found.layers.title)}</h3>" + table(head, rows)
        )
    if not parts:
        return note("No run was rebuilt for this page (--inspect).")
    return note(
        "On one training batch, by the selected state. Mean, rms and the share of exact zeros are of a "
        "layer's output; weight and gradient are root mean squares over its own parameters, the bar's "
        "length logarithmic. FLOPs count matrix products and convolutions."
    ) + "".join(parts)


def _time(settings: Sequence[Setting], inside: Inside) -> str:
    rows = []
    for run in (run for setting in settings for run in setting.runs):
        r, rate = run.result, run.result.get("examples_per_second")
        size = sum(map(_size, (run.path / "checkpoints").rglob("*")))
        rows.append([
            run.name, f"{r.get('wall_seconds', 0):,.1f}", f"{r.get('compile_seconds', 0):,.1f}",
            f"{r.get('input_wait_seconds', 0):,.2f}", f"{rate:,.0f}" if rate else "",
            engineering(r["peak_memory_bytes"]) + "B" if r.get("peak_memory_bytes") else "",
            engineering(size) + "B",
        ])  # fmt: skip
    head = ["run", "wall s", "compiling s", "waiting for data s", "examples/s"]
    head += ["peak memory", "checkpoints"]
    body = table(head, rows, sortable=True)
    for path, found in inside.items():
        if not isinstance(found, str):
            sizes = [(name, engineering(size) + "B") for name, size in found.memory.items()]
            body += f"<h3>Memory of {escape(path.name)}</h3>" + facts(sizes)
    return body


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:  # a run at work deletes its older checkpoints
        return 0


def _locks(settings: Sequence[Setting]) -> str:
    runs = [run for setting in settings for run in setting.runs]
    flat = [dict(_entries(run.environment)) for run in runs]
    names = list(dict.fromkeys(name for entries in flat for name in entries))
    same = {n: flat[0][n] for n in names if all(e.get(n) == flat[0].get(n) for e in flat)}
    body = ""
    apart = [n for n in names if n not in same]
    if apart:
        rows = [
            [run.name, *(e.get(n, "") for n in apart)] for run, e in zip(runs, flat, strict=True)
        ]
        body = note("What differs between the runs' locks:") + table(["run", *apart], rows)
    elif len(runs) > 1:
        body = note(
            "Versions, compiler settings, devices, data and code were the same for all runs."
        )
    digests = [
        [run.name, Html(f"<code>{escape(run.result.get('digest') or 'unfinished')}</code>")]
        for run in runs
    ]
    lock = pairs((name, Html(f"<code>{escape(value)}</code>")) for name, value in same.items())
    return (
        body + "<h3>Digest of the last state (SHA-256)</h3>" + table(["run", "digest"], digests)
        + (folded("The lock", lock) if len(runs) > 1 else f"<h3>The lock</h3>{lock}")
    )  # fmt: skip


def _entries(lock: Mapping, above: str = ""):
    for name, value in lock.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{above}{name}.")
        else:
            shown = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield above + name, shown


def duration(seconds: float) -> str:
    """Seconds for a reader: ``12 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def default_file(paths: Sequence[Path]) -> Path:
    """Where a report of ``paths`` is put: within the one folder given, else beside the runs."""
    if len(paths) == 1:
        return paths[0] / "report.html"
    return Path(os.path.commonpath([path.resolve() for path in paths])) / "report.html"
