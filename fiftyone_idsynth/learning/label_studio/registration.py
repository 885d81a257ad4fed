"""Makes ``dataset.annotate(backend="idsynth")`` known to FiftyOne, in this process and in the user's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...media import write_atomically

NAME = "idsynth"
"""The name of the backend."""

CONFIG_CLASS = f"{__package__}.backend.IdsynthBackendConfig"


def register_backend() -> None:
    """Makes the backend known to FiftyOne in this process; what is configured for it already stays."""
    import fiftyone as fo

    fo.annotation_config.backends.setdefault(NAME, {}).setdefault("config_cls", CONFIG_CLASS)


def install_backend() -> Path | None:
    """Makes the backend known to FiftyOne in all processes, by its annotation configuration on disk.

    Nothing else in that file changes, and nothing at all if the backend is there.

    Returns:
        the file, if it was changed

    Raises:
        UsageError: the file is no configuration
        StorageError: it cannot be written
    """
    import fiftyone.core.config as foc

    register_backend()
    path = Path(foc.locate_annotation_config()).expanduser()
    config = _read(path)
    backends = config.setdefault("backends", {})
    if not isinstance(backends, dict) or not isinstance(backends.setdefault(NAME, {}), dict):
        raise UsageError(f"{path}: 'backends' must map names to settings: correct the file and run the command again")
    if backends[NAME].get("config_cls"):
        return None
    backends[NAME]["config_cls"] = CONFIG_CLASS
    write_atomically(path.resolve(), (json.dumps(config, indent=4, ensure_ascii=False) + "\n").encode())
    return path


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8") or "{}")
    except ValueError as error:
        raise UsageError(
            f"{path} is no JSON ({error}): correct it, or move it away, and run the command again"
        ) from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} must hold a JSON object: correct it, or move it away, and run the command again")
    return found
