"""Words that vary images: the vocabulary, articles, swaps, surroundings, rewritten texts."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiftyone_idsynth.errors import ParameterError, RefusedImage
from fiftyone_idsynth.generation.english import begins_with_vowel, singulars, with_article
from fiftyone_idsynth.generation.rewriting import rewrite
from fiftyone_idsynth.generation.variation import (
    SWAPPED_GROUPS,
    scene_prompts,
    swap_words,
)
from fiftyone_idsynth.generation.wordlist import Vocabulary, read_vocabulary
from fiftyone_idsynth.llm import LanguageModel, LanguageModelError
from tests.llm_server import LlmServer, Reply, Request

WORDS = read_vocabulary()
TINY = Vocabulary(
    {"era": ("modern", "antique"), "place": ("park", "car park", "unlit alley"), "light": ("at dusk", "at noon")}
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# The vocabulary


def test_our_words_have_one_group_each_and_enough_of_them() -> None:
    counts = Counter(word.lower() for words in WORDS.groups.values() for word in words)
    assert [word for word, count in counts.items() if count > 1] == []
    assert set(SWAPPED_GROUPS) <= set(WORDS.groups)
    assert len(WORDS.words("setting")) >= 60
    assert WORDS.clash("in an office", "in falling snow")
    assert WORDS.clash("At night under street lamps", "on a sunny day")
    assert not WORDS.clash("in an office", "on a sunny day")
    assert not WORDS.clash("in an office", "wooden")


def test_words_of_the_user_come_first_and_are_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "words.csv"
    file.write_text('\ufeffgroup,words,where\nSetting,"in a cave, deep down|in a park",indoor\npet, tame | wild ,\n')
    words = read_vocabulary(file)
    assert words.words("setting")[:2] == ("in a cave, deep down", "in a park")
    assert words.words("setting").count("in a park") == 1
    assert words.words("pet") == ("tame", "wild")
    assert words.clash("in a cave, deep down", "in heavy rain")
    file.write_text("group,words\npet,shy\n")
    assert read_vocabulary(file).words("pet") == ("shy",)
    with pytest.raises(ParameterError, match="did you mean 'setting'"):
        words.words("seting")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group,words\nlight,at noon\nlight,at dawn, misty|at noon\n", "line 3: ' misty|at noon' is one column"),
        ("group,words\n\nlight,\n", "line 3: give a group and its words"),
        ("group,words\n,a|b\n", "line 2: give a group"),
        ("group,words,where\nlight,at noon,dai\n", "line 2: where='dai': did you mean 'day'"),
        ("group,words,where\nlight,at noon,day night\n", "line 2: where='day night' contradicts itself"),
        ('group,words\nlight,"at" noon\n', "line 2 or later is no CSV"),
        ("group,word\nlight,at noon\n", "needs the columns 'group' and 'words'.*'group', 'word'"),
        ("group,words,notes\nlight,at noon,x\n", "needs the columns"),
        ("", "it has nothing"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused_with_the_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text(text)
    with pytest.raises(ParameterError, match=message):
        read_vocabulary(tmp_path / "words.csv")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="cannot be read"):
        read_vocabulary(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("group,words\nlight,dämmrig\n".encode("latin-1"))
    with pytest.raises(ParameterError, match="UTF-8"):
        read_vocabulary(tmp_path / "latin.csv")


# English


@pytest.mark.parametrize(
    "noun",
    ["an owl", "a unicorn", "a uniform", "a university", "an unidentified object", "an uninteresting view", "an hour",
     "a European hare", "a one-way sign", "an onion", "a utensil", "an utter mess", "an umbrella", "a user", "an X-ray",
     "an SUV", "an LED lamp", "a UV lamp", "an 8-bit game", "an 18th-century house", "a 3d render", "an heirloom",
     "an élan", "a lens", "a bus", "a glass", "a cat with two kittens", "an urban street", "a bowl of oranges"],
)  # fmt: skip
def test_articles_follow_the_sound(noun: str) -> None:
    assert with_article(noun.partition(" ")[2]) == noun


@pytest.mark.parametrize(
    "noun", ["one dog", "two dogs", "3 dogs", "the dog", "his dog", "Some dogs", "dogs", "dogs with a ball", "children",
             "bowls of rice", "pixel art"],
)  # fmt: skip
def test_some_nouns_take_no_article(noun: str) -> None:
    assert with_article(noun) == noun


def test_plurals() -> None:
    pairs = "cherries cherry, leaves leaf, Boxes box, dogs dog, men man, firewomen firewoman, mice mouse, dog's dog"
    for plural, singular in (pair.split() for pair in pairs.split(", ")):
        assert singular in singulars(plural)
    assert singulars("car") == ["car"]
    assert "bu" not in singulars("us")
    assert begins_with_vowel("unused")


# Swaps


def test_a_word_gives_way_to_one_of_its_group() -> None:
    swapped = swap_words("a modern house", rng(), TINY)
    assert swapped.text == "an antique house"
    assert swapped.swaps == {"modern": "antique"}
    assert swap_words("An antique house, Modern art", rng(), TINY, swaps=2).text == "A modern house, Antique art"
    assert swap_words("a postmodern house", rng(), TINY).text == "a postmodern house"


def test_only_articles_right_before_a_swapped_word_change() -> None:
    text = "a owl and a hour by a very modern house, an modern and a unidentified one"
    assert swap_words(text, rng(), TINY, groups=["era"]).text == (
        "a owl and a hour by a very antique house, an antique and a unidentified one"
    )
    assert swap_words("A dog", rng(), TINY, explicit={"dog": "two owls"}).text == "Two owls"
    assert swap_words("with a dog", rng(), TINY, explicit={"dog": "the owl"}).text == "with the owl"


def test_phrases_are_swapped_where_they_stand_alone() -> None:
    assert swap_words("a dog at dusk", rng(), TINY, groups=["light"]).text == "a dog at noon"
    assert swap_words("a dog At dusk", rng(), TINY).text == "a dog At noon"
    for seed in range(20):
        assert swap_words("a close-up of a dog", rng(seed), WORDS, groups=["view"]).text == "a close-up of a dog"
        assert swap_words("dog, close-up", rng(seed), WORDS, groups=["view"]).swaps.keys() == {"close-up"}
    with pytest.raises(ParameterError, match="did you mean 'light'"):
        swap_words("a dog", rng(), TINY, groups=["lihgt"])


def test_the_longest_word_counts_and_others_stay() -> None:
    for seed in range(10):
        assert swap_words("a dog in a car park", rng(seed), TINY, groups=["place"]).text in (
            "a dog in a park", "a dog in an unlit alley",
        )  # fmt: skip
    assert swap_words("a modern park", rng(), TINY, keep=["modern"]).swaps.keys() == {"park"}
    assert swap_words("a modern park", rng(), TINY, keep=["modern park"]).swaps == {}
    assert swap_words("a park", rng(), TINY, swaps=0).text == "a park"


def test_explicit_swaps_are_always_made() -> None:
    swapped = swap_words("a Red fox, red", rng(), TINY, explicit={"red": "icy blue"}, keep=["red"], swaps=0)
    assert swapped.text == "an Icy blue fox, icy blue"
    assert swap_words("a car park", rng(), TINY, explicit={"park": "port"}, swaps=1).text == "a car port"


def test_new_words_do_not_contradict_those_that_stay() -> None:
    for seed in range(40):
        text = swap_words("a sunny day in summer", rng(seed), WORDS, groups=["sky"]).text
        assert not re.search("snowy|frosty", text)
        added = swap_words("a sofa in a living room", rng(seed), WORDS, groups=["weather"], add=True)
        assert added.text.startswith("a sofa in a living room, ")
        assert not WORDS.clash("in a living room", added.swaps[""])
    assert swap_words("a sofa.", rng(), TINY, add=True).text.startswith("a sofa, ")


# Surroundings


def test_surroundings_vary_in_balance_and_without_contradictions() -> None:
    made = scene_prompts(300, 51, WORDS)
    assert made[:20] == scene_prompts(20, 51, WORDS)
    assert len(set(made)) == 300
    parts = [re.fullmatch(r"a photo taken (.*?), (.*), (.*?)", text).groups() for text in made]  # type: ignore[union-attr]
    for place, group in enumerate(("setting", "light", "weather")):
        counts = Counter(part[place] for part in parts)
        assert set(counts) == set(WORDS.words(group))
        assert max(counts.values()) - min(counts.values()) <= 3
    assert not any(WORDS.clash(a, b) or WORDS.clash(b, c) or WORDS.clash(a, c) for a, b, c in parts)


def test_surroundings_of_own_templates() -> None:
    assert scene_prompts(9, 1, TINY, ["{a place}, {light}", "only {place}"])[:2] != []
    assert sorted(scene_prompts(9, 1, TINY, ["{a place}", "only {place}"])) == [
        "a car park", "a park", "an unlit alley", "only car park", "only park", "only unlit alley",
    ]  # fmt: skip
    with pytest.raises(ParameterError, match=r"\{subject\} is no slot"):
        scene_prompts(9, 1, TINY, ["{subject} {place}"])


# Rewriting


def numbered(request: Request) -> list[str]:
    return re.findall(r"^\d+\. (.*?)(?: \[keep: .*\])?$", request.text, flags=re.M)


def answer(request: Request) -> Any:
    return {"descriptions": [f"{text} on the moon" for text in numbered(request)]}


def rewritten(server: LlmServer, texts: list[str], **settings: Any) -> Any:
    subjects = settings.pop("subjects", ())
    options: Any = {"base_url": server.url, "api_key": "", "max_retries": 0, **settings}
    with LanguageModel("test", **options) as model:
        return rewrite(texts, model, subjects=subjects)


def reasons(results: Any) -> list[str]:
    return [result.reason if isinstance(result, RefusedImage) else "" for result in results]


def test_texts_are_rewritten_in_their_order() -> None:
    texts = [f"a cat\nnumber {n}" for n in range(45)]
    with LlmServer(answer) as server:
        found = rewritten(server, texts, subjects=[["cat", f"number {n}"] for n in range(45)])
    assert found == [f"a cat number {n} on the moon" for n in range(45)]
    assert 3 <= len(server.requests) <= 4
    assert "1. a cat number 0 [keep: cat, number 0]" in server.requests[0].text


def test_batches_fit_the_context() -> None:
    texts = [f"a cat {n} " + "in a long sentence " * 30 for n in range(12)]
    with LlmServer(answer) as server:
        assert not any(reasons(rewritten(server, texts, context_tokens=3072)))
    few = len(server.requests)
    with LlmServer(answer) as server:
        assert not any(reasons(rewritten(server, texts, context_tokens=16_384)))
    assert few > len(server.requests) == 1
    with LlmServer(answer) as server:
        found = rewritten(server, ["a cat", "far too long " * 2000, "a dog"], context_tokens=3072)
    assert reasons(found) == ["", "context", ""]


def test_a_bad_batch_is_split_until_only_its_text_is_refused() -> None:
    def said(request: Request) -> Any:
        return "I cannot do that" if "bad" in request.text.partition("1. ")[2] else answer(request)

    texts = [f"a cat {n}" for n in range(40)]
    texts[13] = "a bad cat"
    with LlmServer(said) as server:
        found = rewritten(server, texts)
    assert [n for n, reason in enumerate(reasons(found)) if reason] == [13]
    assert reasons(found)[13] == "invalid_answer"


def test_what_says_nothing_new_or_loses_the_subject_is_refused() -> None:
    said = {"descriptions": ["A CAT  at sea", "", "a cow at sea", "a cat in fog"]}
    with LlmServer([said]) as server:
        found = rewritten(server, ["a cat at sea"] * 4, subjects=[["cat"]] * 4)
    assert reasons(found) == ["same_rewrite", "empty_rewrite", "subject_lost", ""]


def test_a_spent_budget_refuses_the_rest_without_asking() -> None:
    texts = [f"a cat {n}" for n in range(60)]
    with LlmServer(answer) as server:
        found = rewritten(server, texts, budget_tokens=1600)
    answered = sum(not reason for reason in reasons(found))
    assert 0 < answered < 60
    assert set(reasons(found)[answered:]) == {"budget"}
    assert "budget_tokens=1600" in found[-1].detail


def test_a_model_that_never_answers_is_an_error_after_a_few_questions() -> None:
    with LlmServer(lambda request: "no") as server, pytest.raises(LanguageModelError, match="no valid answer"):
        rewritten(server, [f"a cat {n}" for n in range(100)])
    assert len(server.requests) < 15
    with LlmServer(lambda request: Reply(401, "who are you")) as server:
        with pytest.raises(LanguageModelError, match="wants a key"):
            rewritten(server, [f"a cat {n}" for n in range(100)])
        assert len(server.requests) == 1
    with LlmServer([]) as server:
        assert rewritten(server, []) == []
        assert not server.requests
