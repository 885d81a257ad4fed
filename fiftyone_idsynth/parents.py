"""The samples that pictures are made from, and the tasks of making some pictures from each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .authorship import checksum, written_by_people
from .engine import Task
from .engine.worker import NewSample
from .errors import EmptyViewError
from .painting import SYNTHETIC_TAG, Painter, picture_seed, synthetic
from .samples import active, dataset_of, pages
from .stage import EXECUTION_PARAMETERS, Run, fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fiftyone.core.collections import SampleCollection

    from .media import MediaStore

_ORIENTATION = 0x0112
"""EXIF tag; from 5 on the picture lies on its side."""


@dataclass(frozen=True)
class Parent:
    """A sample that pictures are made from.

    Attributes:
        id: its id
        filepath: its image
        tags: its tags
        values: field -> value, of the fields that are needed
        models: those of the fields that a model wrote and nobody changed
    """

    id: str
    filepath: str
    tags: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)
    models: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Order:
    """One picture that is to be made from a sample.

    Attributes:
        parent: the sample
        variant: its number among the pictures of this sample, from 0
        prompt: what it shall show
        seed: of every random choice in it
    """

    parent: Parent
    variant: int
    prompt: str
    seed: int


def find_parents(samples: SampleCollection, run: Run) -> list[str]:
    """The ids of the samples that pictures are made from: those that are not rejected and no such pictures themselves.

    Samples that were made from other samples are left out, so that running a stage again on a dataset that has grown
    by its pictures makes nothing new, unless there are no others.

    Raises:
        EmptyViewError: there is none
    """
    from fiftyone import ViewField as F

    usable = active(samples)
    if samples.has_field("lineage.stage"):
        usable = usable.match(F("lineage.stage") != run.stage.name)
    ids: list[str] = usable.values("id")
    if samples.has_field("lineage.parents"):
        originals = usable.match(F("lineage.parents").length() == 0).values("id")
        if originals and len(originals) < len(ids):
            run.note(f"{len(ids) - len(originals)} samples that were made from others were left out")
            ids = originals
    if not ids:
        raise EmptyViewError(f"samples: all are rejected, or made by {run.stage.name} itself: choose other samples")
    return ids


def read_parents(
    samples: SampleCollection, ids: Sequence[str], paths: Sequence[str], *, stored: bool = False
) -> Iterator[Parent]:
    """Reads samples with the values of some fields, a page at a time.

    Args:
        samples: a dataset or view
        ids: the samples
        paths: the fields
        stored (False): whether the values are wanted as they are stored, labels as dictionaries
    """
    dataset = dataset_of(samples)
    noted = [path for path in paths if dataset.has_field(f"authors.{path}")]
    for page in pages(list(ids)):
        people = written_by_people(dataset, page, noted)
        view = dataset.select(page, ordered=True)
        named = view.values(["id", "filepath", "tags"])
        columns = view.values(list(paths), _raw=stored) if paths else []
        for sample_id, filepath, tags, *values in zip(*named, *columns, strict=True):
            models = frozenset(noted) - people.get(sample_id, set())
            yield Parent(sample_id, filepath, tuple(tags), dict(zip(paths, values, strict=True)), models)


def check_painter(painter: Painter, strength: float) -> None:
    """Finds out before anything is made whether a model can change pictures, and whether what is loaded with it fits.

    Raises:
        ParameterError: no step would be left to do
        ModelError: the model cannot do it, or a LoRA or the ControlNet does not fit it
    """
    from dataclasses import replace

    from .models.roles import Wanted

    painter.check_strength(strength)
    side = 8 * painter.unit
    blank = np.zeros((side, side, 3), np.uint8)
    sampling = replace(painter.sampling(side, side), steps=1)
    painter.generator.paint([Wanted("", 0, picture=blank, condition=blank)], sampling)


def plan_of(run: Run, painter: Painter | None, *also: Any) -> str:
    """Names what is made of a sample: the same parameters and model always give the same pictures.

    Args:
        run: the run, whose parameters count, apart from those that say how much is made and where
        painter: who paints; ``None`` if nobody does
        *also: what else counts, as plain values
    """
    never = {
        *EXECUTION_PARAMETERS, "variants", "dry_run", "model", "revision", "device", "dtype", "offline",
        "allow_pickle", "seed", "llm_url", "llm_budget", "reject_originals",
    }  # fmt: skip
    params = {name: value for name, value in run.params.items() if name not in never}
    return fingerprint(run.stage.name, run.stage.version, run.seed, params, painter.key if painter else "", also)


def not_yet_made(run: Run, plan: str, total: int) -> int:
    """How many of a number of pictures are still to be made."""
    from fiftyone import ViewField as F

    if not run.dataset.has_field("lineage.key"):
        return total
    made = run.dataset.match(F("lineage.key").starts_with(f"{run.stage.name}-{plan}-")).count()
    return max(0, total - made)


def tasks(
    parents: Iterator[Parent], plan: str, variants: int, prompts: Callable[[Parent], Sequence[str]], run: Run
) -> Iterator[Task]:
    """The tasks of making pictures from samples, for :func:`fiftyone_idsynth.engine.create_samples`.

    A picture's key and seed depend on the sample it is made from and on its number there alone: more samples, or more
    pictures of each, later add to those there are. Where a file or its labels changed, new pictures are made.

    Args:
        parents: the samples
        plan: fingerprint of all else that decides the pictures
        variants: number of pictures of each sample
        prompts: what the pictures of a sample may show; they get different ones as far as there are
        run: the run
    """
    for parent in parents:
        texts = prompts(parent)
        order = np.random.default_rng(picture_seed(run.seed or 0, parent.id)).permutation(len(texts))
        for variant, key in enumerate(keys_of(run, plan, parent, variants)):
            prompt = texts[int(order[variant % len(order)])] if len(order) else ""
            seed = picture_seed(run.seed or 0, parent.id, variant)
            yield Task((key,), Order(parent, variant, prompt, seed))


def keys_of(run: Run, plan: str, parent: Parent, variants: int) -> list[str]:
    """The keys of the pictures of a sample: others where its file or the values that are needed have changed."""
    from .engine import file_stamp

    # A field that is empty counts as one that is not there.
    said = {path: checksum(value) for path, value in parent.values.items() if value is not None}
    stamp = fingerprint(file_stamp(parent.filepath), said)
    return [f"{run.stage.name}-{plan}-{parent.id}-{stamp}-{variant}" for variant in range(variants)]


def sizes_of(samples: SampleCollection, ids: Sequence[str], most: int = 32) -> list[tuple[int, int]]:
    """Width and height of some images, evenly chosen, as far as they can be read."""
    from PIL import Image, UnidentifiedImageError

    view = dataset_of(samples).select(list(ids[:: -(-len(ids) // most)]), ordered=True)
    found = []
    for path, width, height in zip(*view.values(["filepath", "metadata.width", "metadata.height"]), strict=True):
        if width and height:
            found.append((width, height))
            continue
        try:
            with Image.open(path) as opened:
                turned = opened.getexif().get(_ORIENTATION, 1) >= 5
                found.append(opened.size[::-1] if turned else opened.size)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            continue  # it will be refused when its turn comes
    return found


def made_from(
    order: Order, key: str, pixels: np.ndarray, store: MediaStore, lineage: Mapping[str, Any],
    fields: Mapping[str, Any], kind: str = "generated", *, ext: str = ".png", tag: str = SYNTHETIC_TAG,
) -> NewSample:  # fmt: skip
    """Writes a picture, and makes the sample of it.

    Args:
        order: what was asked for
        key: the picture's key
        pixels: uint8 RGB array
        store: where it is written
        lineage: seed and params
        fields: field -> value
        kind ("generated"): ``"generated"``, ``"augmented"`` or ``"enhanced"``
        ext (".png"): of the file; as PNG, kept pixels stay as they are
        tag (SYNTHETIC_TAG): the sample tag that all such samples have
    """
    import mimetypes
    import os

    path = store.write_image(pixels, ext)
    # What a model wrote and was only carried over stays a model's.
    authors = {name: checksum(fields[name]) or "none" for name in order.parent.models if name in fields}
    fields = {**fields, **({"authors": authors} if authors else {})}
    metadata = {
        "_cls": "ImageMetadata", "size_bytes": os.path.getsize(path), "mime_type": mimetypes.types_map[ext],
        "width": pixels.shape[1], "height": pixels.shape[0], "num_channels": 3,
    }  # fmt: skip
    return synthetic(
        key, path, lineage, parents=[order.parent.id], tags=order.parent.tags,
        fields={**fields, "metadata": metadata}, kind=kind, tag=tag,
    )  # fmt: skip
