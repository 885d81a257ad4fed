"""``score_quality``: measures images and says what they are good for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from .. import fields
from ..engine import Item, Worker, update_samples
from ..errors import ParameterError, RefusedImage, suggestion
from ..measures.rating import (
    MEASURES,
    OBJECT_RATIOS,
    TASKS,
    THRESHOLDS,
    Measure,
    Standard,
    Verdict,
    judge,
    with_overrides,
)
from ..samples import Rejection, active, pages, require_samples, set_fields
from ..stage import (
    BatchSize,
    Choices,
    Engine,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    Samples,
    current_run,
    fingerprint,
    stage,
)
from . import metrics as registry
from .objects import LABEL_KINDS, label_paths, object_ratio

_VERSION = 1
"""Raised when a measure gives another value than before: stored values are then measured again."""

fields.register(*(fields.Field(f"quality.{name}", "float", measure.help) for name, measure in MEASURES.items()))


@stage(label="Score image quality", group="Quality", icon="grade", unit="images")
def score_quality(
    samples: Samples,
    *,
    metrics: tuple[Annotated[str, Choices(registry.names)], ...] = (registry.GROUP,),
    task: Literal["classification", "detection", "generation"] = "detection",
    label_field: Annotated[str, LabelField(LABEL_KINDS)] | None = None,
    reject: bool = False,
    thresholds: dict[str, float] = {},  # noqa: B006
    good: dict[str, float] = {},  # noqa: B006
    bad: dict[str, float] = {},  # noqa: B006
    weights: dict[str, float] = {},  # noqa: B006
    min_object_ratio: dict[str, float] = {},  # noqa: B006
    max_object_ratio: dict[str, float] = {},  # noqa: B006
    weights_dir: Path | None = None,
    download_weights: bool = False,
    batch_size: BatchSize = 16,
    num_workers: NumWorkers = None,
    engine: Engine = "local",
    progress: Progress = None,
) -> Report:
    """Measures defects of images, rates them with one score from 0 to 1, and names their issues and what they suit.

    Built in, without a learned model: blur (motion or defocus), noise, impulse noise, JPEG artefacts, over- and
    underexposure, contrast, colour cast, borders, emptiness. The ranges, weights and thresholds are documented in
    :mod:`fiftyone_idsynth.measures.rating`. Measures are stored: with another task or other thresholds only the
    score is worked out again. Rejected samples are left alone.

    Args:
        metrics (("defects",)): ``"defects"`` for all built-in measures, names of single ones, or, with the extra
            ``iqa``, no-reference metrics of pyiqa such as ``"niqe"``, ``"brisque"``, ``"piqe"``, ``"liqe"`` (whose
            licence forbids commercial use)
        task ("detection"): what the images are for: classification is tolerant, generation strict. Decides which
            measures count as issues, and what is rejected
        label_field (None): labels (detections, polylines or a segmentation) whose share of the image's area also
            decides what it suits
        reject (False): whether to reject the samples that do not suit the task; they keep their data and can come back
        thresholds ({}): task -> least score, instead of classification 0.3, detection 0.5, generation 0.7
        good ({}): measure -> the value that is rated 1, instead of the documented one
        bad ({}): measure -> the value that is rated 0, instead of the documented one
        weights ({}): measure -> its weight in the score, from 0, instead of the documented one
        min_object_ratio ({}): task -> least share of the area that the labelled objects cover, instead of
            classification 0.05, detection 0.001, generation 0.1
        max_object_ratio ({}): task -> greatest share, instead of classification 1, detection 0.9, generation 0.95
        weights_dir (None): folder with weights of pyiqa's metrics; by default ``$IDSYNTH_IQA_WEIGHTS``, or pyiqa's own
        download_weights (False): whether pyiqa may download weights that are missing
        batch_size (16): images given to a worker at once
        num_workers (None): threads, or Ray actors; by default one per processor
        engine ("local"): ``"local"`` or ``"ray"``
        progress (None): ``True`` or ``False`` to show or hide a progress bar, or a callback; by default FiftyOne's
            setting

    Returns:
        a report with the mean score, the images per issue and the images per task they suit
    """
    run = current_run()
    builtin, external = registry.resolve(metrics)
    names = (*builtin, *external)
    standard = _standard(names, task, thresholds, good, bad, weights, min_object_ratio, max_object_ratio)
    labels = label_paths(samples, label_field) if label_field else ()
    samples = active(samples)
    require_samples(samples)
    if external:
        run.note(registry.LICENSE_NOTE)
        run.models.update({name: f"pyiqa, weights in {registry.weights_folder(weights_dir)}" for name in external})
    paths = {name: f"quality.{registry.field_name(name)}" for name in standard.measures}
    fields.register(*(fields.Field(paths[n], "float", m.help) for n, m in standard.measures.items() if n in external))
    fields.declare(run.dataset, "quality", *paths.values())

    ids = samples.values("id")
    worker = QualityWorker(builtin, external, labels, weights_dir, download_weights)
    update_samples(samples, worker, batch_size=batch_size, num_workers=num_workers, engine=engine)
    return run.report(outputs=_judge_all(ids, standard, paths, with_objects=bool(labels), reject=reject))


class QualityWorker(Worker):
    """Measures images.

    Args:
        builtin: names of built-in measures
        external: names of pyiqa metrics
        labels: paths of the label fields that :func:`~fiftyone_idsynth.quality.objects.object_ratio` reads
        weights_dir (None): folder with weights of pyiqa's metrics
        download_weights (False): whether missing weights may be downloaded
    """

    def __init__(
        self,
        builtin: Sequence[str],
        external: Sequence[str] = (),
        labels: Sequence[str] = (),
        weights_dir: Path | None = None,
        download_weights: bool = False,
    ):
        self.fields = tuple(labels)
        self.key = fingerprint("score_quality", _VERSION, list(builtin), list(external), list(labels),
                               str(registry.weights_folder(weights_dir)) if external else "")  # fmt: skip
        self._builtin, self._external = tuple(builtin), tuple(external)
        self._weights_dir, self._download = weights_dir, download_weights

    def setup(self) -> None:
        import threading

        self._models = {
            name: registry.load(name, weights_dir=self._weights_dir, download=self._download) for name in self._external
        }
        self._one_at_a_time = threading.Lock()

    def __call__(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        return [self._measure(item) for item in items]

    def _measure(self, item: Item) -> dict[str, Any]:
        from ..measures.defects import measure

        image = item.image
        if image is None:
            raise RefusedImage("not_decoded", item.filepath)
        values: dict[str, Any] = {}
        if self._builtin:
            found = measure(image.pixels, quantization=image.quantization)
            values = {f"quality.{name}": found[name] for name in self._builtin}
        for name, model in self._models.items():
            with self._one_at_a_time:
                values[f"quality.{registry.field_name(name)}"] = _value(model, name, image.pixels)
        if self.fields:
            values["quality.object_ratio"] = object_ratio(item.values)
        return values


def _value(model: Any, name: str, pixels: Any) -> float | None:
    try:
        found: float | None = model(pixels)
    except Exception as error:  # each metric has conditions of its own, e.g. a least size
        height, width = pixels.shape[:2]
        detail = f"{name} on {width} x {height} pixels: {type(error).__name__}: {error}"
        raise RefusedImage("metric_failed", detail) from error
    return found


def _standard(
    names: Sequence[str],
    task: str,
    thresholds: Mapping[str, float],
    good: Mapping[str, float],
    bad: Mapping[str, float],
    weights: Mapping[str, float],
    low: Mapping[str, float],
    high: Mapping[str, float],
) -> Standard:
    measures = {name: registry.describe(name) for name in names}
    for parameter, given in (("good", good), ("bad", bad), ("weights", weights)):
        _check_keys(parameter, given, measures)
    for parameter, given in (("thresholds", thresholds), ("min_object_ratio", low), ("max_object_ratio", high)):
        _check_keys(parameter, given, TASKS)
        for key, value in given.items():
            if not 0 <= value <= 1:
                raise ParameterError(parameter, given, f"{key} must be between 0 and 1")
    if any(weight < 0 for weight in weights.values()):
        raise ParameterError("weights", weights, "a weight must be at least 0")
    measures = with_overrides(measures, good=good, bad=bad, weights=weights)
    _check_ranges(measures, good, bad)
    ratios = {t: (low.get(t, OBJECT_RATIOS[t][0]), high.get(t, OBJECT_RATIOS[t][1])) for t in TASKS}
    return Standard(measures, task, {**THRESHOLDS, **thresholds}, ratios)


def _check_keys(parameter: str, given: Mapping[str, float], allowed: Any) -> None:
    for key in given:
        if key not in allowed:
            raise ParameterError(parameter, dict(given), f"{key!r} is unknown: {suggestion(key, allowed)}")


def _check_ranges(measures: Mapping[str, Measure], good: Mapping[str, float], bad: Mapping[str, float]) -> None:
    for name, measure in measures.items():
        if measure.good == measure.bad:
            changed = "good" if name in good else "bad"
            problem = f"{name}: the values rated 1 and 0 are both {measure.good:g}; they must differ"
            raise ParameterError(changed, dict(good if changed == "good" else bad), problem)


def _judge_all(
    ids: list[str], standard: Standard, paths: Mapping[str, str], *, with_objects: bool, reject: bool
) -> dict[str, Any]:
    """Works out the scores from the stored measures, writes those that changed, and sums up."""
    run = current_run()
    total, count = 0.0, 0
    issues: Counter[str] = Counter()
    suits: Counter[str] = Counter(dict.fromkeys(TASKS, 0))
    rejections: dict[str, Rejection] = {}
    for page in pages(ids):
        changed: dict[str, dict[str, Any]] = {"quality.score": {}, "quality.issues": {}, "quality.suits": {}}
        columns = run.dataset.select(page).values(["id", *changed, "quality.object_ratio", *paths.values()])
        for sample_id, score, its_issues, its_suits, ratio, *values in zip(*columns, strict=True):
            # An image without objects, a background, is judged by its score alone.
            ratio = ratio or None if with_objects else None
            verdict = judge(dict(zip(paths, values, strict=True)), standard, ratio)
            if verdict.score is None:
                continue
            total, count = total + verdict.score, count + 1
            issues.update(verdict.issues)
            suits.update(verdict.suits)
            now = (verdict.score, list(verdict.issues), list(verdict.suits))
            if now != (score, its_issues, its_suits):
                for path, value in zip(changed, now, strict=True):
                    changed[path][sample_id] = value
            if reject and standard.task not in verdict.suits:
                rejections[sample_id] = Rejection("low_quality", _why(verdict, standard, ratio))
        set_fields(run.dataset, changed)
    if rejections:
        run.reject(rejections)
    return {
        "mean_score": total / count if count else None,
        "issues": dict(issues.most_common()),
        "suits": dict(suits),
    }


def _why(verdict: Verdict, standard: Standard, ratio: float | None) -> str:
    task, score = standard.task, verdict.score or 0.0
    if score < standard.thresholds[task]:
        found = f": {', '.join(verdict.issues)}" if verdict.issues else ", several mild defects"
        return f"score {score:.2f} is below {standard.thresholds[task]:g} for {task}{found}"
    low, high = standard.object_ratios[task]
    return f"the objects cover {ratio or 0:.3f} of the image; for {task} {low:g} to {high:g} is needed"
