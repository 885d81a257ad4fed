"""Who made the images of an export, and under which licence: the filter, and the CREDITS files."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from .markup import link, markdown

if TYPE_CHECKING:
    import fiftyone as fo

UNKNOWN = "unknown"

MADE = {"generated", "augmented", "composed", "enhanced"}
"""Kinds of images that this project makes from other images, whose makers are credited."""


@dataclass(frozen=True, slots=True)
class Credit:
    """Whose work an image is.

    Attributes:
        creator: who made it
        license: the name of its licence
        license_url: the text of that licence
        page_url: the page that shows it
        title: its title there
        kind: where it comes from: web, api, local, generated, ...
        engine: the search engine or API that found it
    """

    creator: str = ""
    license: str = ""
    license_url: str = ""
    page_url: str = ""
    title: str = ""
    kind: str = ""
    engine: str = ""

    @property
    def license_name(self) -> str:
        return self.license or UNKNOWN


FIELDS = {f.name: f"source.{f.name}" for f in fields(Credit)}


def read_credits(dataset: fo.Dataset, ids: Iterable[str]) -> dict[str, list[Credit]]:
    """Reads whose work each sample is; one that was made from other samples credits all of those, and theirs.

    Args:
        dataset: the dataset; parents are looked up in it
        ids: sample ids

    Returns:
        sample id -> credits, one or more
    """
    own: dict[str, Credit] = {}
    parents: dict[str, list[str]] = {}
    schema = dataset.get_field_schema()
    names = list(FIELDS) if "source" in schema else []
    made_of = [path for path in ("lineage.parents", "lineage.shared") if dataset.has_field(path)]
    paths = ["id", *(FIELDS[name] for name in names), *made_of]
    wanted = list(dict.fromkeys(ids))
    while wanted:
        for sample_id, *values in zip(*dataset.select(wanted).values(paths), strict=True):
            parents[sample_id] = [parent for _ in made_of for parent in values.pop() or []]
            own[sample_id] = Credit(**{name: str(value) for name, value in zip(names, values, strict=True) if value})
        missing = [sample_id for sample_id in wanted if sample_id not in own]
        own.update(dict.fromkeys(missing, Credit()))
        above = (parent for sample_id in wanted for parent in parents.get(sample_id, ()))
        wanted = [parent for parent in dict.fromkeys(above) if parent not in own]
    return {sample_id: _collect(sample_id, own, parents) for sample_id in ids}


def _collect(sample_id: str, own: dict[str, Credit], parents: dict[str, list[str]]) -> list[Credit]:
    found: dict[Credit, None] = {}
    pending, seen = [sample_id], set()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        credit = own[current]
        above = parents.get(current, [])
        if not above or credit.license or credit.creator or credit.kind not in MADE:
            found[credit] = None
        pending += reversed(above)
    return list(found)


def licenses_of(credits: Iterable[Credit]) -> str:
    """The licences of an image in one text, ``"unknown"`` among them where one is not known."""
    return " + ".join(sorted({credit.license_name for credit in credits}))


@dataclass(frozen=True, slots=True)
class CreditedFile:
    """One image file of an export and whose work it is."""

    split: str
    name: str
    credits: list[Credit]


def credits_csv(files: Iterable[CreditedFile]) -> str:
    """The table of credits: one row per image and creator. Cells that spreadsheets would run as formulas are quoted."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["split", "file", "creator", "license", "license_url", "page_url", "title"])
    for file in files:
        for c in file.credits:
            row = (file.split, file.name, c.creator, c.license_name, c.license_url, c.page_url, c.title)
            writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def credits_markdown(files: Iterable[CreditedFile], limit: int = 500) -> str:
    """The credits to read: licences with their counts, then the images of each creator.

    Args:
        files: the image files of the export
        limit (500): how many creators are listed; the CSV file has all
    """
    licenses: Counter[tuple[str, str]] = Counter()
    works: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for file in files:
        for credit in file.credits:
            licenses[credit.license_name, credit.license_url] += 1
            key = (credit.creator, credit.license_name, credit.license_url)
            works.setdefault(key, []).append((file.name, credit.page_url))
    lines = ["# Credits", "", "Every image with its creator, licence and page is in `CREDITS.csv`.", ""]
    lines += ["| licence | images |", "|---|---:|"]
    lines += [f"| {link(name, url)} | {count} |" for (name, url), count in sorted(licenses.items())]
    lines += ["", "## Creators", ""]
    for creator, license, url in sorted(works)[:limit]:
        made = works[creator, license, url]
        shown = ", ".join(link(name, page) for name, page in made[:5])
        more = f" and {len(made) - 5} more" if len(made) > 5 else ""
        lines.append(f"- {markdown(creator) or 'not named'}, {link(license, url)}: {shown}{more}")
    if len(works) > limit:
        lines.append(f"- ... and {len(works) - limit} more")
    return "\n".join(lines) + "\n"


def _cell(value: str) -> str:
    value = " ".join(value.split())
    return "'" + value if value[:1] in ("=", "+", "-", "@") else value
