"""Makes restyled pictures: from the picture and another prompt, with the labels of the old one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..carrying import Rescaled, carried
from ..describing import labels_of, text_of
from ..engine import NewSample, Task, Worker, batched, made_already
from ..errors import RefusedImage
from ..media import MediaStore, read_image
from ..painting import Painter, picture_seed
from ..parents import Order, Parent, keys_of, made_from
from ..stage import Run
from .rescaling import Layout, resized
from .rewording import Rewording, Wording, renamed
from .verifying import Verifier

if TYPE_CHECKING:
    from ..llm import LanguageModel
    from ..models.roles import Wanted

UNCONFIRMED_TAG = "unconfirmed"
"""Sample tag of pictures in which the verifier found none of the objects that were carried over."""

_PAGE = 200
"""Samples whose prompts a language model is asked for at a time."""


@dataclass(frozen=True)
class RestyleOrder(Order):
    """A picture that is to be restyled.

    Attributes:
        before: the text that the prompt was made of
        swaps: old word -> new word
    """

    before: str = ""
    swaps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompting:
    """Where texts come from and how prompts are made of them.

    Attributes:
        text_fields: the fields that hold texts
        label_fields: the fields with the labels, whose classes stay in the prompts
        rewording: how words are changed
        writer: a language model that writes the prompts, if one does
        instruction: what it is told
    """

    text_fields: tuple[str, ...]
    label_fields: tuple[str, ...]
    rewording: Rewording
    writer: LanguageModel | None = None
    instruction: str | None = None

    def words_of(self, parent: Parent) -> tuple[str, list[str]]:
        """The text of a sample, and the classes that must stay in it."""
        kept = [name for field in self.label_fields for name in labels_of(parent.values[field])]
        return text_of(parent.values, self.text_fields), list(dict.fromkeys(kept))

    def tasks(self, parents: Iterable[Parent], plan: str, variants: int, run: Run) -> Iterator[Task]:
        """The tasks of restyling samples; a language model is asked only for pictures that are not there yet.

        Args:
            parents: the samples
            plan: fingerprint of all else that decides the pictures
            variants: number of pictures of each sample
            run: the run
        """
        from ..llm.errors import LanguageModelError

        answered = False
        for page in batched(parents, _PAGE):
            keys = {
                (number, variant): key
                for number, parent in enumerate(page)
                for variant, key in enumerate(keys_of(run, plan, parent, variants))
            }
            made = made_already(run.dataset, keys.values()) if self.writer else set()
            wanted = {place for place, key in keys.items() if key not in made}
            try:
                wordings = self._worded(page, variants, wanted)
            except LanguageModelError as error:
                if not answered:
                    raise
                wordings = dict.fromkeys(wanted, RefusedImage(error.reason, error.detail))
            answered = answered or bool(wanted)
            for (number, variant), key in keys.items():
                parent, wording = page[number], wordings.get((number, variant))
                if isinstance(wording, RefusedImage):
                    run.failed(parent.filepath, str(wording))
                    continue
                wording = wording or Wording("", "")  # there already: nothing will be made of it
                seed = picture_seed(run.seed or 0, parent.id, variant)
                order = RestyleOrder(parent, variant, wording.prompt, seed, wording.before, wording.swaps)
                yield Task((key,), order)

    def _worded(
        self, parents: Sequence[Parent], variants: int, wanted: set[tuple[int, int]]
    ) -> dict[tuple[int, int], Wording | RefusedImage]:
        """Prompts for some pictures: (number of the sample, number of its picture) -> prompt."""
        words = [self.words_of(parent) for parent in parents]
        places = sorted(wanted)
        if self.writer is None:
            swapped = [
                self.rewording.swapped(*one, parent.id, variants) for one, parent in zip(words, parents, strict=True)
            ]
            return {(number, variant): swapped[number][variant] for number, variant in places}
        texts, keep = [words[number][0] for number, _ in places], [words[number][1] for number, _ in places]
        names = [(parents[number].id, variant) for number, variant in places]
        if not texts:
            return {}
        written = self.rewording.rewritten(texts, keep, names, self.writer, self.instruction)
        return dict(zip(places, written, strict=True))


@dataclass(frozen=True, eq=False)
class _Draft:
    """A picture before it is painted."""

    size: tuple[int, int]
    picture: np.ndarray


class RestyleWorker(Worker):
    """Makes restyled pictures.

    Args:
        painter: who paints
        store: where pictures and masks are written
        layout: what keeps the layout
        strength: how much of the pictures is given up
        negative: what they shall not show
        longest: their longest side in pixels
        label_fields: the fields whose labels are carried over
        verifier (None): looks whether the objects are still there

    Attributes:
        counts: how many boxes were ``"confirmed"`` and ``"dropped"``, and in how many ``"images"`` none was left
        prompts: those that pictures were made of
    """

    decode = None
    serial = True

    def __init__(
        self,
        painter: Painter,
        store: MediaStore,
        layout: Layout,
        *,
        strength: float,
        negative: str,
        longest: int,
        label_fields: Sequence[str],
        verifier: Verifier | None = None,
    ):
        self.painter, self.store, self.layout = painter, store, layout
        self.strength, self.negative, self.longest = strength, negative, longest
        self.label_fields, self.verifier = tuple(label_fields), verifier
        self.counts: Counter[str] = Counter()
        self.prompts: list[str] = []

    def setup(self) -> None:
        """Loads the models."""
        self.painter.generator  # noqa: B018
        self.layout.setup()
        if self.verifier:
            self.verifier.setup()

    def __call__(self, items: Sequence[Task]) -> list[list[NewSample] | RefusedImage]:
        from ..models.roles import Wanted

        results: dict[int, list[NewSample] | RefusedImage] = {}
        drafts: dict[int, _Draft] = {}
        for number, task in enumerate(items):
            try:
                drafts[number] = self._prepare(task.payload)
            except RefusedImage as refusal:
                results[number] = refusal
        conditions = self.layout.conditions([draft.picture for draft in drafts.values()])
        wanted = [
            Wanted(items[n].payload.prompt, items[n].payload.seed, self.negative, draft.picture, condition=condition)
            for (n, draft), condition in zip(drafts.items(), conditions, strict=True)
        ]
        painted = self.painter.paint(wanted, self.strength)
        for (number, draft), one, pixels in zip(drafts.items(), wanted, painted, strict=True):
            try:
                if isinstance(pixels, RefusedImage):
                    raise pixels
                results[number] = [self._sample(items[number], draft, one, pixels)]
            except RefusedImage as refusal:
                results[number] = refusal
        return [results[number] for number in range(len(items))]

    def _prepare(self, order: RestyleOrder) -> _Draft:
        picture = read_image(order.parent.filepath).pixels
        height, width = picture.shape[:2]
        picture = resized(picture, self.painter.fit(width, height, self.longest))
        return _Draft((width, height), np.require(picture, requirements="W"))  # torch wants to be able to write

    def _sample(self, task: Task, draft: _Draft, wanted: Wanted, pixels: np.ndarray) -> NewSample:
        order: RestyleOrder = task.payload
        height, width = pixels.shape[:2]
        move = Rescaled(draft.size, (width, height))
        labels = {
            name: self._named(carried(order.parent.values[name], move, order.parent.id, self.store), order.swaps)
            for name in self.label_fields
        }
        confirmed = self._verify(pixels, labels)
        lineage = self.painter.lineage(
            wanted, width, height, self.strength, variant=order.variant, size_before=list(draft.size),
            prompt_before=order.before, swapped=[f"{old}={new}" for old, new in order.swaps.items()],
            control=self.layout.control,
        )  # fmt: skip
        self.prompts.append(order.prompt)
        sample = made_from(order, task.keys[0], pixels, self.store, lineage, labels)
        if not confirmed:
            sample.tags.append(UNCONFIRMED_TAG)
        return sample

    def _named(self, label: Any, swaps: Mapping[str, str]) -> Any:
        """Gives objects the names that the prompt gives them: a red circle is a blue one after red=blue."""
        many = getattr(label, "_LABEL_LIST_FIELD", None)
        for one in getattr(label, many) if many else [label]:
            if swaps and getattr(one, "label", None):
                one.label = renamed(one.label, swaps)
        return label

    def _verify(self, pixels: np.ndarray, labels: dict[str, Any]) -> bool:
        """Drops boxes whose objects are not found again; says whether any is left, or none was there."""
        import fiftyone as fo

        if self.verifier is None:
            return True
        before = after = 0
        for name, value in labels.items():
            boxes = value.detections if isinstance(value, fo.Detections) else [value]
            if not boxes or not isinstance(boxes[0], fo.Detection):
                continue
            kept = self.verifier.confirmed(pixels, boxes, len(boxes))
            before, after = before + len(boxes), after + len(kept)
            if isinstance(value, fo.Detections):
                value.detections = kept
            else:
                labels[name] = kept[0] if kept else None
        self.counts.update(confirmed=after, dropped=before - after, images=int(before > 0 and not after))
        return after > 0 or not before
