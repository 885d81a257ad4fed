"""Images of a topic arrive with their provenance; a second run asks only what changed; failures cost themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from PIL import Image

import fiftyone_idsynth as ids
from fiftyone_idsynth.collection.plan import CollectionError
from fiftyone_idsynth.errors import UsageError
from tests.replica import Reply
from tests.small_web import SmallWeb, photo


@pytest.fixture
def web() -> Iterator[SmallWeb]:
    with SmallWeb() as server:
        yield server


def test_images_of_two_sources_arrive_with_licence_and_provenance(dataset: Any, web: SmallWeb, tmp_path: Path) -> None:
    report = ids.collect(
        dataset, "red panda", count=50, class_field="classification", captions="title", tags=("web",), **web.options()
    )
    assert report.created == len(dataset) == 50
    assert report.outputs["openverse"] == {"found": 30, "added": 30}
    assert report.outputs["wikimedia"] == {"found": 20, "added": 20}
    sample = dataset.match(fo.ViewField("source.engine") == "openverse").sort_by("source.rank").first()
    source = sample.source
    assert (source.kind, source.query, source.language, source.rank) == ("api", "red panda", "en", 1)
    assert (source.license, source.license_url) == ("cc-by-4.0", "https://creativecommons.org/licenses/by/4.0/")
    assert (source.title, source.creator) == ("A photo of red panda", "Ada Example")
    assert source.keywords == ["animal", "outside"]
    assert source.image_url == f"{web.url}/o/0.jpg"
    assert source.page_url == f"{web.url}/page/o/0.jpg"
    assert source.etag
    assert source.fetched_at is not None
    assert sample.classification.label == "red panda"
    assert sample.caption == "A photo of red panda"
    assert sample.tags == ["web"]
    assert Image.open(sample.filepath).size == (sample.metadata.width, sample.metadata.height) == (400, 300)
    commons = dataset.match(fo.ViewField("source.engine") == "wikimedia").first().source
    assert commons.license == "cc0-1.0"
    assert commons.creator == "Grace Example"
    record = dataset.get_run_info(report.run_key)
    assert record.config.status == "complete"
    assert dataset.load_run_results(report.run_key).outputs["openverse"]["added"] == 30

    ids.export(dataset, path=tmp_path / "out", format="captions", progress=False)
    credits = next(tmp_path.rglob("CREDITS.csv")).read_text()
    assert "Ada Example" in credits
    assert "cc-by-4.0" in credits


def test_the_sources_share_what_is_wanted_and_nothing_more_is_downloaded(dataset: Any, web: SmallWeb) -> None:
    report = ids.collect(dataset, "red panda", count=16, **web.options())
    assert (report.created, len(web.fetched())) == (16, 16)
    assert dataset.count_values("source.engine") == {"openverse": 8, "wikimedia": 8}


def test_a_second_run_asks_whether_something_changed(dataset: Any, web: SmallWeb) -> None:
    ids.collect(dataset, "red panda", count=50, **web.options())
    before = dataset.values("id")
    web.requests.clear()
    again = ids.collect(dataset, "red panda", count=50, **web.options())
    asked = [request for request in web.requests if request.path in web.photos]
    assert len(asked) == 50
    assert all(request.headers.get("if-none-match") for request in asked)
    assert (again.created, again.skipped, dataset.values("id")) == (0, 50, before)

    web.photos["/o/3.jpg"] = photo(77)
    third = ids.collect(dataset, "red panda", count=50, **web.options())
    assert (third.created, third.skipped, len(dataset)) == (1, 49, 51), "the image that changed comes as a new one"
    assert third.outputs["openverse"]["changed"] == 1
    assert dataset.count_values("source.image_url")[f"{web.url}/o/3.jpg"] == 2
    assert ids.collect(dataset, "red panda", count=50, **web.options()).created == 0


def test_without_versions_the_content_says_whether_something_changed(dataset: Any, web: SmallWeb) -> None:
    for path in list(web.photos):
        web.on(path, Reply(web.photos[path], headers={"Content-Type": "image/jpeg"}))
    ids.collect(dataset, "red panda", count=50, **web.options())
    again = ids.collect(dataset, "red panda", count=50, **web.options())
    assert (again.created, again.skipped, len(dataset)) == (0, 50, 50)


def test_what_is_not_wanted_is_counted_under_its_reason(dataset: Any, web: SmallWeb, tmp_path: Path) -> None:
    from io import BytesIO

    plain = BytesIO()
    Image.new("RGB", (400, 300), (250, 250, 250)).save(plain, "JPEG")
    files = {
        "good": photo(1), "copy": photo(1), "small": photo(2, 100, 300), "long": photo(3, 1200, 300),
        "plain": plain.getvalue(), "half": photo(4)[:9000], "page": b"<!doctype html><p>not found</p>",
        "turned": photo(5, exif=True),
    }  # fmt: skip
    for name, content in files.items():
        web.on(f"/{name}.jpg", Reply(content, headers={"Content-Type": "image/jpeg", "ETag": f'"{name}"'}))
    lines = [f"{web.url}/{name}.jpg" for name in files]
    (tmp_path / "list.txt").write_text("\n".join([*lines, lines[0], f"{web.url}/missing.jpg"]))
    options = web.options(endpoints={}, max_connections=1, background="natural", max_aspect_ratio=3)
    report = ids.collect(dataset, "things", sources=(), urls=tmp_path / "list.txt", count=100, **options)
    assert report.rejected == {
        "duplicate": 1, "too_small": 1, "odd_aspect_ratio": 1, "plain_background": 1, "truncated": 1, "not_an_image": 1,
        "found_twice": 1, "not_found": 1,
    }  # fmt: skip
    assert report.created == 2
    turned = dataset.match(fo.ViewField("source.image_url").ends_with("turned.jpg")).first()
    stored = Image.open(turned.filepath)
    assert stored.size == (turned.metadata.width, turned.metadata.height) == (300, 400)
    assert not stored.getexif(), "position and orientation are gone"

    web.requests.clear()
    again = ids.collect(dataset, "things", sources=(), urls=tmp_path / "list.txt", count=100, **options)
    assert again.rejected == report.rejected
    assert again.skipped == 2
    asked = [r for r in web.requests if r.path.endswith(".jpg") and r.path != "/missing.jpg"]
    assert all("if-none-match" in request.headers for request in asked), "also what was refused is not fetched twice"


def test_only_wanted_licences_are_downloaded(dataset: Any, web: SmallWeb) -> None:
    report = ids.collect(dataset, "red panda", count=100, licenses=("cc0",), **web.options())
    assert dataset.distinct("source.license") == ["cc0-1.0"]
    assert report.created == 20
    assert not [path for path in web.fetched() if path.startswith("/o/")]


def test_a_source_that_changed_its_pages_does_not_stop_the_others(dataset: Any, web: SmallWeb) -> None:
    web._routes["/w/api.php"].clear()
    web.on("/w/api.php", "<html><p>Please use our new interface")
    report = ids.collect(dataset, "red panda", count=100, **web.options())
    assert report.created == 30
    assert any("wikimedia" in note and "the page layout may have changed" in note for note in report.notes)


def test_nothing_at_all_is_an_error_that_says_why(dataset: Any, web: SmallWeb) -> None:
    web._openverse.clear()
    web._routes["/w/api.php"].clear()
    web.on("/w/api.php", Reply("no", 403))
    with pytest.raises(CollectionError) as error:
        ids.collect(dataset, "red panda", **web.options())
    assert "openverse: no results" in str(error.value)
    assert "wikimedia" in str(error.value)
    assert "user_agent" in str(error.value)


def test_an_engine_that_blocks_is_left_alone(dataset: Any, web: SmallWeb) -> None:
    web.on("/images/async", Reply("<html>denied</html>", 403))
    options = web.options(endpoints={"bing": web.url, **web.endpoints}, robots="images")
    first = ids.collect(dataset, "red panda", sources=("bing", "openverse"), count=10, **options | {
        "endpoints": {"bing": web.url, "openverse": web.url}})  # fmt: skip
    assert first.created == 10
    assert any("bing" in note and "left alone for a day" in note for note in first.notes)
    asked = len([r for r in web.requests if r.path == "/images/async"])
    assert asked == 1
    with pytest.raises(CollectionError, match=r"bing: left alone until 20\d\d-"):
        ids.collect(dataset, "red panda", sources=("bing",), count=10, **options | {"endpoints": {"bing": web.url}})
    assert len([r for r in web.requests if r.path == "/images/async"]) == asked


def test_robots_txt_of_a_search_page_is_respected_unless_told_otherwise(dataset: Any, web: SmallWeb) -> None:
    web.on("/robots.txt", "User-agent: *\nDisallow: /images/\n")
    options = web.options(endpoints={"bing": web.url})
    with pytest.raises(CollectionError, match=r"bing.*robots.txt disallows"):
        ids.collect(dataset, "red panda", sources=("bing",), **options)
    assert not [r for r in web.requests if r.path == "/images/async"]


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"sources": ()}, "sources=.*give at least one: openverse"),
        ({"sources": ("opnverse",)}, "did you mean 'openverse'"),
        ({"sources": ("flickr",)}, "Flickr needs the key FLICKR_API_KEY"),
        ({"sources": ("unsplash",)}, "(?s)UNSPLASH_ACCESS_KEY.*restrict.*acknowledged='unsplash'"),
        ({"sources": ("urls",)}, "needs a file of addresses"),
        ({"topic": "   "}, "topic"),
        ({"languages": ("xx",)}, "languages"),
        ({"proxies": "nonsense"}, "proxies"),
        ({"render": ("openverse",)}, "is no search engine among the sources"),
        ({"endpoints": {"flickr": "http://x"}}, "'flickr' is not among the sources"),
        ({"background": "white"}, "natural"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(
    web: SmallWeb, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], problem: str
) -> None:
    for key in ("FLICKR_API_KEY", "UNSPLASH_ACCESS_KEY"):
        monkeypatch.delenv(key, raising=False)
    options = web.options(endpoints={}) | {"topic": "red panda"} | params
    with pytest.raises(UsageError, match=problem):
        ids.collect("never-made", **options)
    assert not fo.dataset_exists("never-made")
    assert not web.requests


def test_passwords_of_proxies_are_not_recorded(dataset: Any, web: SmallWeb) -> None:
    with pytest.raises(CollectionError):
        ids.collect(
            dataset, "red panda", sources=("openverse",), tries=1, proxies="http://me:topsecret@127.0.0.1:9",
            **web.options(endpoints={"openverse": web.url}),
        )  # fmt: skip
    config = dataset.get_run_info("collect").config.serialize()
    assert config["params"]["proxies"] == ["http://127.0.0.1:9"]
    assert "topsecret" not in str(config)


def test_a_dry_run_asks_nobody_and_leaves_nothing(web: SmallWeb) -> None:
    report = ids.collect("never-made", "red panda", count=50, synonyms=("firefox",), dry_run=True, **web.options())
    assert report.outputs["queries"] == ["en:red panda", "en:firefox"]
    assert report.outputs["expected at most"] == {"openverse": 25, "wikimedia": 25}
    assert report.outputs["hosts"][0] == web.host
    assert not web.requests
    assert not fo.dataset_exists("never-made")


def test_queries_take_turns_and_each_image_keeps_its_own(dataset: Any, web: SmallWeb) -> None:
    ids.collect(dataset, "red panda", queries=("en:red panda", "de:Katzenbär & #1"), count=60, **web.options())
    asked = [r.query["q"] for r in web.requests if r.path == "/v1/images/"]
    assert asked[:2] == ["red panda", "Katzenbär & #1"]
    assert set(dataset.distinct("source.query")) <= {"red panda", "Katzenbär & #1"}


def test_killed_at_any_moment_and_run_again_gives_every_image_once(web: SmallWeb, tmp_path: Path) -> None:
    name = f"killed-{os.getpid()}"
    paths = list(web.photos)
    for path in paths:
        content = web.photos[path]

        def slow(request: Any, content: bytes = content) -> Reply:
            time.sleep(0.05)
            return Reply(content, headers={"Content-Type": "image/jpeg", "ETag": f'"{len(content)}"'})

        web.on(path, slow)
    program = (
        "import sys, json, fiftyone_idsynth as ids\n"
        f"ids.collect({name!r}, 'red panda', count=50, **json.loads(sys.argv[1]))\n"
    )
    import json

    options = json.dumps(web.options(max_connections=2, max_per_host=2))
    try:
        for wanted in (5, 25):
            process = subprocess.Popen([sys.executable, "-c", program, options], stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and len(set(web.fetched())) < wanted and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
        before = len(fo.load_dataset(name)) if fo.dataset_exists(name) else 0
        assert before < 50
        web.requests.clear()
        report = ids.collect(name, "red panda", count=50, **web.options())
        dataset = fo.load_dataset(name)
        assert report.created == 50 - before
        hashes = dataset.values("source.sha256")
        assert len(hashes) == len(set(hashes)) == 50
        paths = dataset.values("filepath")
        for path in paths:
            Image.open(path).load()
        # What a killed process was writing may lie beside them, under a name that no sample has.
        files = {str(path) for path in Path(dataset.info["idsynth_media"]).rglob("*") if path.is_file()}
        assert {path for path in files if not Path(path).name.startswith(".partial-")} == set(paths)
        assert len(set(web.fetched())) == 50 - before, "what is there is not asked for again"
    finally:
        if fo.dataset_exists(name):
            fo.delete_dataset(name)


def test_the_shell_command_prints_counts_per_source(web: SmallWeb) -> None:
    from click.testing import CliRunner

    from fiftyone_idsynth.cli import main

    options = ["--endpoints", f"openverse={web.url}", "--sources", "openverse", "--allowed-hosts", web.host]
    made = CliRunner().invoke(main, ["collect", "from-shell", "red panda", "--count", "5", *options, "--quiet"])
    try:
        assert made.exit_code == 0, made.output
        assert "openverse: found 5, added 5" in made.output
    finally:
        fo.delete_dataset("from-shell")
