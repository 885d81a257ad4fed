"""A file of addresses as a source."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import pytest

from fiftyone_idsynth.collection.sources.base import Candidate, Query, SourceError
from fiftyone_idsynth.collection.sources.urls import PAGE_SIZE, Urls
from fiftyone_idsynth.errors import MissingExtraError
from tests.plain_http import PlainHttp

ANY = Query("apples")


def read(path: Path) -> tuple[list[Candidate], dict[str, int]]:
    source = Urls(PlainHttp(), path=path)
    return [candidate for page in source.pages(ANY) for candidate in page.candidates], source.unusable


def test_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(
        "\ufeffhttps://images.example/1.jpg\r\n# a comment\r\n\r\n  http://images.example/ä b.jpg#x  \r\n"
        "ftp://images.example/2.jpg\nimages.example/3.jpg\nhttps://\nhttp://[::1/4.jpg\njavascript:alert(1)\n"
        "HTTPS://IMAGES.EXAMPLE/5.JPG".encode()
    )
    found, refused = read(path)
    assert [(candidate.rank, candidate.image_url) for candidate in found] == [
        (1, "https://images.example/1.jpg"),
        (4, "http://images.example/ä%20b.jpg#x"),
        (10, "HTTPS://IMAGES.EXAMPLE/5.JPG"),
    ]
    assert refused == {"bad_url": 5}


HEADER = [
    "Image_URL",
    "Title",
    "alt",
    "Tags",
    "License",
    "license_url",
    "author",
    "page_url",
    "WIDTH",
    "height",
    "more",
]
CELLS = [
    "https://images.example/1.jpg?a=1,2", "An <b>apple</b>", "red; round", "apple|red fruit", "CC BY-SA 4.0", "", "Ann",
    "https://images.example/1.html", "640", "480", "x",
]  # fmt: skip
EXPECTED = Candidate(
    "https://images.example/1.jpg?a=1,2", 2, "https://images.example/1.html", "An apple", "red; round",
    ["apple", "red fruit"], "Ann", "cc-by-sa-4.0", "https://creativecommons.org/licenses/by-sa/4.0/", 640, 480,
)  # fmt: skip


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.CSV", ";"), ("a.tsv", "\t")])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_table(name: str, separator: str, start: str, tmp_path: Path) -> None:
    path = tmp_path / name
    cells = separator.join(f'"{cell}"' for cell in CELLS)
    path.write_text(f"{start}{separator.join(HEADER)}\r\n{cells}\r\n\r\n", encoding="utf-8", newline="")
    found, refused = read(path)
    assert found == [EXPECTED]
    assert refused == {}


def test_a_table_of_url_and_text(tmp_path: Path) -> None:
    path = tmp_path / "laion.csv"
    path.write_text(
        'URL,TEXT,license_url\nhttps://images.example/1.jpg,"a red\napple",\nnone,x,\n'
        "https://images.example/2.jpg,,https://creativecommons.org/publicdomain/mark/1.0/\n"
        "https://images.example/3.jpg\n"
    )
    found, refused = read(path)
    assert [(candidate.rank, candidate.description, candidate.license) for candidate in found] == [
        (2, "a red apple", ""), (5, "", "pdm-1.0"), (6, "", ""),
    ]  # fmt: skip
    assert refused == {"bad_url": 1}


def test_a_parquet_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "list.parquet"
    rows = 2 * PAGE_SIZE + 1
    table = pa.table({
        "URL": [None if n == 7 else f"https://images.example/{n}.jpg" for n in range(rows)],
        "TEXT": [f"apple {n}" for n in range(rows)],
        "tags": [["red", "fruit"]] * rows,
        "WIDTH": [640] * rows,
        "similarity": [0.3] * rows,
    })  # fmt: skip
    parquet.write_table(table, path, row_group_size=700)
    source = Urls(PlainHttp(), path=path)
    pages = list(source.pages(ANY))
    assert [len(page.candidates) for page in pages] == [PAGE_SIZE, PAGE_SIZE]
    last = pages[-1].candidates[-1]
    assert (last.rank, last.image_url, last.description) == (1001, "https://images.example/1000.jpg", "apple 1000")
    assert (last.keywords, last.width, last.height) == (["red", "fruit"], 640, None)
    assert source.unusable == {"bad_url": 1}


def test_parquet_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "list.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r"fiftyone-idsynth\[parquet\]"):
        read(tmp_path / "list.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "No such file"),
        ("list.xlsx", b"", r"is one of \.txt, \.csv, \.tsv, \.parquet"),
        ("list", b"", r"is one of \.txt"),
        ("list.txt", "https://images.example/ä.jpg\n".encode("latin-1"), "not UTF-8"),
        ("list.csv", "url\nhttps://images.example/1.jpg\n".encode("utf-16"), "not UTF-8"),
        (
            "list.csv",
            b"link,title\nhttps://images.example/1.jpg,x\n",
            "Columns: 'link', 'title'.* one of url, image_url",
        ),
        ("list.csv", b"", "Columns: none"),
        (
            "list.csv",
            b'url,title\nhttps://images.example/1.jpg,"open\nhttps://images.example/2.jpg,x\n',
            "quotation mark",
        ),
        ("list.parquet", b"this is no parquet file", "no valid Parquet file"),
    ],
)
def test_files_that_cannot_be_read(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        read(path)
    assert caught.value.reason == "unreadable"
    assert str(path) in str(caught.value)


def test_a_folder_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").mkdir()
    with pytest.raises(SourceError, match="directory"):
        read(tmp_path / "list.txt")


def test_lines_before_a_broken_one_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    good = "".join(f"https://images.example/{n}.jpg\n" for n in range(40_000))
    path.write_bytes(good.encode() + b"https://images.example/\xff.jpg\n")
    kept: list[Candidate] = []
    with pytest.raises(SourceError, match="not UTF-8"):
        kept.extend(candidate for page in Urls(PlainHttp(), path=path).pages(ANY) for candidate in page.candidates)
    assert len(kept) > 30_000


def test_counts_are_of_one_reading(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("nothing\n")
    source = Urls(PlainHttp(), path=path)
    assert list(source.pages(ANY)) == []
    assert list(source.pages(ANY)) == []
    assert source.unusable == {"bad_url": 1}


@pytest.mark.parametrize("name", ["long.txt", "long.csv"])
def test_memory_does_not_grow_with_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with path.open("w") as file:
        file.write("url\n" if name.endswith("csv") else "# list\n")
        file.writelines(f"https://images.example/{'x' * 80}/{n}.jpg\n" for n in range(20_000))
    tracemalloc.start()
    try:
        count = sum(len(page.candidates) for page in Urls(PlainHttp(), path=path).pages(ANY))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 1_200_000  # the file has 2.3 MB, a page of candidates less than 0.5
