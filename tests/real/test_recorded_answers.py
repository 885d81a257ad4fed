"""The sources with an API, against answers that were recorded from the real ones."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fiftyone_idsynth.collection.sources.base import Candidate, Query, SourceError
from fiftyone_idsynth.collection.sources.flickr import Flickr
from fiftyone_idsynth.collection.sources.unsplash import Unsplash
from fiftyone_idsynth.collection.sources.wikimedia import Wikimedia
from tests.plain_http import PlainHttp
from tests.replica import Replica, Reply

ANY = Query("any")


@pytest.fixture
def server() -> Iterator[Replica]:
    with Replica() as made:
        yield made


@pytest.fixture
def recorded(shared: Path) -> Path:
    return shared / "data" / "serp_fixtures"


def load(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def commons(server: Replica) -> list[Candidate]:
    return [c for page in Wikimedia(PlainHttp(), root=server.url).pages(ANY) for c in page.candidates]


def flickr(server: Replica) -> list[Candidate]:
    source = Flickr(PlainHttp(), root=server.url, secrets={"FLICKR_API_KEY": "key-1"})
    return [c for page in source.pages(ANY) for c in page.candidates]


def test_commons_one_batch(recorded: Path, server: Replica) -> None:
    server.on("/w/api.php", load(recorded / "openverse_catalog" / "wikimedia" / "continuation", "wmc_raw.json"))
    found = commons(server)
    assert len(found) == 27  # one is a TIFF, and no rendering was asked for when this was recorded
    assert all(c.image_url.startswith("https://upload.wikimedia.org/") and c.width and c.height for c in found)
    assert all(c.page_url.startswith("https://commons.wikimedia.org/wiki/File:") for c in found)
    assert all(c.creator and c.license for c in found)
    assert not [c for c in found for said in (c.title, c.description, c.creator) if "<" in said or "&amp;" in said]
    volcano = next(c for c in found if c.title == "Minchinmavida Volcano")
    assert volcano.creator == "The original uploader was Elvezio at Italian Wikipedia."
    assert volcano.description == "Vulcano Minchinmavida Cile"
    assert volcano.license == "public-domain"
    assert "Lahars in Chile" in volcano.keywords


def test_commons_pieces_of_a_batch(recorded: Path, server: Replica) -> None:
    folder = recorded / "openverse_catalog" / "wikimedia" / "continuation"
    pieces = [load(folder, f"wmc_pretty{number}.json") for number in (1, 2, 3)]
    server.on("/w/api.php", load(folder, "wmc_pretty_nocontinue.json"), when=lambda r: "gaicontinue" in r.query)
    server.on("/w/api.php", pieces[2], gucontinue=pieces[1]["continue"]["gucontinue"])
    server.on("/w/api.php", pieces[1], gucontinue=pieces[0]["continue"]["gucontinue"])
    server.on("/w/api.php", pieces[0])
    pages = list(Wikimedia(PlainHttp(), root=server.url).pages(ANY))
    assert [len(page.candidates) for page in pages] == [9, 27]
    assert len(server.requests) == 4
    merged = load(folder, "wmc_pretty123.json")["query"]["pages"].values()
    assert {c.image_url for c in pages[0].candidates} == {file["imageinfo"][0]["url"] for file in merged}
    ranks = [c.rank for page in pages for c in page.candidates]
    assert ranks == sorted(set(ranks))
    assert ranks[:9] == list(range(1, 10))
    assert max(ranks) <= 37


def test_commons_licences_of_fifty_files(recorded: Path, server: Replica) -> None:
    answer = load(recorded / "openverse_catalog" / "wikimedia" / "continuation", "wmc_pretty4.json")
    server.on("/w/api.php", {key: value for key, value in answer.items() if key != "continue"})
    found = commons(server)
    assert len(found) == 50
    names = Counter(candidate.license for candidate in found)
    known = {"public-domain", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-sa-3.0-de", "cc-by-sa-3.0-es"}
    assert names.keys() <= known | {"no-known-copyright-restrictions"}
    assert names["cc-by-sa-4.0"] >= 10


def test_commons_two_pages_and_odd_files(recorded: Path, server: Replica) -> None:
    folder = recorded / "openverse_catalog" / "wikimedia"
    first, second = (load(folder, f"response_large_{number}.json") for number in (0, 1))
    odd = ("missing_imageinfo", "missing_image_url", "missing_foreign_url", "minimal")
    for name in odd:
        second["query"]["pages"][name] = load(folder, f"image_data_{name}.json")
    server.on("/w/api.php", second, gaicontinue="next.jpg")
    server.on("/w/api.php", first)
    # These were cut by hand and name no type of file: without one, and without an ending, the rendering is taken.
    found = {c.image_url: c for c in commons(server)}
    assert {
        "https://upl.wiki.org/thumburl0",
        "https://upl.wiki.org/thumburl1",
        "https://upl.wiki.org/thumburl2",
    } <= set(found)
    assert found["https://upl.wiki.org/thumburl0"].license == "cc-by-sa-4.0"
    assert found["https://upl.wiki.org/thumburl2"].license == "cc-by-sa-2.0"
    assert found["https://upl.wiki.org/thumburl1"].creator == "Alice Bobby"


def test_flickr_thirty_photos(recorded: Path, server: Replica) -> None:
    answer = load(recorded / "openverse_catalog" / "flickr", "flickr_example_pretty.json")
    server.on("/services/rest/", answer)
    found = flickr(server)
    assert len(found) == 30
    assert {c.license for c in found} == {"cc-by-nc-sa-2.0"}
    assert Counter(c.image_url.rsplit("_", 1)[-1] == "b.jpg" for c in found) == {True: 28, False: 2}
    assert found[0] == Candidate(
        "https://live.staticflickr.com/65535/49514337848_bbdbb5f761_b.jpg", 1,
        "https://www.flickr.com/photos/7478087@N06/49514337848", "Warsy (église) • 7433",
        "Warsy (Somme, France) - www.google.com/maps/@49.69839,2.64689,3a,90y,102.98h,114....", [], "markustrois",
        "cc-by-nc-sa-2.0", "https://creativecommons.org/licenses/by-nc-sa/2.0/", 660, 1024,
    )  # fmt: skip
    assert len(server.requests) == 1


def test_flickr_photos_with_parts_missing(recorded: Path, server: Replica) -> None:
    folder = recorded / "openverse_catalog" / "flickr"
    names = ("no_image_url", "complete_example", "with_small_url_available", "with_med_url_available")
    photos = [load(folder, f"image_data_{name}.json") for name in names]
    server.on("/services/rest/", {"photos": {"page": 1, "pages": 1, "photo": photos, "total": 4}, "stat": "ok"})
    found = flickr(server)
    assert [c.rank for c in found] == [2, 4]  # the others have nothing larger than 240 pixels
    assert found[0].keywords == ["scuba", "nature", "marine", "underwater", "australia", "marineexplorer"]


@pytest.fixture
def cassette(recorded: Path) -> dict[str, Reply]:
    """Request -> the answer of Unsplash that was recorded."""
    yaml = pytest.importorskip("yaml")
    tape = yaml.safe_load((recorded / "unsplash_rb" / "spec" / "cassettes" / "photos.yml").read_text())
    replies = {}
    for turn in tape["http_interactions"]:
        answer = turn["response"]
        kept = {"Content-Type", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "Link"}
        headers = {name: values[0] for name, values in answer["headers"].items() if name in kept}
        body = re.sub("<[A-Z]+_URI>", "https://api.unsplash.com/", answer["body"]["string"]).encode()
        replies[turn["request"]["uri"]] = Reply(body, answer["status"]["code"], headers)
    return replies


@pytest.mark.parametrize(
    ("uri", "total", "count"),
    [
        ("<API_URI>search/photos?page=1&per_page=10&query=dog", 15149, 10),
        ("<API_URI>search/photos?content_filter=low&page=1&per_page=10&query=dog", 10001, 10),
    ],
)
def test_unsplash_search(cassette: dict[str, Reply], server: Replica, uri: str, total: int, count: int) -> None:
    server.on("/search/photos", cassette[uri])
    page = next(Unsplash(PlainHttp(), root=server.url, secrets={"UNSPLASH_ACCESS_KEY": "key-1"}).pages(Query("dog")))
    assert page.total == total
    assert len(page.candidates) == count
    assert all("ixid=" in c.image_url and c.width and c.height and c.creator for c in page.candidates)
    assert all("/download" in c.notify_url and c.page_url and c.license == "unsplash" for c in page.candidates)
    assert any(c.description for c in page.candidates)
    assert all(c.keywords and not [word for word in c.keywords if not word] for c in page.candidates)


def test_unsplash_with_a_bad_token(cassette: dict[str, Reply], server: Replica) -> None:
    server.on("/search/photos", cassette["<API_URI>photos/abc123/like"])
    with pytest.raises(SourceError, match=r"UNSPLASH_ACCESS_KEY.*access token is invalid") as caught:
        next(Unsplash(PlainHttp(), root=server.url, secrets={"UNSPLASH_ACCESS_KEY": "key-1"}).pages(ANY))
    assert caught.value.reason == "key_refused"
