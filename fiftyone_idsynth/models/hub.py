"""What is asked of the Hugging Face hub, and what its refusals mean for the user."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import GatedModel, ModelNotFound, ModelUnreachable

logger = logging.getLogger(__name__)

_TIMEOUT = 10.0
_NO_ID = "{!r} is neither a folder here nor a hub id: ids look like OWNER/NAME, in letters, digits, '-', '_' and '.'"


@dataclass(frozen=True)
class Listing:
    """What the hub, or its cache, has of a model.

    Attributes:
        revision: the commit
        sizes: path of each file -> its size in bytes, 0 where unknown
        folder: where it lies in the cache, if the hub was not asked
    """

    revision: str
    sizes: dict[str, int]
    folder: Path | None = None


def list_model(repo: str, revision: str | None, *, offline: bool) -> Listing:
    """Looks a model up, on the hub or, where that cannot be reached, in its cache.

    Args:
        repo: the id, e.g. ``"openai/clip-vit-base-patch32"``
        revision: branch, tag or commit; the newest if None
        offline: whether the hub must not be asked

    Raises:
        ModelNotFound: there is no such model or revision
        GatedModel: its terms have to be accepted
        ModelUnreachable: the hub cannot be asked, and the cache does not have it
    """
    if offline:
        return _cached(repo, revision, "offline mode is on")
    from huggingface_hub import HfApi

    try:
        with readable_errors(repo, revision):
            info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT)
    except ModelUnreachable as error:
        found = _cached(repo, revision, str(error))
        logger.warning("%s. Its copy in the cache is used, commit %s", error, found.revision)
        return found
    listing = Listing(str(info.sha), {file.rfilename: file.size or 0 for file in info.siblings or ()})
    _note_branch(repo, revision, listing)
    return listing


def fetch(repo: str, file: str, revision: str) -> Path:
    """Downloads a file of a model, unless the cache has it.

    Args:
        repo: the id
        file: its path in the model
        revision: the commit

    Returns:
        where it is in the cache

    Raises:
        ModelError: as :func:`list_model` says
        StorageError: the disk is full or the cache cannot be written
    """
    from huggingface_hub import hf_hub_download

    with readable_errors(repo, revision):
        return Path(hf_hub_download(repo, file, revision=revision, etag_timeout=_TIMEOUT))


@contextlib.contextmanager
def readable_errors(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turns what the hub's client raises into errors that say what to do."""
    from huggingface_hub import errors as hub

    from ..errors import storage_error

    # The client's HTTP library differs between its versions; this is the base class of all errors of that library.
    network_errors: Any = hub.HfHubHTTPError.__bases__[0]
    try:
        yield
    except hub.GatedRepoError as error:
        raise GatedModel(
            f"{repo} is gated: log in on the hub, accept its terms on the page of the model, and set HF_TOKEN to a "
            "token of that account (or run: hf auth login)"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise ModelNotFound(
            f"{repo} has no revision {revision!r}: give a branch, a tag or a commit of it, or none for the newest"
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"the hub has no model {repo!r}, or it is private: check the spelling (ids look like OWNER/NAME), give a "
            "local folder, or set HF_TOKEN to a token that may read it"
        ) from error
    except hub.HFValidationError as error:
        raise ModelNotFound(_NO_ID.format(repo)) from error
    except hub.RemoteEntryNotFoundError as error:
        raise ModelNotFound(f"{repo} has no such file: {_first_line(error)}") from error
    except hub.HfHubHTTPError as error:
        status = error.response.status_code
        said = "wants a token that is valid (HF_TOKEN)" if status == 401 else f"answered with HTTP status {status}"
        raise ModelUnreachable(f"{repo}: the hub {said}. {_elsewhere(repo)}") from error
    except (hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, network_errors) as error:
        raise ModelUnreachable(
            f"{repo}: the hub cannot be reached ({_first_line(error)}). {_elsewhere(repo)}"
        ) from error
    except OSError as error:
        if error.filename is None or error.errno is None:
            raise ModelUnreachable(f"{repo}: downloading failed ({_first_line(error)}). {_elsewhere(repo)}") from error
        raise storage_error(error, str(error.filename)) from error


def _note_branch(repo: str, revision: str | None, listing: Listing) -> None:
    """Lets the cache know which commit a branch stands for, so that the model is found there without network.

    The client writes that down only when a file is downloaded by the name of the branch: the smallest serves.
    """
    from huggingface_hub import hf_hub_download

    if listing.sizes and revision != listing.revision:
        small = min(listing.sizes, key=lambda file: (file != "config.json", listing.sizes[file]))
        with readable_errors(repo, revision):
            hf_hub_download(repo, small, revision=revision, etag_timeout=_TIMEOUT)


def _cached(repo: str, revision: str | None, why: str) -> Listing:
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except hub.LocalEntryNotFoundError as error:
        # Newer clients say so when some files of a model are not in the cache: few are ever needed.
        part = getattr(error, "snapshot_path", None)
        if part is None:
            raise ModelUnreachable(
                why if _elsewhere(repo) in why else f"{repo} is not in the cache, and {why}. {_elsewhere(repo)}"
            ) from error
        folder = Path(part)
    except hub.HFValidationError as error:
        raise ModelNotFound(_NO_ID.format(repo)) from error
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return Listing(folder.name, files, folder)


def _elsewhere(repo: str) -> str:
    return (
        f"Try again later, or download it on a machine with network (hf download {repo} --local-dir FOLDER), "
        "copy the folder here and give its path instead of the id"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
