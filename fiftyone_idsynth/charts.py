"""Charts as Plotly draws them, in the App and in reports alike: plain data and layout."""

from __future__ import annotations

import html
from typing import Any

Chart = dict[str, Any]
"""``title``, ``data`` (traces) and ``layout`` of a Plotly figure."""

OWN, THEIRS = "#4363d8", "#f58231"


def make_chart(
    title: str, data: list[dict[str, Any]], x: str, y: str, *, categories: bool = False, **layout: Any
) -> Chart:
    """A chart with room for its titles.

    Args:
        title: its title
        data: the traces
        x: what the horizontal axis shows
        y: what the vertical axis shows
        categories (False): whether the horizontal axis names things
        layout: further parts of the layout
    """
    axis = {"title": {"text": x}, "automargin": True, **({"type": "category"} if categories else {})}
    return {
        "title": title,
        "data": data,
        "layout": {
            "title": {"text": title}, "xaxis": axis, "yaxis": {"title": {"text": y}, "automargin": True},
            "showlegend": len(data) > 1, "height": 380, "margin": {"t": 56, "l": 72, "b": 56}, **layout,
        },
    }  # fmt: skip


def plain(text: str) -> str:
    """Text without markup, which Plotly would interpret; long names are cut."""
    return html.escape(text if len(text) <= 40 else text[:37] + "...", quote=False)
