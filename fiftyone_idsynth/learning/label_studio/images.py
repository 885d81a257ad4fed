"""How people see the images: files that the server serves, files uploaded to it, or addresses that browsers open."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

from ...errors import ParameterError
from .client import MAX_FILES, Server
from .errors import LabelStudioError, Refused, Unconfirmed

Way = Literal["auto", "local", "upload", "url"]

UPLOADED = "/data/upload/"
LOCAL = "/data/local-files/?d="

MAX_UPLOAD_BYTES = 100 * 1024**2
"""How much is uploaded in one request; the server takes 250 MiB."""


@dataclass(frozen=True)
class Picture:
    """An image to be shown.

    Attributes:
        path: its file
        source_url: the address that it was downloaded from, if it was
    """

    path: str
    source_url: str | None = None


class Images(ABC):
    """A way to show images.

    Attributes:
        name: ``"local"``, ``"upload"`` or ``"url"``
    """

    name: str

    @abstractmethod
    def addresses(self, pictures: Sequence[Picture]) -> list[str]:
        """What tasks hold to show the images; they are uploaded if need be."""

    @abstractmethod
    def moved(self, picture: Picture, address: str) -> bool:
        """Whether the image is no longer where a task says that it is."""


class Uploads(Images):
    """Images uploaded to the server."""

    name = "upload"

    def __init__(self, server: Server, project_id: int):
        self._server, self._project = server, project_id

    def addresses(self, pictures: Sequence[Picture]) -> list[str]:
        found: list[str] = []
        for batch in _batches([picture.path for picture in pictures]):
            try:
                found += self._server.upload(self._project, batch)
            except Unconfirmed:  # a file that is there twice does no harm: no task shows the other
                found += self._server.upload(self._project, batch)
        return found

    def moved(self, picture: Picture, address: str) -> bool:
        return address.startswith(LOCAL)  # what the server serves no longer


class LocalFiles(Images):
    """Images that the server reads where they are, because it runs on this machine and is allowed to.

    Args:
        root: the server's document root
    """

    name = "local"

    def __init__(self, root: Path):
        self._root = root

    def addresses(self, pictures: Sequence[Picture]) -> list[str]:
        return [LOCAL + quote(os.path.relpath(picture.path, self._root)) for picture in pictures]

    def moved(self, picture: Picture, address: str) -> bool:
        return not address.startswith(UPLOADED) and address != self.addresses([picture])[0]


class Web(Images):
    """Images at addresses that the browsers of people can open.

    Args:
        folders: folder -> the address that stands for it; without any, the address that the image was downloaded from
    """

    name = "url"

    def __init__(self, folders: Mapping[str, str]):
        for folder, address in folders.items():
            if urlsplit(address).scheme not in ("http", "https"):
                raise ParameterError("image_urls", f"{folder}={address}", "the address must begin with http or https")
        self._folders = {Path(os.path.abspath(os.path.expanduser(k))): v.rstrip("/") for k, v in folders.items()}

    def addresses(self, pictures: Sequence[Picture]) -> list[str]:
        return [self._address(picture) for picture in pictures]

    def _address(self, picture: Picture) -> str:
        for folder, address in self._folders.items():
            if Path(picture.path).is_relative_to(folder):
                return f"{address}/{quote(str(Path(picture.path).relative_to(folder)))}"
        if self._folders:
            raise ParameterError("image_urls", dict(self._folders), f"no folder of these holds {picture.path}: add it")
        if picture.source_url and urlsplit(picture.source_url).scheme in ("http", "https"):
            return picture.source_url
        raise ParameterError(
            "images", "url", f"{picture.path} has no address in source.image_url: give image_urls, e.g. "
            "{'/data/photos': 'https://files.example.org/photos'}, or choose 'upload'"
        )  # fmt: skip

    def moved(self, picture: Picture, address: str) -> bool:
        return not address.startswith(UPLOADED) and address != self._address(picture)


def find_way(
    server: Server, project_id: int, way: Way, paths: Sequence[str], folders: Mapping[str, str]
) -> tuple[Images, str]:
    """Finds how images can be shown.

    Args:
        server: the server
        project_id: the project
        way: ``"auto"`` serves local files where that works, and uploads them elsewhere
        paths: all images
        folders: folder -> the address that stands for it, for ``"url"``

    Returns:
        the way, and why it is not the better one, if so

    Raises:
        LabelStudioError: the server cannot serve the files as is demanded
    """
    if way == "url":
        return Web(folders), ""
    if way == "upload" or not paths:
        return Uploads(server, project_id), ""
    if way == "auto" and not server.local:
        return Uploads(server, project_id), ""
    try:
        return LocalFiles(serve_folders(server, project_id, paths)), ""
    except LabelStudioError as error:
        if way == "local" or error.reason not in ("refused", "local"):
            raise
        return Uploads(server, project_id), error.detail


def serve_folders(server: Server, project_id: int, paths: Sequence[str]) -> Path:
    """Lets the server serve images where they are, and finds its document root by looking one of them up.

    Returns:
        the document root

    Raises:
        LabelStudioError: it cannot; the reason is ``"refused"`` or ``"local"``
    """
    folders = sorted({os.path.dirname(path) for path in paths})
    common = Path(os.path.commonpath(folders))
    try:
        server.local_storage(project_id, common)
        return _document_root(server, common, paths[0])
    except Refused as error:
        if len(folders) == 1:
            raise _not_served(common, error) from error
    # The common folder is the document root itself, or above it: a folder at a time.
    first = Path(os.path.dirname(paths[0]))
    try:
        server.local_storage(project_id, first)
        root = _document_root(server, first, paths[0])
        for folder in sorted({Path(f).relative_to(root).parts[0] for f in folders}):
            server.local_storage(project_id, root / folder)
    except Refused as error:
        raise _not_served(first, error) from error
    except (ValueError, IndexError):
        outside = next(f for f in folders if not (Path(f).is_relative_to(root) and Path(f) != root))
        raise LabelStudioError(
            "local", f"Label Studio serves files below {root} alone, and in a folder of it: not those in {outside}. "
            "Move them, or choose images='upload'"
        ) from None  # fmt: skip
    return root


def _document_root(server: Server, folder: Path, path: str) -> Path:
    """The folder that addresses of local files are relative to: the one for which the server gives the right bytes."""
    content = Path(path).read_bytes()
    for root in folder.parents:
        try:
            if server.content(LOCAL + quote(os.path.relpath(path, root))) == content:
                return root
        except LabelStudioError as error:
            if error.reason not in ("refused", "not_found", "not_label_studio", "server"):
                raise
    raise LabelStudioError(
        "local", f"Label Studio at {server.url} may serve {folder} and does not give {path}: is it the same machine?"
    )


def _not_served(folder: Path, error: LabelStudioError) -> LabelStudioError:
    return Refused(
        "refused", f"Label Studio does not serve the images in {folder}: {error.detail}. Start it with "
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT set to a folder "
        "above that one, or choose images='upload'"
    )  # fmt: skip


def _batches(paths: Sequence[str]) -> list[list[str]]:
    """Cuts a list of files so that no part is too large for one request."""
    batches: list[list[str]] = []
    room = 0
    for path in paths:
        size = os.path.getsize(path)
        if not batches or len(batches[-1]) == MAX_FILES or size > room:
            batches.append([])
            room = MAX_UPLOAD_BYTES
        batches[-1].append(path)
        room -= size
    return batches
