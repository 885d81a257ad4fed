"""Reads the tables of tags and labels that lie beside ONNX files."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from .errors import BrokenModel
from .found import Found

DANBOORU = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta", "9": "rating"}
"""The category numbers of Danbooru, which its taggers use."""

TAG_FILES = ("selected_tags.csv", "tags.csv", "tags.txt", "tags.json", "class.json", "classes.json")
LABEL_FILES = ("labels.txt", "classes.txt", "imagenet_labels.txt", "imagenet_classes.txt", "synset_words.txt")

_SYNSET = re.compile(r"n\d{8}\s+")


@dataclass(frozen=True)
class Table:
    """The names of what a tagger knows, in the order of its outputs.

    Attributes:
        file: where they were read
        names: the names
        categories: the category of each
        kind: ``"tags"``: several are true of a picture; ``"labels"``: one is
    """

    file: str
    names: tuple[str, ...]
    categories: tuple[str, ...]
    kind: Literal["tags", "labels"]


def table_files(found: Found) -> list[str]:
    """The files beside an ONNX file that may name its outputs, the preferred first."""
    stem = PurePosixPath(found.onnx_files[0]).stem
    names = (f"{stem}_tags.csv", f"{stem}_tags.txt", f"{stem}_labels.txt", *TAG_FILES, *LABEL_FILES)
    files = [found.beside(name) for name in names] + [found.beside("config.json")]
    return list(dict.fromkeys(file for file in files if file))


def read_table(found: Found, counts: Sequence[int]) -> Table:
    """Finds the table that names the outputs of an ONNX model.

    Args:
        found: the model
        counts: how many outputs it has, or may have

    Returns:
        the first table with that many entries

    Raises:
        BrokenModel: there is none
    """
    files = table_files(found)
    seen = []
    for file in files:
        table = _read(found, found.fetch([file]) / file, file)
        if table is not None and len(table.names) in counts:
            return table
        if table is not None:
            seen.append(f"{file} has {len(table.names)}")
    stem = PurePosixPath(found.onnx_files[0]).stem
    wanted = " or ".join(str(count) for count in dict.fromkeys(counts))
    raise BrokenModel(
        f"{found.name} knows {wanted} tags, but no file beside {found.onnx_files[0]} names as many"
        f"{' (' + ', '.join(seen) + ')' if seen else ''}: write them, one a line, to {stem}_labels.txt if one of them "
        f"is true of a picture, or to {stem}_tags.txt if several can be"
    )


def _read(found: Found, path: Path, file: str) -> Table | None:
    try:
        if path.name == "config.json":
            return _from_config(json.loads(path.read_text(encoding="utf-8")), file)
        if path.suffix == ".csv":
            return _from_csv(path, file)
        if path.suffix == ".json":
            return _from_names(_json_names(json.loads(path.read_text(encoding="utf-8"))), file, "tags")
        lines = [_SYNSET.sub("", line.strip()) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, KeyError, OSError) as error:
        raise BrokenModel(f"{path} is damaged ({error!r}): download it again") from error
    lines = [line for line in lines if line]
    if path.name.endswith("tags.txt"):
        listed = found.beside("tags-character.txt")
        characters = set((found.fetch([listed]) / listed).read_text(encoding="utf-8").split()) if listed else set()
        return _from_names(lines, file, "tags", characters)
    return _from_names(_short(lines), file, "labels")


def _from_csv(path: Path, file: str) -> Table:
    with open(path, newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    column = "name" if rows and "name" in rows[0] else "tag"
    categories = (str(row.get("category") or "0") for row in rows)
    return Table(file, tuple(row[column] for row in rows), tuple(DANBOORU.get(c, c) for c in categories), "tags")


def _from_config(config: dict[str, Any], file: str) -> Table | None:
    if not config.get("id2label"):
        return None
    names = _json_names(config["id2label"])
    several = config.get("problem_type") == "multi_label_classification"
    return _from_names(names if several else _short(names), file, "tags" if several else "labels")


def _from_names(
    names: Sequence[str],
    file: str,
    kind: Literal["tags", "labels"],
    characters: set[str] | frozenset[str] = frozenset(),
) -> Table:
    # DeepDanbooru lists its ratings among the tags, as "rating:safe".
    categories = tuple(
        "rating" if name.startswith("rating:") else "character" if name in characters else "general" for name in names
    )
    return Table(file, tuple(names), categories, kind)


def _json_names(found: Any) -> list[str]:
    """The names in ``["cat", ...]``, ``{"0": "cat", ...}`` or ``{"cat": 0, ...}``."""
    if isinstance(found, list):
        return [str(name) for name in found]
    if all(isinstance(value, int) for value in found.values()):
        return sorted(found, key=lambda name: found[name])
    return [str(found[key]) for key in sorted(found, key=int)]


def _short(lines: Sequence[str]) -> list[str]:
    """The first of the synonyms in each line, unless several lines begin with it: ``"tench, Tinca tinca"``."""
    first = [line.partition(",")[0].strip() for line in lines]
    times = Counter(first)
    return [name if times[name] == 1 else line for name, line in zip(first, lines, strict=True)]
