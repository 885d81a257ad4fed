"""Finds exact and near duplicates and keeps the best image of each group."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from .. import fields, media
from ..engine import Item, Worker, update_samples
from ..errors import RefusedImage
from ..fields import Field
from ..samples import Rejection, dataset_of, pages, set_fields
from ..stage import BatchSize, Bounds, Engine, NumWorkers, Progress, Report, Run, Samples, current_run, stage

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from ..measures.hashing import Indices
    from .grouping import Agrees, Groups

STAGE = "deduplicate"
REASONS = ("exact_duplicate", "near_duplicate")
SURE_DISTANCE = 4
"""Up to this distance two photographs are duplicates without a second look: under 0.01 false pairs per image at 1e5."""

DRAFT = (72, 64)
"""The least size a JPEG is decoded to for hashing: eight times the 9 x 8 pixels of a difference hash."""

_COLUMNS = (
    "id", "filepath", "tags", "metadata.width", "metadata.height", "quality.score", "source.sha256", "dhash", "phash",
    "plain_thumbnail", "duplicate_group", "rejected.reason", "rejected.detail", "rejected.stage", "rejected.other",
    "rejected.restored",
)  # fmt: skip

fields.register(
    Field("phash", "str", "Perceptual hash of the upright image (imagehash.phash), 16 hexadecimal digits"),
    Field("plain_thumbnail", "str", "Of a plain image, whose difference hash says little: 16 x 16 RGB values, encoded"),
)


@stage(label="Remove duplicates", group="Curate", icon="filter_none")
def deduplicate(
    samples: Samples,
    *,
    exact: bool = True,
    near: bool = True,
    threshold: Annotated[int, Bounds(0, 16)] = 4,
    confirm: Literal["auto", "always", "never"] = "auto",
    batch_size: BatchSize = 32,
    num_workers: NumWorkers = None,
    engine: Engine = "local",
    progress: Progress = None,
) -> Report:
    """Rejects exact and near duplicates, keeping the best image of each group.

    Exact duplicates are files with the same content; near duplicates have difference hashes (dHash) within
    ``threshold`` bits of the hash of the image that is kept. Of each group the image with the highest
    ``quality.score`` stays, then the one with the most pixels, then the first by path. Groups do not chain: an image
    is only rejected for its own resemblance to the one that stays. Nothing is deleted: duplicates get the tag
    ``rejected`` and the reason ``exact_duplicate`` or ``near_duplicate``, and an image that somebody restored is
    never rejected again.

    Relatives made on purpose are not near duplicates of one another, however alike: an image and what was made from
    it, directly or not, and images that were made from the same one, such as the blending modes of one composed layout
    or the variants of one photograph (``lineage`` tells; copies of a photograph count as that photograph). Files with
    the same content are exact duplicates all the same.

    The outcome depends on the images and their lineage alone, not on earlier runs: what this stage rejected takes part
    again as long as the image it lost to does, and comes back if it is no duplicate any more (another threshold, a
    better image). Images that were rejected for other reasons stay out of it.

    Args:
        samples: the images to compare with one another
        exact (True): whether files with the same content are duplicates whatever they show
        near (True): whether images that look alike are duplicates
        threshold (4): the largest number of differing bits of 64 between near duplicates; 4 is safe for 1e5 images and
            more
        confirm ("auto"): when a second look decides: ``"auto"`` compares a second hash (pHash, at most 10 bits) for
            pairs more than 4 bits apart and thumbnails for plain images, whose hashes agree by chance; ``"always"``
            compares the second hash of all pairs; ``"never"`` trusts dHash
        batch_size (32): images that are hashed at once
        num_workers (None): threads or actors; by default one per processor
        engine ("local"): where the hashing runs: on this machine or on a Ray cluster
        progress (None): whether to show progress
    """
    run = current_run()
    fields.declare(run.dataset, "source", "dhash", "phash", "plain_thumbnail", "duplicate_group", "rejected")
    view = _participants(samples)
    _hash(view, batch_size=batch_size, num_workers=num_workers, engine=engine)
    table = _Table(view)
    groups = table.group(threshold=threshold if near else None, exact=exact, confirm=confirm)
    return run.report(outputs=_write(run, table, groups))


class HashWorker(Worker):
    """Computes the hashes of an image, and the content hash of its file where that is unknown.

    Args:
        content: whether to compute ``source.sha256``
    """

    decode = None
    key = "hashes-1"

    def __init__(self, content: bool):
        self.content = content

    def __call__(self, items: Sequence[Item]) -> Sequence[Any]:
        return [self._hash(item.filepath) for item in items]

    def _hash(self, path: str) -> dict[str, str | None] | RefusedImage:
        from ..measures.hashing import dhash, phash, to_hex
        from .grouping import is_plain, plain_thumbnail

        try:
            data = media.read_bytes(path)
            grey = media.decode_image(data, path=path, mode="L", draft=DRAFT).pixels
            thumbnail = None
            if is_plain(grey):
                thumbnail = plain_thumbnail(media.decode_image(data, path=path, mode="RGB", draft=DRAFT).pixels)
        except RefusedImage as refusal:
            return refusal
        values = {"dhash": to_hex(dhash(grey)), "phash": to_hex(phash(grey)), "plain_thumbnail": thumbnail}
        return {**values, "source.sha256": hashlib.sha256(data).hexdigest()} if self.content else values


def _participants(samples: SampleCollection) -> SampleCollection:
    """The samples that are not rejected, and those this stage rejected for one that takes part too or was deleted."""
    ids, tags, stages, others = samples.values(["id", "tags", "rejected.stage", "rejected.other"])
    rejected = [fields.REJECTED_TAG in its_tags for its_tags in tags]
    lost_to = {i: other for i, by, other, out in zip(ids, stages, others, rejected, strict=True) if out and by == STAGE}
    present = {i for i, out in zip(ids, rejected, strict=True) if not out or i in lost_to}
    outside = sorted({other for other in lost_to.values() if other not in present})
    elsewhere = set(dataset_of(samples).select(outside).values("id")) if outside else set()
    while gone := [i for i, other in lost_to.items() if other in elsewhere]:
        for i in gone:
            del lost_to[i]
        present.difference_update(gone)
        elsewhere = set(gone)
    return samples if len(present) == len(ids) else dataset_of(samples).select([i for i in ids if i in present])


def _hash(view: SampleCollection, **options: Any) -> None:
    unsized = view.exists("metadata.width", bool=False)
    if unsized.count():
        unsized.compute_metadata(num_workers=1, skip_failures=True, warn_failures=False, progress=False)
    for content in (False, True):
        part = view.exists("source.sha256", bool=not content)
        if part.count():
            update_samples(part, HashWorker(content), **options)


class _Table:
    """What is known of the samples, best image first."""

    def __init__(self, view: SampleCollection):
        from ..measures.hashing import from_hex

        known = [name for name in _COLUMNS if view.has_field(name)]
        columns = dict.fromkeys(_COLUMNS, [None] * view.count()) | dict(zip(known, view.values(known), strict=True))
        score = [-1.0 if s is None else s for s in columns["quality.score"]]
        area = [(w or 0) * (h or 0) for w, h in zip(columns["metadata.width"], columns["metadata.height"], strict=True)]
        path = columns["filepath"]
        order = sorted(range(len(path)), key=lambda i: (-score[i], -area[i], path[i]))
        self._columns = {name: [values[i] for i in order] for name, values in columns.items()}
        self._parents = _parents(dataset_of(view))
        self._hashes = from_hex([text or "0" for text in self["dhash"]])
        self._hashed = np.array([bool(text) for text in self["dhash"]])

    def __getitem__(self, column: str) -> list[Any]:
        return self._columns[column]

    def group(self, *, threshold: int | None, exact: bool, confirm: str) -> Groups:
        """Groups the samples; see :func:`fiftyone_idsynth.curation.grouping.star_groups`."""
        from ..measures.hashing import from_hex
        from .grouping import SecondLook, star_groups
        from .kinship import SpareRelatives

        contents = self["source.sha256"] if exact else [None] * len(self["id"])
        agrees: Agrees | None = None
        if threshold is not None and confirm != "never":
            agrees = SecondLook(
                from_hex([text or "0" for text in self["phash"]]),
                self["plain_thumbnail"],
                SURE_DISTANCE if confirm == "auto" else -1,
            )
        if threshold is not None and self._parents:
            same = self._originals(contents, threshold, agrees)
            agrees = SpareRelatives(self["id"], same, self._parents, agrees)
        return star_groups(
            self._hashes,
            contents,
            threshold=threshold,
            hashed=self._hashed,
            agrees=agrees,
            pinned=np.array([bool(r) and by == STAGE for r, by in zip(
                self["rejected.restored"], self["rejected.stage"], strict=True)]),
        )  # fmt: skip

    def _originals(self, contents: Sequence[str | None], threshold: int, agrees: Agrees | None) -> Indices:
        """For each image the one that counts in its place as a parent: the best copy of it; near copies of originals.

        Otherwise an image made from one of two copies would be compared with the other copy and what was made from it.
        """
        from .grouping import star_groups

        made = np.array([i in self._parents for i in self["id"]])
        known = {content for content, is_made in zip(contents, made, strict=True) if is_made and content}
        original = ~made & np.array([content not in known for content in contents])
        return star_groups(
            self._hashes, contents, threshold=threshold, hashed=self._hashed & original, agrees=agrees
        ).keeper


def _parents(dataset: fo.Dataset) -> dict[str, list[str]]:
    """What every made sample of a dataset was made from: the one between two samples of a view may lie outside it."""
    from fiftyone import ViewField as F

    names = [name for name in ("lineage.parents", "lineage.shared") if dataset.has_field(name)]
    if not names or not dataset.has_field("lineage.stage"):
        return {}
    ids, *columns = dataset.match(F("lineage.stage") != None).values(["id", *names])  # noqa: E711 (an expression)
    found = {i: [p for its in row for p in its or ()] for i, *row in zip(ids, *columns, strict=True)}
    return {i: parents for i, parents in found.items() if parents}


def _write(run: Run, table: _Table, groups: Groups) -> dict[str, Any]:
    """Writes what changed: groups, new rejections, and samples that are no duplicates any more."""
    ids, tags = table["id"], table["tags"]
    sizes = np.bincount(groups.keeper, minlength=len(ids))
    names: dict[str, str | None] = {}
    rejections: dict[str, Rejection] = {}
    corrected: dict[str, Any] = {}
    back: list[str] = []
    counts = dict.fromkeys(REASONS, 0)
    for i, keeper in enumerate(groups.keeper.tolist()):
        name = ids[keeper] if sizes[keeper] > 1 else None
        if table["duplicate_group"][i] != name:
            names[ids[i]] = name
        is_rejected = fields.REJECTED_TAG in tags[i]
        if keeper == i:
            if table["rejected.stage"][i] == STAGE and not table["rejected.restored"][i]:
                back.append(ids[i])
            continue
        why = _rejection(table, groups, i, keeper)
        counts[why.reason] += 1
        if not is_rejected:
            rejections[ids[i]] = why
        elif _differs(table, i, why):
            corrected[ids[i]] = fields.document(
                {"reason": why.reason, "detail": why.detail, "stage": STAGE, "other": why.other}
            )
    set_fields(run.dataset, {"duplicate_group": names, "rejected": corrected})
    for page in pages(back):
        run.dataset.select(page).untag_samples(fields.REJECTED_TAG)
        set_fields(run.dataset, {"rejected": dict.fromkeys(page, None)})
    if rejections:
        run.reject(rejections)
    outputs: dict[str, Any] = {"kept": len(ids) - sum(counts.values()), "groups": int((sizes > 1).sum()), **counts}
    return {**outputs, "brought_back": len(back)} if back else outputs


def _rejection(table: _Table, groups: Groups, i: int, keeper: int) -> Rejection:
    from os.path import basename

    kept, other = basename(table["filepath"][keeper]), table["id"][keeper]
    if groups.identical[i]:
        return Rejection("exact_duplicate", f"the same file as {kept}", other)
    return Rejection("near_duplicate", f"{groups.distance[i]} of 64 dHash bits differ from {kept}", other)


def _differs(table: _Table, i: int, why: Rejection) -> bool:
    before = (table["rejected.reason"][i], table["rejected.detail"][i], table["rejected.other"][i])
    return before != (why.reason, why.detail, why.other)
