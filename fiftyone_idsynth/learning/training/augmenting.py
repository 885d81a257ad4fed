"""Images that differ a little each time they are seen: mirrored, cropped, in other light. Boxes and masks go along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .answers import Task
from .examples import Loaded

if TYPE_CHECKING:
    import numpy as np

_CROP = (0.5, 1.0)
"""Share of the picture that a crop keeps."""


def augmented(loaded: Loaded, task: Task, seed: int) -> Loaded:
    """Changes a picture by chance.

    It is mirrored in half of the cases; cropped to at least half of its area and stretched to its size (of pictures
    with boxes: to a part that holds boxes, as SSD was trained, Liu et al. 2016, 2.2, in six of seven cases); and its
    brightness, contrast and saturation are changed; not its hue, which classes may differ by.

    Args:
        loaded: the picture
        task: what it teaches
        seed: of the choices, made by torch's generator, which is left as it was
    """
    import torch
    from torchvision import tv_tensors

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        picture = tv_tensors.Image(torch.from_numpy(loaded.pixels).permute(2, 0, 1))
        height, width = loaded.pixels.shape[:2]
        given: dict[str, Any] = {"image": picture}
        if loaded.boxes is not None:
            given["boxes"] = tv_tensors.BoundingBoxes(
                torch.from_numpy(loaded.boxes), format="XYXY", canvas_size=(height, width)
            )
            given["labels"] = torch.from_numpy(loaded.numbers)
        if loaded.mask is not None:
            given["mask"] = tv_tensors.Mask(torch.from_numpy(loaded.mask))
        found = _transform(task, height, width, loaded.boxes)(given)
    result = Loaded(found["image"].permute(1, 2, 0).contiguous().numpy(), loaded.number)
    if "boxes" in found:
        result.boxes, result.numbers = found["boxes"].numpy(), found["labels"].numpy()
    if "mask" in found:
        result.mask = found["mask"].numpy()
    return result


def _transform(task: Task, height: int, width: int, boxes: np.ndarray | None) -> Any:
    from torchvision.transforms import v2

    light = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)
    if task != "detection":
        crop = v2.RandomResizedCrop((height, width), scale=_CROP, antialias=True)
        return v2.Compose([crop, v2.RandomHorizontalFlip(), light])
    crops = [v2.RandomIoUCrop()] if boxes is not None and len(boxes) else []
    return v2.Compose([*crops, v2.RandomHorizontalFlip(), v2.SanitizeBoundingBoxes(min_size=1), light])
