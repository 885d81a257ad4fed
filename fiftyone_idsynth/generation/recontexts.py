"""Makes pictures in which an object has new surroundings, or surroundings have a new object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from ..carrying import Move, carried, relative_box
from ..cutting import grow
from ..engine import NewSample, Task, Worker
from ..errors import RefusedImage
from ..media import MediaStore, read_image
from ..painting import Painter
from ..parents import Order, made_from
from ..stage import current_run
from .canvases import Canvas, draw_canvas
from .cutouts import bounds
from .layout import LayoutRules
from .objects import Found, ObjectFinder
from .placing import (
    Filling,
    Scene,
    Subject,
    box_of,
    cut_subject,
    keep_in_place,
    place_at_random,
    surroundings_of,
)
from .repainting import Job, repaint, working_size
from .verifying import Verifier

Placing = Literal["random", "same_size", "same_place"]


@dataclass(frozen=True)
class Plan:
    """How objects are placed and what is painted.

    Attributes:
        placement: ``"random"``, ``"same_size"`` (at a random place) or ``"same_place"``
        rules: the ranges that random places and sizes are drawn from
        canvases: the sizes that one is drawn from; the source's if there is none
        filling: what surrounds objects before it is painted
        dilation: width of the rim round the masks, in pixels of the source
        whole_box: whether the whole box of an object that is replaced is painted, not only its outline
        strength: how much of what is painted over is given up
        negative: what the pictures shall not show
        longest: see :func:`~fiftyone_idsynth.generation.repainting.working_size`
        label: class of the objects in the new pictures; their own by default
    """

    placement: Placing = "random"
    rules: LayoutRules = field(default_factory=LayoutRules)
    canvases: tuple[Canvas, ...] = ()
    filling: Filling = "blur"
    dilation: int = 0
    whole_box: bool = False
    strength: float = 1.0
    negative: str = ""
    longest: int | None = None
    label: str | None = None


@dataclass(frozen=True, eq=False)
class Draft:
    """A picture before it is painted, with what follows from its places.

    Attributes:
        job: what is painted
        labels: field -> value
        params: what is remembered of it
    """

    job: Job
    labels: dict[str, Any]
    params: dict[str, Any]


class RecontextWorker(Worker):
    """Makes pictures with new surroundings; see :class:`ReplaceWorker` for the reverse.

    Args:
        painter: who paints
        finder: finds the objects
        store: where pictures and masks are written
        plan: how
    """

    decode = None
    serial = True
    output_field = "ground_truth"
    """The field with the labels of the new pictures."""

    def __init__(self, painter: Painter, finder: ObjectFinder, store: MediaStore, plan: Plan):
        self.painter, self.finder, self.store, self.plan = painter, finder, store, plan
        self._found: dict[str, tuple[np.ndarray, list[Found]] | RefusedImage] = {}

    def setup(self) -> None:
        """Loads the models."""
        self.painter.generator  # noqa: B018
        self.finder.setup()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_found": {}}

    @property
    def models(self) -> dict[str, str]:
        """The models besides the painter's, with their revisions."""
        about = self.finder.about
        return {about["model"]: about["revision"]} if "model" in about else {}

    def __call__(self, items: Sequence[Task]) -> list[list[NewSample] | RefusedImage]:
        self._look([task.payload for task in items])
        results: dict[int, list[NewSample] | RefusedImage] = {}
        drafts: dict[int, Draft] = {}
        for number, task in enumerate(items):
            found = self._found[task.payload.parent.id]
            try:
                if isinstance(found, RefusedImage):
                    raise found
                drafts[number] = self.lay_out(task.payload, *found)
            except RefusedImage as refusal:
                results[number] = refusal
        jobs = [draft.job for draft in drafts.values()]
        painted = repaint(self.painter, jobs, self.plan.strength, self.plan.longest)
        for (number, draft), pixels in zip(drafts.items(), painted, strict=True):
            if isinstance(pixels, RefusedImage):
                results[number] = pixels
            else:
                results[number] = [self._sample(items[number], draft, pixels)]
        return [results[number] for number in range(len(items))]

    def _look(self, orders: Sequence[Order]) -> None:
        """Reads the pictures of a batch and finds their objects; the pictures of one sample come one after another."""
        parents = {order.parent.id: order.parent for order in orders}
        self._found = {parent: self._found[parent] for parent in parents if parent in self._found}
        pictures: dict[str, np.ndarray] = {}
        for name, parent in parents.items():
            if name not in self._found:
                try:
                    pictures[name] = read_image(parent.filepath).pixels
                except RefusedImage as refusal:
                    self._found[name] = refusal
        looked = self.finder.find(list(pictures.values()), [parents[name] for name in pictures])
        for (name, picture), found in zip(pictures.items(), looked, strict=True):
            self._found[name] = found if isinstance(found, RefusedImage) else (picture, found)

    def lay_out(self, order: Order, picture: np.ndarray, found: Sequence[Found]) -> Draft:
        """Places the objects of a picture.

        Raises:
            RefusedImage: they find no place
        """
        import fiftyone as fo

        subjects = [
            cut_subject(picture, one.mask, one.name, self.plan.label or one.label, self.plan.dilation) for one in found
        ]
        scene = self._scene(order, picture, found, subjects)
        height, width = scene.paint.shape
        labels = [
            fo.Detection(
                label=one.label,
                bounding_box=one.relative_box(width, height),
                mask_path=self.store.write_image(one.mask.astype(np.uint8) * 255, ".png"),
                area=float(one.area),
            )
            for one in scene.objects
        ]
        places = [list(subject.place) for subject in subjects]
        params = {
            "replace": "background",
            "canvas": [width, height],
            "placement": self.plan.placement,
            "filling": self.plan.filling,
            "placements": [asdict(placement) for placement in scene.placements],
            "objects_wanted": scene.wanted,
            "objects": [{**self._remembered(one), "place": at} for one, at in zip(found, places, strict=True)],
        }
        job = self._job(order, scene.picture, scene.paint, [one.label for one in scene.objects])
        return Draft(job, {self.output_field: fo.Detections(detections=labels)}, params)

    def _scene(self, order: Order, picture: np.ndarray, found: Sequence[Found], subjects: Sequence[Subject]) -> Scene:
        hole = np.logical_or.reduce([grow(one.mask, self.plan.dilation) for one in found])
        rng = np.random.default_rng(order.seed)
        size = self._canvas(rng, picture)
        surroundings = surroundings_of(picture, hole, size, self.plan.filling)
        if self.plan.placement == "same_place":
            return keep_in_place(subjects, surroundings)
        return place_at_random(rng, subjects, surroundings, self.plan.rules)

    def _canvas(self, rng: np.random.Generator, picture: np.ndarray) -> tuple[int, int]:
        """Width and height of the canvas."""
        height, width = picture.shape[:2]
        if self.plan.canvases:
            return draw_canvas(rng, self.plan.canvases, self.painter.unit)
        if self.plan.placement == "random":  # objects are scaled anyway: no larger than what is painted well
            size = working_size(self.painter, width, height, self.plan.longest).scaled
            return size if size[0] < width else (width, height)
        return width, height

    def _job(self, order: Order, picture: np.ndarray, paint: np.ndarray, labels: Sequence[str]) -> Job:
        """What is painted, with the classes of the objects in the place of ``{subject}``."""
        subject = " and ".join(dict.fromkeys(labels))
        prompt, negative = (text.replace("{subject}", subject) for text in (order.prompt, self.plan.negative))
        return Job(picture, paint, prompt, order.seed, negative)

    def _remembered(self, one: Found) -> dict[str, Any]:
        mask = self.store.write_image(one.mask.astype(np.uint8) * 255, ".png")
        return {"name": one.name, "label": one.label, "label_id": one.label_id, "mask_path": mask}

    def _sample(self, task: Task, draft: Draft, pixels: np.ndarray) -> NewSample:
        from ..models.roles import Wanted

        order: Order = task.payload
        height, width = pixels.shape[:2]
        size = working_size(self.painter, width, height, self.plan.longest)
        if size.scaled != (width, height):
            current_run().note(
                f"images that do not suit the model's own size are painted at {max(size.scaled)} pixels on the longer "
                "side and scaled; what is kept stays as it is (working_side sets the size)"
            )
        lineage = self.painter.lineage(
            Wanted(draft.job.prompt, draft.job.seed, draft.job.negative), size.width, size.height, self.plan.strength,
            variant=order.variant, dilation=self.plan.dilation, cutout=self.finder.about, **draft.params,
        )  # fmt: skip
        return made_from(order, task.keys[0], pixels, self.store, lineage, draft.labels)


