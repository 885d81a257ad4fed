"""The committed tiny Stable Diffusion means what it says: text, place and mask decide what it paints.

The thresholds lie below the figures in tests/zoo/README.md by what chance makes of fewer pictures.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.zoo import evaluate_diffusion as measure
from tests.zoo import judge
from tests.zoo.common import MODELS, megabytes
from tests.zoo.train_diffusion import SPARE, tokenizer


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small models are faster without a pool of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def studio() -> measure.Studio:
    return measure.Studio(MODELS / "sd")


def test_judges_see_what_is_drawn(studio: measure.Studio):
    figures = measure.judges(studio, 100)
    for pictures in ("drawn", "autoencoded"):
        assert min(figures[pictures][word] for word in ("colour", "colour_by_pixels", "shape", "background")) >= 0.98
    assert figures["mask_iou_autoencoded"] >= 0.85


def test_text_decides_colour_shape_and_background(studio: measure.Studio):
    figures = measure.text(studio, each=1)
    assert figures["colour"] >= 0.88
    assert figures["colour_by_pixels"] >= 0.85
    assert figures["shape"] >= 0.88
    assert figures["background"] >= 0.9
    assert min(figures["with_size"][word] for word in ("colour", "colour_by_pixels", "shape", "background")) >= 0.9


def test_another_colour_word_changes_the_colour_and_keeps_the_place(studio: measure.Studio):
    figures = measure.edit(studio, 24, (0.5,))["strength_0.5"]
    assert figures["colour"] >= 0.9
    assert figures["shape"] >= 0.85
    assert figures["iou_at_least_0.6"] >= 0.75
    assert figures["moved_px_median"] < 4


def test_text_decides_what_appears_in_a_mask(studio: measure.Studio):
    figures = measure.inpaint(studio, 24)
    assert figures["shape_replaced"]["colour"] >= 0.7
    assert figures["shape_replaced"]["shape"] >= 0.75
    assert figures["surroundings_replaced"]["colour"] >= 0.9
    assert figures["surroundings_replaced"]["background"] >= 0.7


def test_blurry_means_something(studio: measure.Studio):
    figures = measure.blurry(studio, 12)
    assert figures["prompt_blurry"] < 0.8 * figures["prompt"]
    assert figures["repaired"] > 1.2 * figures["drawn_blurred"]


def test_a_prompt_can_be_painted_alone_or_in_a_batch(studio: measure.Studio):
    prompts = ["a red circle on stripes", "a large blue triangle"]
    both = studio.paint(prompts, 7)
    assert np.abs(both[0].astype(int) - studio.paint(prompts[:1], 7)[0]).max() <= 1


def test_spare_words_are_single_tokens_that_mean_no_star(studio: measure.Studio):
    words = studio.text.tokenizer
    assert set(words.get_vocab()) == set(tokenizer().get_vocab())  # ties between merges may change the ids
    for word in SPARE:
        assert len(words(word).input_ids) == 3
    painted = studio.paint([f"a large {c} zorb on a plain background" for c in ("red", "green", "blue", "yellow")], 8)
    assert all(judge.solidity(judge.cover(p)) > 0.8 for p in painted)


def test_it_is_small_and_loads_in_one_precision(studio: measure.Studio):
    assert megabytes(MODELS / "sd") < 8
    parts = (studio.text.unet, studio.text.vae, studio.text.text_encoder)
    assert {p.dtype for p in parts} == {torch.float32}
    assert studio.text.vae_scale_factor == 4
