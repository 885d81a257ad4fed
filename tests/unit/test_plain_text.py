"""Text of markup."""

from __future__ import annotations

import pytest

from fiftyone_idsynth.collection.sources.html import plain_text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("", ""),
        ("  two \n words ", "two words"),
        ("a < b & c", "a < b & c"),
        ('<a href="x"><b>Jane</b> O&#39;Hara</a>', "Jane O'Hara"),
        ("H<sub>2</sub>O", "H2O"),
        ("one<br>two<div>three</div>four", "one two three four"),
        ("<style>.x{}</style>seen<script>alert(1)</script><!-- not seen --> too", "seen too"),
        ("ends early</strong>", "ends early"),
        ("<!-- nothing -->", ""),
        ("a\x01b <i>c\x00d</i> \ud800", "ab cd"),
        ("<?xml version='1.0' encoding='utf-8'?><b>x</b>", "x"),
        ("图14 <strong>折线图</strong>", "图14 折线图"),
    ],
)
def test_plain_text(markup: str, text: str) -> None:
    assert plain_text(markup) == text
