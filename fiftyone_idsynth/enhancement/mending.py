"""Repairs one picture: measures it, makes the repairs that its defects call for, and keeps those that help."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..measures.defects import measure
from ..measures.rating import Standard, Verdict, judge
from .remedies import REMEDIES, Findings, Params

COARSE = 4
"""Fidelity is judged on a copy made smaller by this factor, in which noise and blocks hardly show."""


@dataclass(frozen=True)
class Step:
    """A repair that was tried.

    Attributes:
        name: its name in :data:`fiftyone_idsynth.enhancement.remedies.REMEDIES`
        params: at which strength
        score: the score afterwards
        fidelity: how faithful the picture was afterwards, 0 to 1
        kept: whether it was kept
    """

    name: str
    params: Params
    score: float
    fidelity: float
    kept: bool


@dataclass(frozen=True)
class Mended:
    """A picture after its repairs.

    Attributes:
        pixels: uint8 RGB array
        before: the measures of the picture as it was
        after: those of the repaired one
        verdict_before: what they say
        verdict: what they say now
        fidelity: how faithful it is, 0 to 1
        steps: the repairs that were tried
    """

    pixels: np.ndarray
    before: Mapping[str, float | None]
    after: Mapping[str, float | None]
    verdict_before: Verdict
    verdict: Verdict
    fidelity: float = 1.0
    steps: tuple[Step, ...] = field(default_factory=tuple)

    @property
    def kept(self) -> tuple[Step, ...]:
        """The repairs that were kept."""
        return tuple(step for step in self.steps if step.kept)

    @property
    def rose(self) -> bool:
        """Whether the score is above that of the picture as it was."""
        return (self.verdict.score or 0.0) > (self.verdict_before.score or 0.0)


def mend(
    pixels: np.ndarray,
    standard: Standard,
    *,
    quantization: Mapping[int, Any] | None = None,
    repairs: Collection[str] = tuple(REMEDIES),
    min_fidelity: float = 0.0,
) -> Mended:
    """Repairs a picture.

    Each defect that is past its threshold is repaired at the strength that the measure asks for. The picture is
    measured again after each repair, which is kept only if the score rose, the picture is still faithful to the one
    that it was made from, and what was taken away looks like the defect. Where another defect keeps the score at 0,
    the sum of how far all measures are from good decides instead. After each repair that was kept the search begins
    anew, since it can show what was hidden, as the noise of a dark picture is; none is made twice.

    Args:
        pixels: uint8 RGB array
        standard: what pictures are judged by
        quantization (None): the quantization tables of the JPEG file that it is all of
        repairs (all): names of the repairs that may be made
        min_fidelity (0): see :func:`fidelity`

    Returns:
        a :class:`Mended`
    """
    values = measure(pixels, quantization=quantization)
    verdict = judge(values, standard)
    before, original, first, faithful = values, pixels, verdict, 1.0
    tables, made, steps = quantization, dict[str, Params](), list[Step]()
    while True:
        refused = {step.name for step in steps[_last_kept(steps) :]}
        found = Findings(pixels, values, verdict.issues, tables, made)
        wanted = _next(found, [name for name in REMEDIES if name in repairs and name not in refused])
        if wanted is None:
            break
        name, params = wanted
        remedy = REMEDIES[name]
        tried = remedy.apply(pixels, **params)
        now = measure(tried)
        now_verdict, now_faithful = judge(now, standard), fidelity(original, tried)
        keep = (
            now_faithful >= min_fidelity
            and _better(now, now_verdict, values, verdict, standard)
            and remedy.accept(pixels, tried)
        )
        steps.append(Step(name, params, now_verdict.score or 0.0, round(now_faithful, 5), keep))
        if keep:
            pixels, values, verdict, faithful, tables = tried, now, now_verdict, now_faithful, None
            made[name] = params
    return Mended(pixels, before, values, first, verdict, faithful, tuple(steps))


def _last_kept(steps: Sequence[Step]) -> int:
    """Where the repairs begin that were refused since the last one that was kept."""
    return max((number + 1 for number, step in enumerate(steps) if step.kept), default=0)


def _next(found: Findings, names: Sequence[str]) -> tuple[str, Params] | None:
    """The first repair that the defects call for, and its strength."""
    for name in names:
        remedy = REMEDIES[name]
        if name in found.made or any(other in found.made for other in remedy.instead_of):
            continue
        if set(remedy.issues) & set(found.issues) and (params := remedy.prescribe(found)) is not None:
            return name, params
    return None


def replay(pixels: np.ndarray, steps: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Makes the same repairs again.

    Args:
        pixels: uint8 RGB array
        steps: name and parameters of each, as lineage keeps them

    Returns:
        uint8 RGB array
    """
    for step in steps:
        pixels = REMEDIES[step["name"]].apply(pixels, **step["params"])
    return pixels


def fidelity(original: np.ndarray, repaired: np.ndarray) -> float:
    """How much of a picture's structure is still there: 1 all of it, 0 nothing.

    The structure term of SSIM (Wang et al., Image quality assessment, 2004), which brightness, contrast and colour of
    the light do not change: the correlation within windows of 7 x 7 pixels of both pictures made four times smaller,
    where noise hardly shows. Windows count by their contrast.

    Args:
        original: uint8 RGB array
        repaired: of the same size

    Returns:
        0 to 1; 1 for pictures without contrast
    """
    import cv2

    height, width = original.shape[:2]
    size = (max(1, width // COARSE), max(1, height // COARSE))
    a, b = (cv2.resize(p, size, interpolation=cv2.INTER_AREA).astype(np.float32) for p in (original, repaired))

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.blur(values, (7, 7)))

    variance_a, variance_b = (np.maximum(mean(p * p) - mean(p) ** 2, 0) for p in (a, b))
    covariance = mean(a * b) - mean(a) * mean(b)
    # A floor of two grey levels keeps rounding in plain areas from counting.
    floor = 4.0
    total = float(np.sum(np.sqrt((variance_a + floor) * (variance_b + floor))))
    return float(max(0.0, np.sum(covariance + floor) / total))


def _shortfall(values: Mapping[str, float | None], standard: Standard) -> float:
    """The sum of how far the measures are from good, without an end at bad."""
    total = 0.0
    for name, how in standard.measures.items():
        value = values.get(name)
        if value is not None:
            total += how.weight * max(0.0, (value - how.good) / (how.bad - how.good))
    return total


def _better(
    now: Mapping[str, float | None], verdict: Verdict, values: Mapping[str, float | None], before: Verdict,
    standard: Standard,
) -> bool:  # fmt: skip
    score, earlier = verdict.score or 0.0, before.score or 0.0
    if score or earlier:
        return score > earlier
    return _shortfall(now, standard) < _shortfall(values, standard)
