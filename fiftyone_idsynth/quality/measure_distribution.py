"""``measure_distribution``: how well images follow a reference, and how varied, balanced and free of leaks they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from .. import fields
from ..errors import ParameterError, UsageError
from ..modelling import AllowPickle, Device, DType, ModelBatch, Offline, Revision
from ..samples import active, require_samples
from ..stage import (
    Bounds,
    Choices,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    Run,
    Samples,
    Seed,
    current_run,
    fingerprint,
    stage,
)
from .distribution.labels import LABELS_IN
from .distribution.measurement import Settings, Unmeasured
from .distribution.measuring import CANONICAL, DEFAULT, EMBEDDED, NAMES, SAME, Figures

if TYPE_CHECKING:
    from .distribution.features import Source


@stage(label="Measure the distribution", group="Quality", icon="query_stats", unit="images")
def measure_distribution(
    samples: Samples,
    *,
    reference: Samples | None = None,
    metrics: tuple[Annotated[str, Choices(lambda: list(NAMES))], ...] = (),
    embeddings_field: str | None = None,
    model: str | None = None,
    inception_weights: Path | None = None,
    label_field: Annotated[str, LabelField(tuple(LABELS_IN))] | None = None,
    annotators: tuple[Annotated[str, LabelField(("Detections", "Classification"))], ...] = (),
    splits: tuple[str, ...] = fields.SPLITS,
    threshold: Annotated[int, Bounds(0, 16)] = 4,
    neighbours: Annotated[int, Bounds(1, 1000)] = 5,
    copy_quantile: Annotated[float, Bounds(0, 0.5)] = 0.01,
    max_images: Annotated[int, Bounds(10, 1_000_000)] = 10_000,
    name: str | None = None,
    report_path: Path | None = None,
    seed: Seed = 51,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: ModelBatch = 16,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Measures how well a set of images follows a reference, and how varied, balanced and free of leaks it is.

    Against a reference, e.g. generated against real images: Fréchet distance, kernel distance, precision, recall,
    density and coverage, variety, and the share of images that copy a real one. Of the images alone: inception score,
    Vendi score, class balance, near-duplicates and relatives across splits, agreement of annotators, and PSNR and SSIM
    of enhanced images and their originals. With uncertainty: 95 % intervals.

    FID, KID and inception score are defined with InceptionV3, whose weights are a file of yours. On other embeddings
    the same distances are called Fréchet and kernel distance, with the name of the model: figures of different
    embeddings do not compare. Embeddings that are computed are kept in their field. Rejected samples do not count.

    The figures are kept in ``dataset.info["idsynth_distributions"]``, so that measurements can be compared. A report
    with charts is written as one HTML file.

    Args:
        samples: the images to measure
        reference (None): the images to compare with, e.g. real ones; images in both count as reference only
        metrics (()): what to measure; by default all that there is data for. ``fid``, ``kid`` and ``inception_score``
            need InceptionV3, ``frechet_distance`` and ``kernel_distance`` take any embeddings
        embeddings_field (None): the field with embeddings; by default ``embedding``, or ``inception`` for those of
            InceptionV3
        model (None): a hub id or folder of a model that compares images with texts, e.g. openai/clip-vit-base-patch32:
            it computes the embeddings that are missing
        inception_weights (None): file with the weights of InceptionV3, weights-inception-2015-12-05-6726825d.pth, or
            the folder that holds it; by default ``$IDSYNTH_INCEPTION_WEIGHTS``. Nothing is downloaded
        label_field (None): the labels whose classes are counted; by default ground_truth, classification or detections
        annotators (()): two or more label fields whose agreement is measured, e.g. a model's and people's; by default
            what agree has stored
        splits (("train", "val", "test")): the sample tags of the splits; the first one is trained on
        threshold (4): the largest number of differing bits, of 64, between near-duplicates
        neighbours (5): which nearest neighbour reaches how far, for precision, recall, density and coverage
        copy_quantile (0.01): an image is a copy if it is as near to a real image as this share of the real ones are
            to another one
        max_images (10_000): how many images of each side precision and recall compare at most, and how many pairs PSNR
        name (None): what this measurement is called in comparisons; by default the names of samples and reference
        report_path (None): the .html file to write; by default in ``reports`` in the dataset's media folder
        seed (51): of random choices

    Returns:
        a report with the figures, their intervals, what could not be measured and why, and the report's path
    """
    from ..models.options import Options
    from .distribution.features import find_reference, find_source

    run = current_run()
    wanted = tuple(dict.fromkeys(SAME.get(metric, metric) for metric in metrics)) or DEFAULT
    settings = Settings(
        neighbours,
        copy_quantile,
        max_images,
        tuple(splits),
        threshold,
        label_field,
        tuple(annotators),
        seed,
        num_workers,
    )
    if len(set(splits)) < len(splits):
        raise ParameterError("splits", list(splits), "name each split once")
    whole = active(samples)
    require_samples(whole)
    compared, against = find_reference(whole, reference) if reference is not None else (whole, None)
    names = (str(run.target["samples"]), str(run.params["reference"]) if reference is not None else "")
    place = _place(run, name or " against ".join(filter(None, names)), report_path)
    source = None
    if set(wanted) & set(EMBEDDED):
        options = Options(device, dtype, revision, offline, allow_pickle)
        strict = bool(set(metrics) & set(CANONICAL))
        source = find_source(compared, embeddings_field, model, inception_weights, strict, options, batch_size)
        _check_canonical(metrics, source)
    measurement = Figures(run, settings, whole, compared, against, source)
    if source is not None:
        _read(measurement, source, batch_size)
    missing = _measure_all(measurement, wanted, strict=bool(metrics))
    if source is None or source.worker is None:
        run.processed(whole.count())
    _publish(measurement, name or " against ".join(filter(None, names)), names, place)
    outputs: dict[str, Any] = {one.key: one.storable() for one in measurement.figures}
    if source is not None:
        outputs["embeddings"] = f"{source.name}, field {source.field}"
    report = run.report({
        **outputs, "copies": measurement.copies[:20], "not measured": missing, "report": str(place),
    })  # fmt: skip
    report.charts = measurement.charts
    return report


