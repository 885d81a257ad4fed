"""Which tags prove that an image does not fit: words, statistics, a language model's answers, likeness, thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fiftyone_idsynth.curation.condemning import Named, TagLine, name_tags
from fiftyone_idsynth.curation.irrelevance import (
    Evaluation,
    TagTable,
    find_columns,
    least_images,
    means,
    unrelated_tags,
    words_of,
)
from fiftyone_idsynth.curation.likeness import conformity, cut
from fiftyone_idsynth.llm import BudgetExceeded, LanguageModel, LanguageModelError
from tests.llm_server import LlmServer, Request


def table(*images: str, times: Sequence[int] | None = None) -> TagTable:
    """A table of images with comma-separated tags, each image a number of times."""
    repeated = [image for image, count in zip(images, times or [1] * len(images), strict=True) for _ in range(count)]
    return TagTable([[(tag, 0.9) for tag in image.split(",") if tag] for image in repeated])


def statistics(tags: TagTable, query: str, max_tags: int = 10) -> list[str]:
    core = [n for n, name in enumerate(tags.names) if means(name, query)]
    return [tags.names[n] for n in unrelated_tags(tags, tags.with_any(core), core, max_tags)]


@pytest.mark.parametrize(
    ("tag", "query", "same"),
    [
        ("daisy", "daisies", True),
        ("Red_Panda", "photos of red pandas", True),
        ("red panda", "panda", True),
        ("panda", "red panda", True),
        ("red", "red panda", False),
        ("giant panda", "red panda", False),
        ("carpet", "car", False),
        ("bus", "bu", False),
        ("^_^", "red panda", False),
        ("glass", "glasses", True),
    ],
)
def test_tags_mean_the_query_by_their_words(tag: str, query: str, same: bool) -> None:
    assert means(tag, query) is same


def test_words_leave_out_what_says_nothing_of_the_content() -> None:
    assert words_of("Photos of the Sunflowers, in tomato_boxes") == ["sunflower", "tomato", "box"]


def test_spellings_and_confidences() -> None:
    tags = TagTable([[("red_panda", 0.4), ("Red Panda", 0.8)], [("zebra", 0.05)], [], [("zebra", 0.0)]], 0.05)
    assert tags.names == ["red panda", "zebra"]
    assert tags.spellings[0] == {"red_panda", "Red Panda"}
    assert tags.counts.tolist() == [1, 1]
    assert (len(tags), tags.untagged) == (4, 2)
    assert tags.surest([0, 1]) == {0: (0, pytest.approx(0.8)), 1: (1, pytest.approx(0.05))}
    assert TagTable([[("a", 0.0)]]).counts.tolist() == [1], "a tag with confidence 0 is a tag"


def test_a_frequent_tag_that_is_never_with_the_query_condemns() -> None:
    tags = table("panda,tree", "panda,grass", "zebra,grass", "car", "comic", times=[40, 30, 12, 10, 1])
    found = statistics(tags, "panda")
    assert set(found) == {"zebra", "car"}
    assert found[0] == "zebra", "the surest comes first"
    assert statistics(tags, "panda", max_tags=1) == ["zebra"]


def test_rare_tags_and_tags_that_occur_with_the_query_prove_nothing() -> None:
    tags = table("panda", "panda,car", "car", "comic", times=[40, 20, 30, 2])
    assert statistics(tags, "panda") == []
    assert least_images(len(tags), 60) == 3
    assert least_images(10, 10) is None


def test_chance_condemns_hardly_any_of_many_unrelated_tags() -> None:
    rng = np.random.default_rng(51)
    images = [
        [("panda", 0.9)] * (row < 150) + [(f"t{n}", 0.9) for n in rng.choice(400, 6, replace=False)]
        for row in range(300)
    ]
    assert len(statistics(TagTable(images), "panda", max_tags=400)) <= 1


def test_tags_that_do_not_occur_are_named_with_the_nearest() -> None:
    columns, remarks = find_columns(table("zebra", "car"), ["Zebra", "carr"])
    assert columns == [0]
    assert "'carr': did you mean 'car'?" in remarks[0]


def test_accuracy_precision_recall_and_confusion() -> None:
    found = Evaluation.of([True] * 7 + [False] * 3, [False] * 6 + [True, True, True, False])
    assert found.confusion == {
        "relevant, kept": 6, "relevant, rejected": 1, "irrelevant, kept": 1, "irrelevant, rejected": 2,
    }  # fmt: skip
    assert (found.accuracy, found.precision, found.recall, found.before) == (0.8, 6 / 7, 6 / 7, 0.7)
    assert Evaluation.of([False], [True]).outputs()["recall"] is None


# -- a language model --------------------------------------------------------------------------------------------------


LINES = [TagLine("red panda", 70, ["tree"]), TagLine("zebra", 12, ["grass"]), TagLine("t-shirt", 9), TagLine("car", 1)]


def ask(server: LlmServer, lines: Sequence[TagLine] = LINES, max_tags: int = 10, **settings: int) -> Named:
    with LanguageModel("test", base_url=server.url, api_key="", **settings) as model:
        return name_tags(model, "red panda", lines, max_tags=max_tags, spared=["red panda"])


def listed(request: Request) -> list[str]:
    lines = str(request.body["messages"][1]["content"]).splitlines()
    return [line[2:].partition(" (")[0] for line in lines if line.startswith("- ")]


def test_the_question_has_the_query_the_tags_and_their_images() -> None:
    with LlmServer([{"tags": ["Zebra", "t-shirt"]}]) as server:
        assert ask(server).tags == ["zebra", "t-shirt"]
    question = server.requests[0].body["messages"][1]["content"]
    assert "Query: red panda\nName at most 10 tags.\n" in question
    assert "- red panda (70 images; often with: tree)\n- zebra (12 images; often with: grass)\n" in question
    assert "- car (1 image)" in question


def test_named_tags_that_do_not_occur_or_mean_the_query_are_left_out() -> None:
    with LlmServer([{"tags": ["zebra", "unicorn", "red_panda"]}]) as server:
        named = ask(server)
    assert named.tags == ["zebra"]
    assert "test named tags that do not occur, which are left out: unicorn" in named.remarks
    assert "test named tags that mean the query, which are spared: red panda" in named.remarks


def test_an_answer_with_no_tag_that_occurs_is_asked_for_again() -> None:
    with LlmServer([{"tags": ["unicorn"]}, "I think zebras", {"tags": ["zebra"]}]) as server:
        assert ask(server).tags == ["zebra"]
    assert "copy tags from the list" in server.requests[1].text
    assert len(server.requests) == 3


def test_a_model_that_never_names_a_tag_that_occurs_is_an_error() -> None:
    with LlmServer(lambda request: {"tags": ["unicorn"]}) as server, pytest.raises(LanguageModelError) as caught:
        ask(server, max_retries=1)
    assert caught.value.reason == "invalid_answer"
    assert "none of these tags is in the list" in str(caught.value)


def test_no_tag_is_an_answer() -> None:
    with LlmServer([{"tags": []}]) as server:
        assert ask(server) == Named([], [])


def test_more_tags_than_the_context_holds_are_asked_about_in_batches_with_the_list_carried_along() -> None:
    lines = [TagLine(f"thing number {n}", 1000 - n, ["sky", "tree"]) for n in range(400)]

    def answer(request: Request) -> dict[str, list[str]]:
        return {"tags": listed(request)[:3]}

    with LlmServer(answer) as server:
        named = ask(server, lines, max_tags=4, context_tokens=4096)
    *batches, last = server.requests
    assert len(batches) >= 3
    assert [tag for request in batches for tag in listed(request)] == [line.name for line in lines]
    assert "Tags named so far, from other lists: thing number 0, thing number 1, thing number 2" in batches[1].text
    firsts = [tag for request in batches for tag in listed(request)[:3]]
    assert listed(last) == firsts, "the last round chooses among all that were named"
    assert named.tags == firsts[:3]


def test_a_model_that_cannot_choose_gets_the_most_frequent() -> None:
    with LlmServer(lambda request: {"tags": listed(request)}) as server:
        assert ask(server, max_tags=2).tags == ["zebra", "t-shirt"]
    many = [TagLine(f"thing number {n}", n + 1) for n in range(700)]

    def answer(request: Request) -> dict[str, list[str]]:
        return {"tags": listed(request)[:2] if len(listed(request)) > 10 else []}

    with LlmServer(answer) as server:
        named = ask(server, many, max_tags=2, context_tokens=4096)
    assert named.tags == ["thing number 699", "thing number 698"]
    assert any("those with the most images are taken" in remark for remark in named.remarks)


def test_over_budget_nothing_is_asked() -> None:
    with LlmServer([{"tags": []}]) as server, pytest.raises(BudgetExceeded, match="Raise the budget"):
        ask(server, budget_tokens=100)
    assert not server.requests


# -- likeness ----------------------------------------------------------------------------------------------------------


def unit(rng: np.random.Generator, centre: Sequence[float], count: int, spread: float = 0.2) -> np.ndarray:
    points = np.asarray(centre) + rng.normal(0, spread, (count, len(centre)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_conformity_is_evenly_spread_for_the_same_kind_and_low_for_others() -> None:
    rng = np.random.default_rng(51)
    examples, same, other = (unit(rng, c, n) for c, n in (([1, 0, 0], 40), ([1, 0, 0], 400), ([0, 1, 0.5], 100)))
    assert 0.4 < conformity(same, examples).mean() < 0.6
    assert (conformity(same, examples) < 0.05).mean() < 0.12
    assert conformity(other, examples).max() < 0.001
    assert conformity(same, examples[:3]).min() >= 0.0
    copies = np.repeat(examples[:1], 5, axis=0)
    assert conformity(copies, copies) == pytest.approx(0.5)


def test_two_groups_are_cut_between_them_and_one_group_is_not() -> None:
    rng = np.random.default_rng(51)
    low, high = rng.normal(0.2, 0.03, 30), rng.normal(0.7, 0.05, 70)
    threshold, two = cut([*low, *high])
    assert two
    assert low.max() < threshold <= high.min()
    assert cut(rng.normal(0.6, 0.05, 1000).tolist()) == (0.5, False)
    assert cut([0.7, 0.7]) == (0.5, False)
    assert cut([]) == (0.5, False)
