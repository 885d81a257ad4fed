"""The figures one by one: what each needs, what it finds, and what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from os.path import basename
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UsageError
from ...samples import dataset_of, pages
from ...stage import Run
from . import charts, distances, diversity, inception, labels, neighbours
from .features import Side, Source
from .intervals import Figure, Z, bootstrap_mean, by_halves, wilson

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

EMBEDDED = (
    "fid", "kid", "inception_score", "frechet_distance", "kernel_distance", "precision_recall", "vendi_score",
    "train_copies",
)  # fmt: skip
"""What needs embeddings."""

CANONICAL = ("fid", "kid", "inception_score")
"""What is defined with InceptionV3."""

DEFAULT = (
    "frechet_distance", "kernel_distance", "inception_score", "precision_recall", "vendi_score", "train_copies",
    "class_balance", "leakage", "label_agreement", "enhancement_fidelity",
)  # fmt: skip
"""What is measured unless figures are named, as far as there is what it needs."""

NAMES = ("fid", "kid", *DEFAULT)

SHOWN = 12
"""How many of the most alike pairs the report shows."""

LISTED = 100
"""How many of them it lists."""


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
    """Measures figures and collects them, with charts and tables.

    Attributes:
        run: the run
        settings: how it is measured
        whole: all samples given
        samples: those that are compared with the reference
        reference: what they are compared with
        source: which embeddings are measured
        names: what samples and reference are called
    """

    run: Run
    settings: Settings
    whole: SampleCollection
    samples: SampleCollection
    reference: SampleCollection | None
    source: Source | None
    names: tuple[str, str]
    own: Side | None = None
    theirs: Side | None = None
    figures: list[Figure] = field(default_factory=list)
    charts: list[charts.Chart] = field(default_factory=list)
    tables: dict[str, tuple[list[str], list[list[Any]]]] = field(default_factory=dict)
    pairs: list[tuple[str, str, str]] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)

    def measure(self, name: str) -> None:
        """Measures a figure.

        Args:
            name: one of :data:`NAMES`

        Raises:
            Unmeasured: something that it needs is missing
        """
        same: dict[str, Callable[[], None]] = {"fid": self.frechet_distance, "kid": self.kernel_distance}
        (same.get(name) or getattr(self, name))()

    # -- embeddings ---------------------------------------------------------------------------------------------------

    def frechet_distance(self) -> None:
        """The Fréchet distance, on InceptionV3 the FID."""
        source, own, theirs = self._both("Fréchet distance", 4)
        key, title = ("fid", "FID") if source.canonical else ("frechet_distance", f"Fréchet distance{source.on}")
        fewest, dimensions = min(len(own.ids), len(theirs.ids)), own.vectors.shape[1]
        if fewest < dimensions:
            self.run.note(
                f"{title}: {fewest} images are fewer than the {dimensions} dimensions of the embeddings, which makes "
                "it too high: compare it only with values of as many images, and trust the kernel distance (KID) more"
            )
        value, error, beyond = distances.frechet_with_error(own.vectors, theirs.vectors, self.settings.seed)
        help = "Distance of mean and covariance of the embeddings, from 0; falls as the number of images grows"
        self._add(key, title, value, (max(0.0, value - Z * error), value + Z * error), "lower", help, len(own.ids))
        help = "The same, extrapolated to infinitely many images"
        self._add(f"{key}_extrapolated", f"{title}, extrapolated", beyond, None, "lower", help, len(own.ids))

    def kernel_distance(self) -> None:
        """The kernel distance, on InceptionV3 the KID."""
        source, own, theirs = self._both("kernel distance", 8)
        key, title = ("kid", "KID") if source.canonical else ("kernel_distance", f"Kernel distance{source.on}")
        scale = 1.0 if source.canonical else distances.scale_of(theirs.vectors)
        value, error = distances.kernel_distance(own.vectors, theirs.vectors, self.settings.seed, scale)
        help = "Unbiased: 0 on average for images of one kind, however few"
        self._add(key, title, value, (value - Z * error, value + Z * error), "lower", help, len(own.ids))

    def inception_score(self) -> None:
        """The inception score."""
        source, own = self._one("inception score", 2)
        if not source.canonical or source.worker is None:
            raise Unmeasured("inception score", f"it is defined with InceptionV3. {inception.remedy()}")
        value, spread = distances.inception_score(own.vectors, source.worker.classifier, self.settings.seed)
        help = "How surely InceptionV3 names the images and how evenly its classes occur; interval over ten parts"
        ends = (value - Z * spread, value + Z * spread)
        self._add("inception_score", "Inception score", value, ends, "higher", help, len(own.ids))

    def precision_recall(self) -> None:
        """Precision, recall, density and coverage."""
        k, most = self.settings.neighbours, self.settings.max_images
        source, own, theirs = self._both("precision and recall", k + 2)
        first, second = (_some(side.vectors, most, self.settings.seed) for side in (own, theirs))
        if len(first) < len(own.ids) or len(second) < len(theirs.ids):
            self.run.note(f"precision, recall, density and coverage are of {most} images at most, drawn at random")
        found = neighbours.overlap(first, second, k)
        on = f" on {source.name}"
        for name, hits, of, help in (
            ("precision", found.precise, first, "Share of the images that lie among the reference"),
            ("recall", found.recalled, second, "Share of the reference that lies among the images"),
            ("coverage", found.covered, second, "Share of the reference images with one of the images nearby"),
        ):
            ends = wilson(int(hits.sum()), len(hits))
            self._add(name, name.capitalize() + on, float(hits.mean()), ends, "higher", f"{help}, 0 to 1", len(of))
        ends = bootstrap_mean(found.density, self.settings.seed)
        help = (
            "How many reference images are near each image, relative to the reference itself; about 1 where both agree"
        )
        self._add("density", f"Density{on}", float(found.density.mean()), ends, "higher", help, len(first))

    def vendi_score(self) -> None:
        """The Vendi score, beside that of as many reference images."""
        source, own = self._one("Vendi score", 2)
        on = f" on {source.name}"
        help = "Effective number of different images; grows with their number"
        self._add("vendi_score", f"Vendi score{on}", diversity.vendi_score(own.vectors), None, "higher", help,
                  len(own.ids))  # fmt: skip
        if self.theirs is None or len(self.theirs.ids) < 4 or len(own.ids) < 4:
            return
        size = min(len(own.ids), len(self.theirs.ids))
        first, second = (_some(side.vectors, size, self.settings.seed) for side in (own, self.theirs))

        def ratio(a: np.ndarray, b: np.ndarray) -> float:
            return diversity.vendi_score(first, a) / diversity.vendi_score(second, b)

        value = ratio(np.arange(size), np.arange(size))
        error = by_halves(ratio, size, size, self.settings.seed, repetitions=10).error
        help = f"Vendi score of {size} of the images over that of as many reference images: below 1 is less variety"
        ends = (value - Z * error, value + Z * error)
        self._add("vendi_ratio", f"Variety relative to the reference{on}", value, ends, "higher", help, size)

    def train_copies(self) -> None:
        """The share of images that are nearer to a real one than real images are to each other."""
        source, own, theirs = self._both("train-copy rate", 1, 3)
        found = neighbours.nearest_real(own.vectors, theirs.vectors, self.settings.copy_quantile)
        count, on = len(own.ids), f" on {source.name}"
        copies = np.flatnonzero(found.copies)
        rate = float((found.real <= found.limit).mean())
        help = f"Share of images as near to a real one as {rate:.1%} of the real ones are to another: 0 to 1"
        self._add("train_copies", f"Train-copy rate{on}", len(copies) / count, wilson(len(copies), count), "lower",
                  help, count)  # fmt: skip
        authentic = int(found.authentic.sum())
        help = (
            "Share of images whose nearest real image has another real one that is nearer; new real images: "
            f"{found.expected_authenticity:.2f}"
        )
        self._add(
            "authenticity", f"Authenticity{on}", authentic / count, wilson(authentic, count), "higher", help, count
        )
        chart = charts.copy_chart(found.distance, found.real, found.limit, self.names)
        self.charts.append(chart)
        self._list_copies(found, own, theirs)

    def _list_copies(self, found: neighbours.Nearest, own: Side, theirs: Side) -> None:
        copies = np.flatnonzero(found.copies)
        parents = _parents(own.view, [own.ids[i] for i in copies])
        made = sum(theirs.ids[found.row[i]] in parents.get(own.ids[i], ()) for i in copies)
        if made:
            self.run.note(f"{made} of the {len(copies)} copies were made from the image that they resemble (lineage)")
        rows: list[list[Any]] = []
        for i in np.argsort(found.distance, kind="stable")[:LISTED].tolist():
            real = int(found.row[i])
            is_copy, by = bool(found.copies[i]), theirs.ids[real] in parents.get(own.ids[i], ())
            text = "copy, made from it" if is_copy and by else "copy" if is_copy else ""
            rows.append([own.ids[i], theirs.ids[real], float(found.distance[i]), text])
            if len(self.pairs) < SHOWN:
                names = f"{basename(own.paths[i])} ~ {basename(theirs.paths[real])}"
                about = f"{names}: {found.distance[i]:.3g} {text}".strip()
                self.pairs.append((own.paths[i], theirs.paths[real], about))
        self.copies = [row[0] for row in rows if row[3]]
        self.tables["Nearest real images"] = (["sample", "real sample", "distance", ""], rows)

    def map(self) -> None:
        """Draws the embeddings."""
        if self.own is not None and len(self.own.ids) > 1:
            theirs = self.theirs.vectors if self.theirs is not None else None
            self.charts.append(charts.map_chart(self.own.vectors, theirs, self.names, self.settings.seed))

    # -- labels, splits and pairs -------------------------------------------------------------------------------------

    def class_balance(self) -> None:
        """How evenly classes occur, and how far that is from the reference."""
        path = labels.label_path(self.samples, self.settings.label_field, self.reference)
        if path is None:
            raise Unmeasured(
                "class balance", f"there are no labels in {', '.join(labels.DEFAULT_FIELDS)}: name a label_field"
            )
        counts = labels.count_classes(self.samples, path)
        if not counts:
            raise Unmeasured("class balance", f"no image has a label in {path.partition('.')[0]!r}")
        total = sum(counts.values())
        help = "0 to 1 (all classes equally frequent): entropy over that of as many equal classes (Pielou)"
        self._add("class_evenness", "Class evenness", diversity.evenness(counts), None, "higher", help, total)
        help = "Labels of the most frequent class for each one of the rarest"
        self._add("class_imbalance", "Class imbalance", diversity.imbalance(counts), None, "lower", help, total)
        theirs = labels.count_classes(self.reference, path) if self.reference is not None else {}
        if theirs:
            help = "Jensen-Shannon divergence of the class shares, 0 (the same) to 1 (no class shared)"
            value = diversity.class_divergence(counts, theirs)
            self._add("class_divergence", "Class divergence from the reference", value, None, "lower", help, total)
            lacking = [name for name in theirs if name not in counts]
            if lacking:
                self.run.note(f"classes of the reference that the samples lack: {', '.join(lacking[:20])}")
        rows: list[list[Any]] = [
            [name, counts.get(name, 0), counts.get(name, 0) / total, theirs.get(name, 0)]
            for name in {**counts, **theirs}
        ]
        self.tables["Classes"] = (["class", "labels", "share", "labels in the reference"], rows)
        self.charts.append(charts.class_chart(counts, theirs or None, self.names))

    def leakage(self) -> None:
        """Which share of each split has near-duplicates or relatives in another one."""
        from .leakage import find_leaks, read_hashes, split_of

        splits = self.settings.splits
        member = split_of(self.whole.values("tags"), splits)
        present = tuple(name for n, name in enumerate(splits) if (member == n).any())
        if len(present) < 2:
            raise Unmeasured(
                "leakage",
                f"of the tags {', '.join(splits)} the samples have {' and '.join(present) or 'none'}: run split first, "
                "or name two splits at least",
            )
        hashes, failed = read_hashes(self.whole, self.settings.num_workers)
        for what, why in failed:
            self.run.failed(what, why)
        leaks = find_leaks(self.whole, present, self.settings.threshold, hashes)
        first, others = present[0], present[1:]
        size = sum(leaks.sizes[name] for name in others)
        for key, title, counts, help in (
            ("leakage", "Near-duplicates across splits", leaks.near, "a near-duplicate"),
            ("related_leakage", "Relatives across splits", leaks.related, "a relative (parent, copy, same page)"),
        ):
            hits = sum(counts[name, first] for name in others)
            help = f"Share of the images of {', '.join(others)} that have {help} in {first}, 0 to 1"
            self._add(key, title, hits / size, wilson(hits, size), "lower", help, size)
        shares = {pair: n / leaks.sizes[pair[0]] for pair, n in leaks.near.items()}
        self.charts.append(charts.leak_chart(shares, present))
        head = ["images of", "in", "with a near-duplicate", "with a relative"]
        rows: list[list[Any]] = [[a, b, leaks.near[a, b], leaks.related[a, b]] for a, b in leaks.near]
        self.tables["Leaks between splits"] = (head, rows)
        self.tables["Near-duplicates in different splits"] = (["sample", "other"], [[a, b] for a, b in leaks.pairs])

    def label_agreement(self) -> None:
        """How far annotators agree, as ``agree`` finds it."""
        if not self.settings.annotators and not self.whole.has_field("disagreement"):
            raise Unmeasured("label agreement", "name annotators (two label fields), or run agree first")
        values = labels.agreement_of(self.whole, self.settings.annotators)
        if not len(values):
            raise Unmeasured("label agreement", "no image was judged by two annotators")
        ends = bootstrap_mean(values, self.settings.seed)
        help = "1 minus the mean disagreement of annotators (panoptic quality of pairs), 0 to 1"
        self._add("label_agreement", "Label agreement", float(values.mean()), ends, "higher", help, len(values))
        self.charts.append(charts.histogram_chart("Agreement of annotators by image", values.tolist(), "agreement"))

    def enhancement_fidelity(self) -> None:
        """PSNR and SSIM of enhanced images and the images that they were made from."""
        from ...engine import Item, batched, process
        from .fidelity import FidelityWorker, find_pairs

        pairs = find_pairs(self.whole)
        if not pairs:
            raise Unmeasured(
                "PSNR and SSIM", "no sample is an enhanced image (source.kind) with its original in the dataset"
            )
        most = self.settings.max_images
        if len(pairs) > most:
            self.run.note(f"PSNR and SSIM are of {most} of {len(pairs)} pairs, drawn at random")
            chosen = np.random.default_rng(self.settings.seed).choice(len(pairs), most, replace=False)
            pairs = [pairs[n] for n in np.sort(chosen)]

        def items() -> Iterator[Any]:
            for pair in pairs:
                yield Item(pair.id, pair.filepath, {"original": pair.original, "stage": pair.stage})

        found: list[tuple[str, float, float]] = []
        with self.run.progress(len(pairs)) as bar:
            for outcomes in process(FidelityWorker(), batched(items(), 4), num_workers=self.settings.num_workers):
                for outcome in outcomes:
                    if outcome.result is None:
                        self.run.failed(outcome.item.filepath, str(outcome.refused or outcome.error))
                    else:
                        found.append((outcome.item.values["stage"], outcome.result["psnr"], outcome.result["ssim"]))
                bar.update(len(outcomes))
        if not found:
            raise Unmeasured("PSNR and SSIM", "none of the pairs can be compared; see the failures of this run")
        self._add_fidelity(found)

    def _add_fidelity(self, found: Sequence[tuple[str, float, float]]) -> None:
        psnr, ssim = (np.array([row[n] for row in found]) for n in (1, 2))
        finite = psnr[np.isfinite(psnr)]
        if len(finite) < len(psnr):
            self.run.note(f"{len(psnr) - len(finite)} enhanced images equal their originals: they have no PSNR")
        for key, title, values, help in (
            ("psnr", "PSNR to the original, dB", finite, "How little was changed, not whether it got better"),
            ("ssim", "SSIM to the original", ssim, "Structure that was kept, -1 to 1; not whether it got better"),
        ):
            if len(values):
                ends = bootstrap_mean(values, self.settings.seed)
                self._add(key, title, float(values.mean()), ends, "neither", help, len(values))
                chart = charts.histogram_chart(f"{title}, enhanced images", values.tolist(), title)
                self.charts.append(chart)
        rows: list[list[Any]] = []
        for name in sorted({stage for stage, _, _ in found}):
            its = np.array([stage == name for stage, _, _ in found])
            has = its & np.isfinite(psnr)
            mean = float(psnr[has].mean()) if has.any() else "equal"
            rows.append([name, int(its.sum()), mean, float(ssim[its].mean())])
        self.tables["Enhanced images"] = (["made by", "pairs", "mean PSNR, dB", "mean SSIM"], rows)

    # -- what is needed -----------------------------------------------------------------------------------------------

    def _one(self, what: str, least: int) -> tuple[Source, Side]:
        if self.source is None or self.own is None:
            raise Unmeasured(
                what,
                "needs embeddings: name a field with them (embeddings_field), a model that computes them (model, e.g. "
                "openai/clip-vit-base-patch32), or the weights of InceptionV3 (inception_weights)",
            )
        _enough(what, "samples", len(self.own.ids), least)
        return self.source, self.own

    def _both(self, what: str, least: int, least_reference: int | None = None) -> tuple[Source, Side, Side]:
        if self.reference is None:
            raise Unmeasured(what, "needs a reference: the images to compare with, e.g. DATASET#real or DATASET:VIEW")
        source, own = self._one(what, least)
        assert self.theirs is not None
        _enough(what, "reference", len(self.theirs.ids), least_reference or least)
        return source, own, self.theirs

    def _add(
        self, key: str, title: str, value: float, ends: tuple[float, float] | None, better: Any, help: str, of: int
    ) -> None:
        low, high = ends or (None, None)
        self.figures.append(Figure(key, title, value, low, high, better, of, help))


def _enough(what: str, side: str, count: int, least: int) -> None:
    if count < least:
        raise Unmeasured(what, f"{count} images of the {side} have embeddings, and {least} are needed: add images")


def _some(vectors: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many rows, drawn at random."""
    if len(vectors) <= most:
        return vectors
    return vectors[np.sort(np.random.default_rng(seed).choice(len(vectors), most, replace=False))]


def _parents(view: SampleCollection, ids: list[str]) -> dict[str, list[str]]:
    """What samples were made from."""
    if not view.has_field("lineage.parents"):
        return {}
    dataset, found = dataset_of(view), dict[str, list[str]]()
    for page in pages(ids):
        found |= {i: p or [] for i, p in zip(*dataset.select(page).values(["id", "lineage.parents"]), strict=True)}
    return found
