"""What a collection will do: which sources, with which keys and queries, and which hosts will be asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import IdsynthError, ParameterError, UsageError
from ..keys import find_key
from .sources import find_source, source_names
from .sources.base import Query, Source

if TYPE_CHECKING:
    from pathlib import Path

    from .sources.base import Http


class CollectionError(IdsynthError):
    """Nothing could be collected; the message says why, source by source."""


@dataclass(frozen=True)
class Chosen:
    """A source that will be used.

    Attributes:
        name: its name
        kind: its class
        root: the server that is asked instead of the official one, if any
        secrets: the keys that were found
    """

    name: str
    kind: type[Source]
    root: str | None
    secrets: dict[str, str]

    @property
    def host(self) -> str:
        return urlsplit(self.root or self.kind.about.root).netloc or "this machine"

    def open(self, http: Http, licenses: Sequence[str], urls: Path | None) -> Source:
        """Makes the source ready to be asked."""
        options: dict[str, Any] = {"root": self.root, "secrets": self.secrets, "licenses": licenses}
        if self.kind.about.kind == "list":
            options["path"] = urls
        return self.kind(http, **options)


def choose(
    names: Sequence[str], *, urls: Path | None, endpoints: Mapping[str, str], acknowledged: Sequence[str]
) -> list[Chosen]:
    """Checks sources and finds their keys.

    Args:
        names: names of sources
        urls: the file of the source ``urls``
        endpoints: source -> another server of the same API
        acknowledged: sources whose terms the user has acknowledged

    Returns:
        the sources, each once

    Raises:
        UsageError: a source lacks its key, its file or the acknowledgement of its terms, or there is none
    """
    wanted = list(dict.fromkeys([*names, *(["urls"] if urls else [])]))
    if not wanted:
        raise ParameterError("sources", (), f"give at least one: {', '.join(source_names())}")
    for name in endpoints:
        if name not in wanted:
            raise ParameterError("endpoints", dict(endpoints), f"{name!r} is not among the sources {', '.join(wanted)}")
        if urlsplit(endpoints[name]).scheme not in ("http", "https"):
            raise ParameterError("endpoints", dict(endpoints), f"{endpoints[name]!r} is no http or https address")
    problems, chosen = [], []
    for name in wanted:
        kind = find_source(name)
        about = kind.about
        keys = {key: value for key in (*about.keys, *about.optional_keys) if (value := find_key(key))}
        missing = [key for key in about.keys if key not in keys]
        if missing:
            where = f"get one at {about.documentation}, then set it in the environment or in FiftyOne's secrets"
            problems.append(f"{about.title} needs the key {' and '.join(missing)}: {where}")
        if about.acknowledge and name not in acknowledged:
            problems.append(f"{about.title}: {about.acknowledge} If you may, say acknowledged={name!r}")
        if about.kind == "list" and urls is None:
            problems.append(f"the source {name!r} needs a file of addresses (urls)")
        if len(keys) not in (len(about.keys), len(about.keys) + len(about.optional_keys)) and not missing:
            problems.append(
                f"{about.title} takes {' and '.join(about.optional_keys)} together: only one of them is set"
            )
        chosen.append(Chosen(name, kind, endpoints.get(name), keys))
    if problems:
        raise UsageError("\n".join(problems))
    return chosen


def describe(
    chosen: Sequence[Chosen], queries: Sequence[Query], count: int, suspended: Mapping[str, str]
) -> dict[str, Any]:
    """What will be asked, before it is.

    Args:
        chosen: the sources
        queries: the queries
        count: how many images are wanted
        suspended: source -> until when it is left alone

    Returns:
        ``queries``, how many images to expect from each source, the hosts that are contacted, and each source's terms
    """
    asked = [source for source in chosen if source.name not in suspended]
    share = math.ceil(count / len(asked)) if asked else 0
    expected = {}
    for source in asked:
        most = source.kind.about.max_results
        expected[source.name] = min(share, most * len(queries)) if most else share
    return {
        "queries": [str(query) for query in queries],
        "expected at most": expected,
        "suspended": dict(suspended),
        "hosts": [*dict.fromkeys(source.host for source in asked), "and the hosts of the images they find"],
        "terms": {source.kind.about.title: source.kind.about.terms for source in asked},
    }
