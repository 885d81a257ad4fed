"""The committed models of the zoo mean what they say: words, boxes and masks are right on pictures they never saw.

The thresholds lie below the figures in tests/zoo/README.md by what chance makes of 60 pictures.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.zoo import evaluate
from tests.zoo.common import MODELS, megabytes

PICTURES = 60


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small models are faster without a pool of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_tagger_names_what_is_there_and_nothing_else():
    figures = evaluate.tagger(PICTURES)
    assert figures["attributes_precision"] >= 0.97
    assert figures["attributes_recall"] >= 0.97
    assert figures["pairs_precision"] >= 0.97
    assert figures["pairs_recall"] >= 0.97


def test_clip_tells_colours_and_shapes_apart():
    figures = evaluate.clip(PICTURES)
    assert figures["colour"] >= 0.97
    assert figures["shape"] >= 0.95
    assert figures["colour_and_shape"] >= 0.95


def test_clipseg_finds_what_the_text_says():
    figures = evaluate.clipseg(PICTURES)
    assert figures["colour_and_shape_box_iou"] >= 0.8
    assert figures["colour_and_shape_mask_iou"] >= 0.8
    assert figures["false_mask_for_absent"] <= 0.05


def test_detector_finds_what_the_texts_say():
    figures = evaluate.detector(PICTURES)
    assert figures["recall"] >= 0.93
    assert figures["precision"] >= 0.83
    assert figures["mean_iou_of_found"] >= 0.85
    assert figures["false_boxes_for_absent"] <= 0.05


def test_captioner_describes_one_shape_and_two():
    figures = evaluate.captioner(PICTURES)
    assert figures["one_colour"] >= 0.97
    assert figures["one_shape"] >= 0.95
    assert figures["one_background"] >= 0.97
    assert figures["one_whole_caption"] >= 0.93
    assert figures["two_colour"] >= 0.95
    assert figures["two_shape"] >= 0.9


def test_weights_stay_small():
    assert megabytes(MODELS) <= 13
