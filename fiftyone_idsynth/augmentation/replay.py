"""Makes a variant again from what its lineage says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..authorship import checksum
from ..errors import UsageError
from ..media import decode_image, encode_image, read_image
from ..samples import dataset_of
from .applying import Applier
from .pipelines import read_pipeline

if TYPE_CHECKING:
    import numpy as np
    from fiftyone.core.collections import SampleCollection


def replay(samples: SampleCollection, sample_id: str) -> np.ndarray:
    """Makes a variant again, from its parent's file and its lineage alone.

    Only a pipeline that looks at masks needs the parent's labels too, as they were.

    Args:
        samples: a dataset or view
        sample_id: a sample that ``augment`` made

    Returns:
        the pixels of its file: uint8 RGB array

    Raises:
        UsageError: no variant, its parent is gone, or labels that it depends on have changed
        RefusedImage: the parent's file cannot be read
    """
    dataset = dataset_of(samples)
    sample = dataset[sample_id]
    lineage = sample["lineage"] if sample.has_field("lineage") else None
    if lineage is None or lineage["stage"] != "augment":
        raise UsageError(f"sample {sample_id} was not made by augment: choose one with the tag 'augmented'")
    parents = list(dataset.select(lineage["parents"]))
    if not parents:
        raise UsageError(f"the parent of sample {sample_id} ({lineage['parents'][0]}) is no longer in {dataset.name!r}")
    params = lineage["params"]
    picture = read_image(parents[0].filepath).pixels
    applier = Applier(read_pipeline(params["pipeline"]))
    masks = _masks(applier, parents[0], params, picture) if "labels" in params else []
    pixels = applier.pixels(picture, lineage["seed"], params.get("boxes", []), masks)
    return decode_image(encode_image(pixels, os.path.splitext(sample.filepath)[1])).pixels


def _masks(applier: Applier, parent: Any, params: dict[str, Any], picture: np.ndarray) -> list[np.ndarray]:
    """The maps of the parent's labels."""
    changed = [name for name, noted in params["labels"].items() if checksum(parent[name]) != noted]
    if changed:
        raise UsageError(
            f"labels of sample {parent.id} have changed ({', '.join(changed)}), on which the variant depends"
        )
    labels = {name: parent[name] for name in params["labels"]}
    return applier.load(labels, (picture.shape[1], picture.shape[0])).maps
