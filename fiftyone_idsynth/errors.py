"""The exceptions a user can meet; each message names the value and says what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class IdsynthError(Exception):
    """Base of every error this project raises on purpose.

    Attributes:
        exit_code: what the shell command exits with: 1 for a failure, 2 for wrong input
    """

    exit_code = 1


class UsageError(IdsynthError, ValueError):
    """The input is wrong; nothing has been run or written."""

    exit_code = 2


class ParameterError(UsageError):
    """A parameter has a value that its stage does not accept.

    Args:
        parameter: the name of the parameter
        value: the value it was given
        problem: what is wrong and what is allowed, e.g. ``"must be between 0 and 64"``
    """

    def __init__(self, parameter: str, value: Any, problem: str):
        shown = repr(value)
        super().__init__(f"{parameter}={shown if len(shown) <= 200 else shown[:200] + '...'}: {problem}")
        self.parameter = parameter
        self.value = value
        self.problem = problem


class DatasetNotFound(UsageError):
    """No dataset (or saved view, or tag) has this name."""


class EmptyViewError(UsageError):
    """A stage was given no samples."""


class FieldError(UsageError):
    """A sample field is missing or has another type than the stage needs."""


class RecipeError(UsageError):
    """A recipe is not valid.

    Args:
        path: the recipe file
        problems: ``(line, message)`` pairs, lines counted from 1
    """

    def __init__(self, path: str, problems: list[tuple[int, str]]):
        self.path = path
        self.problems = sorted(problems)
        super().__init__("\n".join(f"{path}:{line}: {message}" for line, message in self.problems))


class MissingExtraError(IdsynthError, ImportError):
    """An optional package is needed and not installed.

    Args:
        package: the package that could not be imported
        extra: the extra of this project that installs it
        why: what needs it
    """

    def __init__(self, package: str, *, extra: str, why: str):
        super().__init__(
            f"{why} needs the package {package!r}, which is not installed: pip install 'fiftyone-idsynth[{extra}]'"
        )
        self.package = package
        self.extra = extra


class RefusedImage(IdsynthError):
    """One image cannot be used; the rest of the run goes on.

    Args:
        reason: a short name that reports count by, e.g. ``"truncated"``
        detail: what was found in this file
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail)


class StorageError(IdsynthError):
    """A file cannot be written (no space, no permission). The run stops; what is already written stays valid."""


class DatabaseError(IdsynthError):
    """FiftyOne's database cannot be reached. What is already written stays; the same command continues."""


class VerificationError(IdsynthError):
    """An export does not read back as what was written."""


def suggestion(value: str, allowed: Iterable[str], limit: int = 20) -> str:
    """Returns ``"did you mean 'x'? Allowed: ..."`` for a misspelt name.

    Args:
        value: what was given
        allowed: the names that exist
        limit (20): how many allowed names are listed at most
    """
    names = list(allowed)
    near = difflib.get_close_matches(str(value), names, n=1)
    listed = ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
    return (f"did you mean {near[0]!r}? " if near else "") + (f"Allowed: {listed}" if names else "There is none")


def storage_error(error: OSError, path: str) -> StorageError:
    """Turns an ``OSError`` met while writing ``path`` into an error that says what to do."""
    import errno

    remedies = {
        errno.ENOSPC: "the disk is full: free some space, or set IDSYNTH_MEDIA_DIR to a folder on another disk",
        errno.EDQUOT: "the disk quota is used up: free some space, or set IDSYNTH_MEDIA_DIR to another folder",
        errno.EACCES: "no permission to write there: choose another folder or change its permissions",
        errno.EPERM: "no permission to write there: choose another folder or change its permissions",
        errno.EROFS: "that file system is read-only: choose another folder",
        errno.ENOTDIR: "a part of that path is a file, not a folder: choose another folder",
        errno.EEXIST: "a file stands where a folder is needed: choose another folder",
    }
    return StorageError(
        f"cannot write {path}: {remedies.get(error.errno or 0, error.strerror or error)}. "
        "Nothing was half-written; the same command continues where it stopped"
    )
