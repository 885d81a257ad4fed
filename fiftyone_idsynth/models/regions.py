"""What the models that find regions have in common: class descriptions, boxes, suppression, masks to regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import ParameterError, suggestion
from .roles import Box, Region

Descriptions = Sequence[str] | Mapping[str, str | Sequence[str]]
"""What to look for: texts, or labels with their texts. ``"red panda|small red animal"`` are two texts for one class,
which is labelled with the first where no label is given."""


def class_texts(classes: Descriptions) -> dict[str, tuple[str, ...]]:
    """Takes class descriptions apart.

    Args:
        classes: texts, or labels with their texts; ``|`` stands between several texts for one class

    Returns:
        label -> texts, in the order given

    Raises:
        ParameterError: there is none, one is empty, or a label occurs twice
    """
    if isinstance(classes, str):
        classes = [classes]
    pairs = classes.items() if isinstance(classes, Mapping) else ((None, texts) for texts in classes)
    found: dict[str, tuple[str, ...]] = {}
    for label, texts in pairs:
        listed = [texts] if isinstance(texts, str) else texts
        parts = tuple(dict.fromkeys(part.strip() for text in listed for part in text.split("|") if part.strip()))
        name = (label or "").strip() or (parts[0] if parts else "")
        if not parts:
            raise ParameterError("classes", label or texts, "describe each class in a word or more, e.g. 'red panda'")
        if name in found:
            raise ParameterError("classes", name, "is named twice; join the texts of one class: 'panda|red panda'")
        found[name] = parts
    if not found:
        raise ParameterError("classes", list(classes), "name at least one class to look for, e.g. 'red panda'")
    return found


def background_texts(background: Sequence[str]) -> tuple[str, ...]:
    """The descriptions of what is no class: texts, each of which may join several with ``|``."""
    listed = [background] if isinstance(background, str) else background
    return tuple(dict.fromkeys(part.strip() for text in listed for part in text.split("|") if part.strip()))


def known_classes(classes: Descriptions, known: Sequence[str], model: str) -> dict[str, str]:
    """Finds the classes that a detector with fixed classes is to report.

    Args:
        classes: as in :func:`class_texts`, where texts are the detector's own names in any case; empty: all of them
        known: the detector's names
        model: the detector, for the message

    Returns:
        the detector's name -> the label to write

    Raises:
        ParameterError: the detector has no such class
    """
    if not classes:
        return {name: name for name in known}
    spelt = {name.casefold(): name for name in known}
    found: dict[str, str] = {}
    for label, texts in class_texts(classes).items():
        for text in texts:
            if text.casefold() not in spelt:
                raise ParameterError("classes", text, f"{model} does not know it: {suggestion(text, known)}")
            found[spelt[text.casefold()]] = label
    return found


def relative_box(corners: Sequence[float] | np.ndarray, width: float, height: float) -> Box:
    """Turns corners (x0, y0, x1, y1) in pixels into relative x, y, width, height, cut at the picture's edges."""
    x0, x1 = (min(max(float(x) / width, 0.0), 1.0) for x in (corners[0], corners[2]))
    y0, y1 = (min(max(float(y) / height, 0.0), 1.0) for y in (corners[1], corners[3]))
    return x0, y0, max(x1 - x0, 0.0), max(y1 - y0, 0.0)


def mask_box(mask: np.ndarray) -> Box:
    """The relative box around the pixels of a mask (bool, H x W), which must have one at least."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    return relative_box((xs[0], ys[0], xs[-1] + 1, ys[-1] + 1), width, height)


def suppress(regions: Sequence[Region], iou: float = 0.5) -> list[Region]:
    """Keeps the surest of regions of one label whose boxes overlap (non-maximum suppression for each class apart).

    Args:
        regions: regions of one picture
        iou (0.5): boxes with a higher intersection over union are taken for the same object

    Returns:
        the regions kept, the surest first
    """
    if not regions:
        return []
    import torch
    from torchvision.ops import batched_nms

    labels = {label: number for number, label in enumerate(dict.fromkeys(r.label for r in regions))}
    boxes = torch.tensor([r.box for r in regions], dtype=torch.float32)
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.tensor([r.confidence for r in regions], dtype=torch.float32)
    keep = batched_nms(boxes, scores, torch.tensor([labels[r.label] for r in regions]), iou)
    return [regions[int(i)] for i in keep]


def join(regions: Sequence[Region]) -> list[Region]:
    """One region for each label: the box round all of its boxes, all of its masks, its highest confidence."""
    joined = []
    for label in dict.fromkeys(r.label for r in regions):
        same = [r for r in regions if r.label == label]
        x, y = min(r.box[0] for r in same), min(r.box[1] for r in same)
        right, bottom = max(r.box[0] + r.box[2] for r in same), max(r.box[1] + r.box[3] for r in same)
        masks = [r.mask for r in same if r.mask is not None]
        joined.append(
            Region(
                label,
                max(r.confidence for r in same),
                (x, y, min(right, 1.0) - x, min(bottom, 1.0) - y),
                np.logical_or.reduce(masks) if masks else None,
            )
        )
    return joined


def mask_regions(
    label: str, mask: np.ndarray, probability: np.ndarray, *, min_area: float = 0.001, one_box: bool = False
) -> list[Region]:
    """Turns the mask of a class into regions, one for each connected component.

    Args:
        label: the class
        mask: bool, H x W
        probability: float, H x W; the mean inside a region is its confidence
        min_area (0.001): components with a smaller share of the picture are dropped
        one_box (False): one region round all components that are large enough, as in the dissertation

    Returns:
        the regions, the surest first
    """
    import cv2

    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = [n for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] >= min_area * mask.size]
    if not large:
        return []
    if one_box:
        whole = np.isin(numbers, large)
        return [Region(label, float(probability[whole].mean()), mask_box(whole), whole)]
    height, width = mask.shape
    found = []
    for n in large:
        x, y, w, h = (int(v) for v in stats[n, :4])
        inside = numbers[y : y + h, x : x + w] == n
        piece = np.zeros_like(mask)
        piece[y : y + h, x : x + w] = inside
        confidence = float(probability[y : y + h, x : x + w][inside].mean())
        found.append(Region(label, confidence, relative_box((x, y, x + w, y + h), width, height), piece))
    return sorted(found, key=lambda region: -region.confidence)
