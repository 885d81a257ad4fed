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
    """Links (or copies) the plugin into FiftyOne's plugins folder; doing it again refreshes it.

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
    ours = manifest.is_file() and NAME in manifest.read_text(encoding="utf-8")
    dangling = target.is_symlink() and not target.exists()
    if os.path.lexists(target) and not ours and not dangling:
        raise UsageError(f"{target} exists and is not this plugin: move it away and run the command again")
    partial = target.with_name(f".{LINK}-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            # The operators' path to the package is gone in a copy: it works where the package is installed.
            shutil.copytree(source / "operators", partial / "operators", ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(source / "fiftyone.yml", partial)
        else:
            partial.symlink_to(source, target_is_directory=True)
        if target.is_dir() and not target.is_symlink():  # an earlier copy of ours: a folder cannot be replaced at once
            shutil.rmtree(target)
        elif copy and target.is_symlink():
            target.unlink()
        os.replace(partial, target)
    except OSError as error:
        raise storage_error(error, str(target)) from error
    return target
