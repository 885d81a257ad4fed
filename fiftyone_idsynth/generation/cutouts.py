"""Cut-outs: objects cut from their photographs as tight RGBA crops, and the filters that decide which are usable.

Everything here is arrays in, arrays out. A source of cut-outs is a function that returns the mask of what to keep;
:func:`cut` turns photograph and mask into a :class:`Cutout`. A model that removes backgrounds joins by giving a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import RefusedImage

PLAIN_VARIANCE = 60.0
"""Largest mean colour variance (8-bit levels squared) of the outer 2 % of a photograph whose background is plain:
the criterion and value with which Parcel2D selects product photographs."""

BORDER = 0.02
"""Share of the width and height that counts as the border of a photograph."""

_GRABCUT_SIDE = 512


@dataclass(frozen=True)
class Origin:
    """Where a cut-out comes from.

    Attributes:
        sample_id: the sample
        label_id: the label that outlines it, or an empty string where the whole image was used
        filepath: the photograph
    """

    sample_id: str
    label_id: str = ""
    filepath: str = ""


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object cut from its photograph.

    Attributes:
        pixels: uint8 RGBA array, height x width x 4, as tight as its mask (alpha of at least one half)
        label: its class
        origin: where it comes from
        box: ``(x, y, width, height)`` of the crop in the photograph, in pixels
        truncated: whether the photograph's border cuts it off
    """

    pixels: np.ndarray
    label: str
    origin: Origin
    box: tuple[int, int, int, int]
    truncated: bool = False


@dataclass(frozen=True)
class CutoutFilter:
    """Which cut-outs are usable.

    Attributes:
        min_side: least width and height in pixels
        min_area: least number of mask pixels
        min_convexity: least :func:`convexity`, 0 to 1
        allow_truncated: whether objects that the photograph's border cuts off are used
    """

    min_side: int = 24
    min_area: int = 400
    min_convexity: float = 0.0
    allow_truncated: bool = False

    def refusal(self, cutout: Cutout) -> str | None:
        """The reason why a cut-out is not usable (``"too_small"``, ``"truncated"``, ``"not_convex"``), or ``None``."""
        mask = hard_mask(cutout.pixels)
        if min(mask.shape) < self.min_side or np.count_nonzero(mask) < self.min_area:
            return "too_small"
        if cutout.truncated and not self.allow_truncated:
            return "truncated"
        if self.min_convexity > 0 and convexity(mask) < self.min_convexity:
            return "not_convex"
        return None


def hard_mask(rgba: np.ndarray) -> np.ndarray:
    """The pixels that belong to an RGBA cut-out: alpha of at least one half. Bool array, height x width."""
    inside: np.ndarray = rgba[..., 3] >= 128
    return inside


def cut(pixels: np.ndarray, mask: np.ndarray, label: str, origin: Origin, *, framed: bool = True) -> Cutout:
    """Cuts an object from its photograph.

    Args:
        pixels: uint8 RGB array, height x width x 3
        mask: bool array, or uint8 array of opacities (0 to 255), height x width
        label: the object's class
        origin: where it comes from
        framed (True): whether the photograph's border may cut off the object; not so for a cut-out made before, which
            its own file may fit tightly

    Returns:
        a :class:`Cutout`

    Raises:
        RefusedImage: the mask is empty, or not of the photograph's size
    """
    if mask.shape != pixels.shape[:2]:
        raise RefusedImage(
            "mask_of_other_size",
            f"the mask is {mask.shape[1]} x {mask.shape[0]}, the image {pixels.shape[1]} x {pixels.shape[0]} pixels",
        )
    alpha = mask.astype(np.uint8) * 255 if mask.dtype == bool else mask
    box = bounds(alpha >= 128)
    if box is None:
        raise RefusedImage("empty_mask", "no pixel of the mask is set")
    x, y, w, h = box
    crop = np.dstack([pixels[y : y + h, x : x + w, :3], alpha[y : y + h, x : x + w]])
    height, width = mask.shape
    truncated = framed and (x == 0 or y == 0 or x + w == width or y + h == height)
    return Cutout(crop, label, origin, box, truncated)


