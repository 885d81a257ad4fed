"""Measurements in the dataset's info, so that they can be compared."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import fiftyone as fo

    from .intervals import Figure

INFO = "idsynth_distributions"
"""Where measurements are kept in ``dataset.info``: a list, the latest last."""

KEPT = 50
"""How many measurements are kept."""


def remember(
    dataset: fo.Dataset, name: str, about: dict[str, Any], figures: list[Figure], fingerprint: str
) -> list[dict[str, Any]]:
    """Adds a measurement, in the place of one of the same name, samples and parameters that found the same.

    Args:
        dataset: the dataset
        name: what the measurement is called
        about: what was compared, as plain values
        figures: what was found
        fingerprint: of samples and parameters

    Returns:
        the earlier measurements, the latest last
    """
    entry = {
        "name": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": fingerprint,
        **about,
        "figures": {
            one.key: {"title": one.title, "value": one.value, "low": one.low, "high": one.high, "images": one.of}
            for one in figures
        },
    }
    dataset.reload()
    same = ("name", "fingerprint", "figures")
    kept = [e for e in dataset.info.get(INFO) or [] if any(e[key] != entry[key] for key in same)]
    dataset.info[INFO] = [*kept, entry][-KEPT:]
    dataset.save()
    return kept