class ReplaceWorker(RecontextWorker):
    """Paints another object in the place of the old one, and leaves the background as it is.

    Args:
        painter: who paints
        finder: finds the objects
        store: where pictures and masks are written
        plan: how
        output_field: the field with the labels of the new pictures
        verifier: looks whether the new objects are where they are said to be, if asked for
    """

    def __init__(
        self, painter: Painter, finder: ObjectFinder, store: MediaStore, plan: Plan, output_field: str,
        verifier: Verifier | None = None,
    ):  # fmt: skip
        super().__init__(painter, finder, store, plan)
        self.output_field, self.verifier = output_field, verifier

    def setup(self) -> None:
        super().setup()
        if self.verifier:
            self.verifier.setup()

    @property
    def models(self) -> dict[str, str]:
        finder = self.verifier.finder if self.verifier else None
        return super().models | ({finder.name: finder.revision} if finder else {})

    def lay_out(self, order: Order, picture: np.ndarray, found: Sequence[Found]) -> Draft:
        import fiftyone as fo

        height, width = picture.shape[:2]
        areas = [self._area(one.mask) for one in found]
        paint = np.logical_or.reduce(areas)
        if paint.all():
            raise RefusedImage("nothing_to_keep", "the objects cover the whole image: nothing of it would be left")
        labels = [self._inherited(order, one, width, height) for one in found]
        others = self._others(order, found, (width, height))
        params = {"replace": "object", "objects": [self._remembered(one) for one in found]}
        return Draft(
            self._job(order, picture, paint, [label.label for label in labels]),
            {self.output_field: fo.Detections(detections=[*labels, *others])}, params,
        )  # fmt: skip

    def _area(self, mask: np.ndarray) -> np.ndarray:
        """What is painted anew in the place of an object."""
        wide = grow(mask, self.plan.dilation)
        return box_of(wide) if self.plan.whole_box else wide

    def _inherited(self, order: Order, one: Found, width: int, height: int) -> Any:
        """The label of the new object, which is where the old one was."""
        import fiftyone as fo

        box = bounds(one.mask)
        assert box is not None
        x, y, w, h = box
        label = fo.Detection(
            label=self.plan.label or one.label, bounding_box=relative_box(box, width, height), inherited=True,
            inherited_from=order.parent.id,
        )  # fmt: skip
        if not self.plan.whole_box:  # in a box another outline may be painted
            label.mask_path = self.store.write_image(one.mask[y : y + h, x : x + w].astype(np.uint8) * 255, ".png")
        return label

    def _others(self, order: Order, found: Sequence[Found], size: tuple[int, int]) -> list[Any]:
        """The labels of the objects that stay."""
        label = order.parent.values.get(self.output_field)
        replaced = {one.label_id for one in found}
        others = [one for one in getattr(label, "detections", ()) if str(one.id) not in replaced]
        return [carried(one, Move(size, size), order.parent.id, self.store) for one in others]

    def _sample(self, task: Task, draft: Draft, pixels: np.ndarray) -> NewSample:
        if self.verifier:
            labels = draft.labels[self.output_field]
            labels.detections = self.verifier.confirmed(pixels, labels.detections, len(draft.params["objects"]))
        return super()._sample(task, draft, pixels)
