"""Makes enhanced pictures: opens the original, repairs it, and keeps what got better."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..carrying import Rescaled, carried
from ..engine import NewSample, Task, Worker
from ..errors import RefusedImage
from ..measures.rating import Standard
from ..media import MediaStore, read_image
from .mending import Mended, mend
from .outcomes import enhanced


class EnhanceWorker(Worker):
    """Makes enhanced pictures.

    Args:
        store: where they are written
        standard: what they are judged by
        repairs: names of the repairs that may be made
        min_fidelity: see :func:`fiftyone_idsynth.enhancement.mending.fidelity`
        label_fields: the fields whose labels are carried over
        give_up: remembers samples that did not get better: sample id -> key

    Attributes:
        no_better: pictures that did not get better, or had no defects
        transparent: pictures that were transparent in places
    """

    decode = None

    def __init__(
        self,
        store: MediaStore,
        standard: Standard,
        repairs: Sequence[str],
        min_fidelity: float,
        *,
        label_fields: Sequence[str],
        give_up: Callable[[Mapping[str, str]], None],
    ):
        self.store, self.standard, self.repairs, self.min_fidelity = store, standard, tuple(repairs), min_fidelity
        self.label_fields, self.give_up = tuple(label_fields), give_up
        self.no_better = self.transparent = 0
        self._lock = threading.Lock()

    def __call__(self, items: Sequence[Task]) -> list[list[NewSample] | RefusedImage]:
        results: list[list[NewSample] | RefusedImage] = []
        for task in items:
            try:
                results.append(self._enhance(task))
            except RefusedImage as refusal:
                results.append(refusal)
            except MemoryError:
                results.append(RefusedImage("too_many_pixels", "not enough memory to repair it: make it smaller first"))
        return results

    def _enhance(self, task: Task) -> list[NewSample]:
        order = task.payload
        image = read_image(order.parent.filepath)
        mended = mend(
            image.pixels, self.standard, quantization=image.quantization, repairs=self.repairs,
            min_fidelity=self.min_fidelity,
        )  # fmt: skip
        if not mended.rose:
            with self._lock:
                self.no_better += 1
                self.give_up({order.parent.id: task.keys[0]})
            return []
        move = Rescaled((image.width, image.height), (image.width, image.height))
        labels = {
            name: carried(order.parent.values[name], move, order.parent.id, self.store) for name in self.label_fields
        }
        made = enhanced(order, task.keys[0], mended.pixels, self.store, _params(mended), labels)
        with self._lock:
            self.transparent += image.has_alpha
        return [made]


def _params(mended: Mended) -> dict[str, Any]:
    """What lineage keeps: all that is needed to make the picture again, and why it was made."""
    return {
        "steps": [
            {"name": step.name, "params": step.params, "score": step.score, "fidelity": step.fidelity}
            for step in mended.kept
        ],
        "score_before": mended.verdict_before.score or 0.0,
        "score": mended.verdict.score or 0.0,
        "fidelity": round(mended.fidelity, 5),
        "issues_before": list(mended.verdict_before.issues),
        "issues": list(mended.verdict.issues),
        "before": dict(mended.before),
        "after": dict(mended.after),
    }
