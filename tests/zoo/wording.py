"""Texts about scenes, with what must be in a scene for them to be true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.zoo import shapes_world as world
from tests.zoo.common import VALUES

#: Attributes that a wording names, with how often.
NAMED = ((("colour", "shape"), 0.5), (("colour",), 0.1), (("shape",), 0.15), (("size", "colour", "shape"), 0.25))


@dataclass(frozen=True)
class Wording:
    """A text and what must be in a scene for it to be true.

    Args:
        text: as a user may write it
        parts: for each shape that it names, the attributes that it names
        background: kind that it names, or None
    """

    text: str
    parts: tuple[dict[str, str], ...]
    background: str | None = None

    def fits(self, scene: world.Scene) -> bool:
        """Returns whether the text is true: two equal parts ask for two shapes."""
        if self.background not in (None, scene.background) or len(self.parts) > len(scene.things):
            return False
        return all(
            sum(matches(t, part) for t in scene.things) >= sum(part == other for other in self.parts)
            for part in self.parts
        )


def matches(thing: world.Thing, part: dict[str, str]) -> bool:
    """Returns whether a shape has all the attributes."""
    return all(getattr(thing, name) == value for name, value in part.items())


def words(part: dict[str, str]) -> str:
    """Returns the attributes in the order of English: size, colour, shape."""
    return " ".join(part[name] for name in ("size", "colour", "shape") if name in part)


def _named(rng: np.random.Generator) -> tuple[str, ...]:
    return NAMED[rng.choice(len(NAMED), p=[share for _, share in NAMED])][0]


def wording(scene: world.Scene, rng: np.random.Generator) -> Wording:
    """Describes a scene, or one shape of it, with parts left out at random."""
    things = scene.things
    if len(things) > 1 and rng.random() < 0.3:
        things = (things[rng.integers(len(things))],)
    named = _named(rng)
    parts = tuple({name: getattr(t, name) for name in named} for t in things)
    text = " and ".join(("a " if "shape" in p else "") + words(p) for p in parts)
    background = scene.background if rng.random() < 0.4 else None
    if background:
        text += f" on {world.BACKGROUNDS[background]}"
    start = rng.random()
    if start < 0.3:
        text = f"{('a photo of', 'a drawing of', 'a picture of', 'an image of')[rng.integers(4)]} {text}"
    elif start < 0.45:
        text = text.removeprefix("a ")
    return Wording(text, parts, background)


def query(scene: world.Scene, rng: np.random.Generator, absent: float = 0.35) -> Wording:
    """Names one kind of shape.

    Args:
        scene: picture to look at
        rng: source of chance
        absent (0.35): how often it names what is probably not there, half of the time by one wrong attribute only

    Returns:
        a :class:`Wording` of one part
    """
    thing = scene.things[rng.integers(len(scene.things))]
    part = {name: getattr(thing, name) for name in _named(rng)}
    if rng.random() < absent:
        change = list(part) if rng.random() < 0.5 else [list(part)[rng.integers(len(part))]]
        part.update({name: str(rng.choice(VALUES[name])) for name in change})
    text = words(part)
    start = rng.random()
    if start < 0.4 and "shape" in part:
        text = f"a {text}"
    elif start < 0.55:
        text = f"{('the', 'a photo of a', 'a picture of a')[rng.integers(3)]} {text}"
    return Wording(text, (part,))
