"""A procedural "shapes world": small RGB pictures with exact labels, drawn in code.

One to three flat shapes (circle, square, triangle) in one of four colours and two sizes on one of four grey
backgrounds. Every picture is a pure function of its seed, so a data set needs no files, and captions, tags, class
labels, boxes and masks are exact by construction.

    python -m tests.zoo.shapes_world OUT.png      # a contact sheet to look at
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

#: Side of a picture in pixels.
SIZE = 64
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 38, 40),
    "green": (40, 170, 62),
    "blue": (42, 72, 214),
    "yellow": (238, 212, 40),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle")
#: Radii in pixels.
SIZES: dict[str, tuple[int, int]] = {"small": (8, 11), "large": (15, 20)}
BACKGROUNDS: dict[str, str] = {
    "plain": "a plain background",
    "stripes": "stripes",
    "noise": "noise",
    "gradient": "a gradient",
}
TAGS: tuple[str, ...] = (*COLOURS, *SHAPES, *SIZES, *BACKGROUNDS, "1object", "2objects", "3objects")
#: Every word that captions, queries and prompts of this world may use: the vocabulary of the tokenizers.
WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(
        " ".join(
            [
                *COLOURS,
                *SHAPES,
                *SIZES,
                *BACKGROUNDS.values(),
                *BACKGROUNDS,
                "a an the photo of drawing picture image and on in with is no not one two three shape object "
                "background circles squares triangles left right top bottom high low quality blurry",
            ]
        ).split()
    )
)


@dataclass(frozen=True)
class Thing:
    """One drawn shape.

    Args:
        shape: one of :data:`SHAPES`
        colour: one of :data:`COLOURS`
        size: one of :data:`SIZES`
        box: ``(x0, y0, x1, y1)`` in pixels, right and bottom exclusive
        mask: the visible pixels, ``(SIZE, SIZE)`` bool
    """

    shape: str
    colour: str
    size: str
    box: tuple[int, int, int, int]
    mask: np.ndarray

    @property
    def phrase(self) -> str:
        """All its attributes, as in ``small red circle``."""
        return f"{self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """One picture with its labels.

    Args:
        image: ``(SIZE, SIZE, 3)`` uint8 RGB
        things: the shapes from left to right
        background: one of :data:`BACKGROUNDS`
    """

    image: np.ndarray
    things: tuple[Thing, ...]
    background: str

    @property
    def caption(self) -> str:
        """As in ``a small red circle and a large blue square on stripes``."""
        return " and ".join(f"a {t.phrase}" for t in self.things) + f" on {BACKGROUNDS[self.background]}"

    @property
    def tags(self) -> tuple[str, ...]:
        """Those of :data:`TAGS` that are true of the picture."""
        n = len(self.things)
        have = {self.background, f"{n}object" + ("s" if n > 1 else "")}
        have.update(w for t in self.things for w in (t.colour, t.shape, t.size))
        return tuple(t for t in TAGS if t in have)


def draw_background(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draws greys only: every saturated pixel of a picture belongs to a shape.

    Args:
        kind: one of :data:`BACKGROUNDS`
        rng: source of the chance in it

    Returns:
        ``(SIZE, SIZE, 3)`` uint8
    """
    base, other = rng.uniform(70, 150), rng.uniform(30, 60)
    yy, xx = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = xx * np.cos(angle) + yy * np.sin(angle)
    if kind == "plain":
        grey = np.full((SIZE, SIZE), base + other / 2, np.float32)
    elif kind == "stripes":
        line = (xx, yy, (xx + yy) * 0.7, (xx - yy + SIZE) * 0.7)[rng.integers(4)]
        grey = base + 1.4 * other * (((line + rng.uniform(0, 16)) / 8).astype(np.int32) % 2 == 0)
    elif kind == "gradient":
        grey = 60 + 150 * (ramp - ramp.min()) / (ramp.max() - ramp.min())
    elif kind == "noise":  # blocks of 8 pixels, so that a picture of it survives a small autoencoder
        grey = np.kron(rng.uniform(60, 210, (SIZE // 8, SIZE // 8)), np.ones((8, 8)))
    else:
        raise ValueError(f"unknown background {kind!r}")
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, 2)


def outline(shape: str, x: float, y: float, radius: float) -> np.ndarray:
    """Returns the polygon of a shape in 1/16 pixels, as OpenCV draws it with ``shift=4``."""
    if shape == "circle":
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        points = np.stack([np.cos(t), np.sin(t)], 1)
    elif shape == "square":
        points = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.92
    elif shape == "triangle":
        points = np.array([[0, -1.1], [1.15, 0.95], [-1.15, 0.95]])
    else:
        raise ValueError(f"unknown shape {shape!r}")
    return np.rint((points * radius + (x, y)) * 16).astype(np.int32)


def random_scene(
    seed: int | np.random.Generator,
    n: int | Sequence[int] = (1, 2, 3),
    *,
    shape: str | None = None,
    colour: str | None = None,
    size: str | None = None,
    background: str | None = None,
) -> Scene:
    """Draws one scene. Shapes do not overlap; where no free place is found for one more, the scene has fewer.

    Args:
        seed: number, or a generator to go on with
        n ((1, 2, 3)): number of shapes, or the choices for it
        shape (None): the same for all shapes; by default each has its own, and so with the following
        colour (None): colour of all shapes
        size (None): size of all shapes
        background (None): kind of background

    Returns:
        a :class:`Scene`
    """
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    count = n if isinstance(n, int) else int(rng.choice(list(n)))
    kind = background or str(rng.choice(list(BACKGROUNDS)))
    image = draw_background(kind, rng)
    things: list[Thing] = []
    taken = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(count):
        for _attempt in range(30):
            has_shape = shape or SHAPES[rng.integers(len(SHAPES))]
            has_colour = colour or list(COLOURS)[rng.integers(len(COLOURS))]
            has_size = size or (list(SIZES)[rng.integers(2)] if count < 3 or not things else "small")
            radius = rng.uniform(*SIZES[has_size])
            x, y = rng.uniform(radius * 1.15 + 1, SIZE - radius * 1.15 - 1, 2)
            points = outline(has_shape, x, y, radius)
            cover = cv2.fillPoly(np.zeros((SIZE, SIZE), np.uint8), [points], 255, cv2.LINE_AA, 4)
            if not (cv2.dilate(cover, np.ones((5, 5), np.uint8)) & taken).any():
                break
        else:
            continue
        rgb = np.clip(np.array(COLOURS[has_colour]) + rng.uniform(-18, 18, 3), 0, 255)
        alpha = (cover.astype(np.float32) / 255)[:, :, None]
        image = (image * (1 - alpha) + rgb * alpha + 0.5).astype(np.uint8)
        taken |= cover
        mask = cover > 127
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)
        things.append(Thing(has_shape, has_colour, has_size, box, mask))
    things.sort(key=lambda t: t.box[0])
    return Scene(image, tuple(things), kind)


def scenes(seed: int, count: int, n: int | Sequence[int] = (1, 2, 3), *, start: int = 0) -> list[Scene]:
    """Draws scenes of a series.

    Args:
        seed: number of the series; scene ``i`` of it depends on ``(seed, i)`` only
        count: how many
        n ((1, 2, 3)): number of shapes, or the choices for it
        start (0): first scene

    Returns:
        a list of :class:`Scene`
    """
    return [random_scene(np.random.default_rng((seed, i)), n) for i in range(start, start + count)]


def images(items: Iterable[Scene]) -> np.ndarray:
    """Returns the pictures as ``(N, SIZE, SIZE, 3)`` uint8 RGB."""
    return np.stack([s.image for s in items])


def prompt(scene: Scene, rng: np.random.Generator) -> str:
    """Words the caption in one of many ways, with parts left out at random, so that short prompts are learnt too."""
    text = " and ".join(f"a {t.phrase if rng.random() < 0.5 else t.colour + ' ' + t.shape}" for t in scene.things)
    if rng.random() < 0.75:
        text += f" on {BACKGROUNDS[scene.background]}"
    if rng.random() < 0.15:
        text = f"{('a photo of', 'a drawing of', 'a picture of')[rng.integers(3)]} {text}"
    return text


def main(argv: Sequence[str]) -> int:
    sheet = images(scenes(0, 64)).reshape(8, 8, SIZE, SIZE, 3).swapaxes(1, 2).reshape(8 * SIZE, 8 * SIZE, 3)
    cv2.imwrite(argv[1] if len(argv) > 1 else "sheet.png", sheet[:, :, ::-1])
    for scene in scenes(0, 4):
        print(scene.caption, scene.tags, [t.box for t in scene.things])
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
