"""The HTML of every report: one file that opens offline, in light and dark, on a phone and on paper."""

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dl.figures.curves import PALETTE
from dl.platform import harmless

Cell = Any  # text or a number; Html is taken as it is


class Html(str):
    """Text that is HTML already."""


def escape(value: Cell) -> str:
    return value if isinstance(value, Html) else html.escape(str(value))


class Section(NamedTuple):
    """A part of a page: a heading, and HTML under it."""

    title: str
    body: str


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """A whole page. ``lead`` is a sentence (text) under the title; sections are reached from a list of
    links on top. All of it is ASCII, others as character references, so that it reads the same
    however it is written, sent on or opened, in a terminal too."""
    names = [re.sub(r"\W+", "-", s.title.lower()).strip("-") for s in sections]
    links = "".join(
        f'<a href="#{name}">{escape(s.title)}</a>' for name, s in zip(names, sections, strict=True)
    )
    parts = "".join(
        f'<section id="{name}"><h2>{escape(s.title)}</h2>{s.body}</section>'
        for name, s in zip(names, sections, strict=True)
    )
    whole = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style></head>'
        f'<body><header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>'
        f"<nav>{links}</nav><main>{parts}</main><script>{SCRIPT}</script></body></html>\n"
    )
    return harmless(whole, "\n\t").encode("ascii", "xmlcharrefreplace").decode()


def table(head: Sequence[Cell], rows: Iterable[Sequence[Cell]], *, sortable: bool = False) -> str:
    """A table that scrolls sideways within itself where it is wide. Columns of numbers stand to the
    right; a click on a heading sorts where ``sortable``."""
    rows = [[escape(cell) for cell in row] for row in rows]
    kinds = [
        ' class="n"'
        if all(_NUMBER.match(re.sub("<[^>]*>", "", row[i])) for row in rows) and rows
        else ""
        for i in range(len(head))
    ]

    def cell(tag: str, text: str, place: int) -> str:
        return f"<{tag}{kinds[place]}>{text}</{tag}>"

    titles = [
        f'<button type="button">{escape(name)}</button>' if sortable else escape(name)
        for name in head
    ]
    top = "".join(cell("th", name, i) for i, name in enumerate(titles))
    body = "".join(
        "<tr>" + "".join(cell("td", text, i) for i, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    tall = " tall" if len(rows) > 24 else ""
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll{tall}"><table{kind}>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


_NUMBER = re.compile(
    r"^$|^[-+−]?[\d.,]+(e[-+]?\d+)?( ?[a-zA-Zµ%/²]{1,5})?( ± .*)?( \(.*\))?$|^(nan|-?inf)( \(.*\))?$"
)


def plain_table(head: Sequence[Cell], rows: Iterable[Sequence[Cell]], title: str = "") -> str:
    """A table for a notebook, which brings its own style."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    top = f"<thead><tr>{top}</tr></thead>" if top else ""
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    return f"<table>{caption}{top}<tbody>{body}</tbody></table>"


def facts(pairs: Iterable[tuple[str, Cell]]) -> str:
    """Names and values, as a list of definitions."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs
    )
    return f'<dl class="facts">{items}</dl>'


def pairs(rows: Iterable[tuple[str, Cell]]) -> str:
    """Many names and values, in as many columns as fit."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows
    )
    return f'<dl class="pairs">{items}</dl>'


def folded(title: str, body: str) -> str:
    """HTML that a click unfolds."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def amount(count: Any) -> str:
    """How many rows, where they may stand for more or fewer than one each."""
    return f"{count:,.0f}" if count == round(count) or count >= 1000 else f"{count:.4g}"


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def legend(titles: Sequence[str]) -> str:
    """What the colours of the curves mean, in their order."""
    items = "".join(
        f'<li><i style="background:var(--c{i % len(PALETTE)})"></i>{escape(title)}</li>'
        for i, title in enumerate(titles)
    )
    return f'<ul class="legend">{items}</ul>'


def gallery(figures: Iterable[str]) -> str:
    """Figures side by side, as many as fit."""
    return f'<div class="gallery">{"".join(figures)}</div>'


def captioned(inner: str, caption: str) -> str:
    return f"<figure>{inner}<figcaption>{escape(caption)}</figcaption></figure>"


def picture(content: bytes, description: str) -> str:
    """A PNG within the page itself."""
    data = base64.b64encode(content).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(description, quote=True)}">'


def svg(figure: Any, description: str) -> str:
    """A matplotlib figure as SVG within the page, in the page's own colours and type."""
    import matplotlib

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dl"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # ids of two figures would clash
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    size = re.search(r'viewBox="([^"]*)"', text)
    opening = f'<svg role="img" aria-label="{html.escape(description, quote=True)}" viewBox="{size and size[1]}">'
    text = re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1)
    text = re.sub(r"font: ([\d.]+)px '[^']*'(, [^;\"]*)?", r"font-size: \1px", text)
    for place, colour in enumerate(PALETTE):
        text = text.replace(colour, f"var(--c{place})")
    text = text.replace("#000000", "currentColor").replace("#b0b0b0", "var(--line)")
    return re.sub(r"\n\s*", "\n", text)


