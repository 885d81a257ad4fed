"""The vocabulary: words in groups, and which of them contradict one another."""

from __future__ import annotations

import csv
import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ParameterError, suggestion

OURS = Path(__file__).with_name("vocabulary.csv")
"""The vocabulary that comes with the package."""

COLUMNS = ("group", "words", "where")
"""The columns of a vocabulary; the last one may be missing."""

SIDES = {
    "indoor": "place", "outdoor": "place",
    "day": "time", "twilight": "time", "night": "time",
    "clear": "sky", "grey": "sky",
    "spring": "season", "summer": "season", "autumn": "season", "winter": "season",
    "photo": "medium", "drawn": "medium",
}  # fmt: skip
"""Mark of words -> what it is about: words with different marks about the same thing contradict one another."""


@dataclass(frozen=True)
class Vocabulary:
    """Words that vary images.

    Attributes:
        groups: group -> its words
        marks: word in lower case -> its marks, see :data:`SIDES`
    """

    groups: Mapping[str, tuple[str, ...]]
    marks: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def words(self, group: str) -> tuple[str, ...]:
        """The words of a group.

        Raises:
            ParameterError: there is no such group
        """
        if group not in self.groups:
            raise ParameterError("vocabulary", group, f"has no such group: {suggestion(group, self.groups)}")
        return self.groups[group]

    def group_of(self, groups: Iterable[str] = ()) -> dict[str, str]:
        """Word in lower case -> the group whose words may take its place, of some groups or of all."""
        return {word.lower(): group for group in groups or self.groups for word in self.words(group)}

    def clash(self, one: str, other: str) -> bool:
        """Whether two words contradict one another, as "in an office" and "in falling snow" do."""
        marks = self.marks.get(one.lower(), frozenset()) ^ self.marks.get(other.lower(), frozenset())
        return len({SIDES[mark] for mark in marks}) < len(marks)


def read_vocabulary(path: str | os.PathLike[str] | None = None) -> Vocabulary:
    """Reads the vocabulary.

    Args:
        path (None): a CSV file of the user's with the columns ``group`` and ``words``, the words separated by ``|``,
            and if wanted ``where``, marks of :data:`SIDES` for all words of a line, separated by spaces, e.g.
            ``outdoor day``: words that contradict one another are not combined. Words of a group that is known come
            before ours, other groups are new ones

    Raises:
        ParameterError: the file has other columns, an empty group, no words, an unknown mark or a comma that is not
            quoted; the message names the line
    """
    ours = _ours()
    if path is None:
        return ours
    theirs = _read(Path(path).expanduser())
    merged = {
        group: tuple(dict.fromkeys((*theirs.groups.get(group, ()), *ours.groups.get(group, ()))))
        for group in {**ours.groups, **theirs.groups}
    }
    return Vocabulary(merged, {**ours.marks, **theirs.marks})


@functools.cache
def _ours() -> Vocabulary:
    return _read(OURS)


def _read(path: Path) -> Vocabulary:
    groups: dict[str, tuple[str, ...]] = {}
    marks: dict[str, frozenset[str]] = {}
    line = 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            names = rows.fieldnames or ()
            line = rows.line_num
            if not {"group", "words"} <= set(names) <= set(COLUMNS) or len(set(names)) < len(names):
                there = ", ".join(map(repr, names)) or "nothing"
                wanted = "needs the columns 'group' and 'words', and may have 'where'"
                raise ParameterError("vocabulary", str(path), f"{wanted}; it has {there}")
            for row in rows:
                line = rows.line_num
                group, words, where = _row(row, path, line)
                groups[group] = tuple(dict.fromkeys((*groups.get(group, ()), *words)))
                marks.update((word.lower(), where) for word in words if where)
    except csv.Error as error:
        raise ParameterError("vocabulary", str(path), f"line {line + 1} or later is no CSV: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError("vocabulary", str(path), f"cannot be read as UTF-8 text with commas: {error}") from error
    return Vocabulary(groups, marks)


def _row(row: dict[Any, Any], path: Path, line: int) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """Group, words and marks of a line."""

    def wrong(problem: str) -> ParameterError:
        return ParameterError("vocabulary", str(path), f"line {line}: {problem}")

    if None in row:
        raise wrong(f"{', '.join(row[None])!r} is one column too many: put words with a comma in double quotes")
    group = (row["group"] or "").strip().lower()
    words = tuple(dict.fromkeys(word.strip() for word in (row["words"] or "").split("|") if word.strip()))
    if not group or not words:
        raise wrong("give a group and its words")
    where = frozenset((row.get("where") or "").lower().split())
    for mark in sorted(where - set(SIDES)):
        raise wrong(f"where={mark!r}: {suggestion(mark, SIDES)}")
    if len({SIDES[mark] for mark in where}) < len(where):
        raise wrong(f"where={row['where']!r} contradicts itself: words that suit both need no mark")
    return group, words, where
