"""The names of all quality metrics: the built-in measures and, with the extra ``iqa``, pyiqa's no-reference metrics.

pyiqa's licence (PolyForm Noncommercial 1.0.0) forbids commercial use; the built-in measures need neither it nor
weights.

Weights are looked for in the folder that :func:`weights_folder` names, under the file names that pyiqa gives them, e.g.
``niqe_modelparameters.mat`` and ``brisque_svm_weights.pth``. They are downloaded only when that is asked for, and a
pickled file that holds anything but plain arrays is refused.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingExtraError, ParameterError, UsageError, suggestion
from ..measures.rating import MEASURES, Measure

GROUP = "defects"
"""Stands for all built-in measures."""

WEIGHTS_VARIABLE = "IDSYNTH_IQA_WEIGHTS"

LICENSE_NOTE = "pyiqa metrics are under the PolyForm Noncommercial 1.0.0 licence: no commercial use"

_KNOWN_RANGES = {
    # NIQE and BRISQUE follow people's opinion of web photos weakly (rank correlation 0.38 and 0.23 on KonIQ-10k), and
    # PIQE is of their kind: they may lower a score, not decide it.
    "niqe": (4.0, 16.0, 0.25),
    "brisque": (25.0, 100.0, 0.25),
    "piqe": (40.0, 100.0, 0.25),
    "liqe": (4.5, 1.0, 0.5),
}
"""Good value, bad value and weight of pyiqa metrics whose published range is too wide to rate with."""

_NOT_OF_ONE_IMAGE = {"fid", "fid_dinov2", "sfid", "inception_score", "fgresq_pair", "clipscore"}
"""Metrics that pyiqa calls no-reference and that need a set of images, a second image or a caption."""

_loading = threading.Lock()


def names() -> list[str]:
    """The names that ``metrics`` accepts: ``"defects"``, the built-in measures, and the metrics of pyiqa."""
    external = _pyiqa_configs() if has_pyiqa() else _KNOWN_RANGES
    return [GROUP, *MEASURES, *external]


def has_pyiqa() -> bool:
    """Whether pyiqa is installed; it is not imported, which takes seconds."""
    return importlib.util.find_spec("pyiqa") is not None


def resolve(metrics: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sorts metric names into built-in measures and metrics of pyiqa.

    Args:
        metrics: names; ``"defects"`` stands for all built-in measures

    Returns:
        the built-in measures and the metrics of pyiqa, each once

    Raises:
        ParameterError: there is no metric of that name
        MissingExtraError: the metric needs pyiqa, which is not installed
    """
    if not metrics:
        raise ParameterError("metrics", metrics, f"name at least one metric. {suggestion('', names())}")
    builtin: dict[str, None] = {}
    external: dict[str, None] = {}
    for name in metrics:
        if name == GROUP:
            builtin.update(dict.fromkeys(MEASURES))
        elif name in MEASURES:
            builtin[name] = None
        elif not has_pyiqa() and name in _KNOWN_RANGES:
            raise MissingExtraError("pyiqa", extra="iqa", why=f"metric {name!r} ({LICENSE_NOTE})")
        elif has_pyiqa() and name in _pyiqa_configs():
            external[name] = None
        else:
            more = "" if has_pyiqa() else ". Other metrics of pyiqa need the extra: pip install 'fiftyone-idsynth[iqa]'"
            raise ParameterError("metrics", name, f"is unknown: {suggestion(name, names(), limit=40)}{more}")
    return tuple(n for n in MEASURES if n in builtin), tuple(external)


def describe(name: str) -> Measure:
    """How a metric is read: direction and range from pyiqa's own table unless they are known better here.

    A metric whose range is open at one end has weight 0: it is reported and does not change the score until the user
    gives it a range and a weight.

    Args:
        name: a built-in measure or a metric of pyiqa
    """
    if name in MEASURES:
        return MEASURES[name]
    config = _pyiqa_configs()[name]
    lower_better = bool(config.get("lower_better", False))
    published = str(config.get("score_range", ""))
    help = f"pyiqa metric {name}, {'lower' if lower_better else 'higher'} is better, range {published or 'unknown'}"
    if name in _KNOWN_RANGES:
        good, bad, weight = _KNOWN_RANGES[name]
        return Measure(help, good, bad, weight, issue=name)
    ends = _range(published)
    if ends is None:
        return Measure(help, good=0.0 if lower_better else 1.0, bad=1.0 if lower_better else 0.0, weight=0, issue=name)
    low, high = ends
    return Measure(help, low if lower_better else high, high if lower_better else low, weight=0.5, issue=name)


