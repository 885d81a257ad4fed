"""The curve of labels against quality, as a picture and as a chart in the App."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...charts import Chart, make_chart
from ...media import write_atomically
from .rounds import Round


def plot(curves: Mapping[str, Sequence[Round]], path: Path, title: str) -> None:
    """Draws a line for each strategy, with the lower confidence bound where there is one.

    Args:
        curves: strategy -> rounds
        path: where the PNG is written
        title: what is learnt
    """
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for strategy, rounds in curves.items():
        labels, quality = [one.labels for one in rounds], [one.quality for one in rounds]
        (line,) = axes.plot(labels, quality, marker="o", markersize=4, label=strategy)
        bounded = [(one.labels, one.lower, one.quality) for one in rounds if one.lower is not None]
        if bounded:
            at, low, high = zip(*bounded, strict=True)
            axes.fill_between(at, low, high, alpha=0.12, color=line.get_color(), linewidth=0)
    metric = next((rounds[-1].metric for rounds in curves.values() if rounds), "quality")
    axes.set(title=title.replace("$", r"\$"), xlabel="images labelled by people", ylabel=f"{metric} on the test images")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    write_atomically(path, out.getvalue())


def chart(curves: Mapping[str, Sequence[Round]]) -> Chart:
    """The same curves as a chart for the App.

    Args:
        curves: strategy -> rounds
    """
    data = []
    for strategy, rounds in curves.items():
        trace: dict[str, Any] = {
            "type": "scatter", "mode": "lines+markers", "name": strategy, "x": [one.labels for one in rounds],
            "y": [one.quality for one in rounds],
        }  # fmt: skip
        if any(one.lower is not None for one in rounds):
            below = [one.quality - one.lower if one.lower is not None else 0 for one in rounds]
            none = [0] * len(below)
            trace["error_y"] = {"type": "data", "symmetric": False, "array": none, "arrayminus": below}
        data.append(trace)
    metric = next((rounds[-1].metric for rounds in curves.values() if rounds), "quality")
    return make_chart("Labels against quality", data, "images labelled by people", metric)
