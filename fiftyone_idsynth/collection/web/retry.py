"""Which failures deserve another try, and when."""

from __future__ import annotations

import random

STATUSES = {408, 425, 429, 500, 502, 503, 504}
"""Statuses of servers that may answer better soon."""

REASONS = {"connection", "timeout", "truncated", "no_network", "proxy"}
"""Reasons of a :class:`~.answer.FetchError` that may not come again."""

BASE = 1.0
LONGEST = 30.0


def backoff(attempt: int, base: float = BASE) -> float:
    """Seconds to wait before another try: doubled each time and jittered, so that clients do not come back together.

    Args:
        attempt: how many tries have failed, from 1
        base (BASE): seconds after the first, at most
    """
    top = min(base * 2 ** (attempt - 1), LONGEST)
    return random.uniform(top / 2, top)


def status_reason(status: int) -> str:
    """The name under which a status that is no success is counted."""
    if status in (404, 410):
        return "not_found"
    if status == 429:
        return "rate_limited"
    return "server_error" if status >= 500 else "refused"