def field_name(name: str) -> str:
    """The name of a metric as a field: ``"clipiqa+"`` is kept in ``quality.clipiqa_plus``."""
    return "".join(c if c.isalnum() else "_" for c in name.replace("+", "_plus"))


def weights_folder(weights_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder with pyiqa's weights: the argument, ``$IDSYNTH_IQA_WEIGHTS``, or ``$TORCH_HOME/hub/pyiqa``."""
    given = weights_dir or os.environ.get(WEIGHTS_VARIABLE)
    if given:
        return Path(given).expanduser()
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(home, "hub", "pyiqa").expanduser()


def load(
    name: str, *, weights_dir: str | os.PathLike[str] | None = None, download: bool = False
) -> Callable[[np.ndarray], float | None]:
    """Loads a metric of pyiqa.

    Args:
        name: its name
        weights_dir (None): see :func:`weights_folder`
        download (False): whether pyiqa may download weights that are missing

    Returns:
        a function of a uint8 RGB array; not to be called by several threads at once. It returns ``None`` where the
        metric has no finite value

    Raises:
        UsageError: its weights are missing or refused
        MissingExtraError: pyiqa is not installed
    """
    if not has_pyiqa():
        raise MissingExtraError("pyiqa", extra="iqa", why=f"metric {name!r} ({LICENSE_NOTE})")
    import torch

    folder = weights_folder(weights_dir)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _loading, _weights_from(folder, download, name):
        import pyiqa

        try:
            with contextlib.redirect_stdout(None):  # it announces a download also where none is allowed
                model = pyiqa.create_metric(name, device=device)
        except UsageError:
            raise
        except Exception as error:  # whatever a model's own code raises while it looks for its weights
            raise UsageError(
                f"metric {name!r} cannot be loaded ({type(error).__name__}: {str(error).strip()[:300]}). "
                f"Its weights are looked for in {folder}; choose another metric or another folder"
            ) from error

    def compute(pixels: np.ndarray) -> float | None:
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(device) / 255.0
        value = float(model(image).item())
        return value if math.isfinite(value) else None

    return compute


@contextlib.contextmanager
def _weights_from(folder: Path, download: bool, name: str) -> Iterator[None]:
    """Makes pyiqa look into a folder, refuse pickled code, and download only if it may."""
    from pyiqa.utils import download_util

    def refuse(url: str, target: str, **_: Any) -> None:
        raise UsageError(
            f"metric {name!r} needs the weights file {os.path.basename(target)}, which is not in {folder}: put it "
            f"there (it is published at {url}), name the folder that holds it (weights_dir or ${WEIGHTS_VARIABLE}), or "
            "allow the download (download_weights=True)"
        )

    before = download_util.DEFAULT_CACHE_DIR, download_util.download_url_to_file
    strict = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    download_util.DEFAULT_CACHE_DIR = str(folder)
    if not download:
        download_util.download_url_to_file = refuse
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        download_util.DEFAULT_CACHE_DIR, download_util.download_url_to_file = before
        if strict is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = strict


@functools.cache
def _pyiqa_configs() -> dict[str, dict[str, Any]]:
    """pyiqa's table of no-reference metrics, read from its module without importing pyiqa and all its models."""
    package = importlib.util.find_spec("pyiqa")
    if package is None or package.origin is None:
        return {}
    spec = importlib.util.spec_from_file_location(
        "_pyiqa_configs", Path(package.origin).with_name("default_model_configs.py")
    )
    if spec is None or spec.loader is None:
        return {}
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    wanted = {n: c for n, c in module.DEFAULT_CONFIGS.items() if c.get("metric_mode") == "NR"}
    return {name: wanted[name] for name in sorted(wanted) if name not in _NOT_OF_ONE_IMAGE}


def _range(published: str) -> tuple[float, float] | None:
    parts = [part.strip().removeprefix("~") for part in published.split(",")]
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        return None
    return low, high
