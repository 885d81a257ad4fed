"""What the figures share: the samples, the settings, and what was found so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ...stage import Run
from . import charts
from .features import Side, Source
from .intervals import Figure

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection


class Unmeasured(UsageError):
    """A figure cannot be measured: something that it needs is missing.

    Args:
        what: the figure
        why: what is missing, and what would help
    """

    def __init__(self, what: str, why: str):
        super().__init__(f"{what}: {why}")
        self.why = why


@dataclass(frozen=True)
class Settings:
    """How it is measured; see :func:`fiftyone_idsynth.quality.measure_distribution.measure_distribution`."""

    neighbours: int = 5
    copy_quantile: float = 0.01
    max_images: int = 10_000
    splits: tuple[str, ...] = ("train", "val", "test")
    threshold: int = 4
    label_field: str | None = None
    annotators: tuple[str, ...] = ()
    seed: int = 51
    num_workers: int | None = None


@dataclass
class Measurement:
    """What is measured, and what was found so far.

    Attributes:
        run: the run
        settings: how it is measured
        whole: all samples given
        samples: those that are compared with the reference
        reference: what they are compared with
        source: which embeddings are measured
        own: embeddings of the samples
        theirs: embeddings of the reference
        figures: what was found
        charts: for the App and the report
        tables: title -> head and rows, for the report
        pairs: most alike images: their files, and a text
        copies: ids of samples that copy a real one, the most alike first
    """

    run: Run
    settings: Settings
    whole: SampleCollection
    samples: SampleCollection
    reference: SampleCollection | None
    source: Source | None
    own: Side | None = None
    theirs: Side | None = None
    figures: list[Figure] = field(default_factory=list)
    charts: list[charts.Chart] = field(default_factory=list)
    tables: dict[str, tuple[list[str], list[list[Any]]]] = field(default_factory=dict)
    pairs: list[tuple[str, str, str]] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)

    def one(self, what: str, least: int) -> tuple[Source, Side]:
        """The embeddings of the samples, for a figure that needs so many images at least.

        Raises:
            Unmeasured: there are none, or too few
        """
        if self.source is None or self.own is None:
            raise Unmeasured(
                what,
                "needs embeddings: name a field with them (embeddings_field), a model that computes them (model, e.g. "
                "openai/clip-vit-base-patch32), or the weights of InceptionV3 (inception_weights)",
            )
        _enough(what, "samples", len(self.own.ids), least)
        return self.source, self.own

    def both(self, what: str, least: int, least_reference: int | None = None) -> tuple[Source, Side, Side]:
        """The embeddings of the samples and of the reference, of which other numbers of images may be needed.

        Raises:
            Unmeasured: there is no reference, or there are no embeddings, or too few
        """
        if self.reference is None:
            raise Unmeasured(what, "needs a reference: the images to compare with, e.g. DATASET#real or DATASET:VIEW")
        source, own = self.one(what, least)
        assert self.theirs is not None
        _enough(what, "reference", len(self.theirs.ids), least_reference or least)
        return source, own, self.theirs

    def add(
        self, key: str, title: str, value: float, ends: tuple[float, float] | None, better: Any, help: str, of: int
    ) -> None:
        """Adds a figure; see :class:`~fiftyone_idsynth.quality.distribution.intervals.Figure`."""
        low, high = ends or (None, None)
        self.figures.append(Figure(key, title, value, low, high, better, of, help))


def _enough(what: str, side: str, count: int, least: int) -> None:
    if count < least:
        raise Unmeasured(what, f"{count} images of the {side} have embeddings, and {least} are needed: add images")
