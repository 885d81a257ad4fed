"""Photographs that come with scikit-image and scikit-learn, as a folder a person might start from.

All of them are installed with these packages (see their README.txt for authors and licences), so nothing is fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_BACKGROUNDS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png",
    "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip


def write_photos(folder: Path) -> None:
    """Writes the demo's photographs.

    ``backgrounds`` are whole photographs, with a few bad ones and copies among them; ``objects/coin`` are coins cut out
    of one photograph, transparent around; ``distractors`` are a motorcycle, a cup and a flower.

    Args:
        folder: where to write; made if it is missing
    """
    _write_backgrounds(folder / "backgrounds")
    _write_coins(folder / "objects" / "coin")
    _write_distractors(folder / "distractors")


def _write_backgrounds(folder: Path) -> None:
    from PIL import Image, ImageFilter

    folder.mkdir(parents=True, exist_ok=True)
    photos = {Path(name).stem: _open(name).convert("RGB") for name in _BACKGROUNDS}
    photos |= {name: Image.fromarray(pixels) for name, pixels in _scikit_learn_photos().items()}
    for name, photo in photos.items():
        photo.thumbnail((800, 800))
        photo.save(folder / f"{name}.jpg", quality=92)
    # What collections suffer from: a smaller copy, an exact copy, a blurred, a dark and a broken photo.
    china, coffee, rocket = photos["china"], photos["coffee"], photos["rocket"]
    china.resize((china.width // 2, china.height // 2)).save(folder / "china_small.jpg", quality=70)
    (folder / "rocket_again.jpg").write_bytes((folder / "rocket.jpg").read_bytes())
    coffee.transpose(Image.Transpose.FLIP_LEFT_RIGHT).filter(ImageFilter.GaussianBlur(6)).save(folder / "blurred.jpg")
    rocket.rotate(180).point([value // 12 for value in range(256)] * 3).save(folder / "dark.jpg", quality=92)
    (folder / "broken.jpg").write_bytes((folder / "moon.jpg").read_bytes()[:4000])


def _write_coins(folder: Path) -> None:
    """Cuts the coins out with the segmentation of scikit-image's own example (threshold after background removal)."""
    import cv2
    from skimage import measure
    from skimage.morphology import remove_small_objects

    pixels = np.asarray(_open("coins.png").convert("L"))
    even = cv2.subtract(pixels, cv2.blur(pixels, (121, 121)) // 2)
    _, mask = cv2.threshold(even, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    filled = remove_small_objects(measure.label(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5)))), max_size=600)
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for region in measure.regionprops(filled):
        round_enough = (
            region.solidity > 0.9 and 0.7 < (region.bbox[2] - region.bbox[0]) / (region.bbox[3] - region.bbox[1]) < 1.4
        )
        if round_enough:
            number += 1
            rows, columns = region.slice
            _write_cutout(folder / f"coin_{number:02d}.png", pixels[rows, columns], region.image_filled, size=160)


def _write_distractors(folder: Path) -> None:
    """A motorcycle, by its distance in scikit-image's stereo pair (nearer than the ground beside it), and a cup and a
    flower, by GrabCut around hand-drawn ellipses."""
    import cv2
    from skimage import measure

    folder.mkdir(parents=True, exist_ok=True)
    motorcycle = np.asarray(_open("motorcycle_left.png").convert("RGB"))
    disparity = np.nan_to_num(np.load(_data_folder() / "motorcycle_disp.npz")["arr_0"], nan=0, posinf=0)
    ground = np.median(disparity[:, -60:], axis=1, keepdims=True)
    near = (disparity > np.maximum(ground + 2.5, 27)).astype(np.uint8)
    parts = measure.label(cv2.morphologyEx(near, cv2.MORPH_OPEN, np.ones((5, 5))))
    _write_cutout(folder / "motorcycle.png", motorcycle, parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))

    coffee = np.asarray(_open("coffee.png").convert("RGB"))
    _write_cutout(folder / "cup.png", coffee, _grabcut(coffee, centre=(300, 195), outer=(205, 170), inner=(120, 100)))
    flower = _scikit_learn_photos()["flower"]
    _write_cutout(folder / "flower.png", flower, _grabcut(flower, centre=(325, 170), outer=(190, 165), inner=(60, 60)))


def _grabcut(
    pixels: np.ndarray, *, centre: tuple[int, int], outer: tuple[int, int], inner: tuple[int, int]
) -> np.ndarray:
    import cv2

    guess = np.full(pixels.shape[:2], cv2.GC_BGD, np.uint8)
    cv2.ellipse(guess, centre, outer, 0, 0, 360, cv2.GC_PR_FGD, -1)
    cv2.ellipse(guess, centre, inner, 0, 0, 360, cv2.GC_FGD, -1)
    cv2.setRNGSeed(0)
    model, other = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(pixels[..., ::-1].copy(), guess, None, model, other, 5, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    return np.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _write_cutout(path: Path, pixels: np.ndarray, mask: np.ndarray, size: int | None = None) -> None:
    from PIL import Image

    rows, columns = np.nonzero(mask)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    colour = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    image = Image.fromarray(np.dstack([colour, mask.astype(np.uint8) * 255])[box])
    if size:
        scale = size / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    image.save(path)


def _data_folder() -> Path:
    import skimage

    return Path(skimage.__file__).parent / "data"


def _open(name: str) -> Any:
    from PIL import Image

    return Image.open(_data_folder() / name)


def _scikit_learn_photos() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_sample_images

    found = load_sample_images()
    return {Path(name).stem: pixels for name, pixels in zip(found.filenames, found.images, strict=True)}
