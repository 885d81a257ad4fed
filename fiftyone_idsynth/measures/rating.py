"""From measures to one score, to the issues a report names and to the tasks an image suits: numbers in, numbers out.

**Rating.** Each measure is rated 1 (as good as its ``good`` value, or better) to 0 (as bad as its ``bad`` value, or
worse), linearly in between. Whether more is better follows from the order of the two values.

**Score.** The product of the ratings, each to the power of its weight. One severe defect brings the score to 0 however
good the rest is; several mild ones add up.

**Thresholds.** One number per task (:data:`THRESHOLDS`): an image suits a task if its score reaches the number and its
objects have a fitting size (:data:`OBJECT_RATIOS`); a measure is an issue if its own rating is below the number of the
task that was asked for. A classifier learns from pictures a person would call poor; a detector needs outlines; a
generator repeats every flaw it is shown.

The values below come from 100 photographs (Flickr, COCO) and from copies of them degraded by known amounts: nine in ten
clean photos suit detection, and blur of 1.5 pixels, noise of 15 grey levels, 1 % of impulses, JPEG quality below 40,
doubled or halved exposure and halved contrast are issues in most copies. A colour cast is told from colourful content
only when it is strong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

TASKS = ("classification", "detection", "generation")

THRESHOLDS: dict[str, float] = {"classification": 0.3, "detection": 0.5, "generation": 0.7}
"""Least score for each task."""

OBJECT_RATIOS: dict[str, tuple[float, float]] = {
    "classification": (0.05, 1.0),
    "detection": (0.001, 0.9),
    "generation": (0.1, 0.95),
}
"""Least and greatest share of the image that the labelled objects may cover. For classification the object must
dominate enough to be the image's class; a detector needs something around the object to tell it from, and 0.001 is
about 18 x 18 pixels of a 640 x 480 photo; a generator needs a subject, and a margin that frames it."""


@dataclass(frozen=True)
class Measure:
    """How a measure is read.

    Attributes:
        help: what it is, with unit and range
        good: the value that is rated 1
        bad: the value that is rated 0
        weight: its weight in the score; 0: reported only
        issue: what a report calls it when it is past its threshold
    """

    help: str
    good: float
    bad: float
    weight: float
    issue: str


MEASURES: dict[str, Measure] = {
    "blur": Measure(
        "Standard deviation of the blur at the sharpest edges, in the direction that is blurred most, pixels",
        good=0.6, bad=1.8, weight=1, issue="blur",
    ),
    "motion_blur": Measure(
        "How much more edges are blurred in one direction than in another, 0 (defocus) to 1 (motion)",
        good=0.2, bad=0.6, weight=0, issue="motion_blur",
    ),
    "noise": Measure(
        "Standard deviation of the additive noise, grey levels (0 to 255)",
        good=4, bad=24, weight=1, issue="noise",
    ),
    "impulse_noise": Measure(
        "Share of the pixels that salt-and-pepper noise visibly replaced, 0 to 1",
        good=0.002, bad=0.01, weight=1, issue="impulse_noise",
    ),
    "blockiness": Measure(
        "Height of the steps at the borders of 8 x 8 blocks, relative to the gradients between them, from 0",
        good=0.6, bad=2.6, weight=0.5, issue="blockiness",
    ),
    "jpeg_quality": Measure(
        "JPEG quality, 1 to 100: exact for JPEG files, estimated from the pixels of others (100: no trace)",
        good=70, bad=10, weight=0.5, issue="low_jpeg_quality",
    ),
    "overexposure": Measure(
        "Share of the pixels that are burnt out, 0 to 1; of a plain white background only a tenth counts",
        good=0.1, bad=0.34, weight=1, issue="overexposure",
    ),
    "underexposure": Measure(
        "How far the brightest 2 % of the pixels stay below white, 0 to 1",
        good=0.3, bad=0.66, weight=1, issue="underexposure",
    ),
    "contrast": Measure(
        "Range of the grey levels without the darkest and the brightest 1 %, 0 to 1",
        good=0.7, bad=0.3, weight=1, issue="low_contrast",
    ),
    "color_cast": Measure(
        "Angle by which the colour of the light differs from grey, degrees",
        good=8, bad=24, weight=0.5, issue="color_cast",
    ),
    "border": Measure(
        "Share of the area in plain bars along the edges (letterbox, frame), 0 to 1",
        good=0.01, bad=0.25, weight=1, issue="border",
    ),
    "emptiness": Measure(
        "Share of the area that shows nothing, 0 to 1",
        good=0.85, bad=1.0, weight=1, issue="empty",
    ),
}  # fmt: skip
"""The built-in measures: meaning, range, weight and the issue they raise."""


@dataclass(frozen=True)
class Verdict:
    """What the measures of one image say.

    Attributes:
        score: 0 (unusable) to 1 (flawless); ``None`` if nothing was measured
        issues: names of the defects past their threshold, the worst first
        suits: the tasks the image suits
    """

    score: float | None
    issues: tuple[str, ...]
    suits: tuple[str, ...]


@dataclass(frozen=True)
class Standard:
    """What images are judged by.

    Attributes:
        measures: how each measure is read
        task: the task whose threshold decides what is an issue
        thresholds: least score for each task
        object_ratios: least and greatest share of the image that objects cover, for each task
    """

    measures: Mapping[str, Measure]
    task: str = "detection"
    thresholds: Mapping[str, float] = None  # type: ignore[assignment]
    object_ratios: Mapping[str, tuple[float, float]] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", {**THRESHOLDS, **(self.thresholds or {})})
        object.__setattr__(self, "object_ratios", {**OBJECT_RATIOS, **(self.object_ratios or {})})


def with_overrides(
    measures: Mapping[str, Measure],
    *,
    good: Mapping[str, float] | None = None,
    bad: Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
) -> dict[str, Measure]:
    """Replaces ranges and weights of measures.

    Args:
        measures: the measures by name
        good (None): measure -> the value that is rated 1
        bad (None): measure -> the value that is rated 0
        weights (None): measure -> its weight in the score

    Returns:
        the measures by name
    """
    good, bad, weights = good or {}, bad or {}, weights or {}
    return {
        name: replace(
            measure,
            good=good.get(name, measure.good),
            bad=bad.get(name, measure.bad),
            weight=weights.get(name, measure.weight),
        )
        for name, measure in measures.items()
    }


def rate(value: float | None, measure: Measure) -> float | None:
    """Rates a value between the measure's ``bad`` (0) and ``good`` (1); ``None`` stays ``None``."""
    if value is None:
        return None
    return min(1.0, max(0.0, (value - measure.bad) / (measure.good - measure.bad)))


