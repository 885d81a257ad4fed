"""Paints parts of pictures of any size anew, by a model that takes only some; all other pixels stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError, RefusedImage

if TYPE_CHECKING:
    from ..painting import Painter

LARGEST = 1.5
"""Longest side that is painted at its own size, as a share of the side that the model was trained at: beyond it models
repeat what they paint."""

SMALLEST = 0.75
"""Shorter ones are enlarged for painting: models paint nothing sensible in them."""


@dataclass(frozen=True, eq=False)
class Job:
    """A part of a picture that is to be painted anew.

    Attributes:
        picture: uint8 RGB array, height x width x 3, of any size
        mask: bool array, height x width: what is painted; every other pixel stays as it is
        prompt: what the whole picture shall show
        seed: of every random choice in it
        negative: what it shall not show
    """

    picture: np.ndarray
    mask: np.ndarray
    prompt: str
    seed: int
    negative: str = ""


@dataclass(frozen=True)
class WorkingSize:
    """How large a picture is while it is painted.

    Attributes:
        scaled: width and height in pixels that it is scaled to
        width: width in pixels that the model paints: the picture is continued to it beyond its right edge
        height: the same, beyond its lower edge
    """

    scaled: tuple[int, int]
    width: int
    height: int


def check_painter(painter: Painter, strength: float) -> None:
    """Refuses a model that cannot paint in a mask, and a strength at which it would do nothing.

    Raises:
        ParameterError: it cannot
    """
    generator = painter.generator
    if "inpaint" not in generator.kinds:
        raise ParameterError(
            "model", generator.name,
            "cannot paint in a mask: name an inpainting model, e.g. stable-diffusion-v1-5/stable-diffusion-inpainting, "
            "or another Stable Diffusion or SDXL",
        )  # fmt: skip
    painter.check_strength(strength)


def working_size(painter: Painter, width: int, height: int, longest: int | None = None) -> WorkingSize:
    """How large a picture is while it is painted.

    Args:
        painter: who paints it
        width: its width in pixels
        height: its height in pixels
        longest (None): longest side in pixels that is painted at its own size; by default :data:`LARGEST` times the
            side that the model was trained at
    """
    side, unit, longer = painter.generator.side, painter.unit, max(width, height)
    most, least = longest or round(LARGEST * side), 0 if longest else round(SMALLEST * side)
    zoom = most // unit * unit / longer if longer > most else side / longer if longer < least else 1.0
    scaled = max(1, round(width * zoom)), max(1, round(height * zoom))
    return WorkingSize(scaled, *(-(-length // unit) * unit for length in scaled))


def repaint(
    painter: Painter, jobs: Sequence[Job], strength: float = 1.0, longest: int | None = None
) -> list[np.ndarray | RefusedImage]:
    """Paints parts of pictures anew.

    A picture whose longer side is too long for the model is painted smaller, and what was painted is enlarged; every
    pixel outside the mask comes back byte for byte whatever its size.

    Args:
        painter: who paints
        jobs: what to paint
        strength (1.0): how much of what is in the masks is given up
        longest (None): see :func:`working_size`

    Returns:
        for each job a new uint8 RGB array of the size of its picture, or why there is none
    """
    from ..models.roles import Wanted

    sizes = [working_size(painter, job.picture.shape[1], job.picture.shape[0], longest) for job in jobs]
    wanted = []
    for job, size in zip(jobs, sizes, strict=True):
        picture, mask = _prepared(job, size)
        wanted.append(Wanted(job.prompt, job.seed, job.negative, picture, mask))
    painted = painter.paint(wanted, strength)
    return [
        one if isinstance(one, RefusedImage) else _joined(job, one, size)
        for job, one, size in zip(jobs, painted, sizes, strict=True)
    ]


def _prepared(job: Job, size: WorkingSize) -> tuple[np.ndarray, np.ndarray]:
    """Picture and mask as the model gets them."""
    picture = _resized(job.picture, size.scaled)
    # A pixel is painted if any part of it is: what is kept must not show through where it is enlarged again.
    mask = _resized(job.mask.astype(np.float32), size.scaled) > 1e-6
    beyond = ((0, size.height - size.scaled[1]), (0, size.width - size.scaled[0]))
    return np.pad(picture, (*beyond, (0, 0)), "edge"), np.pad(mask, beyond, "edge")


def _joined(job: Job, painted: np.ndarray, size: WorkingSize) -> np.ndarray:
    """What was painted in the mask, the picture's own pixels elsewhere."""
    height, width = job.mask.shape
    whole = _resized(painted[: size.scaled[1], : size.scaled[0]], (width, height))
    joined: np.ndarray = np.where(job.mask[..., None], whole, job.picture)
    return joined


def _resized(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An array in another size (width, height); the same array, if it has that."""
    import cv2

    height, width = array.shape[:2]
    if size == (width, height):
        return array
    enlarged = cv2.INTER_CUBIC if array.dtype == np.uint8 else cv2.INTER_LINEAR
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA if size[0] * size[1] < width * height else enlarged)
