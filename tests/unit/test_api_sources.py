"""The sources with an API, against a server that answers in the shapes their documentation shows."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from fiftyone_idsynth.collection.sources import find_source, source_names
from fiftyone_idsynth.collection.sources.base import HOUR, Candidate, Query, Source, SourceError
from tests.plain_http import PlainHttp
from tests.replica import Replica, Reply, Request

KEYS = {
    "openverse": {},
    "wikimedia": {},
    "flickr": {"FLICKR_API_KEY": "key/of+flickr=1234"},
    "unsplash": {"UNSPLASH_ACCESS_KEY": "key-of-unsplash-1234"},
    "pexels": {"PEXELS_API_KEY": "key-of-pexels-1234"},
    "shutterstock": {"SHUTTERSTOCK_API_TOKEN": "token-of-shutterstock-1234"},
}
PATHS = {
    "openverse": "/v1/images/", "wikimedia": "/w/api.php", "flickr": "/services/rest/", "unsplash": "/search/photos",
    "pexels": "/v1/search", "shutterstock": "/v2/images/search",
}  # fmt: skip
NAMES = list(PATHS)
APPLES = Query("red apple", "de")


@pytest.fixture
def server() -> Iterator[Replica]:
    with Replica() as made:
        yield made


def source(name: str, server: Replica, **options: Any) -> Source:
    options.setdefault("secrets", KEYS[name])
    return find_source(name)(PlainHttp(), root=server.url, **options)


def found(name: str, server: Replica, query: Query = APPLES, **options: Any) -> list[Candidate]:
    return [candidate for page in source(name, server, **options).pages(query) for candidate in page.candidates]


def item(name: str, number: int) -> dict[str, Any]:
    """An image as the API describes it."""
    file = f"https://images.example/{number}"
    if name == "openverse":
        return {
            "id": str(number), "title": f"Apple &amp; pear <b>{number}</b>", "url": f"{file}.jpg", "creator": "Ann",
            "foreign_landing_url": f"{file}.html", "license": "by-sa", "license_version": "4.0", "width": 1200,
            "license_url": "https://creativecommons.org/licenses/by-sa/4.0/", "height": 900,
            "tags": [{"name": "apple", "accuracy": None}, {"name": "fruit"}, {"name": "apple"}, None],
        }  # fmt: skip
    if name == "wikimedia":
        said = {
            "License": "cc-by-sa-4.0", "Artist": '<a href="//x/User:Ann" title="User:Ann">Ann</a> &amp; Bob',
            "LicenseUrl": "https://creativecommons.org/licenses/by-sa/4.0", "Categories": "Apples|Red fruit",
            "ImageDescription": "<p>Red <i>apple</i></p>",
        }  # fmt: skip
        return {
            "pageid": number, "ns": 6, "title": f"File:Apple {number}.jpg", "index": number,
            "imageinfo": [{
                "url": f"{file}.jpg", "descriptionurl": f"{file}.html", "thumburl": f"{file}-1920px.jpg",
                "thumbwidth": 1920, "thumbheight": 1440, "width": 4000, "height": 3000, "size": 3_000_000,
                "mime": "image/jpeg", "user": "Uploader", "extmetadata": {k: {"value": v} for k, v in said.items()},
            }],
        }  # fmt: skip
    if name == "flickr":
        return {
            "id": str(number), "owner": "7@N06", "title": f"Apple {number}", "license": "4", "ownername": "Ann",
            "description": {"_content": "Red <b>apple</b>"}, "tags": "apple redfruit", "url_l": f"{file}_b.jpg",
            "width_l": 1024, "height_l": "683", "url_c": f"{file}_c.jpg", "width_c": 800, "height_c": 534,
        }  # fmt: skip
    if name == "unsplash":
        return {
            "id": str(number), "width": 5184, "height": 3456, "description": None, "alt_description": "red apple",
            "urls": {"full": f"{file}?ixid=abc&q=85", "regular": f"{file}?ixid=abc&w=1080"},
            "links": {"html": f"{file}.html", "download_location": f"https://api.example/photos/{number}/download"},
            "user": {"id": "1", "username": "ann", "name": "Ann"}, "tags": [{"title": "apple"}, {"type": "search"}],
        }  # fmt: skip
    if name == "pexels":
        return {
            "id": number, "width": 3000, "height": 2000, "url": f"{file}.html", "photographer": "Ann",
            "alt": "red apple", "src": {"original": f"{file}.jpeg", "large2x": f"{file}.jpeg?dpr=2"},
        }  # fmt: skip
    return {
        "id": str(number), "description": "red apple", "contributor": {"id": "77"}, "keywords": ["apple", "fruit"],
        "assets": {
            "preview": {"url": f"{file}-450.jpg", "width": 450, "height": 300},
            "preview_1000": {"url": f"{file}-1000.jpg", "width": 1000, "height": 667},
            "huge_thumb": {"url": f"{file}-260.jpg", "width": 260, "height": 195},
        },
    }  # fmt: skip


def answer(name: str, items: list[Any], page: int = 1, pages: int = 1, total: int | None = None) -> dict[str, Any]:
    """A page of results in the shape of the API."""
    total = len(items) * pages if total is None else total
    if name == "openverse":
        return {"result_count": total, "page_count": pages, "page_size": 20, "page": page, "results": items}
    if name == "wikimedia":
        files = {str(number): file for number, file in enumerate(reversed(items))}
        made: dict[str, Any] = {"batchcomplete": "", "query": {"pages": files}} if items else {"batchcomplete": ""}
        return made | ({"continue": {"gsroffset": 50 * page, "continue": "gsroffset||"}} if page < pages else {})
    if name == "flickr":
        photos = {"page": page, "pages": pages, "perpage": 500, "total": str(total), "photo": items}
        return {"photos": photos, "stat": "ok"}
    if name == "unsplash":
        return {"total": total, "total_pages": pages, "results": items}
    if name == "pexels":
        following = {"next_page": f"https://elsewhere.example/v1/search?page={page + 1}"} if page < pages else {}
        return {"page": page, "per_page": 80, "total_results": total, "photos": items} | following
    return {"page": page, "per_page": 20, "total_count": total, "search_id": "x", "data": items}


def number_of(name: str, request: Request) -> int:
    """The page that a request asks for, from 1."""
    if name == "wikimedia":
        return int(request.query.get("gsroffset", 0)) // 50 + 1
    return int(request.query["page"])


@pytest.mark.parametrize("name", NAMES)
def test_all_pages_are_read_and_then_no_more_is_asked(name: str, server: Replica) -> None:
    size = find_source(name).about.page_size

    def page(request: Request) -> dict[str, Any]:
        page = number_of(name, request)
        first, last = (page - 1) * size, min(page * size, 2 * size + 3)
        return answer(name, [item(name, n + 1) for n in range(first, last)], page, pages=3, total=2 * size + 3)

    server.on(PATHS[name], page)
    pages = list(source(name, server).pages(APPLES))
    ranks = [candidate.rank for page in pages for candidate in page.candidates]
    assert ranks == list(range(1, 2 * size + 4))
    assert len({candidate.image_url for page in pages for candidate in page.candidates}) == len(ranks)
    assert [number_of(name, request) for request in server.requests] == [1, 2, 3]
    assert pages[0].total == (None if name == "wikimedia" else 2 * size + 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openverse", Candidate(
            "https://images.example/1.jpg", 1, "https://images.example/1.html", "Apple & pear 1", "",
            ["apple", "fruit"], "Ann", "cc-by-sa-4.0", "https://creativecommons.org/licenses/by-sa/4.0/", 1200, 900)),
        ("wikimedia", Candidate(
            "https://images.example/1.jpg", 1, "https://images.example/1.html", "Apple 1.jpg", "Red apple",
            ["Apples", "Red fruit"], "Ann & Bob", "cc-by-sa-4.0", "https://creativecommons.org/licenses/by-sa/4.0",
            4000, 3000)),
        ("flickr", Candidate(
            "https://images.example/1_b.jpg", 1, "https://www.flickr.com/photos/7@N06/1", "Apple 1", "Red apple",
            ["apple", "redfruit"], "Ann", "cc-by-2.0", "https://creativecommons.org/licenses/by/2.0/", 1024, 683)),
        ("unsplash", Candidate(
            "https://images.example/1?ixid=abc&q=85", 1, "https://images.example/1.html", "", "red apple", ["apple"],
            "Ann", "unsplash", "https://unsplash.com/license", 5184, 3456, "https://api.example/photos/1/download")),
        ("pexels", Candidate(
            "https://images.example/1.jpeg", 1, "https://images.example/1.html", "", "red apple", [], "Ann", "pexels",
            "https://www.pexels.com/license/", 3000, 2000)),
        ("shutterstock", Candidate(
            "https://images.example/1-1000.jpg", 1, "", "", "red apple", ["apple", "fruit"],
            "Shutterstock contributor 77", "all-rights-reserved", "https://www.shutterstock.com/license", 1000, 667)),
    ],
)  # fmt: skip
def test_what_is_said_about_an_image(name: str, expected: Candidate, server: Replica) -> None:
    server.on(PATHS[name], answer(name, [item(name, 1)]))
    assert found(name, server) == [expected]


@pytest.mark.parametrize("name", NAMES)
def test_no_results(name: str, server: Replica) -> None:
    server.on(PATHS[name], answer(name, [], pages=0))
    assert list(source(name, server).pages(APPLES)) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", NAMES)
def test_odd_items_are_left_out(name: str, server: Replica) -> None:
    fitting = {**item(name, 4), "index": 9}
    server.on(PATHS[name], answer(name, [{}, {"id": None, "urls": [], "src": 3, "imageinfo": []}, fitting], total=3))
    candidates = found(name, server)
    assert len(candidates) == 1
    assert candidates[0].rank == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["items", "keys", "list", "html"])
def test_a_changed_shape_is_said_loudly(name: str, kind: str, server: Replica) -> None:
    odd = [{"id": "1", "picture": "https://images.example/1.jpg"}] * 3
    body = {"items": answer(name, odd), "keys": {"stat": "ok", "hits": []}, "list": [1], "html": "<p>Moved</p>"}[kind]
    server.on(PATHS[name], body)
    with pytest.raises(SourceError, match=r"0 candidates parsed from a page of \d+ bytes") as caught:
        found(name, server)
    assert caught.value.reason == "layout_changed"


@pytest.mark.parametrize("name", NAMES)
def test_quota(name: str, server: Replica) -> None:
    server.on(PATHS[name], Reply({"detail": "throttled"}, 429, {"Retry-After": "120"}))
    with pytest.raises(SourceError, match="too many requests") as caught:
        found(name, server)
    assert (caught.value.reason, caught.value.suspend) == ("quota_used_up", 120.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", [401, 403, 400, 503])
def test_no_key_in_an_error(name: str, status: int, server: Replica) -> None:
    secret = next(iter(KEYS[name].values()), "")
    server.on(PATHS[name], lambda request: Reply(
        {"error": "no", "url": request.target, "sent": request.headers.get("authorization"), "key": secret}, status,
    ))  # fmt: skip
    with pytest.raises(SourceError) as caught:
        found(name, server)
    reason = {401: "key_refused", 403: "key_refused", 400: "refused", 503: "server_error"}[status]
    assert caught.value.reason == reason
    shown = "".join(traceback.format_exception(caught.value))
    for key in KEYS[name].values():
        assert key not in shown
        assert key.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D") not in shown
    if reason == "key_refused" and KEYS[name]:
        assert next(iter(KEYS[name])) in caught.value.detail


@pytest.mark.parametrize("name", NAMES)
def test_no_key_in_the_error_of_a_dead_connection(name: str) -> None:
    with Replica() as server:
        pass  # nobody listens at its address any more
    with pytest.raises(SourceError) as caught:
        found(name, server)
    assert caught.value.reason == "no_network"
    shown = "".join(traceback.format_exception(caught.value))
    assert not [key for key in KEYS[name].values() if key in shown or key.replace("/", "%2F") in shown]


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("unsplash", "Client-ID key-of-unsplash-1234"),
        ("pexels", "key-of-pexels-1234"),
        ("shutterstock", "Bearer token-of-shutterstock-1234"),
    ],
)
def test_a_key_goes_into_the_header(name: str, header: str, server: Replica) -> None:
    server.on(PATHS[name], answer(name, [item(name, 1)]))
    found(name, server)
    (request,) = server.requests
    assert request.headers["authorization"] == header
    assert "1234" not in request.target


def test_shutterstock_takes_key_and_secret(server: Replica) -> None:
    server.on(PATHS["shutterstock"], Reply({"message": "bad consumer"}, 401))
    with pytest.raises(SourceError, match="SHUTTERSTOCK_API_TOKEN"):
        found("shutterstock", server, secrets={"SHUTTERSTOCK_API_TOKEN": "consumer:secret"})
    assert server.requests[0].headers["authorization"] == "Basic Y29uc3VtZXI6c2VjcmV0"


@pytest.mark.parametrize("name", NAMES)
def test_queries_keep_their_characters(name: str, server: Replica) -> None:
    server.on(PATHS[name], answer(name, [item(name, 1)]))
    text = "Äpfel & Birnen #1 苹果 50%+?"
    found(name, server, Query(text))
    parameter = {"openverse": "q", "wikimedia": "gsrsearch", "flickr": "text"}.get(name, "query")
    assert server.requests[0].query[parameter].removeprefix("filetype:bitmap ") == text


@pytest.mark.parametrize(
    ("name", "licenses", "parameter"),
    [
        ("openverse", ["cc-by", "CC0 1.0"], "by,cc0"),
        ("openverse", ["cc-by-sa-3.0", "PDM"], "by-sa,pdm"),
        ("flickr", ["cc-by", "cc0"], "4,9,11"),
        ("flickr", ["CC BY-NC 4.0"], "14"),
        ("flickr", [], None),
    ],
)
def test_a_licence_filter_is_passed_on(name: str, licenses: list[str], parameter: str | None, server: Replica) -> None:
    server.on(PATHS[name], answer(name, [item(name, 1)]))
    found(name, server, licenses=licenses)
    assert server.requests[0].query.get("license") == parameter


@pytest.mark.parametrize("name", ["openverse", "flickr", "unsplash", "pexels", "shutterstock"])
def test_licences_that_a_source_does_not_have_are_not_asked_for(name: str, server: Replica) -> None:
    assert found(name, server, licenses=["gfdl-1.2"]) == []
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "language", "parameter"),
    [
        ("unsplash", "de", {"lang": "de"}),
        ("pexels", "de", {"locale": "de-DE"}),
        ("shutterstock", "de", {"language": "de"}),
        ("wikimedia", "de", {"iiextmetadatalanguage": "de"}),
        ("pexels", "sw", {}),
        ("shutterstock", "sw", {}),
    ],
)
def test_the_language_is_passed_on_where_it_is_known(
    name: str, language: str, parameter: dict[str, str], server: Replica
) -> None:
    server.on(PATHS[name], answer(name, [item(name, 1)]))
    found(name, server, Query("apfel", language))
    asked = server.requests[0].query
    names = ("lang", "locale", "language", "iiextmetadatalanguage")
    assert {name: asked[name] for name in names if name in asked} == parameter


def test_openverse_stays_within_its_depth_and_query_length(server: Replica) -> None:
    server.on(PATHS["openverse"], lambda r: answer("openverse", [item("openverse", int(r.query["page"]))], pages=500))
    assert len(found("openverse", server, Query("x" * 300))) == 20
    assert {len(request.query["q"]) for request in server.requests} == {200}
    assert {request.query["page_size"] for request in server.requests} == {"20"}


def test_openverse_as_a_registered_application(server: Replica) -> None:
    server.on("/v1/auth_tokens/token/", {"access_token": "token-1", "token_type": "Bearer", "expires_in": 36000})
    server.on(PATHS["openverse"], lambda r: answer("openverse", [item("openverse", 1)], int(r.query["page"]), pages=2))
    secrets = {"OPENVERSE_CLIENT_ID": "client-1", "OPENVERSE_CLIENT_SECRET": "s&cret"}
    assert len(found("openverse", server, secrets=secrets)) == 2
    token, *searches = server.requests
    assert token.form == {"grant_type": "client_credentials", "client_id": "client-1", "client_secret": "s&cret"}
    assert [request.headers["authorization"] for request in searches] == ["Bearer token-1"] * 2
    assert "authorization" not in token.headers


def test_openverse_with_a_refused_secret(server: Replica) -> None:
    server.on("/v1/auth_tokens/token/", Reply({"error": "invalid_client", "got": "secret-1"}, 401))
    secrets = {"OPENVERSE_CLIENT_ID": "client-1", "OPENVERSE_CLIENT_SECRET": "secret-1"}
    with pytest.raises(SourceError, match="OPENVERSE_CLIENT_SECRET") as caught:
        found("openverse", server, secrets=secrets)
    assert caught.value.reason == "key_refused"
    assert "secret-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("ratelimited", "quota_used_up"),
        ("maxlag", "server_error"),
        ("internal_api_error_DBQueryError", "server_error"),
        ("badvalue", "refused"),
    ],
)
def test_commons_errors_come_with_status_200(code: str, reason: str, server: Replica) -> None:
    server.on(PATHS["wikimedia"], {"error": {"code": code, "info": "what happened"}, "servedby": "mw1"})
    with pytest.raises(SourceError, match="what happened") as caught:
        found("wikimedia", server)
    assert caught.value.reason == reason


def test_commons_batches_that_come_in_pieces_are_put_together(server: Replica) -> None:
    first, second = item("wikimedia", 1), item("wikimedia", 2)
    without = {key: value for key, value in second.items() if key != "imageinfo"}
    following = {"iistart": "2020", "gsroffset": 0, "continue": "||"}
    server.on(
        PATHS["wikimedia"], {"batchcomplete": "", "query": {"pages": {"1": {"pageid": 1}, "2": second}}}, iistart="2020"
    )
    server.on(PATHS["wikimedia"], {"continue": following, "query": {"pages": {"1": first, "2": without}}})
    candidates = found("wikimedia", server)
    assert [candidate.title for candidate in candidates] == ["Apple 1.jpg", "Apple 2.jpg"]
    assert server.requests[1].query["continue"] == "||"
    assert server.requests[1].query["gsrsearch"] == server.requests[0].query["gsrsearch"]


def test_commons_that_does_not_get_on_is_not_asked_for_ever(server: Replica) -> None:
    following = {"gsroffset": 50, "continue": "gsroffset||"}
    server.on(PATHS["wikimedia"], {"continue": following, "query": {"pages": {"1": item("wikimedia", 1)}}})
    with pytest.raises(SourceError, match="names itself"):
        found("wikimedia", server)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "change", [{"size": 25_000_000}, {"mime": "image/tiff"}, {"mime": None, "url": "https://images.example/1.tif"}]
)
def test_commons_renders_what_is_too_large_or_odd(change: dict[str, Any], server: Replica) -> None:
    file = item("wikimedia", 1)
    file["imageinfo"][0].update(change)
    server.on(PATHS["wikimedia"], answer("wikimedia", [file]))
    (candidate,) = found("wikimedia", server)
    assert (candidate.image_url, candidate.width) == ("https://images.example/1-1920px.jpg", 1920)
    assert server.requests[0].query["iiurlwidth"] == "1920"


def test_commons_files_that_are_gone_are_no_change_of_layout(server: Replica) -> None:
    server.on(PATHS["wikimedia"], answer("wikimedia", [{"title": "File:Gone.jpg", "missing": ""}]))
    assert found("wikimedia", server) == []


@pytest.mark.parametrize(
    ("said", "name", "url"),
    [
        ({"License": "pd", "LicenseShortName": "Public domain"}, "public-domain", ""),
        ({"License": "cc0"}, "cc0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
        ({"License": "cc-by-sa-3.0-de"}, "cc-by-sa-3.0-de", "https://creativecommons.org/licenses/by-sa/3.0/de/"),
        ({"LicenseUrl": "https://creativecommons.org/licenses/by/4.0"}, "cc-by-4.0",
         "https://creativecommons.org/licenses/by/4.0"),
        ({"LicenseShortName": "No restrictions"}, "no-known-copyright-restrictions", ""),
        ({}, "", ""),
    ],
)  # fmt: skip
def test_commons_licences(said: dict[str, str], name: str, url: str, server: Replica) -> None:
    file = item("wikimedia", 1)
    file["imageinfo"][0]["extmetadata"] = {key: {"value": value} for key, value in said.items()}
    server.on(PATHS["wikimedia"], answer("wikimedia", [file]))
    (candidate,) = found("wikimedia", server)
    assert (candidate.license, candidate.license_url, candidate.creator) == (name, url, "Uploader")


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        (100, "Invalid API Key (Key has invalid format)", "key_refused"),
        ("105", "Service currently unavailable", "server_error"),
        (3, "Parameterless searches have been disabled", "refused"),
    ],
)
def test_flickr_failures_come_with_status_200(code: Any, message: str, reason: str, server: Replica) -> None:
    key = KEYS["flickr"]["FLICKR_API_KEY"]
    server.on(PATHS["flickr"], {"stat": "fail", "code": code, "message": f"{message} {key}"})
    with pytest.raises(SourceError) as caught:
        found("flickr", server)
    assert caught.value.reason == reason
    assert message in caught.value.detail
    assert key not in caught.value.detail


@pytest.mark.parametrize(
    ("number", "name"), [("0", "all-rights-reserved"), (9, "cc0-1.0"), ("16", "cc-by-nc-nd-4.0"), ("99", "")]
)
def test_flickr_licence_numbers(number: Any, name: str, server: Replica) -> None:
    original = {"license": number, "url_o": "https://images.example/1_o.png", "width_o": "6000", "height_o": "4000"}
    server.on(PATHS["flickr"], answer("flickr", [item("flickr", 1) | original]))
    (candidate,) = found("flickr", server)
    assert candidate.license == name
    assert (candidate.image_url, candidate.width, candidate.height) == ("https://images.example/1_o.png", 6000, 4000)


def test_unsplash_says_with_403_that_the_hour_is_used_up(server: Replica) -> None:
    server.on(PATHS["unsplash"], Reply("Rate Limit Exceeded", 403, {"X-Ratelimit-Remaining": "0"}))
    with pytest.raises(SourceError) as caught:
        found("unsplash", server)
    assert (caught.value.reason, caught.value.suspend) == ("quota_used_up", HOUR)


def test_unsplash_photos_that_are_paid_for_have_another_licence(server: Replica) -> None:
    paid = item("unsplash", 2)
    paid["urls"]["full"] = "https://plus.unsplash.com/premium_photo-1?ixid=abc"
    server.on(PATHS["unsplash"], answer("unsplash", [item("unsplash", 1), paid]))
    assert [candidate.license for candidate in found("unsplash", server)] == ["unsplash", "unsplash-plus"]


def test_unsplash_is_told_of_use_with_the_key_and_nobody_else(server: Replica) -> None:
    server.on("/photos/1/download", {"url": "https://images.example/1"}, ixid="abc")
    unsplash = source("unsplash", server)
    unsplash.notify(f"{server.url}/photos/1/download?ixid=abc")
    assert server.requests[0].headers["authorization"] == "Client-ID key-of-unsplash-1234"
    with Replica() as stranger, pytest.raises(SourceError, match="is not called"):
        unsplash.notify(f"{stranger.url}/photos/1/download")
    assert stranger.requests == []


@pytest.mark.parametrize("name", ["flickr", "unsplash", "pexels", "shutterstock"])
def test_a_redirect_does_not_take_the_key_elsewhere(name: str, server: Replica) -> None:
    with Replica() as stranger:
        stranger.on("/elsewhere", answer(name, [item(name, 1)]))
        server.on(PATHS[name], Reply("", 302, {"Location": f"{stranger.url}/elsewhere"}))
        with pytest.raises(SourceError, match="redirects to 'http://127.0.0.1") as caught:
            found(name, server)
    assert caught.value.reason == "refused"
    assert stranger.requests == []


def test_a_source_without_a_key_follows_redirects(server: Replica) -> None:
    server.on("/moved", answer("openverse", [item("openverse", 1)]))
    server.on(PATHS["openverse"], Reply("", 301, {"Location": "/moved"}))
    assert len(found("openverse", server)) == 1


def test_pexels_does_not_take_its_key_to_the_next_page_elsewhere(server: Replica) -> None:
    server.on(PATHS["pexels"], lambda r: answer("pexels", [item("pexels", 1)], int(r.query["page"]), pages=2))
    assert len(found("pexels", server)) == 2
    assert [request.query["page"] for request in server.requests] == ["1", "2"]


def test_the_facts_about_sources() -> None:
    for name in NAMES:
        about = find_source(name).about
        assert about.kind == "api"
        assert about.root.startswith("https://")
        assert about.documentation.startswith("https://")
        assert len(about.terms) > 40
        assert about.opt_in == (name not in ("openverse", "wikimedia"))
        assert about.keys == tuple(KEYS[name])
    assert "machine learning" in find_source("unsplash").about.acknowledge
    assert "watermark" in find_source("shutterstock").about.terms
    assert set(NAMES) < set(source_names())