def judge(values: Mapping[str, float | None], standard: Standard, object_ratio: float | None = None) -> Verdict:
    """Judges one image by its measures.

    Args:
        values: the value of each measure; measures without a value do not count
        standard: what it is judged by
        object_ratio (None): share of the image that its labelled objects cover; ``None`` if unknown: then it does not
            decide what the image suits

    Returns:
        a :class:`Verdict`
    """
    ratings = {name: rate(values.get(name), measure) for name, measure in standard.measures.items()}
    counted = {n: r for n, r in ratings.items() if r is not None and standard.measures[n].weight > 0}
    if not counted:
        return Verdict(None, (), ())
    score = 1.0
    for name, rating in counted.items():
        score *= rating ** standard.measures[name].weight
    threshold = standard.thresholds[standard.task]
    found = sorted((rating, standard.measures[name].issue) for name, rating in counted.items() if rating < threshold)
    issues = [issue for _, issue in found]
    motion = ratings.get("motion_blur")
    if "blur" in issues and motion is not None and motion < 0.5:
        issues.insert(issues.index("blur") + 1, standard.measures["motion_blur"].issue)
    return Verdict(round(score, 5), tuple(issues), _suits(score, standard, object_ratio, TASKS))


def _suits(score: float, standard: Standard, object_ratio: float | None, tasks: Collection[str]) -> tuple[str, ...]:
    fitting = []
    for task in tasks:
        low, high = standard.object_ratios[task]
        if score >= standard.thresholds[task] and (object_ratio is None or low <= object_ratio <= high):
            fitting.append(task)
    return tuple(fitting)