def _place(run: Run, name: str, given: Path | None) -> Path:
    """Where the report is written; checked before anything is measured."""
    from ..media import media_store
    from .distribution.report import check_place, default_place

    place = given.expanduser() if given is not None else default_place(media_store(run.dataset).root, name)
    check_place(place)
    return place


def _check_canonical(metrics: tuple[str, ...], source: Source | None) -> None:
    """Refuses figures under the names that they have on InceptionV3 alone."""
    from .distribution.inception import remedy

    asked = [name for name in metrics if name in CANONICAL]
    if asked and (source is None or not source.canonical):
        have = "there are no features of it" if source is None else f"the field {source.field!r} holds other embeddings"
        raise UsageError(f"{', '.join(asked)}: defined with InceptionV3, and {have}. {remedy()}")


def _read(measurement: Figures, source: Source, batch_size: int) -> None:
    """Reads the embeddings, computing those that are missing."""
    from .distribution.features import check_same, check_sizes, read_side

    workers = measurement.settings.num_workers
    reference = measurement.reference
    if reference is not None:
        check_same(source, measurement.samples, reference)
    measurement.own = read_side("samples", measurement.samples, source, batch_size, workers)
    if reference is not None:
        measurement.theirs = read_side("reference", reference, source, batch_size, workers)
        check_sizes(source, (measurement.own, measurement.theirs))


def _measure_all(measurement: Figures, wanted: tuple[str, ...], *, strict: bool) -> list[str]:
    """Measures figures; returns what cannot be measured, and why.

    Raises:
        UsageError: it is strict and one cannot be measured, or none can
    """
    missing: dict[str, str] = {}
    for name in wanted:
        try:
            measurement.measure(name)
        except Unmeasured as reason:
            if strict:
                raise
            missing[name] = reason.why
    together = {why: [name for name in missing if missing[name] == why] for why in missing.values()}
    reasons = [f"{', '.join(which)}: {why}" for why, which in together.items()]
    if not measurement.figures:
        raise UsageError(f"nothing can be measured. {'; '.join(reasons)}")
    measurement.map()
    return reasons


def _publish(measurement: Figures, name: str, names: tuple[str, str], place: Path) -> None:
    """Keeps the figures in the dataset and writes the report."""
    from .distribution.charts import history_chart
    from .distribution.record import remember
    from .distribution.report import Facts, write_report

    run, source = measurement.run, measurement.source
    about = {
        "samples": names[0],
        "reference": names[1] or None,
        "embedding": source.name if source else None,
        "images": len(measurement.own.ids) if measurement.own else measurement.samples.count(),
        "reference_images": len(measurement.theirs.ids) if measurement.theirs else None,
        "report": str(place),
    }
    earlier = remember(run.dataset, name, about, measurement.figures, fingerprint(run.fingerprint, run.target))
    comparable = [e for e in earlier if e["embedding"] == about["embedding"] and e["reference"] == about["reference"]]
    first = measurement.figures[0]
    past = [(e["name"], e["figures"][first.key]) for e in comparable if first.key in e["figures"]][-9:]
    if past:
        now = {"value": first.value, "low": first.low, "high": first.high}
        rows = [*past, (name, now)]
        values = [one["value"] for _, one in rows]
        errors = [
            (0.0, 0.0) if one["low"] is None else (one["value"] - one["low"], one["high"] - one["value"])
            for _, one in rows
        ]
        labels = [f"{number}. {label}" for number, (label, _) in enumerate(rows, start=1)]
        measurement.charts.append(history_chart(first.title, labels, values, errors))
    facts = Facts(
        f"Distribution of {name}",
        {key: str(value) for key, value in about.items() if value is not None and key != "report"},
        measurement.figures,
        run.report().notes,
        measurement.charts,
        measurement.tables,
        measurement.pairs,
        earlier,
    )
    write_report(facts, place)
