"""Images that do not fit the query are found, shown, rejected with the tag that condemned them, and can come back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import EmptyViewError, FieldError, ParameterError, UsageError
from fiftyone_idsynth.llm import BudgetExceeded, LanguageModelError
from fiftyone_idsynth.models.roles import Matcher
from tests.llm_server import LlmServer, Reply

KINDS = {"panda": 30, "zebra": 12, "t-shirt": 8}
"""The images of the pool: what they show, and how many."""

TAGS = {"panda": ["red_panda", "tree"], "zebra": ["zebra", "grass"], "t-shirt": ["t-shirt", "person"]}


@pytest.fixture
def pool(dataset: Any, tmp_path: Path) -> Any:
    """Results of a search for red pandas, tagged; their class is known. One image has no tags."""
    import fiftyone as fo

    samples = []
    for kind, count in KINDS.items():
        for number in range(count):
            path = tmp_path / f"{kind}-{number}.png"
            Image.new("RGB", (8, 8), {"panda": "red", "zebra": "white", "t-shirt": "blue"}[kind]).save(path)
            tags = [fo.Classification(label=tag, confidence=0.9 - 0.1 * n) for n, tag in enumerate(TAGS[kind])]
            if kind == "panda" and number == 0:
                tags = [fo.Classification(label="zebra", confidence=0.02)]
            samples.append(
                fo.Sample(
                    filepath=str(path), kind=fo.Classification(label="red panda" if kind == "panda" else kind),
                    content_tags=fo.Classifications(classifications=tags), fits=kind == "panda",
                    tags=["panda"] if kind == "panda" else [],
                )
            )  # fmt: skip
    dataset.add_samples(samples, progress=False)
    return dataset


def rejected(dataset: Any) -> dict[str, int]:
    counts: dict[str, int] = dataset.match_tags("rejected").count_values("kind.label")
    return counts


def run(samples: Any, query: str = "red panda", **settings: Any) -> Any:
    return ids.filter_irrelevant(samples, query, progress=False, **settings)


def test_first_it_only_shows_what_it_would_do(pool: Any) -> None:
    report = run(pool)
    assert report.outputs["tags that condemn"] == {"zebra": 12, "grass": 12, "t-shirt": 8, "person": 8}
    assert report.outputs["tags that mean the query"] == {"red panda": 29}
    assert (report.outputs["irrelevant"], report.outputs["fitting"]) == (20, 30)
    assert report.outputs["without tags, kept"] == 1, "its only tag is too doubtful"
    assert set(pool.list_saved_views()) == {f"irrelevant: {tag}" for tag in ("zebra", "grass", "t-shirt", "person")}
    assert pool.load_saved_view("irrelevant: zebra").count_values("kind.label") == {"zebra": 12}
    assert rejected(pool) == {}
    assert not report.rejected
    assert pool.list_runs() == []
    assert "apply=True, tags=('zebra', 'grass', 't-shirt', 'person')" in report.notes[0]


def test_applied_each_image_gets_the_tag_that_condemned_it_and_nothing_is_deleted(pool: Any) -> None:
    report = run(pool, apply=True)
    assert report.rejected == {"irrelevant": 20}
    assert rejected(pool) == {"zebra": 12, "t-shirt": 8}
    assert pool.count() == 50
    one = pool.match_tags("rejected").first().rejected
    assert (one.reason, one.stage) == ("irrelevant", "filter_irrelevant")
    assert one.detail == "tagged 'zebra' (0.90), which does not fit 'red panda'"
    again = run(pool, apply=True)
    assert again.outputs["tags that condemn"] == report.outputs["tags that condemn"]
    assert (again.rejected, rejected(pool)) == ({}, {"zebra": 12, "t-shirt": 8})


def test_a_preview_without_the_tags_one_disagrees_with_is_applied(pool: Any) -> None:
    run(pool, apply=True)
    report = run(pool, tags=("T_Shirt", "zebra", "unicorn"), apply=True)
    assert rejected(pool) == {"zebra": 12}
    assert report.outputs["brought back"] == 8
    assert any("no image has the tag 'unicorn'" in note for note in report.notes)
    assert pool.list_saved_views() == ["rejected", "irrelevant: zebra"], "those of the first tags are gone"
    report = run(pool, tags=("t-shirt",), apply=True)
    assert rejected(pool) == {"t-shirt": 8}


def test_what_people_restored_or_marked_as_good_stays(pool: Any) -> None:
    run(pool, apply=True)
    zebra = pool.match_tags("rejected").first()
    ids.restore(pool.select(zebra.id))
    pool.select([pool.match_tags("rejected").last().id]).tag_samples("good")
    report = run(pool, good=f"{pool.name}#good", tags=("zebra", "t-shirt"), apply=True)
    assert rejected(pool) == {"zebra": 11, "t-shirt": 7}
    assert report.outputs["irrelevant"] == 18


def test_images_that_other_stages_rejected_are_left_alone(pool: Any) -> None:
    from fiftyone_idsynth.samples import Rejection, reject

    reject(pool, {pool.last().id: Rejection("low_quality", "blurred")}, stage="score_quality")
    report = run(pool, tags=("t-shirt",), apply=True)
    assert report.rejected == {"irrelevant": 7}
    run(pool, tags=("zebra",), apply=True)
    assert pool.last().rejected.reason == "low_quality"


@pytest.mark.parametrize("truth", [{"ground_truth": "kind"}, {"ground_truth": "fits"}, {"ground_truth": "#panda"},
                                   {"ground_truth": "kind", "relevant": ("Red_Panda",)}])  # fmt: skip
def test_against_the_truth_accuracy_precision_and_recall_are_reported(pool: Any, truth: dict[str, Any]) -> None:
    found = run(pool, tags=("zebra",), **truth).outputs["against ground truth"]
    assert found["confusion"] == {
        "relevant, kept": 30, "relevant, rejected": 0, "irrelevant, kept": 8, "irrelevant, rejected": 12,
    }  # fmt: skip
    assert (found["accuracy"], found["precision"], found["recall"]) == (42 / 50, 30 / 38, 1.0)
    assert found["accuracy of keeping all"] == 0.6


def test_the_word_list_and_good_examples_say_what_shows_the_query(pool: Any) -> None:
    for sample in pool.match_tags("panda").iter_samples(autosave=True):
        sample.content_tags.classifications[0].label = "lesser panda"
    assert run(pool).outputs["tags that mean the query"] == {"lesser panda": 29}
    with pytest.raises(ParameterError, match="no tag means this.*most frequent tags are .*lesser panda"):
        run(pool, "firefox")
    assert run(pool, "firefox", synonyms=("lesser panda",)).outputs["irrelevant"] == 20
    good = pool.match_tags("panda").limit(12)
    assert run(pool, "firefox", good=good).outputs["images that surely fit"] == 12


def test_too_little_to_prove_anything_is_said(pool: Any) -> None:
    few = pool.match_tags("panda").limit(4).concat(pool.match({"kind.label": "zebra"}).limit(2))
    report = run(few)
    assert report.outputs["irrelevant"] == 0
    assert "no tag condemns" in report.notes[0]


# -- a language model --------------------------------------------------------------------------------------------------


def ask(pool: Any, server: LlmServer, **settings: Any) -> Any:
    return run(pool, method="llm", llm_model="test", llm_url=server.url, **settings)


def test_a_language_model_names_the_tags(pool: Any) -> None:
    with LlmServer([{"tags": ["zebra", "unicorn"]}]) as server:
        report = ask(pool, server, prompt="Be strict.", apply=True)
        assert server.requests[0].body["messages"][0]["content"] == "Be strict."
        assert "- red panda (29 images; often with: tree)" in server.requests[0].text
        assert rejected(pool) == {"zebra": 12}
        assert report.outputs["tokens"] > 0
        assert any("do not occur, which are left out: unicorn" in note for note in report.notes)
        again = ask(pool, server, prompt="Be strict.", apply=True)
        assert len(server.requests) == 1, "the answer to the same question is remembered"
    assert again.outputs["tags that condemn"] == {"zebra": 12}
    info = pool.get_run_info("filter_irrelevant").config
    assert info.models == {"test": server.url}


@pytest.mark.parametrize(
    ("answers", "settings", "reason"),
    [
        ([{"tags": ["unicorn"]}] * 9, {}, "invalid_answer"),
        (["zebras, I think"] * 9, {}, "invalid_answer"),
        ([Reply(401, "no such key")], {}, "no_key"),
        ([{"tags": ["zebra"]}], {"llm_budget": 100}, "budget"),
    ],
)
def test_without_a_usable_answer_nothing_is_applied(
    pool: Any, answers: Sequence[Any], settings: dict[str, Any], reason: str
) -> None:
    with LlmServer(answers) as server, pytest.raises(LanguageModelError) as caught:
        ask(pool, server, apply=True, **settings)
    assert caught.value.reason == reason
    assert isinstance(caught.value, BudgetExceeded) == (reason == "budget")
    assert rejected(pool) == {}
    assert pool.list_saved_views() == []


def test_a_language_model_that_is_down_is_said(pool: Any) -> None:
    with LlmServer([]) as server:
        pass
    with pytest.raises(LanguageModelError, match="Does the server run"):
        ask(pool, server, apply=True)
    assert rejected(pool) == {}


# -- similarity --------------------------------------------------------------------------------------------------------


class ColourMatcher(Matcher):
    """Knows that red pandas are red; embeddings are mean colours."""

    name, revision, device, exclusive = "colours", "1", "cpu", True

    def match(self, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        scores = np.array([[4.0 * (("red panda" in t) == (np.argmax(p.mean((0, 1))) == 0 and p.mean() < 200))
                            for t in texts] for p in pictures])  # fmt: skip
        powers = np.exp(scores)
        return (powers / powers.sum(1, keepdims=True)).astype(np.float32)

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        means = np.stack([p.mean((0, 1)) + 1 for p in pictures])
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        raise AssertionError("texts are only compared with pictures")


@pytest.fixture
def matcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fiftyone_idsynth.models.loading.find_model", lambda role, name, options: ColourMatcher())


@pytest.mark.usefixtures("matcher")
def test_similarity_needs_no_tags(pool: Any) -> None:
    report = run(pool.exclude_fields("content_tags"), method="similarity", ground_truth="kind")
    assert report.outputs["against ground truth"]["accuracy"] == 1.0
    assert rejected(pool) == {}
    assert pool.load_saved_view("irrelevant: unlike the query").count_values("kind.label") == {
        "zebra": 12,
        "t-shirt": 8,
    }
    values = pool.values("relevance")
    assert 0 <= min(values) < 0.5 < max(values) <= 1
    applied = run(pool, method="similarity", apply=True)
    assert applied.skipped == 50, "the relevance is not computed again"
    assert rejected(pool) == {"zebra": 12, "t-shirt": 8}
    assert "is below" in pool.match_tags("rejected").first().rejected.detail
    assert run(pool, method="similarity", threshold=0.0, apply=True).outputs["brought back"] == 20


@pytest.mark.usefixtures("matcher")
def test_similarity_to_good_examples(pool: Any) -> None:
    good = pool.match_tags("panda").limit(5)
    report = run(pool, "firefox", method="similarity", good=good, ground_truth="#panda")
    assert report.outputs["against ground truth"]["accuracy"] == 1.0
    with pytest.raises(ParameterError, match="mark at least 3"):
        run(pool, method="similarity", good=pool.limit(2))


@pytest.mark.usefixtures("matcher")
def test_a_broken_image_is_reported_and_the_rest_is_judged(pool: Any) -> None:
    Path(pool.first().filepath).write_bytes(b"no image")
    report = run(pool, method="similarity", apply=True)
    assert len(report.failed) == 1
    assert report.outputs["could not be judged"] == 1
    assert rejected(pool) == {"zebra": 12, "t-shirt": 8}


# -- wrong input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"query": " - "}, ParameterError, "has no words"),
        ({"tags": ("",)}, ParameterError, "one of the tags is empty"),
        ({"tags": ("zebre",)}, ParameterError, "did you mean 'zebra'"),
        ({"tags_field": "labels"}, FieldError, "run the stage 'tag' first"),
        ({"tags_field": "kind"}, FieldError, "must hold Classifications"),
        ({"min_confidence": 1.0}, FieldError, "none of the 99 tags reaches min_confidence=1"),
        ({"ground_truth": "truth"}, FieldError, "there is no such sample field"),
        ({"ground_truth": "#truth"}, ParameterError, "no sample has this tag"),
        ({"ground_truth": "kind", "relevant": ("pandas",)}, ParameterError, "did you mean 'red panda'"),
        ({"query": "tree", "ground_truth": "kind"}, ParameterError, "no image has the class 'tree'"),
        ({"good": "nowhere"}, UsageError, "there is no dataset"),
        ({"method": "magic"}, ParameterError, "Allowed: statistics, llm, similarity"),
        ({"llm_url": "localhost:1", "method": "llm"}, ParameterError, "must look like"),
    ],
)
def test_wrong_input_is_said_and_nothing_is_done(
    pool: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(pool, **{"apply": True, **settings})
    assert rejected(pool) == {}
    assert pool.list_runs() == []


def test_without_any_tags_it_says_to_tag_first(dataset: Any, pool: Any) -> None:
    pool.clear_sample_field("content_tags")
    with pytest.raises(FieldError, match="no image has a tag: run the stage 'tag' first"):
        run(pool)
    with pytest.raises(EmptyViewError):
        run(pool.match_tags("nothing"))
