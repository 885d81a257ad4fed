"""Names of licences, in one spelling, and which of them are wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable

_JURISDICTION = re.compile(r"(?<=\d)-[a-z]{2}$")
_VERSION = re.compile(r"-v?\d+(\.\d+)*$")


def license_key(license: str) -> str:
    """The name of a licence in one spelling: ``"CC BY-SA 4.0"`` and ``"cc_by_sa-4.0"`` are ``"cc-by-sa-4.0"``."""
    key = re.sub(r"[\s_/-]+", "-", license.strip().lower()).strip("-")
    return re.sub(r"^(creative-commons|cc)-(?=.)", "cc-", key)


def is_allowed(license: str, allowed: Iterable[str]) -> bool:
    """Whether a licence is one of those allowed; a name without version (``cc-by``) allows every version of it, one
    without country (``cc-by-3.0``) allows it as adapted to any country (``cc-by-3.0-de``), and nothing else: ``cc-by``
    does not allow ``cc-by-nc-4.0``."""
    key = license_key(license)
    anywhere = _JURISDICTION.sub("", key)
    return bool(key) and any(license_key(name) in (key, anywhere, _VERSION.sub("", anywhere)) for name in allowed)
