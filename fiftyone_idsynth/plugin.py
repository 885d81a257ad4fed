"""Links the plugin into the folder where FiftyOne looks for plugins; a pip install alone shows no operators."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .errors import UsageError, storage_error

NAME = "@idsynth/fiftyone-idsynth"
LINK = "fiftyone-idsynth"


def plugin_source() -> Path:
    """The folder that holds ``fiftyone.yml`` and ``operators``: the checkout, or what the wheel installed."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent, package / "_plugin"):
        if (folder / "fiftyone.yml").is_file() and (folder / "operators").is_dir():
            return folder
    raise UsageError(f"the plugin's files are missing beside {package}: install fiftyone-idsynth again")


def plugins_dir() -> Path:
    """The folder where FiftyOne looks for plugins."""
    import fiftyone as fo

    return Path(fo.config.plugins_dir)


def installed() -> Path | None:
    """Where FiftyOne finds the plugin, or ``None``."""
    target = plugins_dir() / LINK
    return target if (target / "fiftyone.yml").is_file() else None


def install_plugin(*, copy: bool = False) -> Path:
    """Links (or copies) the plugin's manifest and operators into FiftyOne's plugins folder; doing it again refreshes it.

    Only these are linked, not the whole checkout, because FiftyOne searches every folder below for manifests.

    Args:
        copy (False): whether to copy instead of linking, for file systems without links

    Returns:
        the folder in FiftyOne's plugins folder

    Raises:
        UsageError: something else has that name
        StorageError: the folder cannot be written
    """
    source, target = plugin_source(), plugins_dir() / LINK
    manifest = target / "fiftyone.yml"
    if os.path.lexists(target) and (not manifest.is_file() or NAME not in manifest.read_text(encoding="utf-8")):
        raise UsageError(f"{target} exists and is not this plugin: move it away and run the command again")
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in ("operators", "fiftyone.yml"):
            _place(source / name, target / name, copy)
    except OSError as error:
        raise storage_error(error, str(target)) from error
    return target


def _place(source: Path, target: Path, copy: bool) -> None:
    partial = target.with_name(f".{target.name}-{os.getpid()}")
    if not copy:
        partial.symlink_to(source, target_is_directory=source.is_dir())
    elif source.is_dir():
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, partial)
    if target.is_dir() and not target.is_symlink():  # an earlier copy of ours: folders cannot be replaced at once
        shutil.rmtree(target)
    os.replace(partial, target)
