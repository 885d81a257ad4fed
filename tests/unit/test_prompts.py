"""Prompts: made of words or by a language model, all different, the words in balance; and how varied they are."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fiftyone_idsynth.errors import ParameterError, UsageError
from fiftyone_idsynth.generation.combining import combinations
from fiftyone_idsynth.generation.english import content_words
from fiftyone_idsynth.generation.prompts import TEMPLATES, ask_prompts, fill, make_prompts, read_texts
from fiftyone_idsynth.generation.variety import Apart, Distinct, spread, too_near, vendi_score
from fiftyone_idsynth.generation.wording import write_prompts
from fiftyone_idsynth.generation.wordlist import Vocabulary, read_vocabulary
from fiftyone_idsynth.llm import LanguageModel, LanguageModelError
from fiftyone_idsynth.models.options import Options
from tests.llm_server import LlmServer, Reply, Request

WORDS = read_vocabulary()


class Bags:
    """Compares texts by their words: orthogonal for each word."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._places: dict[str, int] = {}

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(len(texts))
        vectors = np.zeros((len(texts), 2000), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in content_words(text):
                vector[self._places.setdefault(word, len(self._places))] = 1
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


# The grid


@pytest.mark.parametrize("task", TEMPLATES)
def test_a_larger_count_keeps_the_earlier_prompts(task: str) -> None:
    few = make_prompts("red panda", 20, task=task, vocabulary=WORDS)
    many = make_prompts("red panda", 200, task=task, vocabulary=WORDS)
    assert many.texts[:20] == few.texts
    assert len(set(many.texts)) == 200
    assert not many.remarks
    assert all("red panda" in text and "{" not in text for text in many.texts)
    assert make_prompts("red panda", 20, task=task, vocabulary=WORDS, seed=1).texts != few.texts


def test_words_of_a_group_occur_equally_often() -> None:
    texts = make_prompts("cat", 300, templates=["{a subject} {setting}, {view}"], vocabulary=WORDS).texts
    settings = Counter(re.fullmatch(r"a cat (.*?), (.*)", text)[1] for text in texts)  # type: ignore[index]
    assert len(settings) == len(WORDS.words("setting"))
    assert max(settings.values()) - min(settings.values()) <= 2


@pytest.mark.parametrize("seed", range(5))
def test_combinations_are_complete_balanced_and_free_of_clashes(seed: int) -> None:
    lists = [["a", "b", "c"], ["A", "B", "C", "D"], ["1", "2", "3", "4", "5"]]
    clashing = {("a", "A"), ("b", "5"), ("D", "1"), ("D", "2"), ("D", "3"), ("D", "4")}

    def clash(one: str, other: str) -> bool:
        return (one, other) in clashing

    every = [(x, y, z) for x in lists[0] for y in lists[1] for z in lists[2]]
    right = {c for c in every if not any((c[i], c[j]) in clashing for i in range(3) for j in range(i + 1, 3))}
    made = list(combinations(lists, seed, clash))
    assert len(made) == len(set(made))
    assert set(made) == right
    free = list(combinations(lists, seed))
    assert set(free) == set(every)
    for number in range(1, 31):  # at any time
        counts = Counter(c[0] for c in free[:number])
        assert max(counts.values()) - min(counts[word] for word in lists[0]) <= 1


def test_combinations_without_words() -> None:
    assert list(combinations([], 1)) == [()]
    assert list(combinations([["a"], []], 1)) == []
    assert list(combinations([["a"], ["b"]], 1, lambda one, other: True)) == []


def test_prompts_do_not_contradict_themselves() -> None:
    templates = ["{a style} of {a subject} {setting}, {light}, {weather}, {season}, {camera}"]
    texts = make_prompts("cat", 400, templates=templates, vocabulary=WORDS, max_similarity=1).texts
    assert len(texts) == 400
    indoor = r"in an office|in a living room|in a cellar"
    for text in texts:
        assert not re.search(rf"({indoor}).*(falling snow|heavy rain|street lamps)", text)
        assert not re.search(r"at night.*(sunny|bright|clear) day", text)
        assert not re.search(r"falling snow.*in (high |early |late )?summer", text)
        assert not re.search(r"(painting|drawing).*taken with", text)
    assert any(re.search(indoor, text) for text in texts)
    assert any("in falling snow" in text for text in texts)


def test_ten_thousand_prompts_differ() -> None:
    made = make_prompts("cat", 10_000, vocabulary=WORDS)
    assert len(set(made.texts)) == 10_000
    assert not made.remarks


def test_when_the_words_run_out_the_user_is_told() -> None:
    tiny = Vocabulary({"setting": ("in fog", "at sea")})
    made = make_prompts("cat", 5, templates=["{a subject} {setting}"], vocabulary=tiny)
    assert sorted(made.texts) == ["a cat at sea", "a cat in fog"]
    assert "2 different prompts for 'cat'" in made.remarks[0]
    assert "not 5" in made.remarks[0]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a photo of {subjekt}", r"\{subjekt\} is no slot: did you mean 'subject'"),
        ("{subject} {seting}", r"\{seting\} is no slot: did you mean 'setting'"),
        ("a photo {setting}", "must contain {subject}"),
    ],
)
def test_wrong_templates_are_refused(template: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make_prompts("cat", 3, templates=[template], vocabulary=WORDS)


def test_an_empty_subject_is_refused() -> None:
    with pytest.raises(ParameterError, match="subject='  '"):
        make_prompts("  ", 3, vocabulary=WORDS)


def test_templates_get_articles() -> None:
    assert fill("{a style} of {a subject} {setting}", "owl", {"style": "oil painting", "setting": "at sea"}) == (
        "an oil painting of an owl at sea"
    )
    assert fill("{a  subject}, {other}", "owls") == "{a subject}, {other}"
    assert fill("{ a subject }", "two owls") == "two owls"
    assert fill("{a style} of {subject}", "owls", {"style": "pixel art"}) == "pixel art of owls"


# Near-identical ones


def test_near_identical_prompts_are_left_out() -> None:
    distinct = Distinct(0.8, "red panda")
    assert distinct.take("a photo of a red panda in a forest, at dusk, close-up")
    assert not distinct.take("A photo of  a red panda in a forest, at dusk, close-up")
    assert not distinct.take("the photo of one red panda, close-up, at dusk, in the forest")
    assert distinct.take("a photo of a red panda in a meadow, at dusk, close-up")  # 3 of 5 words
    assert not distinct.take("a photo of a red panda in a meadow, at dusk, close-up, panda")
    exact = Distinct(1.0)
    assert exact.take("a cat at sea")
    assert exact.take("at sea, a cat")
    assert not exact.take("A  cat at sea")


@pytest.mark.parametrize("most", [0.0, 0.29, 0.5, 2 / 3, 0.8, 0.9, 1.0])
def test_distinct_finds_what_comparing_all_finds(most: float) -> None:
    rng = np.random.default_rng(5)
    taken: list[set[str]] = []
    seen: set[str] = set()
    distinct = Distinct(most, "subject")
    for _ in range(400):
        text = " ".join(["subject", *(f"w{n}" for n in rng.integers(0, 14, rng.integers(0, 8)))])
        words = set(text.split()) - {"subject"}
        near = text in seen or any(words & other and len(words & other) / len(words | other) > most for other in taken)
        assert distinct.take(text) is not near, text
        if not near:
            taken.append(words)
            seen.add(text)


def test_texts_that_mean_the_same_are_found_in_blocks() -> None:
    texts = [f"cat {n % 400}" for n in range(600)]
    matcher: Any = Bags()
    assert too_near(texts, matcher, 0.02) == [n >= 400 for n in range(600)]
    assert max(matcher.asked) <= 256
    apart = Apart(matcher, 0.02)
    assert apart.near(texts[:10]) == [False] * 10
    assert apart.near(texts[5:15]) == [True] * 5 + [False] * 5
    assert apart.near([]) == []


# Figures


def test_distinct_n_of_an_example() -> None:
    # 8 words, 5 different; 6 pairs: a-red red-cat a-red red-dog dog-a a-red
    assert spread(["a red cat", "A red dog a red"]) == {"distinct-1": 0.5, "distinct-2": 0.6667}
    assert spread([]) == {"distinct-1": 0.0, "distinct-2": 0.0}


def test_figures_of_the_embeddings() -> None:
    same: Any = Bags()
    assert spread(["cat", "cat"], same) | {"mean distance": 0, "vendi": 1} == spread(["cat", "cat"], same)
    figures = spread(["cat", "dog", "cow", "cow"], same)
    assert figures["mean distance"] == pytest.approx(10 / 12, abs=1e-3)
    assert figures["vendi"] == pytest.approx(np.exp(0.5 * np.log(4) + 0.5 * np.log(2)), abs=0.01)
    many: Any = Bags()
    spread([f"word{n}" for n in range(1500)], many)
    assert sum(many.asked) == 750
    assert max(many.asked) <= 256


def test_the_vendi_score_is_the_number_of_wholly_different_vectors() -> None:
    assert vendi_score(np.eye(5)) == pytest.approx(5)
    assert vendi_score(np.repeat(np.eye(5), 3, axis=0)) == pytest.approx(5)  # more vectors than dimensions
    assert vendi_score(np.ones((4, 1))) == pytest.approx(1)


# A language model


def good(request: Request) -> dict[str, Any]:
    wanted = int(re.search(r"How many prompts: (\d+)", request.text)[1])  # type: ignore[index]
    place = ["forest", "harbour", "kitchen", "meadow", "station", "garden", "office", "desert", "alley", "bridge"]
    start = 1 + max(map(int, re.findall(r"near \w+ (\d+)", request.text)), default=-1)
    return {"prompts": [f"a cat near {p} {n} under lamp {n * 7}" for n in range(start, start + wanted)
                        for p in place[n % 10 : n % 10 + 1]]}  # fmt: skip


def asked(server: LlmServer, count: int, subject: str = "cat", **settings: Any) -> Any:
    budget = settings.pop("budget_tokens", None)
    context = settings.pop("context_tokens", 8192)
    options: Any = {"base_url": server.url, "api_key": "", "budget_tokens": budget, "max_retries": 0}
    with LanguageModel("test", context_tokens=context, **options) as model:
        return ask_prompts(subject, count, model, **settings)


def test_a_language_model_writes_prompts_in_rounds() -> None:
    with LlmServer(good) as server:
        made = asked(server, 40)
    assert len(set(made.texts)) == 40
    assert not made.remarks
    assert len(server.requests) == 2
    assert "There are already:\n- a cat near forest 0" in server.requests[1].text


def test_what_is_no_prompt_for_the_subject_is_left_out_and_counted() -> None:
    answers = [
        {"prompts": ["a car on a wet road", "cats asleep in a barn", "a cat", "two cats asleep in the barn"]},
        {"prompts": ["a dog " + "very " * 120, "a cat on a snowy roof"]},
    ]
    with LlmServer(answers) as server:
        made = asked(server, 2)
    assert made.texts == ["cats asleep in a barn", "a cat on a snowy roof"]
    assert made.similar == 1
    assert "1 prompts of the language model left out: without cat" in made.remarks
    assert any("too short" in remark for remark in made.remarks)
    assert any("more than 100 words" in remark for remark in made.remarks)


@pytest.mark.parametrize(
    ("subject", "text", "fits"),
    [
        ("cat", "a category of things in a shop", False),
        ("berry", "ripe berries in a wooden bowl", True),
        ("knife", "three knives on a table", True),
        ("woman", "two women in a park", True),
        ("boxes", "a box on a shelf", True),
        ("red panda", "a panda in red light", True),
        ("red panda", "a panda in a tree", False),
        ("Katzenbär", "ein Katzenbär im Baum", True),
    ],
)
def test_subjects_are_found_by_whole_words_and_plurals(subject: str, text: str, fits: bool) -> None:
    with LlmServer(lambda request: {"prompts": [text]}) as server:
        assert asked(server, 1, subject).texts == ([text] if fits else [])


def test_a_model_that_only_repeats_itself_is_not_asked_for_ever() -> None:
    with LlmServer(lambda request: {"prompts": ["a cat in a forest"]}) as server:
        made = asked(server, 10)
    assert made.texts == ["a cat in a forest"]
    assert len(server.requests) == 3
    assert made.remarks == ["the language model had no more than 1 different prompts for 'cat'"]


def test_what_was_written_before_an_error_is_kept() -> None:
    with LlmServer(lambda request: good(request) if len(server.requests) < 2 else "no JSON") as server:
        made = asked(server, 40)
    assert len(made.texts) == 25
    assert "stopped after 25 prompts" in made.remarks[0]
    with LlmServer(["no JSON"]) as server, pytest.raises(LanguageModelError, match="no valid answer"):
        asked(server, 5)


def test_one_bad_answer_does_not_stop_it() -> None:
    with LlmServer(lambda request: "no JSON" if len(server.requests) == 2 else good(request)) as server:
        made = asked(server, 40)
    assert len(made.texts) == 40
    assert "How many prompts: 12" in server.requests[2].text


def test_a_spent_budget_ends_it_with_what_there_is() -> None:
    with LlmServer(good) as server:
        made = asked(server, 200, budget_tokens=4000)
    assert 0 < len(made.texts) < 200
    assert "budget_tokens=4000" in made.remarks[0]


def test_no_more_earlier_prompts_are_shown_than_there_is_room_for() -> None:
    known = [f"a cat {' '.join(f'word{n}x{i}' for i in range(40))}" for n in range(30)]
    with LlmServer(good) as server:
        made = asked(server, 31, known=known, context_tokens=4096)
    assert len(made.texts) == 31
    assert made.texts[:30] == known
    assert 0 < server.requests[0].text.count("- a cat word") < 30


# What the stage asks for


def writing(**values: Any) -> Any:
    params = {
        "subject": (), "count": 10, "task": "detection", "prompts": (), "templates": (), "vocabulary": None,
        "written_by": "grid", "max_similarity": 0.8, "matcher": None, "instruction": None, "llm_model": "test",
        "llm_url": None, "llm_budget": 100_000, "seed": 51,
    }  # fmt: skip
    notes: list[str] = []
    dataset = SimpleNamespace(info={}, save=lambda: None)
    return SimpleNamespace(params={**params, **values}, note=notes.append, notes=notes, dataset=dataset)


@pytest.fixture
def bags(monkeypatch: pytest.MonkeyPatch) -> Bags:
    matcher = Bags()
    monkeypatch.setattr("fiftyone_idsynth.models.loading.find_model", lambda *args: matcher)
    return matcher


def test_subjects_take_turns() -> None:
    found, figures = write_prompts(writing(subject=("cat", "dog"), count=5), Options())
    assert [prompt.subject for prompt in found] == ["cat", "dog"] * 3
    assert figures["prompts"] == 6
    assert {"distinct-1", "distinct-2", "too similar"} <= set(figures)


def test_own_prompts_that_say_the_same_are_left_out_and_told() -> None:
    given = ("a cat on a sofa", "a cat on the sofa", "a dog at sea")
    run = writing(prompts=given)
    assert [prompt.text for prompt in write_prompts(run, Options())[0]] == [given[0], given[2]]
    assert "1 of your 3 prompts" in run.notes[0]
    assert "'a cat on the sofa'" in run.notes[0]
    run = writing(prompts=given, max_similarity=1.0)
    assert len(write_prompts(run, Options())[0]) == 3
    assert not run.notes


def test_own_prompts_for_several_subjects_must_say_where_each_belongs() -> None:
    run = writing(prompts=("{a subject} at sea",), subject=("cat", "owl"))
    assert [p.text for p in write_prompts(run, Options())[0]] == ["a cat at sea", "an owl at sea"]
    with pytest.raises(ParameterError, match="several subjects"):
        write_prompts(writing(prompts=("a boat at sea",), subject=("cat", "owl")), Options())


def test_prompts_that_mean_the_same_are_replaced(bags: Bags, tmp_path: Path) -> None:
    words = tmp_path / "words.csv"
    words.write_text("group,words\nspot,on the hill|hill|in a lake|a lake|in a tree|at the pier|by a well\n")
    settings: Any = {"subject": ("cat",), "templates": ("a cat {spot}, {subject}",), "vocabulary": words,
                     "max_similarity": 1.0, "matcher": "bags"}  # fmt: skip
    run = writing(count=5, **settings)
    found, figures = write_prompts(run, Options())
    assert len(found) == 5
    assert not run.notes
    assert figures["vendi"] > 1
    run = writing(count=7, **settings)
    assert len(write_prompts(run, Options())[0]) == 5
    assert any("not 7" in note for note in run.notes)


def test_subjects_share_the_budget_and_what_was_written_is_kept() -> None:
    def said(request: Request) -> dict[str, Any]:
        return json.loads(json.dumps(good(request)).replace("cat", "cow" if "Subject: cow" in request.text else "cat"))

    with LlmServer(said) as server:
        run = writing(subject=("cat", "cow"), count=20, written_by="llm", llm_url=server.url)
        first = write_prompts(run, Options())[0]
        assert len(server.requests) == 2
        assert write_prompts(run, Options())[0] == first
        assert len(server.requests) == 2
        poor = writing(subject=("cat", "cow"), count=20, written_by="llm", llm_url=server.url, llm_budget=1500)
        with pytest.raises(LanguageModelError, match="budget_tokens=1500"):
            write_prompts(poor, Options())
        assert len(server.requests) == 3
        assert len(next(iter(poor.dataset.info["idsynth_prompts"].values()))) == 10


def test_a_server_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with LlmServer(lambda request: Reply(401, "wrong key")) as server:
        run = writing(subject=("cat",), written_by="llm", llm_url=server.url)
        with pytest.raises(LanguageModelError, match="refuses the key"):
            write_prompts(run, Options())


# Texts of users


def test_texts_are_read_from_lists_texts_and_files(tmp_path: Path) -> None:
    assert read_texts(["a", " b, c ", ""]) == ("a", "b, c")
    assert read_texts("a red cat, at night, close-up") == ("a red cat, at night, close-up",)
    assert read_texts("a cat|a dog\na cow") == ("a cat", "a dog", "a cow")
    file = tmp_path / "prompts.TXT"
    file.write_text("\ufeffa cat, at night\n\n# not this\n a dög \n", encoding="utf-8")
    assert read_texts(str(file)) == read_texts(file) == ("a cat, at night", "a dög")


def test_texts_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere.txt' cannot be read"):
        read_texts(str(tmp_path / "nowhere.txt"))
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(UsageError, match="has no texts"):
        read_texts(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("dög".encode("latin-1"))
    with pytest.raises(UsageError, match="cannot be read"):
        read_texts(tmp_path / "latin.txt")
    with pytest.raises(UsageError, match="7 is no text"):
        read_texts(["a", 7])