_COLOURS = "".join(f"--c{i}:{colour};" for i, colour in enumerate(PALETTE))
STYLE = (
    ":root{--ground:#fff;--raised:#f6f7f9;--ink:#1c2024;--quiet:#60686f;--line:#dfe3e7;--accent:#2b7bba;"
    + _COLOURS
    + """}
@media (prefers-color-scheme:dark){:root{--ground:#14171a;--raised:#1d2125;--ink:#e6e9ec;--quiet:#9aa3ab;
--line:#343a40;--accent:#5aa9e0;--c0:#5aa9e0;--c2:#38bd93;--c4:#a396ee;--c8:#a3b85c}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:76rem;background:var(--ground);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.9rem;line-height:1.2;margin:0;letter-spacing:-.015em;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:0 0 .9rem;letter-spacing:-.01em}
h3{font-size:1rem;margin:1.6rem 0 .6rem;overflow-wrap:anywhere}
.lead{color:var(--quiet);margin:.4rem 0 0;max-width:46rem}
nav{position:sticky;top:0;z-index:2;display:flex;gap:1.1rem;overflow-x:auto;white-space:nowrap;margin:1.2rem 0 0;
padding:.7rem 0;background:var(--ground);border-bottom:1px solid var(--line);font-size:.9rem;scrollbar-width:none}
nav a{color:var(--quiet);text-decoration:none}nav a:hover{color:var(--accent)}
section{padding-top:2.4rem;scroll-margin-top:1.2rem}
.scroll{overflow-x:auto;max-width:100%}
.tall{max-height:34rem;overflow-y:auto}.tall thead th{position:sticky;top:0;background:var(--ground)}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;min-width:min(100%,24rem)}
th,td{padding:.36rem .9rem .36rem 0;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap;
vertical-align:baseline}
th{font-weight:600;color:var(--quiet);font-size:.82rem}
th.n,td.n{text-align:right}
td.wrap{white-space:normal;overflow-wrap:anywhere}
tbody tr:hover{background:var(--raised)}
th button{all:unset;cursor:pointer}th button:focus-visible{outline:2px solid var(--accent)}
th[aria-sort=ascending] button::after{content:" \\2191"}th[aria-sort=descending] button::after{content:" \\2193"}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,10.5rem),1fr));gap:.7rem;
margin:0 0 1rem}
.facts div{background:var(--raised);border-radius:.5rem;padding:.65rem .85rem;min-width:0}
.facts dt{color:var(--quiet);font-size:.8rem}
.facts dd{margin:.1rem 0 0;font-size:1.1rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.pairs{columns:22rem;column-gap:2.5rem;margin:0;font-size:.9rem}
.pairs div{display:flex;justify-content:space-between;gap:1.5rem;padding:.32rem 0;break-inside:avoid;
border-bottom:1px solid var(--line)}
.pairs dt{color:var(--quiet)}.pairs dd{margin:0;text-align:right;min-width:0;overflow-wrap:anywhere}
.gallery{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));gap:1rem}
figure{margin:0;min-width:0}figcaption{color:var(--quiet);font-size:.82rem;margin-top:.25rem}
img{max-width:100%;height:auto;border-radius:.3rem;background:#fff}
svg{display:block;width:100%;max-width:34rem;height:auto;font-family:inherit}
svg text{fill:currentColor}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;margin:0 0 .8rem;padding:0;font-size:.88rem}
.legend i{display:inline-block;width:1.1em;height:.28em;border-radius:1em;margin-right:.45em;vertical-align:middle}
.note{color:var(--quiet);font-size:.88rem;max-width:46rem;margin:.5rem 0 1rem}
pre{background:var(--raised);border-radius:.5rem;padding:.8rem 1rem;margin:0;overflow:auto;max-height:20rem;
font:.82rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
code{font:.85em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
details{margin:.8rem 0}summary{cursor:pointer;color:var(--accent);font-size:.92rem;margin-bottom:.6rem}
table.confusion{min-width:0;font-size:.8rem}
table.confusion td,table.confusion th{padding:.3rem;min-width:2.1rem;text-align:center;
border:1px solid var(--ground)}
table.confusion.words thead span{writing-mode:vertical-rl;transform:rotate(180deg);white-space:nowrap}
table.confusion td{background:color-mix(in srgb,var(--hue) calc(var(--a)*100%),var(--raised))}
.bar{display:inline-block;width:5rem;height:.5em;margin-right:.6em;border-radius:1em;background:var(--line);
vertical-align:middle;overflow:hidden}
.bar i{display:block;height:100%;background:var(--accent)}
@media (max-width:40rem){body{padding:1.3rem 1rem 3rem}h1{font-size:1.5rem}
.facts{grid-template-columns:1fr 1fr}.facts dd{font-size:1rem}
table.confusion{font-size:.68rem}table.confusion td,table.confusion th{padding:.2rem .1rem;min-width:1.6rem}}
@media print{nav{display:none}body{max-width:none}}"""
)

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = cell => { const t = cell.textContent.trim().replace(/,/g, ""), n = parseFloat(t);
    return Number.isNaN(n) ? t : n; };
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].sort((a, b) => { const x = key(a.cells[place]), y = key(b.cells[place]);
      const order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
      return up ? order : -order; });
    body.append(...rows);
  }));
}
"""
