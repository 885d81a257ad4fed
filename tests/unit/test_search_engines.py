"""Image search engines, each against pages in the shapes that it serves."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from typing import Any
from urllib.parse import urlencode

import pytest

from fiftyone_idsynth.collection.sources.baidu import Baidu, reveal
from fiftyone_idsynth.collection.sources.base import DAY, HOUR, Candidate, Query, Source, SourceError
from fiftyone_idsynth.collection.sources.bing import Bing
from fiftyone_idsynth.collection.sources.google import Google
from fiftyone_idsynth.collection.sources.yahoo import Yahoo
from fiftyone_idsynth.collection.web.answer import Answer
from tests.plain_http import PlainHttp
from tests.replica import Replica, Reply, Request

Served = Callable[[str, dict[str, str]], Reply]
ENGINES = [Google, Bing, Baidu, Yahoo]


def google_page(names: list[str]) -> Reply:
    links = [
        "/imgres?" + urlencode({
            "imgurl": f"https://photos.example/{name}.jpg?a=1&b=2", "imgrefurl": f"https://site.example/{name}",
            "w": 1200, "h": 800, "tbnid": "x",
        })
        for name in names
    ]  # fmt: skip
    return Reply("".join(f'<a href="{escape(link)}"><img alt="A &amp; B" src="data:,"></a>' for link in links))


def bing_page(names: list[str]) -> Reply:
    items = []
    for name in names:
        facts = {
            "murl": f"https://photos.example/{name}.jpg?a=1&b=2", "turl": "https://th.example/1",
            "purl": f"https://site.example/{name}", "t": "A \ue000& B\ue001", "desc": "seen <b>here</b>",
        }  # fmt: skip
        items.append(
            f'<li><div class="iuscp"><div class="imgpt"><a class="iusc" m="{escape(json.dumps(facts))}"></a>'
            "<div><span>1200 x 800 · jpeg</span></div></div></div></li>"
        )
    return Reply(f'<ul class="dgControl_list">{"".join(items)}</ul>')


def baidu_page(names: list[str]) -> Reply:
    items: list[dict[str, Any]] = [
        {
            "objURL": hide(f"https://photos.example/{name}.jpg?a=1&b=2"), "fromURL": hide(f"https://site.example/{name}"),
            "fromPageTitle": "A &amp; <strong>B</strong>", "width": 1200, "height": 800,
        }
        for name in names
    ]  # fmt: skip
    text = json.dumps({"displayNum": 1000 if names else 0, "listNum": 1000, "data": [*items, {}]})
    return Reply(text.encode(), headers={"Content-Type": "application/json"})


def yahoo_page(names: list[str]) -> Reply:
    items = []
    for name in names:
        facts = {"iurl": f"https://photos.example/{name}.jpg?a=1&b=2", "w": 1200, "h": 800, "alt": "A & B",
                 "rurl": f"https://site.example/{name}"}  # fmt: skip
        items.append(
            f'<li class="ld" data="{escape(json.dumps(facts))}"><a href="#"><img data-src="https://th.x/1"></a>'
        )
    return Reply(f"<ul>{''.join(items)}</ul>")


def hide(address: str) -> str:
    """Baidu's cipher, the other way round."""
    plain = "7dgjmoru140852vsnkheb963wtqplifca"
    table = dict(zip(plain, "0123456789abcdefghijklmnopqrstuvw", strict=True))
    return "".join({":": "_z2C$q", ".": "_z&e3B", "/": "AzdH3F"}.get(c, table.get(c, c)) for c in address)


PAGES: dict[type[Source], Callable[[list[str]], Reply]] = {
    Google: google_page, Bing: bing_page, Baidu: baidu_page, Yahoo: yahoo_page,
}  # fmt: skip
START = {Google: ("start", 0), Bing: ("first", 1), Baidu: ("pn", 0), Yahoo: ("b", 1)}


class Engine(Replica):
    """Answers every request with what a function makes of its path and its query."""

    def __init__(self, reply: Served):
        super().__init__()
        self.reply = reply

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        return self.reply(request.path, request.query)


class ObedientHttp(PlainHttp):
    """Notes whether robots.txt would have been read."""

    def __init__(self) -> None:
        super().__init__()
        self.robots: set[bool] = set()

    def get(self, url: str, *, robots: bool = False, **options: Any) -> Answer:
        self.robots.add(robots)
        return super().get(url, robots=robots, **options)


def search(engine: type[Source], reply: Served, query: Query | None = None) -> Any:
    """All candidates by page, the requests that were made, and the error that ended the search."""
    error, found, http = None, [], ObedientHttp()
    with Engine(reply) as server:
        try:
            for each in engine(http, root=server.url).pages(query or Query("red oak")):
                found.append(each.candidates)
        except SourceError as caught:
            error = caught
    assert http.robots == {True}  # robots.txt decides for every page
    return found, server.requests, error


