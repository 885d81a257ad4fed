"""The label cascade in a real database: what it writes, that it goes on where it was, and what it never touches."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth import fields
from fiftyone_idsynth.errors import FieldError, ParameterError, UsageError
from fiftyone_idsynth.learning import cascade as module
from fiftyone_idsynth.learning.cascading.state import HiddenSetTooSmall
from fiftyone_idsynth.learning.people import Answer, Oracle, People

CLASSES = tuple("0123")
CONTROLS = 12
WISHES: dict[str, Any] = {"classes": CLASSES, "hidden": 150, "batch": 20, "rounds": 6, "progress": False}


@pytest.fixture
def digits(dataset: Any) -> Any:
    """The 720 handwritten digits below four as embeddings; twelve of them with known answers."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(n_class=4, return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    samples = []
    for number, row in enumerate(order):
        control = number < CONTROLS
        samples.append(
            fo.Sample(
                filepath=f"/nowhere/digit-{number:03}.png",
                embedding=(images[row] / 16).astype(np.float32),
                truth=str(classes[row]),
                ground_truth=fo.Classification(label=str(classes[row])) if control else None,
                tags=["control", "labelled"] if control else [],
            )
        )
    dataset.add_samples(samples, progress=False)
    return dataset


class Counted(People):
    """People of whom is counted what they are asked, and who can be told to be slow or to break off."""

    def __init__(self, oracle: Oracle):
        self.oracle = oracle
        self.asked: list[str] = []
        self.wanted: dict[str, int] = {}
        self.ready: set[str] = set()
        self.slow = False
        self.breaks_after: int | None = None

    def ask(self, ids: Any, *, annotators: int = 1, hidden: bool = False) -> None:
        for sample_id in ids:
            if self.wanted.get(sample_id, 0) < annotators:
                self.asked.append(sample_id)
                self.wanted[sample_id] = annotators
        self.oracle.ask(ids, annotators=annotators, hidden=hidden)
        if self.breaks_after is not None and len(set(self.asked)) > self.breaks_after:
            self.breaks_after = None
            raise ConnectionResetError("the server is gone")

    def answers(self, ids: Any) -> list[Answer]:
        return self.oracle.answers([i for i in ids if not self.slow or i in self.ready])


