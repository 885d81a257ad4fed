from __future__ import annotations

import numpy as np
import pytest

from fiftyone_idsynth.carrying import Rescaled
from fiftyone_idsynth.describing import labels_of, text_of
from fiftyone_idsynth.enhancement.defects import DEFECTS, measured, named
from fiftyone_idsynth.errors import ParameterError, RefusedImage
from fiftyone_idsynth.generation.rewording import SLOT, Rewording, check_words, renamed
from fiftyone_idsynth.generation.wordlist import read_vocabulary


def rewording(**more):
    defaults = {
        "templates": (SLOT,),
        "explicit": {},
        "random": 0,
        "groups": (),
        "vocabulary": read_vocabulary(),
        "seed": 1,
    }
    return Rewording(**{**defaults, **more})


@pytest.mark.parametrize(
    ("label", "swaps", "new"),
    [
        ("red_circle", {"red": "blue"}, "blue_circle"),
        ("Red circle", {"red": "blue"}, "blue circle"),
        ("infrared", {"red": "blue"}, "infrared"),
        ("red blue", {"red": "blue", "blue": "red"}, "blue red"),
        ("red panda", {"red panda": "fox", "red": "blue"}, "fox"),
        ("cat", {"": "in snow"}, "cat"),
    ],
)
def test_classes_follow_the_words_that_were_swapped(label, swaps, new):
    assert renamed(label, swaps) == new


def test_more_variants_add_to_the_same_ones_and_differ():
    words = rewording(random=1)
    text = "a photo of a modern wooden house in summer"
    four = words.swapped(text, [], "id", 4)
    assert words.swapped(text, [], "id", 2) == four[:2]
    assert len({one.prompt for one in four}) == 4
    assert all(one.before == text and one.swaps for one in four)
    assert all("wooden" in one.prompt for one in words.swapped(text, ["wooden house"], "id", 8))


def test_explicit_swaps_win_over_kept_words():
    (one,) = rewording(explicit={"Red": "blue"}).swapped("a red circle", ["red circle"], "id", 1)
    assert (one.prompt, one.swaps) == ("a blue circle", {"red": "blue"})
    assert rewording(explicit={"red": "blue"}).changes("a red circle")
    assert not rewording(explicit={"red": "blue"}).changes("an infrared camera")


def test_wrong_words_are_refused():
    for swaps in ({"red": ""}, {" ": "red"}, {"Red": "red"}):
        with pytest.raises(ParameterError, match="two different words"):
            check_words(swaps, ())
    with pytest.raises(ParameterError, match=r"\{subject\} is no slot"):
        check_words({}, ("a {subject}",))


def test_texts_leave_defects_out():
    values = {"caption": None, "training_text": "sks cat, jpeg_artifacts, on a sofa"}
    assert text_of(values, ("caption", "training_text"), {"jpeg artifacts"}) == "sks cat, on a sofa"
    assert text_of({"caption": " a  cat "}, ("caption",)) == "a cat"
    assert text_of({}, ("caption",)) == ""
    assert labels_of(None) == []


def test_tags_and_issues_name_defects():
    assert named(["JPEG_artifacts", "cat", "jpeg artifacts", "blurry"], DEFECTS) == ["jpeg artifacts", "blurry"]
    assert measured(["noise", "impulse_noise", "border"], DEFECTS) == ["noise"]
    assert measured(["noise"], ["blurry"]) == []


def test_masks_are_scaled_by_the_nearest_pixel():
    mask = np.zeros((4, 6), np.uint8)
    mask[:, 3:] = 7
    new = Rescaled((6, 4), (9, 8)).array(mask)
    assert new.shape == (8, 9)
    assert set(np.unique(new)) == {0, 7}
    np.testing.assert_array_equal(new[0], [0] * 4 + [7] * 5)
    with pytest.raises(RefusedImage, match="mask_of_other_size"):
        Rescaled((5, 4), (9, 8)).array(mask)
