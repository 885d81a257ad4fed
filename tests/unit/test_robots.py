"""What sites permit is kept to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fiftyone_idsynth.collection.web import robots
from fiftyone_idsynth.collection.web.answer import Answer, FetchError
from fiftyone_idsynth.collection.web.robots import Robots, product_token, x_robots_allows

AGENT = "idsynth/0.1 (+https://example.org/about; images@example.org)"
SITE = "http://site.example"


class Site:
    """Answers for robots.txt files, and notes which were asked for."""

    def __init__(self, content: bytes | str = b"", status: int = 200, error: FetchError | None = None, wait: float = 0):
        self.content = content.encode() if isinstance(content, str) else content
        self.status, self.error, self.wait = status, error, wait
        self.asked: list[str] = []

    def __call__(self, url: str) -> Answer:
        self.asked.append(url)
        time.sleep(self.wait)
        if self.error:
            raise self.error
        return Answer(url, self.status, {}, self.content)


def allowed(content: bytes | str, path: str, agent: str = AGENT) -> bool:
    return Robots(Site(content), agent).allowed(SITE + path)


@pytest.mark.parametrize(
    ("agent", "token"),
    [(AGENT, "idsynth"), ("My-Bot_2", "my-bot_2"), ("Mozilla/5.0 (compatible; MyBot/1.0; +http://a)", "mybot"),
     ("Mozilla/5.0 (X11; Linux x86_64)", "mozilla"), ("", "*"), ("  ", "*")],
)  # fmt: skip
def test_product_token(agent: str, token: str) -> None:
    assert product_token(agent) == token


@pytest.mark.parametrize(
    ("rules", "path", "expected"),
    [
        ("User-agent: *\nDisallow: /private", "/private/a.jpg", False),
        ("User-agent: *\nDisallow: /private", "/Private/a.jpg", True),
        ("User-agent: *\nDisallow:", "/a.jpg", True),
        ("Disallow: /", "/a.jpg", True),
        # wildcards and anchors
        ("User-agent: *\nDisallow: /*.jpg$", "/x.jpg", False),
        ("User-agent: *\nDisallow: /*.jpg$", "/x.jpg?size=1", True),
        ("User-agent: *\nDisallow: /a*b*c", "/a1b2c3", False),
        ("User-agent: *\nDisallow: /a$b", "/a$b", False),
        ("User-agent: *\nDisallow: *.png", "/deep/x.png", False),
        ("User-agent: *\nDisallow: /x?", "/x?a=1", False),
        # the longest rule wins, and "allow" where two are equal
        ("User-agent: *\nDisallow: /img\nAllow: /img/free", "/img/free/a.jpg", True),
        ("User-agent: *\nAllow: /img/free\nDisallow: /img", "/img/paid/a.jpg", False),
        ("User-agent: *\nDisallow: /img\nAllow: /img", "/img/a.jpg", True),
        # percent-encoding
        ("User-agent: *\nDisallow: /käfer", "/k%C3%A4fer/1.jpg", False),
        ("User-agent: *\nDisallow: /k%c3%a4fer", "/käfer/1.jpg", False),
        ("User-agent: *\nDisallow: /a%2Fb", "/a/b", True),
        ("User-agent: *\nDisallow: /a b", "/a%20b", False),
        # groups
        ("User-agent: idsynth\nDisallow: /\n\nUser-agent: *\nAllow: /", "/a", False),
        ("User-agent: IDSYNTH/0.1\nDisallow: /", "/a", False),
        ("User-agent: idsynth\nAllow: /\n\nUser-agent: *\nDisallow: /", "/a", True),
        ("User-agent: ids\nDisallow: /\n\nUser-agent: *\nAllow: /", "/a", True),
        ("User-agent: idsynth-news\nDisallow: /", "/a", True),
        ("User-agent: other\nUser-agent: idsynth\nDisallow: /a", "/a", False),
        ("User-agent: idsynth\nDisallow: /a\n\nUser-agent: other\nDisallow: /\n\nUser-agent: idsynth\nDisallow: /b",
         "/b", False),
        ("User-agent: *\nCrawl-delay: 1\nSitemap: http://s/x\n\nDisallow: /a", "/a", False),
        # what files are like
        ("\ufeffUser-agent: *\r\nDisallow: /a\r\n", "/a", False),
        ("User-agent: *\rDisallow: /a\r", "/a", False),
        ("  user-AGENT :*  # all\n\tdisallow : /a # comment", "/a", False),
        ("<!doctype html><html><body>Not found</body></html>", "/a", True),
        ("\x00\xff\xfe garbage", "/a", True),
        ("User-agent: *\nDisallow: /", "/robots.txt", True),
    ],
)  # fmt: skip
def test_rules(rules: str, path: str, expected: bool) -> None:
    assert allowed(rules, path) is expected


def test_bytes_that_are_no_utf8_do_not_hide_rules() -> None:
    assert not allowed(b"# caf\xe9\nUser-agent: *\nDisallow: /a", "/a")


def test_only_the_beginning_of_a_huge_file_is_read_and_no_half_line() -> None:
    head = b"User-agent: *\nDisallow: /first\n" + b"# filler\n" * 60_000
    content = head[:511_990] + b"\nAllow: /first/allowed\nDisallow: /late\n" + b"x" * 5_000_000
    site = Robots(Site(content), AGENT)
    assert not site.allowed(f"{SITE}/first")
    assert not site.allowed(f"{SITE}/first/allowed")  # the limit cuts this rule to "Allow: /"
    assert site.allowed(f"{SITE}/late")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_a_site_without_a_robots_txt_allows_everything(status: int) -> None:
    assert Robots(Site("User-agent: *\nDisallow: /", status), AGENT).allowed(f"{SITE}/a")


@pytest.mark.parametrize("site", [Site(status=500), Site(status=503), Site(status=429),
                                  Site(error=FetchError("timeout", "not complete after 10 s")),
                                  Site(error=FetchError("private_address", "moved to 127.0.0.1"))])  # fmt: skip
def test_a_site_whose_robots_txt_cannot_be_read_allows_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = Robots(site, AGENT)
    with pytest.raises(FetchError) as caught:
        sites.check(f"{SITE}/a")
    assert caught.value.reason == (site.error.reason if site.error else "robots")
    assert str(site.error or site.status) in caught.value.detail
    assert SITE in caught.value.detail
    assert not sites.allowed(f"{SITE}/b")
    assert len(site.asked) == 1
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3600)
    site.error, site.status = None, 200
    assert sites.allowed(f"{SITE}/b")


def test_the_message_names_the_file_and_the_group() -> None:
    with pytest.raises(FetchError, match=r"http://site\.example:8080/robots\.txt disallows it for 'idsynth'"):
        Robots(Site("User-agent: idsynth\nDisallow: /"), AGENT).check(f"{SITE}:8080/a")


def test_each_origin_has_its_own() -> None:
    site = Site()
    sites = Robots(site, AGENT)
    for url in ("http://A.example/x", "http://a.example:80/y", "http://a.example.:80/z", "https://a.example/x",
                "http://a.example:81/x", "http://[::1]/x"):  # fmt: skip
        assert sites.allowed(url)
    assert site.asked == ["http://a.example/robots.txt", "https://a.example/robots.txt",
                          "http://a.example:81/robots.txt", "http://[::1]/robots.txt"]  # fmt: skip


def test_many_threads_fetch_it_once() -> None:
    site = Site("User-agent: *\nDisallow: /no", wait=0.2)
    sites = Robots(site, AGENT)
    gate = threading.Barrier(32)

    def ask(number: int) -> bool:
        gate.wait()
        return sites.allowed(f"{SITE}/{'no' if number % 2 else 'yes'}")

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(ask, range(32))) == [True, False] * 16
    assert len(site.asked) == 1


def test_an_interrupted_fetch_leaves_nobody_waiting() -> None:
    calls: list[str] = []

    def fetch(url: str) -> Answer:
        calls.append(url)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return Answer(url, 404)

    sites = Robots(fetch, AGENT)
    with pytest.raises(KeyboardInterrupt):
        sites.allowed(f"{SITE}/a")
    assert sites.allowed(f"{SITE}/a")


@pytest.mark.parametrize(
    ("content", "delay"),
    [("User-agent: *\nCrawl-delay: 2.5", 2.5),
     ("User-agent: idsynth\nCrawl-delay: 1\n\nUser-agent: *\nCrawl-delay: 9", 1),
     ("User-agent: *\nCrawl-delay: soon", None), ("", None)],
)  # fmt: skip
def test_crawl_delay(content: str, delay: float | None) -> None:
    assert Robots(Site(content), AGENT).crawl_delay(f"{SITE}/a") == delay


def test_crawl_delay_where_there_is_no_file() -> None:
    assert Robots(Site(status=404), AGENT).crawl_delay(f"{SITE}/a") is None
    assert Robots(Site(status=500), AGENT).crawl_delay(f"{SITE}/a") is None


# -- X-Robots-Tag -----------------------------------------------------------------------------------------------------

FORBIDDEN: list[Any] = [
    ["noai"], ["NoAI"], ["  noai  "], ["noindex"], ["noimageindex"], ["noimageai"], ["noml"], ["none"],
    ["nofollow, noai"], ["nofollow,noai"], ["noarchive", "noai"], ["noai; nofollow"], ["nofollow noai"], ["noai:"],
    ["idsynth: noai"], ["IdSynth : NoAI"], ["*: noindex"], ["noarchive, idsynth: noai"],
    ["otherbot: nofollow, idsynth: noindex"], ["idsynth: nofollow, noai"], ["otherbot: noai", "noindex"],
    ["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], ["unavailable_after: Tue, 25 Jun 2030 15:00:00 PST, noai"],
    ["unavailable_after: Tuesday, 25-Jun-30 15:00:00 UTC, noai"], ["max-image-preview:large, noai"],
    ["max-image-preview: large, max-snippet:-1, noimageai"],
    ["idsynth: unavailable_after: 25 Jun 2030 15:00:00 PST, noai"],
    ["unavailable_after: 25 Jun 2010 15:00:00 PST"], ["unavailable_after: Fri, 25 Jun 2010 15:00:00 GMT"],
    ["unavailable_after: Friday, 25-Jun-10 15:00:00 UTC"], ["unavailable_after: 2010-06-25T15:00:00+02:00"],
    ["unavailable_after: 2010-06-25"], ["unavailable_after: 25 Jun 2010"],
    ["Unavailable_After: 25 Jun 2010 15:00:00 PST"],
    ["unavailable_after: some day"], ["unavailable_after:"], ["nofollow, unavailable_after: 2010-06-25, noarchive"],
]  # fmt: skip
PERMITTED: list[Any] = [
    [], [""], [" , ,"], ["all"], ["nofollow"], ["noarchive"], ["nosnippet, notranslate"], ["index, follow"],
    ["max-image-preview:large"], ["max-image-preview: none"], ["max-snippet:-1, max-video-preview: 0"],
    ["googlebot: noindex"], ["otherbot: noai, noindex"], ["otherbot: noai", "nofollow"],
    ["otherbot:noai,idsynth:nofollow"],
    ["idsynth-news: noai"], ["synth: noai"], ["unavailable_after: 25 Jun 2100 15:00:00 PST"],
    ["unavailable_after: Fri, 25 Jun 2100 15:00:00 GMT, nofollow"], ["unavailable_after: 2100-06-25T15:00:00Z"],
    ["unavailable_after: 2100-06-25"], ["otherbot: unavailable_after: 25 Jun 2010 15:00:00 PST, noai"], ["noaim", "ai"],
]  # fmt: skip


@pytest.mark.parametrize("values", FORBIDDEN, ids=str)
def test_headers_that_forbid(values: Iterable[str]) -> None:
    allows, why = x_robots_allows(values, AGENT)
    assert not allows
    assert why.startswith("X-Robots-Tag says ")


@pytest.mark.parametrize("values", PERMITTED, ids=str)
def test_headers_that_do_not(values: Iterable[str]) -> None:
    assert x_robots_allows(values, AGENT) == (True, "")


def test_an_address_may_be_listed_where_training_is_forbidden() -> None:
    assert x_robots_allows(["noai"], AGENT, "index") == (True, "")
    assert not x_robots_allows(["noindex"], AGENT, "index")[0]


def test_the_reason_names_the_directive() -> None:
    assert "'idsynth: noai'" in x_robots_allows(["idsynth: noai"], AGENT)[1]
    assert "25 Jun 2010" in x_robots_allows(["unavailable_after: 25 Jun 2010 15:00:00 PST"], AGENT)[1]


def test_every_forbidding_directive_is_explained() -> None:
    assert set(robots.FORBIDDING["dataset"]) == {"none", "noindex", "noimageindex", "noai", "noimageai", "noml"}
    assert all(robots.FORBIDDING["dataset"].values())
