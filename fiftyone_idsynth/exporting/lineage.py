"""What made each exported image, and from what."""

from __future__ import annotations

import json
import ntpath
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..samples import pages

if TYPE_CHECKING:
    import fiftyone as fo


def lineage_lines(dataset: fo.Dataset, files: Mapping[str, str]) -> Iterator[str]:
    """The lines of ``lineage.jsonl``.

    Args:
        dataset: the dataset
        files: sample id -> path of its image in the export

    Yields:
        one JSON object per image: ``file``, ``sample_id``, the fields of ``source`` and of ``lineage``
    """
    schema = dataset.get_field_schema()
    documents = [name for name in ("source", "lineage") if name in schema]
    for page in pages(list(files)):
        for sample_id, *values in zip(*dataset.select(page, ordered=True).values(["id", *documents]), strict=True):
            row: dict[str, Any] = {"file": files[sample_id], "sample_id": sample_id}
            for name, value in zip(documents, values, strict=True):
                content = value.to_dict() if value is not None else {}
                row[name] = {k: public(v) for k, v in content.items() if v is not None and not k.startswith("_")}
            yield json.dumps(row, ensure_ascii=False, default=str) + "\n"


def public(value: Any) -> Any:
    """A recorded value without the folders of this machine: absolute paths keep their last part only."""
    if isinstance(value, str):
        absolute = os.path.isabs(value) or ntpath.isabs(value)
        return ntpath.basename(value.rstrip("/\\")) if absolute else value
    if isinstance(value, Mapping):
        return {str(k): public(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [public(v) for v in value]
    return value
