"""What a LoRA is trained with: which images, which texts, and whether they are enough."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...engine import batched, process
from ...engine.worker import Item, Worker
from ...errors import FieldError, ParameterError, UsageError
from ...media import probe_image
from ...samples import active, require_samples
from ...stage import current_run
from .buckets import Placement, Size, bucket_sizes, bucket_step, enlargement, nearest_bucket, place

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

TEXT_FIELDS = ("training_text", "caption")
"""Where texts are taken from by default, in this order."""


@dataclass(frozen=True)
class Example:
    """An image that is trained with.

    Attributes:
        id: the sample's id
        filepath: its file
        sha256: hash of the file's content
        size: upright width and height in pixels
        text: what the model is told that it shows
        placement: how it is brought to the size of its bucket
        regular: whether it shows what the model shall not unlearn, rather than what it shall learn
    """

    id: str
    filepath: str
    sha256: str
    size: Size
    text: str
    placement: Placement
    regular: bool = False


@dataclass(frozen=True)
class Selection:
    """Which images are good enough.

    Attributes:
        resolution: the side of a square image in pixels
        unit: what the model's sides must divide by
        max_upscale: images that would have to be enlarged more are left out
        min_images: fewer are refused
        text_field: the field with the texts; by default those of :data:`TEXT_FIELDS`
        num_workers: threads that read them
    """

    resolution: int
    unit: int
    max_upscale: float
    min_images: int
    text_field: str | None = None
    num_workers: int | None = None


class _Probing(Worker):
    """Reads what is needed of an image file: its size and its hash."""

    decode = None

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        return [probe_image(item.filepath) for item in items]


def choose_examples(samples: SampleCollection, trigger_word: str, selection: Selection) -> list[Example]:
    """Chooses the images that show what the model shall learn, and their texts. What is left out is counted in the run.

    Args:
        samples: a dataset or view; rejected samples are left out
        trigger_word: what every text names; may be empty
        selection: which images are good enough

    Returns:
        the examples, sorted by id

    Raises:
        UsageError: there are too few images, or they are too small
        FieldError: there are no texts
    """
    return _chosen(_texts(active(samples), selection.text_field, trigger_word), selection, "samples")


def choose_regular(samples: SampleCollection, examples: Sequence[Example], selection: Selection) -> list[Example]:
    """Chooses the images that show what the model shall not unlearn, with their own texts; see :func:`choose_examples`.

    Args:
        samples: a dataset or view; rejected samples and those in ``examples`` are left out
        examples: what the model shall learn
        selection: which images are good enough; one is enough
    """
    others = active(samples).exclude([example.id for example in examples])
    require_samples(others, "regularization")
    texts = _texts(others, selection.text_field, "")
    return [replace(e, regular=True) for e in _chosen(texts, replace(selection, min_images=1), "regularization")]


def repeats(examples: Sequence[Example]) -> list[int]:
    """How often each image comes in an epoch, so that both kinds come about equally often."""
    regular = sum(example.regular for example in examples)
    plain = len(examples) - regular
    return [
        max(1, round(plain / regular)) if example.regular else max(1, round(regular / plain)) for example in examples
    ]


def per_bucket(examples: Iterable[Example]) -> dict[str, int]:
    """How many images there are of each size, e.g. ``{"512x512": 12}``."""
    counts = Counter(example.placement.bucket for example in examples)
    return {f"{width}x{height}": counts[width, height] for width, height in sorted(counts)}


def with_trigger(text: str, trigger_word: str) -> str:
    """A text that names the trigger word: it is put in front where it is not in the text already."""
    if not trigger_word or re.search(rf"(?<!\w){re.escape(trigger_word)}(?!\w)", text, re.IGNORECASE):
        return text
    return f"{trigger_word}, {text}" if text else trigger_word


def _texts(samples: SampleCollection, text_field: str | None, trigger_word: str) -> list[tuple[str, str, str]]:
    """Id, file and text of each sample, sorted by id."""
    import fiftyone as fo

    if text_field is not None and not isinstance(samples.get_field(text_field), fo.StringField):
        raise FieldError(
            f"text_field={text_field!r}: there is no sample field of texts by that name: write captions first (the "
            "stage caption), or name another field"
        )
    names = [name for name in ([text_field] if text_field else TEXT_FIELDS) if samples.get_field(name) is not None]
    ids, paths, *columns = samples.values(["id", "filepath", *names])
    rows = list(zip(*columns, strict=True)) if columns else [()] * len(ids)
    texts = [with_trigger(" ".join(next(filter(None, row), "").split()), trigger_word) for row in rows]
    without = sum(not text for text in texts)
    if without:
        raise FieldError(
            f"{without} of {len(texts)} images have no text ({' or '.join([text_field] if text_field else TEXT_FIELDS)}"
            ") and there is no trigger word: give trigger_word=, a rare word that shall stand for what they show, or "
            "write captions first (the stage caption)"
        )
    return sorted(zip(ids, paths, texts, strict=True))


def _chosen(rows: Iterable[tuple[str, str, str]], selection: Selection, what: str) -> list[Example]:
    """The images that can be read and are large enough."""
    run = current_run()
    items = [Item(id, path, {"text": text}) for id, path, text in rows]
    sizes = bucket_sizes(selection.resolution, selection.unit)
    examples, found = [], []
    for outcomes in process(_Probing(), batched(items, 8), num_workers=selection.num_workers):
        for outcome in outcomes:
            item, probe = outcome.item, outcome.result
            if probe is None:
                run.failed(item.filepath, str(outcome.refused or outcome.error))
                continue
            size = (probe.width, probe.height)
            found.append(size)
            bucket = nearest_bucket(*size, sizes)
            if enlargement(*size, bucket) <= selection.max_upscale:
                placement = place(*size, bucket)
                examples.append(Example(item.id, item.filepath, probe.sha256, size, item.values["text"], placement))
    _check_count(len(examples), found, selection, what)
    return examples


def _check_count(count: int, sizes: Sequence[Size], selection: Selection, what: str) -> None:
    """Raises or notes that images are too few or too small, and says what would help."""
    small, least = len(sizes) - count, selection.min_images
    times = f"they would have to be enlarged more than {selection.max_upscale:g} times (max_upscale)"
    advice = _advice(sizes, selection) if small else ""
    if small and count < least:
        raise ParameterError(
            "resolution", selection.resolution,
            f"{small} of {len(sizes)} images ({what}) are too small: {times}, and at least {least} images are needed. "
            f"{advice}",
        )  # fmt: skip
    if count < least:
        raise UsageError(
            f"{what}: {count} images are too few: from fewer than {least} (min_images) a LoRA learns these very "
            "pictures and not what they have in common. Add images of the same subject in other surroundings, light "
            "and poses (the stages collect and restore), or choose a larger view"
        )
    if small:
        run = current_run()
        run.rejected("too_small", small)
        run.note(f"{small} of {len(sizes)} images ({what}) are left out: {times}. {advice}")


def _advice(sizes: Sequence[Size], selection: Selection) -> str:
    """The largest resolution that four fifths of the images are large enough for."""
    wanted = max(selection.min_images, round(0.8 * len(sizes)))
    step = bucket_step(selection.resolution, selection.unit)
    for lower in range(selection.resolution - step, max(step, selection.resolution // 4) - 1, -step):
        buckets = bucket_sizes(lower, selection.unit)
        enough = sum(enlargement(*size, nearest_bucket(*size, buckets)) <= selection.max_upscale for size in sizes)
        if enough >= wanted:
            return f"With resolution={lower} {enough} of them could be used; or collect larger images"
    return "Collect larger images"
