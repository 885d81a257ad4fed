"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import RefusedImage, UsageError
from ...media import read_image, write_atomically
from .charts import Chart
from .intervals import Figure

GENERATOR = '<meta name="generator" content="fiftyone-idsynth measure_distribution">'
"""Marks files that may be written over."""

_ARROWS = {"higher": "higher is better", "lower": "lower is better", "neither": ""}

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { border: 1px solid #ccc; padding: .3em .7em; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } .note { background: #fff6dd; padding: .5em 1em; }
.pair img { height: 128px; margin-right: 4px; } .pair { display: inline-block; margin: .5em 1em .5em 0; }
small { color: #666; }
"""


@dataclass
class Facts:
    """What a report tells.

    Attributes:
        title: its heading
        about: what was measured, as names and values
        figures: what was found
        notes: what a reader must know
        charts: the charts
        tables: title -> head and rows of a table
        pairs: pairs of images that are alike: files, and a text
        earlier: earlier measurements, see :mod:`fiftyone_idsynth.quality.distribution.record`
    """

    title: str
    about: Mapping[str, str]
    figures: Sequence[Figure]
    notes: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: dict[str, tuple[list[str], list[list[Any]]]] = field(default_factory=dict)
    pairs: Sequence[tuple[str, str, str]] = ()
    earlier: Sequence[Mapping[str, Any]] = ()


def check_place(path: Path) -> None:
    """Refuses to write over a file that is no such report.

    Raises:
        UsageError: there is another file, or a folder
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"report_path: {path} is no .html file: name one")
    if path.is_dir():
        raise UsageError(f"report_path: {path} is a folder: name a file in it, e.g. {path / 'distribution.html'}")
    if path.is_file():
        with open(path, encoding="utf-8", errors="replace") as file:
            if GENERATOR not in file.read(2000):
                raise UsageError(f"report_path: {path} is another file: choose another name, or move it away")


def write_report(facts: Facts, path: Path) -> None:
    """Writes the report; everything that comes from data is escaped, so that it is shown and never interpreted."""
    write_atomically(path, render(facts).encode())


def render(facts: Facts) -> str:
    """The report as HTML."""
    rows = "".join(f"<tr><th>{_e(name)}</th><td>{_e(value)}</td></tr>" for name, value in facts.about.items())
    parts = [
        f"<h1>{_e(facts.title)}</h1>",
        f"<table>{rows}</table>",
        *(f'<p class="note">{_e(note)}</p>' for note in facts.notes),
        "<h2>Figures</h2>",
        _figures(facts.figures),
        *_charts(facts.charts),
        _pairs(facts.pairs),
        *(f"<h2>{_e(title)}</h2>{_table(head, rows)}" for title, (head, rows) in facts.tables.items() if rows),
        _history(facts),
    ]
    head = f'<meta charset="utf-8">{GENERATOR}<title>{_e(facts.title)}</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _figures(figures: Sequence[Figure]) -> str:
    lines = []
    for one in figures:
        interval = "" if one.low is None else f"{one.low:.4g} to {one.high:.4g}"
        about = ". ".join(text for text in (_ARROWS[one.better], one.help) if text)
        lines.append(
            f'<tr><th>{_e(one.title)}</th><td class="number">{one.value:.4g}</td><td class="number">{interval}</td>'
            f'<td class="number">{one.of}</td><td><small>{_e(about)}</small></td></tr>'
        )
    head = "<tr><th>figure</th><th>value</th><th>95 % interval</th><th>images</th><th></th></tr>"
    return f"<table>{head}{''.join(lines)}</table>"


def _charts(charts: Sequence[Chart]) -> list[str]:
    import plotly.io

    return [
        plotly.io.to_html(
            {"data": chart["data"], "layout": chart["layout"]}, full_html=False, validate=False,
            include_plotlyjs=number == 0, config={"displaylogo": False, "responsive": True},
        )
        for number, chart in enumerate(charts)
    ]  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [f"<tr>{''.join(f'<th>{_e(cell)}</th>' for cell in head)}</tr>"]
    for row in rows:
        cells = ((' class="number"' if isinstance(c, (int, float)) else "", _shown(c)) for c in row)
        lines.append(f"<tr>{''.join(f'<td{kind}>{text}</td>' for kind, text in cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _pairs(pairs: Sequence[tuple[str, str, str]]) -> str:
    shown = []
    for own, other, text in pairs:
        pictures = "".join(f'<img src="{source}" alt="">' for path in (own, other) if (source := _thumbnail(path)))
        shown.append(f'<div class="pair">{pictures}<br><small>{_e(text)}</small></div>')
    return f"<h2>Images that are most alike</h2>{''.join(shown)}" if shown else ""


def _thumbnail(path: str) -> str:
    """An image as a small JPEG within the file, or nothing if it cannot be read."""
    from PIL import Image

    try:
        image = Image.fromarray(read_image(path, draft=(256, 256)).pixels)
    except RefusedImage:
        return ""
    image.thumbnail((256, 128))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _history(facts: Facts) -> str:
    """Earlier measurements beside this one: the figures that this one has."""
    if not facts.earlier:
        return ""
    keys = {one.key: one.title for one in facts.figures}
    head = ["measurement", "of", "against", "on", "measured at", *keys.values()]
    rows: list[list[Any]] = []
    for entry in [*facts.earlier][-10:]:
        found = entry["figures"]
        values = [found[key]["value"] if key in found else "" for key in keys]
        about = [entry.get(name) or "" for name in ("name", "samples", "reference", "embedding", "measured_at")]
        rows.append([*about, *values])
    own = facts.about
    rows.append(["this one", own.get("samples", ""), own.get("reference", ""), own.get("embedding", ""), "",
                 *(one.value for one in facts.figures)])  # fmt: skip
    return f"<h2>Measurements so far</h2>{_table(head, rows)}"


def _shown(cell: Any) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else _e(cell)


def _e(text: Any) -> str:
    return html.escape(str(text))


def default_place(folder: str, name: str) -> Path:
    """Where a report is written unless a place is named."""
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in name).strip("-") or "distribution"
    return Path(os.path.join(folder, "reports", f"{safe[:80]}.html"))
