"""What a training text is made of, and in which order."""

from __future__ import annotations

import fiftyone as fo
import pytest

from fiftyone_idsynth.annotation.training_text import TextRules, merge_texts


def tags(*names: str | tuple[str, float | None]) -> list[fo.Classification]:
    pairs = [(name, 0.9) if isinstance(name, str) else name for name in names]
    return [fo.Classification(label=label, confidence=confidence) for label, confidence in pairs]


@pytest.mark.parametrize(
    ("caption", "names", "trigger", "text"),
    [
        ("a red panda on a branch", ["tree", "outdoors"], "sks", "sks, a red panda on a branch, tree, outdoors"),
        ("a red panda", [], "", "a red panda"),
        ("A red panda.", ["tree"], "", "A red panda, tree"),  # no full stop before a comma
        ("A red panda.", [], "sks", "sks, A red panda."),
        ("a  red\npanda", [], "", "a red panda"),
        (None, ["tree", "sky"], "sks", "sks, tree, sky"),
        ("", [], "sks", None),
        (None, [], "", None),
    ],
)
def test_trigger_word_caption_and_tags_in_this_order(caption, names, trigger, text):
    assert merge_texts(caption, tags(*names), TextRules(trigger)) == text


def test_what_the_caption_says_is_not_said_again():
    caption = "A small Red panda on a branch"
    said = tags("red_panda", "panda", "branches", "small red panda", "tree", "Tree", "^_^")
    assert merge_texts(caption, said, TextRules()) == f"{caption}, branches, tree, ^_^"


def test_the_trigger_word_stands_once():
    assert merge_texts("SKS, a panda", tags("sks", "tree"), TextRules("sks")) == "sks, a panda, tree"
    assert merge_texts("sksy is a panda", [], TextRules("sks")) == "sks, sksy is a panda"
    assert merge_texts("sks", [], TextRules("sks")) is None  # it says nothing of the image


def test_unsure_tags_and_ratings_are_left_out_and_tags_of_people_count():
    made = tags(("tree", 0.5), ("sky", 0.4), ("by hand", None))
    made.append(fo.Classification(label="general", confidence=0.99, category="rating"))
    assert merge_texts("a panda", made, TextRules("", 0.45)) == "a panda, tree, by hand"


def test_other_scripts_are_words_too():
    assert merge_texts("ein Kätzchen schläft", tags("kätzchen", "straße"), TextRules("größe")) == (
        "größe, ein Kätzchen schläft, straße"
    )
    assert merge_texts("小熊猫 在 树上", tags("小熊猫", "树"), TextRules()) == "小熊猫 在 树上, 树"