@pytest.mark.parametrize("engine", ENGINES)
def test_results_are_read_page_by_page_until_nothing_new_comes(engine: type[Source]) -> None:
    name, first = START[engine]
    size = engine.about.page_size

    def reply(path: str, params: dict[str, str]) -> Reply:
        number = (int(params[name]) - first) / size
        return PAGES[engine]([["one", "two"], ["two", "three"], ["two", "three"]][int(number)])

    found, asked, error = search(engine, reply)
    assert error is None
    assert [int(request.query[name]) for request in asked] == [first, first + size, first + 2 * size]
    assert [[c.rank for c in each] for each in found] == [[1, 2], [3]]
    best = found[0][0]
    assert best == Candidate(
        "https://photos.example/one.jpg?a=1&b=2", 1, page_url="https://site.example/one", title="A & B",
        description=best.description, width=1200, height=800,
    )  # fmt: skip
    assert best.description == ("seen here" if engine is Bing else "")
    assert found[1][0].image_url == "https://photos.example/three.jpg?a=1&b=2"
    assert not best.license


@pytest.mark.parametrize("engine", ENGINES)
def test_a_search_ends_at_the_last_result_that_the_engine_gives(engine: type[Source]) -> None:
    count = iter(range(100_000))
    found, asked, error = search(engine, lambda path, params: PAGES[engine]([f"image-{next(count)}"]))
    about = engine.about
    assert error is None
    assert len(found) == len(asked) == -(-about.max_results // about.page_size)


@pytest.mark.parametrize(
    ("engine", "reply"),
    [
        (Google, Reply("<p>Your search - <b>xqzw</b> - did not match any image results.</p>")),
        (Bing, Reply('<div class="dg_b"><h1>There are no results for <strong>xqzw</strong></h1></div>')),
        (Baidu, Reply(b'{"displayNum":0,"listNum":0,"data":[{}]}')),
        (Yahoo, Reply("<section><p>We did not find results for: <b>xqzw</b>. Check spelling.</p></section>")),
    ],
)
def test_no_results_is_an_answer(engine: type[Source], reply: Reply) -> None:
    found, asked, error = search(engine, lambda path, params: reply)
    assert (found, len(asked), error) == ([], 1, None)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "body", ["", "<html></html>", "<!doctype html><p>A page of some other kind</p>", '{"data": 1}']
)
def test_a_page_without_candidates_says_that_the_layout_changed(engine: type[Source], body: str) -> None:
    found, asked, error = search(engine, lambda path, params: Reply(body))
    assert (found, len(asked), error.reason, error.suspend) == ([], 1, "layout_changed", 0)
    assert f"0 candidates parsed from a page of {len(body)} bytes" in str(error)
    assert "layout may have changed" in str(error)


def redirect(to: str, status: int = 302) -> Reply:
    return Reply("", status, {"Location": to})


@pytest.mark.parametrize(
    ("engine", "reply", "reason", "suspend"),
    [
        (Google, redirect("https://sorry.google.com/index?q=x"), "captcha", DAY),
        (Google, redirect("/sorry/index?continue=x"), "captcha", DAY),
        (Google, Reply('<a href="/sorry/index">here</a>'), "captcha", DAY),
        (Google, Reply('<form id="captcha-form"></form>', status=429), "captcha", DAY),
        (Google, redirect("https://consent.google.com/ml?continue=x"), "blocked", HOUR),
        (
            Google,
            Reply('<noscript><iframe src="/httpservice/retry/enablejs?sei=1"></iframe></noscript>'),
            "blocked",
            HOUR,
        ),
        (Google, Reply("slow down", 429), "quota_used_up", HOUR),
        (Google, Reply("no", 403), "blocked", DAY),
        (Bing, Reply("<h1>One last step</h1><p>Please solve the challenge below to continue</p>"), "captcha", DAY),
        (Bing, redirect("/turing/captcha/challenge"), "captcha", DAY),
        (Bing, Reply("", 429, {"Retry-After": "120"}), "quota_used_up", 120),
        (Baidu, Reply(b'{"antiFlag":1,"message":"Forbid spider access"}'), "blocked", DAY),
        (Baidu, redirect("https://wappass.baidu.com/static/captcha/tuxing.html?ak=1"), "captcha", DAY),
        (Baidu, Reply("<title>百度安全验证</title>"), "captcha", DAY),
        (Yahoo, Reply("Unable to process request at this time", 999), "blocked", DAY),
        (Yahoo, redirect("https://consent.yahoo.com/v2/collectConsent"), "blocked", HOUR),
        (Yahoo, Reply("", 500), "server_error", 0),
    ],
)
def test_refusals_are_told_apart(engine: type[Source], reply: Reply, reason: str, suspend: float) -> None:
    found, asked, error = search(engine, lambda path, params: reply)
    assert (found, error.reason, error.suspend) == ([], reason, suspend), str(error)
    assert len(asked) == 1  # a refusal is not argued with
    assert engine.about.title in str(error)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_captcha_on_a_later_page_keeps_the_first(engine: type[Source]) -> None:
    replies = iter([PAGES[engine](["one"]), redirect("https://engine.example/captcha")])
    found, _, error = search(engine, lambda path, params: next(replies))
    assert len(found) == 1
    assert (error.reason, error.suspend) == ("captcha", DAY)