@pytest.fixture
def people(digits: Any, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Who answers in place of people in Label Studio, the same ones in every run."""
    truth = dict(zip(*digits.values(["id", "truth"]), strict=True))
    counted = Counted(Oracle(truth, error=0.03))
    monkeypatch.setattr(module, "_people", lambda *given: counted)
    return counted


def labels(dataset: Any, name: str = "classification") -> dict[str, str | None]:
    return dict(zip(*dataset.values(["id", f"{name}.label"]), strict=True))


def test_digits_are_labelled_as_promised(digits: Any) -> None:
    left_out = digits.values("id")[-40:]
    digits.select(left_out[:20]).tag_samples(fields.REJECTED_TAG)
    digits.select(left_out[20:]).tag_samples("test")
    report = ids.cascade(digits, oracle_field="truth", oracle_error=0.03, **WISHES)
    outputs = report.outputs
    assert outputs["ended"] in ("nothing is left", "all rounds are done")
    assert outputs["labelled by the cascade"] > 200
    assert outputs["precision"]["at least"] >= 0.95
    assert outputs["measured with the oracle"]["precision"] >= 0.95
    assert outputs["measured with the oracle"]["recall"] >= 0.95
    assert outputs["answers of people"] >= 2 * (150 + CONTROLS)
    assert outputs["answers per label gained"] == outputs["answers of people"] / outputs["labelled by the cascade"]
    view = digits.match_tags("auto_labelled")
    assert view.count() == outputs["labelled by the cascade"]
    assert not view.exists("ground_truth").count()
    for label in view.values("classification"):
        assert label.model == "logistic regression on embedding"
        assert 0.5 < label.confidence <= 1
        assert 0 <= label.round < 6
        assert label.revision
    assert not set(left_out) & {i for i, label in labels(digits).items() if label}
    assert not set(left_out[:20]) & {i for i, label in labels(digits, "ground_truth").items() if label}
    people = digits.match_tags("labelled")
    assert people.count() == sum(outputs["images people labelled"].values())
    assert digits.info["cascade"]["rounds"][0]["learned_from"] == 60 + CONTROLS
    assert digits.get_run_info(report.run_key).config.seed == 51

    again = ids.cascade(digits, oracle_field="truth", oracle_error=0.03, **WISHES)
    assert again.processed == 0
    assert again.outputs == outputs


def test_a_killed_cascade_goes_on_and_asks_nothing_twice(
    digits: Any, people: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = digits.clone()  # its samples have the same ids
    people.breaks_after = 150 + CONTROLS + 80
    with pytest.raises(ConnectionResetError):
        ids.cascade(digits, **WISHES)
    assert digits.match_tags("labelled").count() > 100

    from fiftyone_idsynth.learning.cascading import storing

    written = storing.set_fields
    calls = []

    def break_off(*given: Any) -> None:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        written(*given)

    monkeypatch.setattr(storing, "set_fields", break_off)
    with pytest.raises(KeyboardInterrupt):
        ids.cascade(digits, **WISHES)
    monkeypatch.setattr(storing, "set_fields", written)
    report = ids.cascade(digits, **WISHES)
    assert report.outputs["ended"] != "no"
    twice = {i for i in people.asked if people.asked.count(i) > people.wanted[i]}
    assert not twice
    assert len(set(people.asked)) == sum(report.outputs["images people labelled"].values())
    assert digits.match_tags("auto_labelled").count() == report.outputs["labelled by the cascade"] > 200
    undisturbed = ids.cascade(twin, **WISHES).outputs
    assert undisturbed == report.outputs
    assert twin.values("classification.label") == digits.values("classification.label")
    twin.delete()


def test_it_waits_for_people_and_goes_on(digits: Any, people: Counted) -> None:
    people.slow = True
    report = ids.cascade(digits, **WISHES)
    asked = set(people.asked)
    assert len(asked) == 150 + 60 + CONTROLS
    assert report.outputs["waiting for answers"] == 2 * (150 + 60)
    assert any(f"waiting for 420 answers in the project {digits.name!r}" in note for note in report.notes)
    assert not digits.match_tags("auto_labelled").count()
    some = [i for i in people.asked if not digits[i].ground_truth][:100]
    people.ready.update(some)
    report = ids.cascade(digits, **WISHES)
    assert report.outputs["waiting for answers"] < 2 * 210 - 150
    assert set(people.asked) == asked
    assert len([i for i in some if digits[i].ground_truth]) > 90
    people.slow = False
    report = ids.cascade(digits, **WISHES)
    assert report.outputs["labelled by the cascade"] > 200


def test_labels_of_people_are_never_changed(digits: Any, people: Counted) -> None:
    mine = digits.values("id")[CONTROLS:]
    for number, sample in enumerate(digits.select(mine[::2]).iter_samples(autosave=True)):
        sample["classification"] = fo.Classification(label="mine" if number % 2 else "theirs")
    before = {i: label for i, label in labels(digits).items() if label}
    report = ids.cascade(digits, **WISHES)
    after = labels(digits)
    assert {i: after[i] for i in before} == before
    assert report.outputs["left as people wrote them"] > 50
    assert 0 < digits.match_tags("auto_labelled").count() < report.outputs["labelled by the cascade"]


def test_a_new_cascade_takes_the_labels_of_the_old_one_back(digits: Any, people: Counted) -> None:
    first = ids.cascade(digits, **WISHES)
    assert first.outputs["labelled by the cascade"] > 200
    corrected = digits.match_tags("auto_labelled").first()
    corrected["classification"] = fo.Classification(label="3")
    corrected.save()
    with pytest.raises(ParameterError, match="restart=True"):
        ids.cascade(digits, **{**WISHES, "precision": 0.9, "recall": 0.9})
    people.slow = True
    second = ids.cascade(digits, **{**WISHES, "precision": 0.9, "recall": 0.9}, restart=True)
    assert second.outputs["labelled by the cascade"] == 0
    assert [i for i, label in labels(digits).items() if label] == [corrected.id]
    old = first.outputs["images people labelled"]
    assert second.outputs["images people labelled"]["hidden"] == 150
    roles = digits.count_values("cascade.role")
    assert roles["known"] + roles["control"] == sum(old.values())


def test_a_hidden_set_that_is_too_small_is_refused_with_the_number_needed(digits: Any) -> None:
    wishes = {**WISHES, "hidden": 50}
    with pytest.raises(HiddenSetTooSmall, match="takes at least") as refused:
        ids.cascade(digits, oracle_field="truth", **wishes)
    needed = refused.value.needed
    assert 59 < needed < 100
    assert str(needed) in str(refused.value)
    assert "cascade" not in digits.info
    with pytest.raises(HiddenSetTooSmall):
        ids.cascade(digits, oracle_field="truth", **{**wishes, "hidden": needed - 1})
    ids.cascade(digits, oracle_field="truth", **{**wishes, "hidden": needed, "rounds": 1})
    with pytest.raises(HiddenSetTooSmall, match="collect more"):
        ids.cascade(digits, oracle_field="truth", **{**wishes, "precision": 0.999}, restart=True)


def test_one_class_against_all_others(digits: Any) -> None:
    wishes = {**WISHES, "classes": ("1",), "other": "no", "recall": 0.8, "precision": 0.8, "hidden": 300, "seed": 2}
    report = ids.cascade(digits, oracle_field="truth", label_field="one", **wishes)
    assert set(labels(digits, "one").values()) == {"1", "no", None}
    assert report.outputs["measured with the oracle"]["recall"] >= 0.8
    assert report.outputs["measured with the oracle"]["precision"] >= 0.8


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"classes": ()}, ParameterError, "name the classes"),
        ({"classes": ("1",)}, ParameterError, "other"),
        ({"other": "2"}, ParameterError, "one of the classes"),
        ({"label_field": "ground_truth"}, ParameterError, "people's answers"),
        ({"embeddings_field": "nothing"}, FieldError, "no such field"),
        ({"oracle_field": "filepath_of"}, FieldError, "no such"),
        ({"classes": ("0", "1")}, UsageError, "which is not one of the classes"),
    ],
)
def test_what_cannot_be_is_refused(digits: Any, wrong: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ids.cascade(digits, **{"oracle_field": "truth", **WISHES, **wrong})
