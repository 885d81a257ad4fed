"""Which repair helps against which defect, how strong it has to be, and in which order repairs are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from ..measures.defects import WORKING_SIDE, overexposure
from ..measures.rating import MEASURES
from .restoration import compression, impulses, noise, sharpness, tone

Params = dict[str, Any]


@dataclass(frozen=True)
class Findings:
    """What was found in a picture.

    Attributes:
        pixels: uint8 RGB array
        values: the value of each measure, as :func:`fiftyone_idsynth.measures.defects.measure` gives it
        issues: names of the defects past their threshold
        quantization: the quantization tables of the JPEG file that it is all of, row by row
        made: the repairs that were made already
    """

    pixels: np.ndarray
    values: Mapping[str, float | None]
    issues: tuple[str, ...]
    quantization: Mapping[int, Any] | None = None
    made: Mapping[str, Params] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.values[name] or 0.0


@dataclass(frozen=True)
class Remedy:
    """A repair.

    Attributes:
        help: what it does
        issues: the defects that it is made against
        prescribe: how strong it has to be: keyword parameters of ``apply``; ``None`` if it would not help
        apply: ``apply(pixels, **parameters)`` repairs
        instead_of: repairs after which it is not made any more
        accept: ``accept(before, after)`` finds out whether it took away the defect and nothing else, where that can be
            seen
    """

    help: str
    issues: tuple[str, ...]
    prescribe: Callable[[Findings], Params | None]
    apply: Callable[..., np.ndarray]
    instead_of: tuple[str, ...] = ()
    accept: Callable[[np.ndarray, np.ndarray], bool] = lambda before, after: True


def _impulses(found: Findings) -> Params:
    share = found["impulse_noise"]
    return {"largest": 5 if share < 0.05 else 7 if share < 0.15 else 9}


def _blocks(found: Findings) -> Params | None:
    if found.quantization:
        return {"tables": [list(map(int, table)) for _, table in sorted(found.quantization.items())][:2]}
    quality = found.values["jpeg_quality"]
    return {"quality": quality} if quality is not None and quality < 100 else None


def _exposure(found: Findings) -> Params | None:
    if "overexposure" in found.issues:
        return _too_bright(found)
    brightest = 255 * (1 - found["underexposure"])
    if brightest < 4:
        return None
    share = _surely(found["underexposure"], 0.44, 0.56) * _neutral(found)
    return {"gain": round(min(8.0, BRIGHTEST / brightest) ** share, 4)} if share else None


def _too_bright(found: Findings) -> Params | None:
    # Noise and sharpening burn out single pixels, and hide the plain white round a product.
    smooth = cv2.GaussianBlur(np.ascontiguousarray(found.pixels), (0, 0), 1.5)
    shares = sorted(np.mean(smooth >= 252, axis=(0, 1)))
    # Too much light burns out all channels; coloured light, and a colourful subject, one or two.
    share = float(shares[1] if _neutral(found) == 1 else shares[0])
    if share <= 0.1 or overexposure(smooth) <= MEASURES["overexposure"].good:
        return None
    return {"gain": round(1 - DARKENING * math.sqrt(share), 4)}


def _neutral(found: Findings) -> float:
    """How little colour the light has, 1 to 0: under coloured light the levels say less about the exposure."""
    return 1 - _surely(found["color_cast"], 8, 16)


def _surely(value: float, never: float, always: float) -> float:
    """How much of a repair is made: dusk is dark, and fog pale, without being a mistake, so what is hardly a defect is
    repaired by half."""
    return min(1.0, max(0.0, (value - never) / (always - never)))


DARKENING = 0.45
"""Found on photographs that were exposed 1.5 to 3 times: more is darker than most of them were."""

BRIGHTEST = 240
"""The grey level that all but the brightest 2 % of an underexposed picture are brought below."""


def _blur(found: Findings) -> float:
    """The standard deviation of the blur in pixels of the file, without that of every photograph."""
    scale = max(1.0, max(found.pixels.shape[:2]) / WORKING_SIDE)
    return scale * math.sqrt(max(found["blur"] ** 2 - SHARP**2, 0.09))


SHARP = 0.8
"""The blur of an ordinary sharp photograph, in pixels."""


def _defocus(found: Findings) -> Params | None:
    if "motion_blur" in found.issues or "decompress" in found.made:
        return None  # the path of the motion is not known, nor the detail that compression took away
    return {"sigma": round(_blur(found), 3), "balance": round(sharpness.balance_for(found["noise"]), 6)}


def _softness(found: Findings) -> Params | None:
    if "decompress" in found.made:
        return None
    return {"sigma": round(_blur(found), 3), "amount": 0.7 if found["noise"] < 3 else 0.4}


def _cast(found: Findings) -> Params:
    return {"gains": [round(gain, 4) for gain in tone.light_gains(found.pixels, CAST_SHARE)]}


CAST_SHARE = 0.85
"""So much of a colour cast is removed: of the rest the scene may be to blame."""


def _fading(found: Findings) -> Params | None:
    if found.made.get("expose", {}).get("gain", 1.0) < 1:  # it would be burnt out again
        return None
    grey = found.pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    low, high = map(float, np.percentile(grey, [1, 99]))
    if high - low < 8:
        return None
    share = _surely(found["contrast"], 0.55, 0.43) * _neutral(found)
    if not share:
        return None
    # With less than all of it, black and white lie farther out than the levels that there are.
    low, high = low + (1 - share) * (tone.TONES[0] - low), high + (1 - share) * (tone.TONES[1] - high)
    return {"low": round(low, 2), "high": round(high, 2)}


def _flatness(found: Findings) -> Params | None:
    darkened = found.made.get("expose", {}).get("gain", 1.0) < 1
    return {"clip_limit": 2.0} if found["noise"] < 6 and not darkened else None


REMEDIES: dict[str, Remedy] = {
    "adaptive_median": Remedy(
        "adaptive median against impulse noise", ("impulse_noise",), _impulses, impulses.adaptive_median
    ),
    "decompress": Remedy(
        "shifted compression against JPEG blocks, and a filter beside edges against ringing",
        ("blockiness", "low_jpeg_quality"), _blocks, compression.decompress,
    ),
    "denoise": Remedy(
        "thresholded cosine coefficients against noise", ("noise",),
        lambda found: {"sigma": round(found["noise"], 3)}, noise.denoise, accept=noise.only_noise,
    ),
    "white_balance": Remedy(
        "white balance (grey-world family) against colour casts", ("color_cast",), _cast, tone.balance
    ),
    "expose": Remedy("exposure", ("overexposure", "underexposure"), _exposure, tone.expose),
    "deconvolve": Remedy("Wiener deconvolution of defocus", ("blur",), _defocus, sharpness.deconvolve),
    "unsharp": Remedy(
        "unsharp mask against motion blur, and where deconvolution did not help", ("blur",), _softness,
        sharpness.unsharp, instead_of=("deconvolve",),
    ),
    "stretch": Remedy("stretched grey levels against low contrast", ("low_contrast",), _fading, tone.stretch),
    "clahe": Remedy(
        "equalization in tiles (CLAHE), where stretching did not help", ("low_contrast",), _flatness,
        tone.equalize_locally, instead_of=("stretch",),
    ),
}  # fmt: skip
"""The repairs in the order in which they are made.

Impulses come first, since every other filter would smear them; then what depends on the grid of blocks; noise before
exposure, which it seems to burn out, and before sharpening, which would raise it; coloured light, which burns out one
channel, before exposure; contrast last, on what is then there.
"""
