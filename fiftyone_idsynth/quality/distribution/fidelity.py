"""How far enhanced images keep to the images that they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...engine.worker import Item, Worker
from ...errors import RefusedImage
from ...media import read_image
from ...samples import dataset_of, pages

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

_LEAST_SIDE = 11
"""Side of the window of the SSIM."""

_SHAPE = 0.02
"""How much the ratio of the sides of two images may differ for them to be compared."""


@dataclass(frozen=True)
class Pair:
    """An enhanced image and the one that it was made from.

    Attributes:
        id: the id of the enhanced sample
        filepath: its image
        original: the image that it was made from
        stage: the stage that made it
    """

    id: str
    filepath: str
    original: str
    stage: str


def find_pairs(samples: SampleCollection) -> list[Pair]:
    """The enhanced samples (``source.kind``) that have one parent, which is still in the dataset."""
    from fiftyone import ViewField as F

    if not samples.has_field("source.kind") or not samples.has_field("lineage.parents"):
        return []
    view = samples.match((F("source.kind") == "enhanced") & (F("lineage.parents").length() == 1))
    rows = list(zip(*view.values(["id", "filepath", "lineage.parents", "lineage.stage"]), strict=True))
    dataset, paths = dataset_of(samples), dict[str, str]()
    for page in pages(sorted({parents[0] for _, _, parents, _ in rows})):
        paths |= dict(zip(*dataset.select(page).values(["id", "filepath"]), strict=True))
    return [Pair(i, path, paths[p[0]], stage or "") for i, path, p, stage in rows if p[0] in paths]


class FidelityWorker(Worker):
    """Computes PSNR and SSIM of pairs of images: each item has the field ``original``."""

    decode = None

    def __call__(self, items: Sequence[Item]) -> list[dict[str, Any] | RefusedImage]:
        found: list[dict[str, Any] | RefusedImage] = []
        for item in items:
            try:
                made, original = (read_image(path).pixels for path in (item.filepath, item.values["original"]))
                found.append(fidelity(made, original))
            except RefusedImage as refusal:
                found.append(refusal)
        return found


def fidelity(made: np.ndarray, original: np.ndarray) -> dict[str, float]:
    """PSNR and SSIM of two images; where their sizes differ, the larger one is first averaged down to the smaller one.

    SSIM as in Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 13,
    2004 (Gaussian window, sigma 1.5), of the colour bands on average; by scikit-image.

    Args:
        made: uint8, height x width x 3
        original: uint8, height x width x 3

    Returns:
        ``psnr`` in dB (infinite for equal images) and ``ssim``, -1 to 1 (equal)

    Raises:
        RefusedImage: the shapes differ, or a side is below 11 pixels
    """
    import cv2
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    (h1, w1), (h2, w2) = made.shape[:2], original.shape[:2]
    if abs(np.log((w1 / h1) / (w2 / h2))) > _SHAPE:
        raise RefusedImage("another_shape", f"{w1} x {h1} pixels cannot be compared with {w2} x {h2}")
    if (h1, w1) != (h2, w2):
        size = (min(w1, w2), min(h1, h2))
        made, original = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (made, original))
    if min(made.shape[:2]) < _LEAST_SIDE:
        raise RefusedImage("too_small", f"{made.shape[1]} x {made.shape[0]} pixels: SSIM needs {_LEAST_SIDE} at least")
    with np.errstate(divide="ignore"):
        psnr = peak_signal_noise_ratio(original, made, data_range=255)
    ssim = structural_similarity(
        original, made, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return {"psnr": float(psnr), "ssim": float(ssim)}
