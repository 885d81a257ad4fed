"""Brings rejected samples back."""

from __future__ import annotations

from .. import samples as sample_tools
from ..fields import REJECTED_TAG
from ..samples import active
from ..stage import Progress, Report, Samples, current_run, stage


@stage(label="Restore rejected samples", group="Curate", icon="restore_from_trash")
def restore(samples: Samples, *, reason: tuple[str, ...] = (), progress: Progress = None) -> Report:
    """Brings rejected samples back; the stage that rejected them will not reject them again.

    Args:
        samples: the samples to look at, e.g. the saved view ``"DATASET:rejected"``, a selection, or a whole dataset
        reason (()): only samples rejected for one of these reasons, e.g. ``near_duplicate``; all by default
        progress (None): accepted as by every stage; restoring takes a moment
    """
    run = current_run()
    counts = samples.match_tags(REJECTED_TAG).count_values("rejected.reason") if _has_reasons(samples) else {}
    count = sample_tools.restore(samples, reasons=reason)
    run.processed(count)
    if not count:
        known = ", ".join(f"{name} ({n})" for name, n in counts.items() if name) or "none"
        run.note(f"no rejected sample {'for this reason ' if reason else ''}among these; reasons found: {known}")
    return run.report(outputs={"restored": count, "active": active(samples).count()})


def _has_reasons(samples: Samples) -> bool:
    return bool(samples.has_field("rejected.reason"))
