"""How good a picture is, and what is wrong with it: measured, and as a tagger says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..measures.rating import MEASURES, Standard, judge
from ..models.options import Options
from .defects import joined, measured, named

if TYPE_CHECKING:
    from ..media import Image
    from ..models.roles import Tagger


@dataclass(frozen=True)
class Judgement:
    """What was found in a picture.

    Attributes:
        score: its quality, 0 to 1
        defects: words for what is wrong with it
    """

    score: float
    defects: tuple[str, ...]


@dataclass(frozen=True)
class Judge:
    """Measures and tags pictures.

    Attributes:
        measures: names of the measures that the score is made of
        task: what the images are for
        defects: what counts as a defect
        tagger: id or folder of a tagger; ``None``: only what is measured counts
        options: how it is loaded
        threshold: least confidence of its tags, 0 to 1
        batch_size: pictures that it gets at once
    """

    measures: tuple[str, ...]
    task: str
    defects: tuple[str, ...]
    tagger: str | None
    options: Options
    threshold: float
    batch_size: int

    @property
    def model(self) -> Tagger:
        """The tagger; loaded when it is first asked for in a process."""
        from ..models.loading import find_model
        from ..models.roles import Tagger

        assert self.tagger is not None
        return find_model(Tagger, self.tagger, self.options)  # type: ignore[type-abstract]  # an interface

    def setup(self) -> None:
        """Loads the tagger."""
        if self.tagger:
            self.model  # noqa: B018

    def score(self, pixels: np.ndarray, image: Image | None = None) -> tuple[float, list[str]]:
        """The quality of a picture, as ``score_quality`` rates it, and words for its issues.

        Args:
            pixels: uint8 RGB array
            image (None): the file that these pixels are all of, whose compression is known
        """
        from ..measures.defects import measure

        values = measure(pixels, quantization=image.quantization if image else None)
        standard = Standard({name: MEASURES[name] for name in self.measures}, self.task)
        verdict = judge({name: values[name] for name in self.measures}, standard)
        return verdict.score or 0.0, measured(verdict.issues, self.defects)

    def judge(self, pictures: Sequence[np.ndarray]) -> list[Judgement]:
        """Judges pictures.

        Args:
            pictures: uint8 RGB arrays
        """
        from ..models.batches import in_batches
        from ..stage import current_run

        tagged: list[list[str]] = [[] for _ in pictures]
        if self.tagger and pictures:
            found = in_batches(
                lambda part: self.model.tag(part, self.threshold), list(pictures), self.batch_size, current_run().note
            )
            tagged = [named((tag.name for tag in tags), self.defects) for tags in found]
        scored = [self.score(picture) for picture in pictures]
        return [
            Judgement(score, tuple(joined(tags, issues))) for tags, (score, issues) in zip(tagged, scored, strict=True)
        ]
