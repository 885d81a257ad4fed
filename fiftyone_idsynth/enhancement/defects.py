"""What is wrong with images, as their tags and measured issues say it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..describing import plain

DEFECTS = (
    "blurry", "out of focus", "motion blur", "noise", "noisy", "grainy", "film grain", "jpeg artifacts",
    "compression artifacts", "artifacts", "pixelated", "lowres", "low resolution", "low quality", "worst quality",
    "bad quality", "overexposed", "underexposed", "washed out", "chromatic aberration", "watermark", "signature",
    "logo", "text", "username", "timestamp", "border", "letterboxed", "cropped", "scan artifacts", "dust", "scratches",
    "banding", "glitch", "duplicate", "deformed", "disfigured",
)  # fmt: skip
"""Tags that name what is wrong with an image."""

WORDS_FOR_ISSUES = {
    "blur": "blurry",
    "motion_blur": "motion blur",
    "noise": "noise",
    "impulse_noise": "noise",
    "blockiness": "jpeg artifacts",
    "low_jpeg_quality": "jpeg artifacts",
    "overexposure": "overexposed",
    "underexposure": "underexposed",
    "low_contrast": "washed out",
}
"""Issue of ``score_quality`` -> the word for it; painting anew does not help against the others."""


def named(tags: Iterable[str], defects: Iterable[str]) -> list[str]:
    """Which of some tags name a defect.

    Args:
        tags: tags, with spaces or underscores
        defects: what counts as a defect

    Returns:
        these tags, spelt with spaces, each once
    """
    known = {plain(word) for word in defects}
    return [tag for tag in dict.fromkeys(plain(tag) for tag in tags) if tag in known]


def measured(issues: Iterable[str] | None, defects: Iterable[str]) -> list[str]:
    """The words for measured issues, as far as they count as defects."""
    return named((WORDS_FOR_ISSUES[issue] for issue in issues or () if issue in WORDS_FOR_ISSUES), defects)


def joined(*lists: Sequence[str]) -> list[str]:
    """All words, each once."""
    return list(dict.fromkeys(word for words in lists for word in words))
