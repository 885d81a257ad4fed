"""The sources of images, one file each."""

from __future__ import annotations

from importlib import import_module

from .base import Source

SOURCES = {
    "openverse": "Openverse", "wikimedia": "Wikimedia", "flickr": "Flickr", "unsplash": "Unsplash", "pexels": "Pexels",
    "shutterstock": "Shutterstock", "google": "Google", "bing": "Bing", "baidu": "Baidu", "yahoo": "Yahoo",
    "urls": "Urls",
}  # fmt: skip
"""Name of a source, which is also the name of its module -> its class."""


def source_names() -> list[str]:
    """The names of all sources."""
    return list(SOURCES)


def find_source(name: str) -> type[Source]:
    """The class of a source.

    Args:
        name: one of :func:`source_names`
    """
    found: type[Source] = getattr(import_module(f".{name}", __name__), SOURCES[name])
    return found