def bounds(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """The tight box ``(x, y, width, height)`` around the set pixels of a bool mask, or ``None`` if there is none."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return (x, y, w, h) if w else None


def convexity(mask: np.ndarray) -> float:
    """How convex a mask is: its largest part's outlined area / the area of that part's convex hull, 0 to 1.

    Hands, twigs and holes in the outline make it small; 0.95 is what Parcel2D asks of boxes.

    Args:
        mask: bool array, height x width
    """
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return 0.0
    outline = max(outlines, key=cv2.contourArea)
    filled = np.zeros(mask.shape, np.uint8)
    hull = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, [outline], 0, 1, cv2.FILLED)
    cv2.fillConvexPoly(hull, cv2.convexHull(outline), 1)
    return min(1.0, float(np.count_nonzero(filled)) / float(np.count_nonzero(hull)))


def components(indices: np.ndarray, index: int, min_area: int = 1) -> list[np.ndarray]:
    """The connected parts of one class in a class-index mask, largest first.

    Args:
        indices: array of class indices, height x width
        index: the class
        min_area (1): parts of fewer pixels are left out

    Returns:
        a list of bool arrays, height x width
    """
    count, parts, stats, _ = cv2.connectedComponentsWithStats((indices == index).astype(np.uint8), connectivity=8)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    return [parts == i + 1 for i in np.argsort(-areas, kind="stable") if areas[i] >= min_area]


def alpha_mask(rgba: np.ndarray) -> np.ndarray:
    """The opacity of an image whose background is transparent.

    Args:
        rgba: uint8 array, height x width x 4

    Returns:
        its alpha channel

    Raises:
        RefusedImage: nothing in it is transparent, or everything is
    """
    alpha: np.ndarray = rgba[..., 3]
    inside = float(np.mean(alpha >= 128))
    if inside == 1.0:
        raise RefusedImage("opaque", "the alpha channel hides nothing")
    if inside == 0.0:
        raise RefusedImage("empty_mask", "the alpha channel hides everything")
    return alpha


def border_variance(pixels: np.ndarray, border: float = BORDER) -> float:
    """The colour variance of an image's border, averaged over the channels (Parcel2D's measure of a plain background).

    Args:
        pixels: uint8 RGB array, height x width x 3
        border (0.02): share of the width and height that counts as border

    Returns:
        the variance in 8-bit levels squared
    """
    return float(_border_colours(pixels, border).astype(np.float64).var(axis=0).mean())


def plain_background_mask(pixels: np.ndarray, max_variance: float = PLAIN_VARIANCE) -> np.ndarray:
    """Separates an object from a plain background without a model.

    The border gives the background's colour and spread in CIELAB; what is connected to the border and has that colour
    is background; GrabCut then settles the outline.

    Args:
        pixels: uint8 RGB array, height x width x 3
        max_variance (PLAIN_VARIANCE): largest :func:`border_variance` of a plain background

    Returns:
        bool array, height x width: the object

    Raises:
        RefusedImage: ``"background_not_plain"``, or ``"no_object"`` where no single object stands out
    """
    variance = border_variance(pixels)
    if variance > max_variance:
        raise RefusedImage("background_not_plain", f"border variance {variance:.0f}, at most {max_variance:.0f}")
    height, width = pixels.shape[:2]
    zoom = min(1.0, _GRABCUT_SIDE / max(height, width))
    small = cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA) if zoom < 1 else pixels
    rough = _unlike_border(small)
    share = float(np.mean(rough))
    if share < 0.002 or share > 0.95:
        raise RefusedImage("no_object", f"{100 * share:.1f} % of the image differs from the border's colour")
    mask = _main_part(_grabcut(small, rough))
    if not mask.any():
        raise RefusedImage("no_object", "the outline could not be settled")
    if zoom < 1:
        soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        mask = soft >= 0.5
    return mask


def _border_colours(pixels: np.ndarray, border: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    rows, columns = max(1, round(border * height)), max(1, round(border * width))
    strips = (pixels[:rows], pixels[-rows:], pixels[:, :columns], pixels[:, -columns:])
    return np.concatenate([strip.reshape(-1, pixels.shape[2]) for strip in strips])


def _unlike_border(pixels: np.ndarray) -> np.ndarray:
    """What is not connected to the border by the border's colour."""
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    border = _border_colours(lab, BORDER)
    background = np.median(border, axis=0)
    spread = float(np.percentile(np.linalg.norm(border - background, axis=1), 95))
    alike = (np.linalg.norm(lab - background, axis=2) <= max(6.0, 1.5 * spread)).astype(np.uint8)
    # A frame of background lets one flood reach every stretch of border between objects that touch it.
    framed = cv2.copyMakeBorder(alike, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(framed, None, (0, 0), 2)
    unlike = (framed[1:-1, 1:-1] != 2).astype(np.uint8)
    return cv2.morphologyEx(unlike, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def _grabcut(pixels: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """Settles the outline within a band around a rough mask."""
    band = 2 * max(1, round(0.006 * max(rough.shape))) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (band, band))
    trimap = np.full(rough.shape, cv2.GC_BGD, np.uint8)
    trimap[cv2.dilate(rough.astype(np.uint8), kernel) > 0] = cv2.GC_PR_BGD
    trimap[rough] = cv2.GC_PR_FGD
    inner = cv2.erode(rough.astype(np.uint8), kernel) > 0
    trimap[inner] = cv2.GC_FGD
    if not inner.any() or not (trimap == cv2.GC_BGD).any():
        return rough
    cv2.setRNGSeed(0)  # GrabCut starts from k-means: the same photograph must give the same mask every time
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    cv2.grabCut(bgr, trimap, None, np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)
    settled: np.ndarray = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)
    return settled


def _main_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part and every part at least a tenth as large."""
    parts = components(mask, 1)
    kept = [part for part in parts if np.count_nonzero(part) >= 0.1 * np.count_nonzero(parts[0])]
    return np.logical_or.reduce(kept) if kept else mask