def test_results_about_captchas_are_results() -> None:
    first = Reply(f'{bing_page(["g-recaptcha"]).body}<i class="captcha">')
    found, _, error = search(Bing, lambda path, params: first if params["first"] == "1" else Reply(""))
    assert [c.image_url for c in found[0]] == ["https://photos.example/g-recaptcha.jpg?a=1&b=2"]
    assert error is None


@pytest.mark.parametrize("engine", ENGINES)
def test_ordinary_redirects_are_followed_and_loops_end(engine: type[Source]) -> None:
    found, _, error = search(
        engine, lambda path, params: PAGES[engine](["one"]) if path == "/moved" else redirect("/moved", 301)
    )
    assert len(found) == 1
    assert error is None
    found, asked, error = search(engine, lambda path, params: redirect("/again"))
    assert (found, error.reason) == ([], "refused")
    assert len(asked) == 6


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_no_address_of_an_image_is_left_out(engine: type[Source]) -> None:
    addresses = ["javascript:alert(1)", "data:image/png;base64,AA", "http://[broken", "https://", "/relative.jpg", ""]
    items = "".join(
        f'<a href="/imgres?{escape(urlencode({"imgurl": each}))}"></a>'
        f'<a class="iusc" m="{escape(json.dumps({"murl": each}))}"></a><a class="iusc" m="[1]"></a>'
        '<a class="iusc" m="{"></a>'
        f'<li class="ld" data="{escape(json.dumps({"iurl": each}))}"></li><li class="ld" data="7"></li>'
        for each in addresses
    )
    data: list[Any] = [{"objURL": each, "replaceUrl": 3} for each in addresses]
    broken = json.dumps({"displayNum": 9, "data": [*data, None, "x", {"objURL": 5}, {"replaceUrl": [{"ObjURL": 1}]}]})
    found, _, error = search(engine, lambda path, params: Reply(broken if engine is Baidu else items))
    assert (found, error.reason) == ([], "layout_changed")


def test_the_language_is_passed_on() -> None:
    for engine, expected in ((Google, {"lr": "lang_de", "hl": "en"}), (Bing, {"mkt": "de-DE", "setlang": "en"})):
        _, asked, _ = search(engine, lambda path, params: Reply(""), Query("Eiche rot", language="de"))
        assert expected.items() <= asked[0].query.items()
    _, asked, _ = search(Bing, lambda path, params: Reply(""), Query("dub", language="cs"))
    assert "mkt" not in asked[0].query  # Bing has no market for it
    _, asked, _ = search(Baidu, lambda path, params: Reply(""), Query("红 橡树", language="zh"))
    assert asked[0].query["word"] == "红 橡树"


def test_baidu_json_is_repaired() -> None:
    text = (
        r'{"displayNum":9,"data":[{"objURL":"http:\/\/photos.example\/it\'s.jpg","fromPageTitle":"it\'s C:\\'
        "\t"
        r' \u56fe \"x\"","width":"640","height":0},{"replaceUrl":[{"ObjURL":"https://copy.example/1.jpg"}]},{}]}'
    )
    found, _, error = search(Baidu, lambda path, params: Reply(text) if params["pn"] == "0" else Reply('{"data":[{}]}'))
    assert error is None
    assert found[0][0] == Candidate("http://photos.example/it's.jpg", 1, title='it\'s C:\\ 图 "x"', width=640)
    assert found[0][1].image_url == "https://copy.example/1.jpg"


@pytest.mark.parametrize(
    "address", ["https://a-b.example/Pic_9z.JPG?x=1&y=%20", "http://mt.sohu.com/business/d20180127/219361004.shtml"]
)
def test_baidu_addresses_are_revealed(address: str) -> None:
    assert reveal(hide(address)) == address
    assert reveal(address) == address


def test_yahoo_links_without_data_are_read() -> None:
    links = (
        '<div id="results"><a href="/images/view;_ylt=x?imgurl=photos.example%2Fa%20b.jpg&w=640&h=480'
        '&rurl=https%3A%2F%2Fsite.example%2F1&name=Red+%3Cb%3Eoak%3C%2Fb%3E"></a>'
        '<li class="ld"><a href="?imgurl=https%3A%2F%2Fp.example%2F2.jpg&tt=Two"></a></li></div>'
    )
    found, _, _ = search(Yahoo, lambda path, params: Reply(links))
    assert found == [[
        Candidate(
            "http://photos.example/a b.jpg", 1, page_url="https://site.example/1", title="Red oak",
            width=640, height=480,
        ),
        Candidate("https://p.example/2.jpg", 2, title="Two"),
    ]]  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_said_about_the_engines(engine: type[Source]) -> None:
    about = engine.about
    assert about.kind == "search"
    assert about.opt_in
    assert "no licence" in about.terms
    assert "terms" in about.terms
    assert "robots.txt" in about.terms
