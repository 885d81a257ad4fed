"""Pages opened by a real headless Chromium, served on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from fiftyone_idsynth.collection.sources.base import Query, SourceError
from fiftyone_idsynth.collection.sources.bing import Bing
from fiftyone_idsynth.collection.web.answer import Answer, FetchError
from fiftyone_idsynth.collection.web.rendering import FLAGS, Browser, chromium_path
from fiftyone_idsynth.errors import IdsynthError, MissingExtraError
from tests.plain_http import PlainHttp
from tests.replica import Replica, Reply

AGENT = "fiftyone-idsynth/test (collects image datasets)"
SCRIPTED = """<ul id="list"></ul><script>
  fetch("/results.json").then(answer => answer.json()).then(found => {
    document.getElementById("list").innerHTML = found.map(
      each => `<li><a class="iusc" m='${JSON.stringify(each)}'></a></li>`).join("");
  });
</script>"""


class GuardedHttp(PlainHttp):
    """Refuses some addresses, as an HTTP client does, and notes what it was asked for."""

    def __init__(self, refused: str = "nothing is refused"):
        super().__init__()
        self.refused = refused
        self.asked: list[tuple[str, bool]] = []

    def get(self, url: str, *, robots: bool = False, **options: Any) -> Answer:
        self.asked.append((url, robots))
        if self.refused in url:
            raise FetchError("private_address", f"{url} is not public")
        answer = super().get(url, robots=robots, **options)
        answer.url = urljoin(url, answer.url)
        return answer


@pytest.fixture
def server() -> Iterator[Replica]:
    with Replica() as started:
        yield started


Opened = Callable[..., Browser]


@pytest.fixture
def browser() -> Iterator[Opened]:
    """Makes browsers, and closes them."""
    pytest.importorskip("playwright", reason="needs Playwright (the extra 'browser')")
    if chromium_path() is None:
        pytest.skip("needs Chromium on the PATH")
    made: list[Browser] = []

    def make(http: Any = None, **options: Any) -> Browser:
        made.append(Browser(http or GuardedHttp(), AGENT, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def paths(server: Replica) -> list[str]:
    return [request.path for request in server.requests]


def test_an_engine_reads_results_that_scripts_fill_in(server: Replica, browser: Opened) -> None:
    found = [{"murl": f"https://photos.example/{n}.jpg", "t": f"Oak {n}"} for n in range(3)]
    server.on("/images/async", SCRIPTED)
    server.on("/results.json", found)
    with pytest.raises(SourceError) as caught:
        list(Bing(PlainHttp(), root=server.url).pages(Query("oak")))
    assert caught.value.reason == "layout_changed"

    (page,) = Bing(browser(), root=server.url).pages(Query("oak"))
    assert [(c.rank, c.image_url, c.title) for c in page.candidates] == [
        (n + 1, f"https://photos.example/{n}.jpg", f"Oak {n}") for n in range(3)
    ]


def test_only_what_makes_the_page_is_loaded(server: Replica, browser: Opened) -> None:
    server.on(
        "/",
        """<link rel=stylesheet href=/a.css><style>@font-face{font-family:f;src:url(/f.woff2)}
        p{font-family:f}</style><p id=p>text</p><img src=/i.png><video src=/v.mp4 autoplay></video><audio src=/s.mp3>
        </audio><script src=/a.js></script>""",
    )
    server.on("/a.css", Reply(b"body{background:url(/b.png)}", headers={"Content-Type": "text/css"}))
    made = "document.getElementById('p').textContent = navigator.userAgent + document.cookie"
    server.on("/a.js", Reply(made.encode(), headers={"Content-Type": "text/javascript", "Set-Cookie": "a=1"}))
    http = GuardedHttp()
    answer = browser(http).get(server.url + "/", robots=True)
    assert f'<p id="p">{AGENT}</p>' in answer.text
    assert sorted(paths(server)) == ["/", "/a.css", "/a.js"]
    assert all(robots for _, robots in http.asked)


@pytest.mark.parametrize(
    "script",
    [
        "fetch('{private}/secret')",
        "fetch('/hop')",
        "document.body.append(Object.assign(document.createElement('iframe'), {{src: '{private}/secret'}}))",
        "new Worker(URL.createObjectURL(new Blob([`fetch('{private}/secret')`])))",
        "new WebSocket('{private}/secret'.replace('http', 'ws'))",
        "navigator.sendBeacon('{private}/secret', 'x')",
        "fetch('{private}/secret', {{method: 'POST'}})",
        "open('{private}/secret')",
        "document.body.innerHTML += '<link rel=prefetch href={private}/secret><link rel=preload as=script '"
        "+ 'href={private}/secret>'",
    ],
)
def test_a_page_reaches_nothing_but_through_the_http_client(server: Replica, browser: Opened, script: str) -> None:
    with Replica() as private:
        private.on("/secret", Reply("secret", headers={"Access-Control-Allow-Origin": "*"}))
        server.on("/", f"<p>seen</p><script>{script.format(private=private.url)}</script>")

        class Hopless(GuardedHttp):
            def get(self, url: str, **options: Any) -> Answer:
                if url.endswith("/hop"):  # a client that checks each hop refuses this one
                    raise FetchError("private_address", "the second hop")
                return super().get(url, **options)

        answer = browser(Hopless(private.url), settle=3).get(server.url + "/")
        assert "seen" in answer.text
        assert private.requests == []


def test_chromium_itself_connects_to_nothing(server: Replica, browser: Opened) -> None:
    from playwright.sync_api import Error, sync_playwright

    server.on("/", "<p>seen</p>")
    port = server.url.rpartition(":")[2]
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=chromium_path(), args=[*FLAGS, "--no-sandbox"])
        page = chromium.new_page()
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
                page.goto(f"http://{host}:{port}/", timeout=10_000)
        chromium.close()
    assert server.requests == []


@pytest.mark.parametrize("go", ["location = '/private'", "document.forms[0].submit()"])
def test_a_refused_page_says_why(server: Replica, browser: Opened, go: str) -> None:
    opened = browser(GuardedHttp("/private"))
    with pytest.raises(FetchError) as caught:
        opened.get(server.url + "/private")
    assert caught.value.reason == "private_address"
    assert server.requests == []

    server.on("/", f"<form action=/private></form><script>{go}</script>")
    with pytest.raises(FetchError) as caught:
        opened.get(server.url + "/")
    assert caught.value.reason == "private_address"
    assert paths(server) == ["/"]


def test_redirects_end_at_the_final_address(server: Replica, browser: Opened) -> None:
    server.on("/old", Reply("", 302, {"Location": "/new/"}))
    server.on("/new/", "<script>fetch('data').then(r => r.text()).then(t => document.body.textContent = t)</script>")
    server.on("/new/data", "relative to the final address")
    opened = browser()
    answer = opened.get(server.url + "/old")
    assert (answer.status, answer.url) == (200, server.url + "/new/")
    assert "relative to the final address" in answer.text
    assert opened.get(server.url + "/old", redirects=False).headers["location"] == "/new/"


def test_what_is_no_page_comes_as_it_was_sent(server: Replica, browser: Opened) -> None:
    server.on("/data", {"a": [1, "<b>"]})
    server.on("/gone", Reply("<p>gone</p>", 410))
    opened = browser()
    assert opened.get(server.url + "/data", params={"q": "x", "none": None}).json() == {"a": [1, "<b>"]}
    assert server.requests[0].query == {"q": "x"}
    assert (opened.get(server.url + "/gone").status, opened.get(server.url + "/gone").text) == (410, "<p>gone</p>")


def test_a_page_that_is_never_quiet_is_taken_as_it_is(server: Replica, browser: Opened) -> None:
    server.on("/", "<p>early</p><script>setInterval(() => fetch('/tick'), 50)</script>")
    server.on("/tick", "x")
    assert "early" in browser(settle=2).get(server.url + "/").text


def test_a_page_that_never_ends_is_given_up_and_the_next_one_works(server: Replica, browser: Opened) -> None:
    server.on("/stuck", "<p>stuck</p><script>while (true) {}</script>")
    server.on("/fine", "<p>fine</p>")
    opened = browser(settle=1, total=4)
    start = time.monotonic()
    with pytest.raises(FetchError) as caught:
        opened.get(server.url + "/stuck")
    assert caught.value.reason == "timeout"
    assert time.monotonic() - start < 40
    assert "fine" in opened.get(server.url + "/fine").text


def test_several_threads_open_pages_and_cookies_are_not_kept(server: Replica, browser: Opened) -> None:
    def page(request: Any) -> str:
        return f"<p>{escape(json.dumps(request.query))}</p><script>document.cookie = 'seen=1'</script>" + str(
            request.headers.get("cookie")
        )

    server.on("/", page)
    opened = browser()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: opened.get(server.url + "/", params={"n": n}).text, range(6)))
    assert all(f'"n": "{n}"' in text.replace("&quot;", '"') for n, text in enumerate(answers))
    assert not any("seen=1</" in text or text.endswith("seen=1") for text in answers)
    assert all("cookie" not in request.headers for request in server.requests)


def test_closing_ends_chromium_and_its_thread(server: Replica, browser: Opened) -> None:
    server.on("/", "<p>fine</p>")
    opened = browser()
    opened.close()  # nothing was started yet
    opened.get(server.url + "/")
    opened.close()
    opened.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "browser"]
    assert "fine" in opened.get(server.url + "/").text


def test_closing_ends_a_page_that_is_being_opened(server: Replica, browser: Opened) -> None:
    reached = threading.Event()

    def slow(request: Any) -> str:
        reached.set()
        time.sleep(3)
        return ""

    server.on("/", "<script src=/slow.js></script>")
    server.on("/slow.js", slow)
    opened = browser()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(opened.get, server.url + "/")
        assert reached.wait(20)
        opened.close()
        with pytest.raises(FetchError) as caught:
            future.result(20)
    assert caught.value.reason == "browser"


def test_no_chromium_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("playwright", reason="needs Playwright (the extra 'browser')")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    opened = Browser(PlainHttp(), AGENT)
    with pytest.raises(IdsynthError, match="playwright install chromium"):
        opened.get("http://127.0.0.1:9/")
    opened.close()


def test_no_playwright_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "playwright", None)
    monkeypatch.setitem(__import__("sys").modules, "playwright.async_api", None)
    with pytest.raises(MissingExtraError, match=r"fiftyone-idsynth\[browser\]"):
        Browser(PlainHttp(), AGENT).get("http://127.0.0.1:9/")
