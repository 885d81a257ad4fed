"""Charts as Plotly draws them, in the App and in the report alike: plain data and layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...charts import OWN, THEIRS, Chart, make_chart, plain

_SHOWN = 30
"""How many classes a chart shows at most."""

_POINTS = 1000
"""How many images of each side a map shows at most."""


def class_chart(counts: Mapping[str, int], reference: Mapping[str, int] | None, names: tuple[str, str]) -> Chart:
    """The shares of classes, the most frequent first."""
    both = {**dict.fromkeys(reference or {}, 0), **counts}
    shown = sorted(both, key=lambda name: -both[name])[:_SHOWN]
    data = []
    for its, name, colour in ((counts, names[0], OWN), (reference, names[1], THEIRS)):
        if its:
            total = sum(its.values())
            y = [its.get(c, 0) / total for c in shown]
            data.append({"type": "bar", "name": plain(name), "x": [plain(c) for c in shown], "y": y,
                         "marker": {"color": colour}})  # fmt: skip
    more = f" (the {_SHOWN} most frequent of {len(both)})" if len(both) > _SHOWN else ""
    return make_chart(f"Classes{more}", data, "class", "share of the labels", barmode="group", categories=True)


def copy_chart(nearest: np.ndarray, real: np.ndarray, limit: float, names: tuple[str, str]) -> Chart:
    """How far images are from the nearest real image, beside real images."""
    top = float(np.quantile(np.concatenate([nearest, real]), 0.99)) or 1.0
    edges = np.linspace(0, max(top, limit * 1.1), 41)
    data = []
    for values, name, colour in ((nearest, names[0], OWN), (real, f"{names[1]} among themselves", THEIRS)):
        share = np.histogram(np.minimum(values, edges[-1]), edges)[0] / len(values)
        middle = ((edges[1:] + edges[:-1]) / 2).round(6)
        data.append({"type": "bar", "name": plain(name), "x": middle.tolist(), "y": share.tolist(), "opacity": 0.7,
                     "marker": {"color": colour}})  # fmt: skip
    line = {"type": "line", "x0": limit, "x1": limit, "yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dash"}}
    title = "Distance to the nearest real image (left of the line: copies)"
    return make_chart(
        title, data, "distance of the embeddings", "share of the images", barmode="overlay", shapes=[line]
    )


def map_chart(own: np.ndarray, theirs: np.ndarray | None, names: tuple[str, str], seed: int) -> Chart:
    """The embeddings on the two directions in which they differ most (principal components)."""
    rng = np.random.default_rng(seed)
    sides = [(own, names[0], OWN)] + ([(theirs, names[1], THEIRS)] if theirs is not None else [])
    parts = [
        np.asarray(v[np.sort(rng.choice(len(v), min(_POINTS, len(v)), replace=False))], float) for v, _, _ in sides
    ]
    centre = np.concatenate(parts).mean(0)
    _, _, directions = np.linalg.svd(np.concatenate(parts) - centre, full_matrices=False)
    data = []
    for part, (_, name, colour) in zip(parts, sides, strict=True):
        x, y = np.pad((part - centre) @ directions[:2].T, ((0, 0), (0, 2)))[:, :2].T.round(5)
        marker = {"color": colour, "size": 5, "opacity": 0.6}
        data.append({"type": "scatter", "mode": "markers", "name": plain(name), "x": x.tolist(), "y": y.tolist(),
                     "marker": marker})  # fmt: skip
    return make_chart("Embeddings, first two principal components", data, "first component", "second component")


def leak_chart(shares: Mapping[tuple[str, str], float], splits: Sequence[str]) -> Chart:
    """Which share of each split has a near-duplicate in each other one."""
    z = [[shares.get((a, b)) for b in splits] for a in splits]
    text = [["" if v is None else f"{v:.1%}" for v in row] for row in z]
    names = [plain(name) for name in splits]
    data = [{"type": "heatmap", "x": names, "y": names, "z": z, "text": text, "texttemplate": "%{text}",
             "colorscale": "Reds", "zmin": 0, "zmax": max([v or 0 for row in z for v in row] + [0.01])}]  # fmt: skip
    return make_chart("Near-duplicates across splits", data, "has a near-duplicate in", "share of", categories=True)


def histogram_chart(title: str, values: Sequence[float], label: str) -> Chart:
    """A histogram of one number per image."""
    counts, edges = np.histogram(np.asarray(values, float), 30)
    middle = ((edges[1:] + edges[:-1]) / 2).round(6)
    data = [{"type": "bar", "name": label, "x": middle.tolist(), "y": counts.tolist(), "marker": {"color": OWN}}]
    return make_chart(title, data, label, "images", bargap=0.02)


def history_chart(
    title: str, names: Sequence[str], values: Sequence[float], errors: Sequence[tuple[float, float]]
) -> Chart:
    """One figure of several measurements, with its intervals."""
    data = [{"type": "scatter", "mode": "lines+markers", "name": plain(title), "x": [plain(n) for n in names],
             "y": list(values), "line": {"color": OWN},
             "error_y": {"type": "data", "symmetric": False, "array": [high for _, high in errors],
                         "arrayminus": [low for low, _ in errors]}}]  # fmt: skip
    return make_chart(f"{title}: measurements so far", data, "measurement", plain(title), categories=True)
