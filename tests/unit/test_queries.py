"""Queries: what a topic is searched with, by language and origin."""

from __future__ import annotations

import csv
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from fiftyone_idsynth import words
from fiftyone_idsynth.collection.queries import QUERY_INSTRUCTION, make_queries
from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.languages import LANGUAGES
from fiftyone_idsynth.llm import LanguageModel
from tests.llm_server import LlmServer


def made(topic: str, **settings: Any) -> list[str]:
    return [str(query) for query in make_queries(topic, **settings).queries]


def test_by_default_only_the_topic_is_searched() -> None:
    found = make_queries("  red \n panda ")
    assert [(q.text, q.language, q.origin) for q in found.queries] == [("red panda", "en", "topic")]
    assert found.remarks == []


def test_words_gives_translations_and_synonyms_language_by_language() -> None:
    found = make_queries("red panda", languages=["en", "de", "ja"], variants="words")
    assert [str(query) for query in found.queries[:4]] == [
        "en:red panda", "de:Roter Panda", "ja:レッサーパンダ", "en:lesser panda",
    ]  # fmt: skip
    assert "de:Katzenbär" in [str(query) for query in found.queries]
    assert [query.origin for query in found.queries] == ["topic"] + ["words"] * (len(found.queries) - 1)
    assert found.remarks == []


def test_words_knows_plurals_cases_and_names_in_other_languages() -> None:
    assert made("Red Pandas", languages=["de"], variants="words")[0] == "de:Roter Panda"
    assert made("red-panda", languages=["de"], variants="words")[0] == "de:Roter Panda"
    assert made("Katzenbär", languages=["de", "en"], variants="words")[:3] == [
        "de:Katzenbär", "en:red panda", "de:Roter Panda",
    ]  # fmt: skip
    assert made("strawberries", languages=["de"], variants="words") == ["de:erdbeere"]


def test_words_uses_the_names_of_emoji_for_what_our_list_lacks() -> None:
    assert made("penguin", languages=["en", "de", "fr", "zh", "ko"], variants="words") == [
        "en:penguin", "de:pinguin", "fr:pingouin", "zh:企鹅", "ko:펭귄",
    ]  # fmt: skip
    assert made("fox", languages=["ko", "pt", "ru"], variants="words") == ["ko:여우", "pt:raposa", "ru:лиса"]


@pytest.mark.parametrize("topic", ["Germany", "red panda face", "thumbs up dark skin tone", "B button"])
def test_words_takes_no_emoji_that_is_no_thing(topic: str) -> None:
    assert made(topic, variants="words", languages=["en", "de"]) == [f"en:{topic}"]


def test_a_language_without_words_is_left_out_and_named() -> None:
    found = make_queries("red panda", languages=["en", "pl", "sw", "de"], variants="words")
    assert {query.language for query in found.queries} == {"en", "de"}
    assert "Polish (pl), Swahili (sw), which are left out" in found.remarks[0]

    found = make_queries("red panda", languages=["en", "de"])
    assert [str(query) for query in found.queries] == ["en:red panda"]
    assert "German (de), which is left out" in found.remarks[0]

    found = make_queries("red panda", languages=["en", "pl"], synonyms=["pl:panda mała"])
    assert found.remarks == []


def test_a_word_of_one_language_is_not_searched_as_one_of_another() -> None:
    assert made("red panda", languages=["de"], variants="words") == [
        "de:Roter Panda", "de:Kleiner Panda", "de:Katzenbär",
    ]  # fmt: skip
    with pytest.raises(ParameterError, match="no query is left.*Polish"):
        make_queries("red panda", languages=["pl"], variants="words")
    with pytest.raises(ParameterError, match="no query is left"):
        make_queries("red panda", languages=["de"], topic_language="en")
    unknown = make_queries("Wolpertinger", languages=["de", "en"], variants="words")
    assert [str(query) for query in unknown.queries] == ["de:Wolpertinger"]
    assert "taken as German (de)" in unknown.remarks[0]


def test_the_user_s_queries_are_used_exactly() -> None:
    queries = ["de:Katzenbär", "red panda tree", "RED  panda tree", "en:ratio 3:4", "https://example.org"]
    found = make_queries("red panda", queries=queries, synonyms=["lesser panda"], variants="words", max_queries=2)
    assert [(str(q), q.origin) for q in found.queries] == [
        ("de:Katzenbär", "user"), ("en:red panda tree", "user"), ("en:ratio 3:4", "user"),
        ("en:https://example.org", "user"),
    ]  # fmt: skip


def test_synonyms_come_after_the_topic_and_near_identical_ones_once() -> None:
    found = make_queries(
        "red panda", languages=["en", "de"], synonyms=["Firefox", "Red  Panda", "de:roter panda"], variants="words"
    )
    assert [str(query) for query in found.queries[:3]] == ["en:red panda", "en:Firefox", "de:roter panda"]
    assert "de:Roter Panda" not in [str(query) for query in found.queries]


def test_synonyms_are_not_searched_in_a_language_that_is_not_wanted() -> None:
    found = make_queries("red panda", languages=["de"], synonyms=["Feuerfuchs"], variants="words")
    assert {query.language for query in found.queries} == {"de"}
    assert "taken as German (de)" in found.remarks[0]


def test_no_more_queries_than_wanted_with_every_language_among_them() -> None:
    found = make_queries("red panda", languages=["en", "de", "fr"], variants="words", max_queries=3)
    assert [query.language for query in found.queries] == ["en", "de", "fr"]
    assert "3 of 7 queries are used" in found.remarks[0]


