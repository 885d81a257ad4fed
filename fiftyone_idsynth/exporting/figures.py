"""The pictures on a dataset card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .pictures import Box

if TYPE_CHECKING:
    from PIL import Image, ImageFont

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000", "#000075", "#f032e6")
CELL = 240


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """An image of the sample grid.

    Attributes:
        path: the image file
        boxes: class and relative box of its objects
        text: its class or caption
    """

    path: Path
    boxes: list[tuple[str, Box]]
    text: str = ""


def sample_grid(thumbnails: Sequence[Thumbnail], classes: Sequence[str], columns: int = 4) -> Image.Image:
    """Draws a grid of images with their boxes; each class has a colour.

    Args:
        thumbnails: the images
        classes: all classes, for the colours
        columns (4): images per row

    Returns:
        the picture
    """
    from PIL import Image, ImageDraw

    rows = -(-len(thumbnails) // columns)
    grid = Image.new("RGB", (columns * CELL, max(1, rows) * (CELL + 20)), "white")
    font = _font()
    for number, thumbnail in enumerate(thumbnails):
        left, top = number % columns * CELL, number // columns * (CELL + 20)
        with Image.open(thumbnail.path) as opened:
            opened.draft("RGB", (CELL, CELL))
            image = opened.convert("RGB")
        image.thumbnail((CELL - 8, CELL - 8))
        x, y = left + (CELL - image.width) // 2, top + (CELL - image.height) // 2
        grid.paste(image, (x, y))
        draw = ImageDraw.Draw(grid)
        for label, (bx, by, bw, bh) in thumbnail.boxes:
            colour = COLOURS[classes.index(label) % len(COLOURS)] if label in classes else "black"
            corners = (x + bx * image.width, y + by * image.height,
                       x + (bx + bw) * image.width - 1, y + (by + bh) * image.height - 1)  # fmt: skip
            if corners[2] > corners[0] and corners[3] > corners[1]:
                draw.rectangle(corners, outline=colour, width=2)
        text = thumbnail.text or ", ".join(dict.fromkeys(label for label, _ in thumbnail.boxes))
        draw.text((left + 4, top + CELL), text[:38], fill="black", font=font)
    return grid


def quality_histogram(scores: Sequence[float], path: Path) -> None:
    """Draws the distribution of quality scores (0 to 1) into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.hist(scores, bins=20, range=(0, 1), color="#4363d8")
    axes.set_xlabel("quality score")
    axes.set_ylabel("images")
    figure.savefig(path, metadata={"Software": None})


def _font() -> ImageFont.FreeTypeFont:
    """A font with the letters of most scripts; matplotlib brings one along."""
    from matplotlib import font_manager
    from PIL import ImageFont

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 13)
