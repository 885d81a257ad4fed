"""What lies under the name of a model, before anything big is loaded or downloaded."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ParameterError, suggestion
from . import hub
from .errors import BrokenModel, ModelNotFound, ModelUnreachable
from .options import Options

SCHEMES = ("zoo", "openai")
"""Prefixes of names that mean neither a folder nor a hub id: FiftyOne's zoo, and OpenAI-compatible servers."""

WEIGHTS = (".safetensors", ".onnx")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Found:
    """What lies under a name.

    Attributes:
        name: as given
        scheme: the prefix of a name such as ``"zoo:NAME"``, else empty
        repo: the hub id, if it comes from the hub
        folder: where it is, unless it has to be downloaded
        file: the file in it that was asked for, if the name is that of a file
        sizes: path of each file, with ``/`` between folders -> its size in bytes, 0 where unknown
        config: what is in ``config.json``
        commit: the commit on the hub, if it comes from there
    """

    name: str
    scheme: str = ""
    repo: str = ""
    folder: Path | None = None
    file: str = ""
    sizes: dict[str, int] = field(default_factory=dict, compare=False)
    config: dict[str, Any] = field(default_factory=dict, compare=False)
    commit: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of its files."""
        return tuple(self.sizes)

    @property
    def model_type(self) -> str:
        """The family, as transformers calls it, e.g. ``"clip"``; empty if it is none of those."""
        return str(self.config.get("model_type") or "")

    @property
    def architectures(self) -> tuple[str, ...]:
        """The classes that its weights were saved from, e.g. ``("ViTForImageClassification",)``."""
        return tuple(self.config.get("architectures") or ())

    @property
    def kind(self) -> str:
        """What it is, for messages."""
        if self.scheme:
            return f"a name of {self.scheme}"
        if "model_index.json" in self.sizes:
            return "a pipeline of diffusers"
        if self.model_type:
            made = f" ({', '.join(self.architectures)})" if self.architectures else ""
            return f"a model of the type {self.model_type!r}{made}"
        if self.onnx_files:
            return f"an ONNX model ({', '.join(self.onnx_files[:3])})"
        return "a folder without a model type in its config.json and without ONNX files"

    @functools.cached_property
    def onnx_files(self) -> tuple[str, ...]:
        """The ONNX file that was asked for, else all there are, the likeliest first."""
        if self.file:
            return (self.file,) if self.file.endswith(".onnx") else ()
        named = [file for file in self.files if file.endswith(".onnx")]
        first = ("model.onnx", "onnx/model.onnx")
        return tuple(sorted(named, key=lambda file: (first.index(file) if file in first else len(first), file)))

    @functools.cached_property
    def revision(self) -> str:
        """The commit, or the beginning of the SHA-256 of its weights; empty if it has none."""
        if self.commit or self.folder is None:
            return self.commit
        if (
            _COMMIT.fullmatch(self.folder.resolve().name) and self.folder.resolve().parent.name == "snapshots"
        ):  # a folder of the hub's cache
            return self.folder.resolve().name
        weights = [self.file] if self.file else [f for f in self.files if f.endswith(WEIGHTS + PICKLES)]
        if not weights:
            return ""
        total = hashlib.sha256()
        for file in sorted(weights):
            with open(self.folder / file, "rb") as opened:
                total.update(hashlib.file_digest(opened, "sha256").digest())
        return total.hexdigest()[:12]

    def beside(self, *names: str) -> str:
        """Finds a file in the folder that its ONNX file is in, or else at the top.

        Args:
            *names: file names, the preferred first

        Returns:
            the path, or ``""``
        """
        model = self.onnx_files[0] if self.onnx_files else ""
        folders = dict.fromkeys([str(PurePosixPath(model).parent), "."])
        for parent in folders:
            for name in names:
                path = name if parent == "." else f"{parent}/{name}"
                if path in self.sizes:
                    return path
        return ""

    def fetch(self, files: Iterable[str]) -> Path:
        """Sees to it that files are on this machine.

        Args:
            files: their paths

        Returns:
            the folder that they are in

        Raises:
            ModelError: one is missing, or cannot be downloaded
        """
        wanted = list(files)
        if self.folder is None:
            places = [hub.fetch(self.repo, file, self.commit) for file in wanted]
            return places[0].parents[wanted[0].count("/")]
        for file in wanted:
            if not (self.folder / file).is_file():
                if self.repo:
                    raise ModelUnreachable(
                        f"{self.name}: the cache has only a part of it ({file} is missing). Load it once with network"
                    )
                raise BrokenModel(f"{self.name}: {file} is missing: copy the whole folder again")
        return self.folder


def look_up(name: str, options: Options) -> Found:
    """Looks up what lies under a name: a local folder or file, a hub id, or a name with a prefix.

    A file on the hub is named ``OWNER/NAME/PATH/FILE.onnx`` (or ``.safetensors``).

    Args:
        name: the name
        options: revision, and whether the hub may be asked

    Returns:
        what it is; of a model on the hub only ``config.json`` has been downloaded

    Raises:
        ModelError: it cannot be found; see :mod:`fiftyone_idsynth.models.errors`
        ParameterError: a revision of something that is not on the hub was asked for
    """
    name = name.strip()
    if not name:
        raise ModelNotFound("the name of the model is empty: give a hub id (OWNER/NAME) or a local folder")
    scheme, colon, rest = name.partition(":")
    if colon and len(scheme) > 1 and not Path(name).exists():  # one letter is a drive
        if scheme not in SCHEMES or not rest:
            raise ModelNotFound(
                f"model {name!r}: names with a colon begin with a prefix: {suggestion(scheme, SCHEMES)}, as in zoo:NAME"
            )
        _no_revision(name, options)
        return Found(name, scheme=scheme)
    path = Path(name).expanduser()
    if path.exists():
        _no_revision(name, options)
        return _local(name, path.absolute())
    repo, file = _hub_parts(name)
    if not repo:
        raise ModelNotFound(f"there is no folder or file {name!r}: {_similar(path)}")
    listing = hub.list_model(repo, options.revision, offline=options.offline)
    if file and file not in listing.sizes:
        near = [other for other in listing.sizes if other.endswith(WEIGHTS)]
        raise ModelNotFound(f"{repo} has no file {file!r}: {suggestion(file, near)}")
    found = Found(name, "", repo, listing.folder, file, listing.sizes, {}, listing.revision)
    if "config.json" in listing.sizes and not file:
        found.config.update(_read_config(found.fetch(["config.json"]) / "config.json"))
    return found


def _no_revision(name: str, options: Options) -> None:
    if options.revision is not None:
        raise ParameterError("revision", options.revision, f"only models on the hub have revisions, not {name!r}")


def _local(name: str, path: Path) -> Found:
    if path.is_file():
        sizes = {other.name: other.stat().st_size for other in path.parent.iterdir() if other.is_file()}
        return Found(name, "", "", path.parent, path.name, sizes)
    sizes = {p.relative_to(path).as_posix(): p.stat().st_size for p in sorted(path.rglob("*")) if p.is_file()}
    if not sizes:
        raise ModelNotFound(f"the folder {name!r} is empty: give one with a config.json or an ONNX file")
    config = _read_config(path / "config.json") if "config.json" in sizes else {}
    return Found(name, "", "", path, "", sizes, config)


def _hub_parts(name: str) -> tuple[str, str]:
    """The hub id in a name and the file in it; no id if the name can only be that of something local."""
    if name.startswith(("/", ".", "~")) or "\\" in name:
        return "", ""
    parts = name.split("/")
    if len(parts) <= 2:
        return ("", "") if name.endswith(WEIGHTS) else (name, "")
    return ("/".join(parts[:2]), "/".join(parts[2:])) if name.endswith(WEIGHTS) else ("", "")


def _similar(path: Path) -> str:
    there = path.parent
    if not there.is_dir():
        return f"there is no folder {str(there)!r} either; give an existing one, or a hub id (OWNER/NAME)"
    return suggestion(path.name, sorted(p.name for p in there.iterdir() if p.is_dir() or p.suffix == ".onnx"), 10)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise BrokenModel(f"{path} is not valid JSON ({error}): download the model again") from error
    if not isinstance(config, dict):
        raise BrokenModel(f"{path} is not a configuration: download the model again")
    return config