@pytest.mark.parametrize(
    ("settings", "parameter", "words_of_error"),
    [
        ({"topic": " \t"}, "topic", "has no words"),
        ({"topic": "!?"}, "topic", "has no words"),
        ({"topic": "x" * 201}, "topic", "201 characters"),
        ({"languages": ["german"]}, "languages", "did you mean 'de' (German)?"),
        ({"languages": ["pt-BR"]}, "languages", "did you mean 'pt' (Portuguese)?"),
        ({"languages": ["qq"]}, "languages", "ISO 639-1"),
        ({"languages": []}, "languages", "at least one"),
        ({"variants": "word"}, "variants", "did you mean 'words'?"),
        ({"variants": "llm"}, "model", "needs a language model"),
        ({"queries": ["tv:remote"]}, "queries", "write 'en:tv:remote'"),
        ({"queries": ["de: "]}, "queries", "has no words"),
        ({"synonyms": ["jp:パンダ"]}, "synonyms", "did you mean 'ja' (Japanese)?"),
        ({"max_queries": 0}, "max_queries", "at least 1"),
    ],
)
def test_wrong_input_is_named_with_a_remedy(settings: dict[str, Any], parameter: str, words_of_error: str) -> None:
    with pytest.raises(ParameterError) as caught:
        make_queries(**{"topic": "red panda", **settings})
    assert caught.value.parameter == parameter
    assert words_of_error in str(caught.value)


def test_a_file_of_the_user_s_goes_before_our_list(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text("topic,language,words\nred panda,de,Feuerfuchs|Bärenkatze\nred panda,pl,panda mała\n", "utf-8-sig")
    settings = {"languages": ["en", "de", "pl", "fr"], "variants": "words", "word_list": path}
    assert made("red panda", **settings) == [
        "en:red panda", "de:Feuerfuchs", "pl:panda mała", "fr:panda roux",
        "en:lesser panda", "de:Bärenkatze", "fr:petit panda",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"topic;language;words\n", "lacks the column 'topic'"),
        (b"", "it names nothing"),
        (b"topic,language,words\nred panda,german,Panda\n", "line 2"),
        (b"topic,language,words\nred panda,de,\n", "line 2 has no words"),
        (b"topic,language,words\nred panda,de\n", "line 2 has no words"),
        (b"topic,language,words\nred panda,de,B\xe4r\n", "no CSV file in UTF-8"),
    ],
)
def test_a_broken_word_list_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match="word_list") as caught:
        make_queries("red panda", variants="words", word_list=path)
    assert problem in str(caught.value)
    with pytest.raises(ParameterError, match="check the path"):
        make_queries("red panda", variants="words", word_list=tmp_path / "none.csv")


def test_our_list_is_clean() -> None:
    with open(Path(words.__file__).with_name("words.csv"), encoding="utf-8", newline="") as file:
        rows = [(row["topic"], row["language"], row["words"]) for row in csv.DictReader(file)]
    assert len({topic for topic, _, _ in rows}) >= 120
    assert len({(topic, language) for topic, language, _ in rows}) == len(rows)
    scripts = {"ja": ("CJK", "HIRAGANA", "KATAKANA"), "zh": ("CJK",), "ru": ("CYRILLIC",)}
    for topic, language, listed in rows:
        assert topic == words.normal(topic)
        assert language in LANGUAGES
        for word in listed.split("|"):
            assert word == word.strip()
            assert word
            letter = unicodedata.name(next(c for c in word if c.isalpha()))
            assert letter.startswith(scripts.get(language, ("LATIN",))), (topic, language, word)


PHRASES = {
    "topic_language": "en",
    "phrases": [
        {"language": "en", "text": "red panda"},
        {"language": "en", "text": "red panda in a tree"},
        {"language": "de", "text": " „Roter  Panda“ "},
        {"language": "de", "text": "roter panda"},
    ],
}


def asked(server: LlmServer, topic: str = "red panda", **settings: Any) -> Any:
    with LanguageModel("test", base_url=server.url, api_key="") as model:
        return make_queries(topic, variants="llm", model=model, **settings)


def test_a_language_model_writes_phrases() -> None:
    with LlmServer([PHRASES]) as server:
        found = asked(server, languages=["en", "de", "pl"])
    assert [(str(q), q.origin) for q in found.queries] == [
        ("en:red panda", "topic"), ("de:Roter Panda", "llm"), ("en:red panda in a tree", "llm"),
    ]  # fmt: skip
    assert "Polish (pl), which is left out" in found.remarks[0]
    assert server.requests[0].body["messages"][0]["content"] == QUERY_INSTRUCTION
    assert "Topic: red panda\nLanguages: English (en), German (de), Polish (pl)" in server.requests[0].text


def test_a_language_model_that_adds_a_language_is_asked_again() -> None:
    wrong = {**PHRASES, "phrases": [{"language": "fr", "text": "panda roux"}]}
    long = {**PHRASES, "phrases": [{"language": "en", "text": "x" * 81}]}
    with LlmServer([wrong, long, PHRASES]) as server:
        found = asked(server, languages=["en", "de"])
    assert len(server.requests) == 3
    assert {query.language for query in found.queries} == {"en", "de"}


def test_a_topic_in_a_language_that_is_not_searched_is_only_translated() -> None:
    with LlmServer([{**PHRASES, "phrases": PHRASES["phrases"][2:]}]) as server:
        found = asked(server, languages=["de"], instruction="Only official names.")
        assert server.requests[0].body["messages"][0]["content"] == "Only official names."
    assert [str(query) for query in found.queries] == ["de:Roter Panda"]


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, fiftyone_idsynth.collection.queries, fiftyone_idsynth.llm\n"
        "print([m for m in ('openai', 'emoji', 'pydantic', 'fiftyone', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
