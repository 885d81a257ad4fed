"""Creative Commons: from a code or an address to the name of the licence, and back."""

from __future__ import annotations

import re

from ...licenses import license_key

_ADDRESS = re.compile(
    r"creativecommons\.org/(?P<kind>licenses|publicdomain)/(?P<code>[a-z+-]+)/(?P<version>\d\.\d)(?:/(?P<place>[a-z]{2,3})\b)?",
    re.IGNORECASE,
)
_NAME = re.compile(r"cc-(?P<code>[a-z+-]+?)-(?P<version>\d\.\d)(?:-(?P<place>[a-z]{2,3}))?")
_PUBLIC = {"cc0-1.0": "zero", "pdm-1.0": "mark"}
_ONLY_VERSION = {
    "cc0": "cc0-1.0",
    "cc-zero": "cc0-1.0",
    "zero": "cc0-1.0",
    "pdm": "pdm-1.0",
    "cc-pdm": "pdm-1.0",
    "mark": "pdm-1.0",
}
_VERSION = re.compile(r"-v?\d.*$")


def license_name(code: str, version: str = "") -> str:
    """The name of a licence.

    Args:
        code: the part that matters, e.g. ``"by-sa"``, ``"cc0"``, ``"pdm"``
        version (""): its version; one that is not a number is left out

    Returns:
        e.g. ``"cc-by-sa-4.0"``; empty without a code
    """
    code = license_key(code)
    if code in _ONLY_VERSION:
        return _ONLY_VERSION[code]
    name = code if not code or code.startswith("cc-") else f"cc-{code}"
    return f"{name}-{version}" if name and re.fullmatch(r"\d[\d.]*", version) else name


def license_from_url(url: str) -> str:
    """The name of the Creative Commons licence that an address shows; empty if it shows none."""
    found = _ADDRESS.search(url)
    if not found:
        return ""
    name = license_name(found["code"], found["version"])
    place = found["place"]
    return f"{name}-{place.lower()}" if place and found["kind"].lower() == "licenses" else name


def one_spelling(said: str) -> str:
    """The name of a licence that is written in whatever way, also as an address or without the version it has."""
    if "://" in said:
        return license_from_url(said)
    key = license_key(said)
    return license_name(key) if key in _ONLY_VERSION else key


def license_url(name: str) -> str:
    """The address of the text of a licence, e.g. of ``"cc-by-sa-4.0"``; empty if it is none of Creative Commons."""
    if name in _PUBLIC:
        return f"https://creativecommons.org/publicdomain/{_PUBLIC[name]}/1.0/"
    found = _NAME.fullmatch(name)
    if not found:
        return ""
    place = f"{found['place']}/" if found["place"] else ""
    return f"https://creativecommons.org/licenses/{found['code']}/{found['version']}/{place}"


def family(name: str) -> str:
    """A licence without its version: ``"CC BY-SA 3.0 de"`` and ``"cc-by-sa-4.0"`` are ``"cc-by-sa"``."""
    return _VERSION.sub("", license_key(name))
