"""Figures of embeddings: distances from a reference, overlap with it, variety, copies."""

from __future__ import annotations

from os.path import basename
from typing import TYPE_CHECKING, Any

import numpy as np

from ...samples import dataset_of, pages
from . import charts, distances, diversity, inception, neighbours
from .features import Side
from .intervals import Z, bootstrap_mean, by_halves, wilson
from .measurement import Measurement, Unmeasured

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

SIDES = ("samples", "reference")
"""What the two sides are called in charts."""

SHOWN = 12
"""How many of the most alike pairs the report shows."""

SURE = 10
"""How many real images must have another one within the limit of copies, so that the limit is not left to chance."""

LISTED = 30
"""How many of them it lists."""


class EmbeddingFigures(Measurement):
    """The figures that need embeddings, and mostly a reference; each method adds what it finds."""

    def frechet_distance(self) -> None:
        """The Fréchet distance, on InceptionV3 the FID."""
        source, own, theirs = self.both("Fréchet distance", 4)
        key, title = ("fid", "FID") if source.canonical else ("frechet_distance", f"Fréchet distance{source.on}")
        fewest, dimensions = min(len(own.ids), len(theirs.ids)), own.vectors.shape[1]
        if fewest < dimensions:
            self.run.note(
                f"{title}: {fewest} images are fewer than the {dimensions} dimensions of the embeddings, which makes "
                "it too high: compare it only with values of as many images, and trust the kernel distance (KID) more"
            )
        value, error, beyond = distances.frechet_with_error(own.vectors, theirs.vectors, self.settings.seed)
        help = "Distance of mean and covariance of the embeddings, from 0; falls as the number of images grows"
        self.add(key, title, value, (max(0.0, value - Z * error), value + Z * error), "lower", help, len(own.ids))
        help = "The same, extrapolated to infinitely many images"
        self.add(f"{key}_extrapolated", f"{title}, extrapolated", beyond, None, "lower", help, len(own.ids))

    def kernel_distance(self) -> None:
        """The kernel distance, on InceptionV3 the KID."""
        source, own, theirs = self.both("kernel distance", 8)
        key, title = ("kid", "KID") if source.canonical else ("kernel_distance", f"Kernel distance{source.on}")
        scale = 1.0 if source.canonical else distances.scale_of(theirs.vectors)
        value, error = distances.kernel_distance(own.vectors, theirs.vectors, self.settings.seed, scale)
        help = "Unbiased: 0 on average for images of one kind, however few"
        self.add(key, title, value, (value - Z * error, value + Z * error), "lower", help, len(own.ids))

    def inception_score(self) -> None:
        """The inception score."""
        source, own = self.one("inception score", 2)
        if not source.canonical or source.worker is None:
            raise Unmeasured("inception score", f"it is defined with InceptionV3. {inception.remedy()}")
        value, spread = distances.inception_score(own.vectors, source.worker.classifier, self.settings.seed)
        help = "How surely InceptionV3 names the images and how evenly its classes occur; interval over ten parts"
        ends = (value - Z * spread, value + Z * spread)
        self.add("inception_score", "Inception score", value, ends, "higher", help, len(own.ids))

    def precision_recall(self) -> None:
        """Precision, recall, density and coverage."""
        k, most = self.settings.neighbours, self.settings.max_images
        source, own, theirs = self.both("precision and recall", k + 2)
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
            self.add(name, name.capitalize() + on, float(hits.mean()), ends, "higher", f"{help}, 0 to 1", len(of))
        ends = bootstrap_mean(found.density, self.settings.seed)
        help = (
            "How many reference images are near each image, relative to the reference itself; about 1 where both agree"
        )
        self.add("density", f"Density{on}", float(found.density.mean()), ends, "higher", help, len(first))

    def vendi_score(self) -> None:
        """The Vendi score, beside that of as many reference images."""
        source, own = self.one("Vendi score", 2)
        on = f" on {source.name}"
        help = "Effective number of different images; grows with their number"
        self.add("vendi_score", f"Vendi score{on}", diversity.vendi_score(own.vectors), None, "higher", help,
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
        self.add("vendi_ratio", f"Variety relative to the reference{on}", value, ends, "higher", help, size)

    def train_copies(self) -> None:
        """The share of images that are nearer to a real one than real images are to each other."""
        source, own, theirs = self.both("train-copy rate", 1, 3)
        found = neighbours.nearest_real(own.vectors, theirs.vectors, self.settings.copy_quantile)
        count, on = len(own.ids), f" on {source.name}"
        copies = np.flatnonzero(found.copies)
        rate = float((found.real <= found.limit).mean())
        near = int((found.real <= found.limit).sum())
        if near < SURE:
            self.run.note(
                f"train copies: the limit is that of the {near} real images that are most alike, which is rough: look "
                "at the nearest pairs in the report, or compare with more real images"
            )
        help = f"Share of images as near to a real one as {rate:.1%} of the real ones are to another: 0 to 1"
        self.add("train_copies", f"Train-copy rate{on}", len(copies) / count, wilson(len(copies), count), "lower",
                  help, count)  # fmt: skip
        authentic = int(found.authentic.sum())
        help = (
            "Share of images whose nearest real image has another real one that is nearer; new real images: "
            f"{found.expected_authenticity:.2f}"
        )
        self.add(
            "authenticity", f"Authenticity{on}", authentic / count, wilson(authentic, count), "higher", help, count
        )
        chart = charts.copy_chart(found.distance, found.real, found.limit, SIDES)
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
            self.charts.append(charts.map_chart(self.own.vectors, theirs, SIDES, self.settings.seed))


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
