"""Image search engines against pages that real servers sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fiftyone_idsynth.collection.sources.baidu import Baidu
from fiftyone_idsynth.collection.sources.base import DAY, Candidate, Query, Source, SourceError
from fiftyone_idsynth.collection.sources.bing import Bing
from fiftyone_idsynth.collection.sources.google import Google
from fiftyone_idsynth.collection.sources.yahoo import Yahoo
from fiftyone_idsynth.collection.web.answer import Answer


class Recorded:
    """Answers every request with one recorded page."""

    def __init__(self, path: Path):
        self.body = path.read_bytes()

    def get(self, url: str, **_: Any) -> Answer:
        return Answer(url, 200, {}, self.body)


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "data" / "serp_fixtures"


def results(engine: type[Source], path: Path) -> list[Candidate]:
    pages: Iterator[Any] = engine(Recorded(path)).pages(Query("x"))  # type: ignore[arg-type]
    return [candidate for page in pages for candidate in page.candidates]


def failure(engine: type[Source], path: Path) -> SourceError:
    with pytest.raises(SourceError) as caught:
        results(engine, path)
    return caught.value


def test_bing_images(folder: Path) -> None:
    assert results(Bing, folder / "bing_baidu_2020/bing_async_one_result.html") == [
        Candidate(
            "https://pic.wenwen.soso.com/pqpic/wenwenpic/0/20200905072601-1377158880_png_3442_2972_201696/0", 1,
            page_url="https://wenwen.sogou.com/z/q825286701.htm", title="用wps怎么画这样的折线图",
            width=3442, height=2972,
        )
    ]  # fmt: skip


def test_baidu_images(folder: Path) -> None:
    assert results(Baidu, folder / "bing_baidu_2020/baidu_acjson_one_result.json") == [
        Candidate(
            "http://5b0988e595225.cdn.sohucs.com/images/20180127/fcdbe837f93e40e9aa4eebaf2aa10ecd.jpeg", 1,
            page_url="http://mt.sohu.com/business/d20180127/219361004_753232.shtml",
            title="图14 员工离职率对比折线图", width=998, height=554,
        )
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["search_captcha.html", "search_captcha_new.html"])
def test_google_captchas(folder: Path, name: str) -> None:
    error = failure(Google, folder / "openserp/google/testdata" / name)
    assert (error.reason, error.suspend) == ("captcha", DAY)


def test_google_wants_javascript(folder: Path) -> None:
    error = failure(Google, folder / "openserp/google/testdata/search_soft_block.html")
    assert error.reason == "blocked"
    assert "JavaScript" in str(error)


def test_google_finds_nothing(folder: Path) -> None:
    assert results(Google, folder / "openserp/google/testdata/search_no_results.html") == []


def test_baidu_captcha(folder: Path) -> None:
    error = failure(Baidu, folder / "openserp/baidu/testdata/search_captcha.html")
    assert (error.reason, error.suspend) == ("captcha", DAY)


@pytest.mark.parametrize("engine", [Google, Bing, Baidu, Yahoo])
@pytest.mark.parametrize("site", ["google", "bing", "baidu", "duckduckgo", "ecosia", "yandex"])
def test_results_that_are_no_images_are_no_candidates(folder: Path, engine: type[Source], site: str) -> None:
    error = failure(engine, folder / "openserp" / site / "testdata/search_results.html")
    assert error.reason == "layout_changed"
    assert "0 candidates" in str(error)
