"""A folder that appears complete or not at all, and is only ever replaced if all of it is this project's own."""

from __future__ import annotations

import glob
import json
import os
import shutil
import socket
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import StorageError, UsageError, storage_error

MANIFEST = "idsynth.json"

CACHES = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""Files that viewers and trainers leave behind; they do not stand in the way. So do ``*.cache`` files."""


class ExportFolder:
    """Prepares a folder beside its final place and moves it there when it is finished.

    ::

        with ExportFolder("exports/pandas") as folder:
            ...  # write into folder.content; folder.scratch is for intermediate files
            folder.commit({"fingerprint": ...})

    Leaving the block without :meth:`commit` removes what was prepared and leaves the final place as it was. What a
    killed process left behind is removed, or an export that it had just moved aside is put back, by the next one.

    Args:
        path: the final place

    Attributes:
        path: the final place, absolute
        content: the folder that will be moved there
        scratch: a folder on the same file system for intermediate files
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = final_path(path)
        self._staging = self.path.parent / f"{_prefix(self.path)}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.content = self._staging / "content"
        self.scratch = self._staging / "scratch"

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            clear_leftovers(self.path)
            self._staging.mkdir()
            (self._staging / "owner.json").write_text(json.dumps(_owner()))
            self.content.mkdir()
            self.scratch.mkdir()
        except OSError as error:
            shutil.rmtree(self._staging, ignore_errors=True)
            raise storage_error(error, str(self.path)) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        _remove(self._staging, self.path)
        if isinstance(error, OSError):
            raise storage_error(error, str(self.path)) from error

    def commit(self, record: dict[str, Any]) -> None:
        """Writes the manifest and moves the folder to its final place.

        An export that is replaced is first moved aside; should the process die between the two moves, the next export
        to this place (or :func:`clear_leftovers`) puts it back.

        Args:
            record: what the manifest says besides the list of files
        """
        files = list_files(self.content)
        manifest = {**record, "files": dict(sorted(files.items()))}
        (self.content / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")
        if self.path.exists():
            os.rename(self.path, self._staging / "previous")
        os.rename(self.content, self.path)


def final_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path of an export folder, links followed."""
    return Path(path).expanduser().resolve()


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of an export of this project; None if the folder is missing, empty or foreign."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    complete = isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) and "fingerprint" in manifest
    return manifest if complete else None


def require_own(path: Path) -> dict[str, Any] | None:
    """Makes sure that nothing of somebody else's would be replaced.

    Args:
        path: the final place of an export

    Returns:
        the manifest of the export that is there, or None if the place is free

    Raises:
        UsageError: the place holds a file or files that this project did not write
    """
    if not path.exists():
        return None
    if not path.is_dir():
        raise UsageError(f"path={str(path)!r} is a file: choose a folder that does not exist yet")
    files = list_files(path)
    manifest = read_manifest(path)
    known = set(manifest["files"]) | {MANIFEST} if manifest else set()
    foreign = sorted(name for name in files.keys() - known if not _is_cache(name))
    if foreign:
        what = f"holds {len(foreign)} files that" if len(foreign) > 1 else "holds a file that"
        raise UsageError(
            f"path={str(path)!r} {what} this project did not write (e.g. {foreign[0]}); nothing was changed. Choose a "
            "folder that does not exist yet, or move what is there"
        )
    return manifest


def is_intact(path: Path, manifest: dict[str, Any]) -> bool:
    """Whether every file of an export is there with its size."""
    files = list_files(path)
    return all(files.get(name) == size for name, size in manifest["files"].items())


def list_files(path: Path) -> dict[str, int]:
    """Every file below a folder, as ``relative/name -> size`` (a link counts as a file)."""
    found = {}
    for root, folders, names in os.walk(path):
        linked = [name for name in folders if os.path.islink(os.path.join(root, name))]
        for name in [*names, *linked]:
            full = os.path.join(root, name)
            found[os.path.relpath(full, path).replace(os.sep, "/")] = os.lstat(full).st_size
    return found


def clear_leftovers(path: Path) -> None:
    """Removes what killed processes left beside an export, and puts back an export that one had moved aside.

    Raises:
        StorageError: another process is exporting to the same place
    """
    for staging in path.parent.glob(glob.escape(_prefix(path)) + "*"):
        try:
            owner = json.loads((staging / "owner.json").read_text())
        except (OSError, ValueError):
            owner = {}  # killed before it could say whose it is
        if owner and _is_alive(owner):
            raise StorageError(
                f"process {owner['pid']} on {owner['host']} is exporting to {path}: wait for it, or choose another "
                f"folder. If that process is gone, remove {staging}"
            )
        _remove(staging, path)


def require_space(path: Path, needed: int) -> None:
    """Raises :class:`StorageError` if the file system of a folder has fewer free bytes than needed."""
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise StorageError(
            f"the export needs about {needed / 1e6:.0f} MB and {existing} has {free / 1e6:.0f} MB left: free some "
            "space, or choose a folder on another disk. Nothing was written"
        )


def _remove(staging: Path, path: Path) -> None:
    """Removes a staging folder; an export that was moved aside and not replaced goes back to its place first."""
    if (staging / "previous").exists() and not path.exists():
        os.rename(staging / "previous", path)
    shutil.rmtree(staging, ignore_errors=True)


def _prefix(path: Path) -> str:
    return f".{path.name}.idsynth-"


def _owner() -> dict[str, Any]:
    import psutil

    return {"pid": os.getpid(), "started": psutil.Process().create_time(), "host": socket.gethostname()}


def _is_alive(owner: dict[str, Any]) -> bool:
    import psutil

    if owner.get("host") != socket.gethostname():
        return True  # it cannot be asked
    try:
        return abs(psutil.Process(owner["pid"]).create_time() - owner["started"]) < 1
    except (psutil.NoSuchProcess, KeyError, TypeError):
        return False


def _is_cache(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last in CACHES or last.endswith(".cache")
