"""A small web on loopback: Openverse, Wikimedia Commons and a server of photographs that knows what changed."""

from __future__ import annotations

import functools
import hashlib
import io
from typing import Any

import numpy as np

from tests.replica import Replica, Reply, Request

MODIFIED = "Mon, 02 Nov 2026 08:00:00 GMT"


@functools.cache
def photo(number: int, width: int = 400, height: int = 300, exif: bool = False) -> bytes:
    """A JPEG photograph: a part of one that comes with scikit-image, another part for every number."""
    from PIL import Image
    from skimage import data

    whole = np.concatenate([data.astronaut()[:400, :], data.rocket()[:400, :512], data.coffee()[:400, :512]], axis=1)
    rng = np.random.default_rng(number)
    top, left = rng.integers(0, whole.shape[0] - 200), rng.integers(0, whole.shape[1] - 260)
    part = Image.fromarray(whole[top : top + 200, left : left + 260]).resize((width, height))
    part.putpixel((0, 0), (number % 256, number // 256 % 256, 7))
    out = io.BytesIO()
    options: dict[str, Any] = {}
    if exif:
        tags = Image.Exif()
        tags[0x0112] = 6
        tags.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.0), 3: "E", 4: (2.0, 17.0, 40.0)})
        options["exif"] = tags
    part.save(out, "JPEG", quality=88, **options)
    return out.getvalue()


class SmallWeb(Replica):
    """Serves photographs and finds them, whatever is searched for.

    Attributes:
        photos: path -> content; replace one and the server says so
    """

    def __init__(self, openverse: int = 30, wikimedia: int = 20):
        super().__init__()
        self.photos: dict[str, bytes] = {}
        self._openverse = [self._item(f"/o/{number}.jpg", number) for number in range(openverse)]
        self._wikimedia = [self._item(f"/w/{number}.jpg", 10_000 + number) for number in range(wikimedia)]
        self.on("/v1/images/", self._search_openverse)
        self.on("/w/api.php", self._search_wikimedia)

    def answer(self, request: Request) -> Reply:
        if request.path in self.photos and request.path not in self._routes:
            self.requests.append(request)
            return self._photo(request)
        return super().answer(request)

    @property
    def endpoints(self) -> dict[str, str]:
        return {"openverse": self.url, "wikimedia": self.url}

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def options(self, **more: Any) -> dict[str, Any]:
        """What makes ``collect`` use this web, at full speed."""
        given = {"endpoints": self.endpoints, "allowed_hosts": (self.host,), "rate_per_host": 0, "max_per_host": 16}
        return {**given, "progress": False, **more}

    def fetched(self, status: int | None = None) -> list[str]:
        """Paths of the photographs that were asked for, in order."""
        return [request.path for request in self.requests if request.path in self.photos]

    def _item(self, path: str, number: int) -> str:
        self.photos[path] = photo(number)
        return path

    def _photo(self, request: Request) -> Reply:
        content = self.photos[request.path]
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        headers = {"ETag": etag, "Last-Modified": MODIFIED, "Content-Type": "image/jpeg"}
        if request.headers.get("if-none-match") == etag:
            return Reply(b"", 304, headers)
        return Reply(content, 200, headers)

    def _search_openverse(self, request: Request) -> Any:
        size, page = int(request.query.get("page_size", 20)), int(request.query.get("page", 1))
        shown = self._openverse[(page - 1) * size : page * size]
        results = [
            {
                "id": path, "title": f"A photo of {request.query['q']}", "url": self.url + path,
                "foreign_landing_url": f"{self.url}/page{path}", "creator": "Ada Example", "license": "by",
                "license_version": "4.0", "license_url": "https://creativecommons.org/licenses/by/4.0/",
                "tags": [{"name": "animal"}, {"name": "outside"}], "width": 400, "height": 300,
            }
            for path in shown
        ]  # fmt: skip
        pages = -(-len(self._openverse) // size)
        return {"result_count": len(self._openverse), "page_count": pages, "page": page, "results": results}

    def _search_wikimedia(self, request: Request) -> Any:
        limit, offset = int(request.query.get("gsrlimit", 50)), int(request.query.get("gsroffset", 0))
        pages = {}
        for position, path in enumerate(self._wikimedia[offset : offset + limit], offset + 1):
            info = {
                "url": self.url + path, "descriptionurl": f"{self.url}/wiki{path}", "width": 400, "height": 300,
                "size": len(self.photos[path]), "mime": "image/jpeg", "user": "Grace",
                "extmetadata": {
                    "LicenseShortName": {"value": "CC0"}, "License": {"value": "cc0"},
                    "LicenseUrl": {"value": "http://creativecommons.org/publicdomain/zero/1.0/"},
                    "Artist": {"value": "<a href='x'>Grace <b>Example</b></a>"},
                    "ImageDescription": {"value": "<p>A photo from <i>Commons</i></p>"},
                },
            }  # fmt: skip
            pages[str(position)] = {
                "pageid": position, "ns": 6, "index": position, "title": f"File:Photo {position}.jpg",
                "imageinfo": [info],
            }  # fmt: skip
        answer: dict[str, Any] = {"query": {"pages": pages}} if pages else {}
        if offset + limit < len(self._wikimedia):
            answer["continue"] = {"gsroffset": offset + limit, "continue": "gsroffset||"}
        return answer
