"""Docstrings refer to what exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import fiftyone_idsynth

ROOT = Path(fiftyone_idsynth.__file__).parent
REFERENCE = re.compile(r":(?:class|data|func|meth|mod):`~?(fiftyone_idsynth[\w.]+)`")
REFERENCES = sorted({name for file in ROOT.rglob("*.py") for name in REFERENCE.findall(file.read_text("utf-8"))})


def test_there_are_references() -> None:
    assert len(REFERENCES) > 10


@pytest.mark.parametrize("name", REFERENCES)
def test_what_a_docstring_refers_to_exists(name: str) -> None:
    parts = name.split(".")
    modules = 1
    while modules < len(parts) and (
        ROOT.parent.joinpath(*parts[: modules + 1]).is_dir()
        or ROOT.parent.joinpath(*parts[: modules + 1]).with_suffix(".py").is_file()
    ):
        modules += 1
    found = importlib.import_module(".".join(parts[:modules]))
    for attribute in parts[modules:]:
        assert hasattr(found, attribute), f"{name}: {found} has no {attribute}"
        found = getattr(found, attribute)
