"""From probabilities of texts to classes, and from words to classes."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_idsynth.annotation.scoring import SCORES_KEPT, ClassWords, LabelRules, class_scores
from fiftyone_idsynth.errors import ParameterError


def test_a_class_is_as_likely_as_its_likeliest_text_and_shares_1_with_the_others():
    # two classes: one with two texts, one with one; a single template
    made = class_scores(np.array([[0.4, 0.1, 0.4], [0.0, 0.9, 0.1]]), [2, 1], 1, exclusive=True)
    assert made.sum(axis=1) == pytest.approx([1, 1])
    assert made[0] == pytest.approx([0.5, 0.5])  # having two texts does not make it likelier
    assert made[1] == pytest.approx([0.9, 0.1])


def test_templates_are_read_together():
    made = class_scores(np.array([[0.9, 0.4, 0.6, 0.1]]), [1, 1], 2, exclusive=False)
    assert made[0] == pytest.approx([np.sqrt(0.9 * 0.4), np.sqrt(0.6 * 0.1)])


def test_vanishing_probabilities_stay_finite():
    made = class_scores(np.zeros((1, 2), np.float32), [1, 1], 1, exclusive=True)
    assert made[0] == pytest.approx([0.5, 0.5])


def test_the_label_is_the_likeliest_class_above_the_threshold():
    scores = {"cat": 0.3, "dog": 0.6}
    made = LabelRules().label(scores, model="m")
    assert (made.label, made.confidence, made.model) == ("dog", 0.6, "m")
    assert list(made.scores.items()) == [("dog", 0.6), ("cat", 0.3)]
    assert LabelRules(0.7).label(scores) is None
    other = LabelRules(0.7, "neither").label(scores)
    assert (other.label, other.confidence, other.scores["dog"]) == ("neither", pytest.approx(0.4), 0.6)
    assert LabelRules().label({}) is None
    assert LabelRules(0, "neither").label({}).confidence is None


def test_of_very_many_scores_the_greatest_are_kept():
    made = LabelRules().label({f"class {n}": n / 1000 for n in range(1000)})
    assert len(made.scores) == SCORES_KEPT
    assert min(made.scores.values()) == 0.9


WORDS = ClassWords(
    {"red panda": ("red panda", "小熊猫"), "panda": ("panda", "pandas"), "Straße": ("straße",), "car": ("car",)}
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A Red Panda in a tree", ["red panda"]),
        ("red_panda-01.jpg", ["red panda"]),
        ("a red-panda's tail", ["red panda"]),
        ("panda and red panda", ["panda", "red panda"]),
        ("two pandas", ["panda"]),
        ("pandan leaves, a carpet and a scar", []),
        ("STRASSE bei Nacht", ["Straße"]),
        ("可爱的小熊猫照片", ["red panda"]),
        ("ｃａｒ", ["car"]),  # full-width letters
        ("", []),
    ],
)
def test_whole_words_the_earliest_and_longest_first(text, found):
    scores = WORDS.find(text)
    assert list(scores) == found
    assert all(score == 1 / len(found) for score in scores.values())


def test_the_longest_of_those_that_begin_together_counts():
    assert list(ClassWords({"red": ("red",), "red panda": ("red panda",)}).find("a red panda")) == ["red panda"]


def test_words_that_cannot_decide_are_refused():
    with pytest.raises(ParameterError, match="'cat' and 'pet'"):
        ClassWords({"cat": ("cat",), "pet": ("dog", "CAT")})
    with pytest.raises(ParameterError, match="no word"):
        ClassWords({"-": ("-",)})
