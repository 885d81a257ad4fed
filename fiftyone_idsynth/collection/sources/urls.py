"""A file with the addresses of images."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import MissingExtraError
from . import creative_commons as cc
from .api import address, number, text, texts
from .base import About, Candidate, Http, Page, Query, Source, SourceError

PAGE_SIZE = 500

COLUMNS = {
    "image_url": ("url", "image_url", "img_url", "image"),
    "title": ("title",),
    "description": ("caption", "description", "alt", "alt_text", "text"),
    "keywords": ("keywords", "tags"),
    "license": ("license", "licence"),
    "license_url": ("license_url", "licence_url"),
    "creator": ("creator", "author"),
    "page_url": ("page_url",),
    "width": ("width",),
    "height": ("height",),
}
"""What a column says about an image -> the names it may have, in upper or lower case."""

Row = tuple[int, Mapping[str, Any]]


class Urls(Source):
    """Reads the addresses of images from a file, a page at a time, however long it is.

    Args:
        http: not used
        path: a text file with one address per line (``#`` starts a comment line), a table (.csv, .tsv) with a header,
            or a Parquet file; see :data:`COLUMNS`
        options: as for :class:`Source`

    Attributes:
        unusable: how many lines were not used, by reason: ``"bad_url"`` for no address of a web page
    """

    about = About(
        title="URL list",
        kind="list",
        root="",
        documentation="",
        terms="What the owner of each address allows",
        page_size=PAGE_SIZE,
    )

    def __init__(self, http: Http, *, path: str | Path, **options: Any):
        super().__init__(http, **options)
        self.path = Path(path)
        self.unusable: dict[str, int] = {}

    def pages(self, query: Query) -> Iterator[Page]:
        """Yields all addresses of the file; the rank is the line, or the row of a Parquet file.

        Args:
            query: not used

        Raises:
            SourceError: the file cannot be read
        """
        readers: dict[str, Callable[[], Iterator[Row]]] = {
            ".txt": self._lines, ".csv": self._table, ".tsv": self._table, ".parquet": self._parquet,
        }  # fmt: skip
        read = readers.get(self.path.suffix.lower())
        if read is None:
            raise self._unreadable(f"a list of addresses is one of {', '.join(readers)}")
        self.unusable = {}
        found: list[Candidate] = []
        with self._explained():
            for line, row in read():
                candidate = _candidate(line, row)
                if candidate is None:
                    self.unusable["bad_url"] = self.unusable.get("bad_url", 0) + 1
                    continue
                found.append(candidate)
                if len(found) == PAGE_SIZE:
                    yield Page(found)
                    found = []
        if found:
            yield Page(found)

    def _lines(self) -> Iterator[Row]:
        with self.path.open(encoding="utf-8-sig") as file:
            for number_, line in enumerate(file, 1):
                if line.strip() and not line.lstrip().startswith("#"):
                    yield number_, {"image_url": line}

    def _table(self) -> Iterator[Row]:
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            # Spreadsheets write semicolons where the comma is the decimal sign.
            delimiter = (
                "\t" if self.path.suffix.lower() == ".tsv" else ";" if first.count(";") > first.count(",") else ","
            )
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            names = self._names(next(reader, []))
            begins = reader.line_num + 1
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield begins, {name: row[column] for name, column in names.items() if column < len(row)}
                begins = reader.line_num + 1

    def _parquet(self) -> Iterator[Row]:
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise MissingExtraError("pyarrow", extra="parquet", why=f"reading {self.path}") from None
        try:
            with parquet.ParquetFile(self.path) as file:
                columns = file.schema_arrow.names
                names = self._names(columns)
                line = 0
                for batch in file.iter_batches(PAGE_SIZE, columns=[columns[column] for column in names.values()]):
                    for row in batch.to_pylist():
                        line += 1
                        yield line, {name: row[columns[column]] for name, column in names.items()}
        except ArrowException as error:
            raise self._unreadable(f"it is no valid Parquet file: {str(error)[:200]}") from error

    def _names(self, header: Sequence[str]) -> dict[str, int]:
        """What is said about images -> the column that says it."""
        there = {name.strip().lower(): column for column, name in reversed(list(enumerate(header)))}
        names = {
            said: next(there[name] for name in accepted if name in there)
            for said, accepted in COLUMNS.items()
            if there.keys() & set(accepted)
        }
        if "image_url" not in names:
            found = ", ".join(repr(name) for name in header[:20]) or "none"
            wanted = ", ".join(COLUMNS["image_url"])
            raise self._unreadable(f"no column has the addresses. Columns: {found}. Name the column one of {wanted}")
        return names

    def _unreadable(self, why: str) -> SourceError:
        return SourceError("unreadable", f"{self.path}: {why}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:
            raise self._unreadable(f"it is not UTF-8 ({error.reason}): save it as UTF-8") from error
        except csv.Error as error:
            raise self._unreadable(f"it is no valid table: {error}. Is a quotation mark left open?") from error
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from error


def _candidate(line: int, row: Mapping[str, Any]) -> Candidate | None:
    """What a row says; ``None`` if it has no address."""
    url = address(row.get("image_url"))
    if not url:
        return None
    keywords = row.get("keywords")
    if isinstance(keywords, str):
        keywords = re.split(r"[;|]" if re.search(r"[;|]", keywords) else ",", keywords)
    license_url = address(row.get("license_url"))
    name = cc.one_spelling(text(row.get("license"))) or cc.license_from_url(license_url)
    return Candidate(
        image_url=url,
        rank=line,
        page_url=address(row.get("page_url")),
        title=text(row.get("title")),
        description=text(row.get("description")),
        keywords=texts(keywords),
        creator=text(row.get("creator")),
        license=name,
        license_url=license_url or cc.license_url(name),
        width=number(row.get("width")),
        height=number(row.get("height")),
    )
