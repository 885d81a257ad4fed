"""Secrets: API keys and tokens, from FiftyOne's secrets or the environment; never stored, logged or shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

KEYS = {
    "OPENVERSE_CLIENT_ID": "Openverse, optional: higher limits",
    "OPENVERSE_CLIENT_SECRET": "Openverse, optional: higher limits",
    "FLICKR_API_KEY": "Flickr",
    "UNSPLASH_ACCESS_KEY": "Unsplash",
    "PEXELS_API_KEY": "Pexels",
    "SHUTTERSTOCK_API_TOKEN": "Shutterstock",
    "OPENAI_API_KEY": "a language model behind an OpenAI-compatible address",
    "LABEL_STUDIO_API_KEY": "Label Studio: a personal access token or a legacy token",
}
"""Name of every secret this project can use -> what for."""

_provider: ContextVar[Callable[[str], str | None] | None] = ContextVar("provider", default=None)


def find_key(name: str) -> str | None:
    """Finds a secret: among those that the App was given, else in the environment.

    Args:
        name: one of :data:`KEYS`

    Returns:
        its value, or ``None`` if it is not set
    """
    provider = _provider.get()
    value = (provider(name) if provider else None) or os.environ.get(name)
    return value.strip() or None if value else None


@contextmanager
def provided_by(provider: Callable[[str], str | None]) -> Iterator[None]:
    """Makes secrets of a host known to what runs inside the context.

    Args:
        provider: name -> value, or ``None`` if the host does not have it
    """
    token = _provider.set(provider)
    try:
        yield
    finally:
        _provider.reset(token)
