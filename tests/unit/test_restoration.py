"""Each repair removes its defect from a photograph whose truth is known, and takes pictures of any size."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.enhancement.mending import fidelity, mend, replay
from fiftyone_idsynth.enhancement.remedies import REMEDIES
from fiftyone_idsynth.enhancement.restoration import compression, impulses, noise, sharpness, tone
from fiftyone_idsynth.measures.defects import measure
from fiftyone_idsynth.measures.rating import MEASURES, Standard
from fiftyone_idsynth.media import decode_image, encode_image

STANDARD = Standard(MEASURES)

EXAMPLES: dict[str, dict[str, Any]] = {
    "adaptive_median": {"largest": 7}, "decompress": {"quality": 20}, "denoise": {"sigma": 20.0},
    "white_balance": {"gains": [0.8, 1.0, 1.2]}, "expose": {"gain": 1.5}, "deconvolve": {"sigma": 2.0},
    "unsharp": {"sigma": 1.0, "amount": 0.7}, "stretch": {"low": 60.0, "high": 180.0}, "clahe": {"clip_limit": 2.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A sharp photograph that shows no trace of compression."""
    from skimage import data

    return cv2.resize(data.astronaut(), (390, 390), interpolation=cv2.INTER_AREA)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(cv2.PSNR(a, b))


def noisy(a: np.ndarray, sigma: float) -> np.ndarray:
    return np.clip(np.rint(a + np.random.default_rng(1).normal(0, sigma, a.shape)), 0, 255).astype(np.uint8)


def salted(a: np.ndarray, share: float) -> np.ndarray:
    drawn, out = np.random.default_rng(2).random(a.shape[:2]), a.copy()
    out[drawn < share / 2], out[drawn > 1 - share / 2] = 0, 255
    return out


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
def test_the_adaptive_median_removes_impulses_and_keeps_the_rest(photo: np.ndarray, share: float) -> None:
    damaged = salted(photo, share)
    repaired = impulses.adaptive_median(damaged, 9)
    assert psnr(photo, repaired) > psnr(photo, cv2.medianBlur(damaged, 3)) + 3
    intact = (damaged == photo).all(axis=2)
    assert np.mean((repaired == photo).all(axis=2)[intact]) > 0.97


def test_a_large_black_or_white_area_is_no_impulse() -> None:
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[16:48, 16:48] = 0
    changed = (impulses.adaptive_median(picture) != picture).any(axis=2)
    assert changed.sum() <= 4 * 12  # the corners, which are rounded a little
    assert not changed[20:44, 14:50].any()


@pytest.mark.parametrize("sigma", [10, 25, 40])
def test_denoising_is_better_than_non_local_means(photo: np.ndarray, sigma: float) -> None:
    from skimage.restoration import denoise_nl_means

    damaged = noisy(photo, sigma)
    peer = denoise_nl_means(
        damaged / 255, h=0.6 * sigma / 255, sigma=sigma / 255, patch_size=5, patch_distance=6, channel_axis=2
    )
    repaired = noise.denoise(damaged, sigma)
    assert psnr(photo, repaired) > psnr(photo, damaged) + 3
    assert psnr(photo, repaired) > psnr(photo, np.rint(peer * 255).astype(np.uint8)) + 0.5


def test_denoising_in_strips_is_the_same_as_at_once(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = noisy(photo[:120, :100], 20)
    whole = noise.denoise(damaged, 20)
    monkeypatch.setattr(noise, "PIXELS_AT_ONCE", 3000)
    assert np.abs(noise.denoise(damaged, 20).astype(int) - whole).max() <= 1


@pytest.mark.parametrize("quality", [5, 10, 30])
def test_decompression_is_better_than_a_bilateral_filter(photo: np.ndarray, quality: int) -> None:
    image = decode_image(encode_image(photo, ".jpg", quality))
    tables = [list(table) for _, table in sorted(image.quantization.items())]
    repaired = compression.decompress(image.pixels, tables)
    before = psnr(photo, image.pixels)
    assert psnr(photo, repaired) > before + 0.2
    assert psnr(photo, repaired) > psnr(photo, cv2.bilateralFilter(image.pixels.copy(), 5, 20, 5))
    assert measure(repaired)["blockiness"] < 0.5 * measure(image.pixels)["blockiness"]
    guessed = compression.decompress(image.pixels, quality=quality)
    assert psnr(photo, guessed) == pytest.approx(psnr(photo, repaired), abs=0.15)


def test_deringing_evens_out_ripples_beside_an_edge_and_leaves_the_edge() -> None:
    clean = np.full((64, 64, 3), 60, np.uint8)
    clean[:, 32:] = 200
    buffer = io.BytesIO(encode_image(clean[:, 3:], ".jpg", 15))
    rippled = decode_image(buffer.getvalue()).pixels
    repaired = compression.dering(rippled, 8)
    assert psnr(clean[:, 3:], repaired) > psnr(clean[:, 3:], rippled)
    assert np.abs(repaired[:, 28:30].astype(int) - rippled[:, 28:30]).max() <= 2


@pytest.mark.parametrize("sigma", [1.5, 2.0, 3.0])
def test_deconvolution_undoes_defocus_better_than_an_unsharp_mask(photo: np.ndarray, sigma: float) -> None:
    damaged = cv2.GaussianBlur(photo, (0, 0), sigma)
    repaired = sharpness.deconvolve(damaged, sigma)
    assert psnr(photo, repaired) > psnr(photo, damaged) + 1
    assert psnr(photo, repaired) > psnr(photo, sharpness.unsharp(damaged, sigma, 1.0))


def test_noise_is_not_blown_up_by_deconvolution(photo: np.ndarray) -> None:
    damaged = noisy(cv2.GaussianBlur(photo, (0, 0), 2), 8)
    assert psnr(photo, sharpness.deconvolve(damaged, 2, sharpness.balance_for(8))) > psnr(photo, damaged)


def test_light_gains_neutralise_coloured_light(photo: np.ndarray) -> None:
    lit = np.clip(photo * np.array([1.0, 0.8, 0.5]), 0, 255).astype(np.uint8)
    gains = np.array(tone.light_gains(lit, 1.0)) / np.array(tone.light_gains(photo, 1.0))
    assert gains / gains[0] == pytest.approx([1, 1 / 0.8, 1 / 0.5], rel=0.1)
    assert tone.light_gains(lit, 0.0) == (1, 1, 1)


@pytest.mark.parametrize("name", list(REMEDIES))
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (7, 9), (33, 20)])
def test_every_repair_takes_any_size_and_keeps_it(name: str, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    before = picture.copy()
    repaired = REMEDIES[name].apply(picture, **EXAMPLES[name])
    assert repaired.shape == picture.shape
    assert repaired.dtype == np.uint8
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (16, 16), (60, 70)])
@pytest.mark.parametrize("content", ["black", "white", "grey", "random"])
def test_any_picture_is_mended_without_error(size: tuple[int, int], content: str) -> None:
    pixels = np.full((*size, 3), {"black": 0, "white": 255}.get(content, 60), np.uint8)
    if content == "random":
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    mended = mend(pixels, STANDARD)
    assert mended.pixels.shape == pixels.shape
    assert 0 <= mended.fidelity <= 1


def test_a_flawless_photo_is_left_alone(photo: np.ndarray) -> None:
    mended = mend(photo, STANDARD)
    assert mended.steps == ()
    assert mended.pixels is photo
    assert not mended.rose


def dark_and_noisy(photo: np.ndarray) -> np.ndarray:
    return noisy((photo * 0.4).astype(np.uint8), 6)


@pytest.mark.parametrize(
    ("damage", "repairs"),
    [
        (lambda a: salted(a, 0.05), ["adaptive_median"]),
        (lambda a: noisy(a, 25), ["denoise"]),
        (lambda a: cv2.GaussianBlur(a, (0, 0), 2), ["deconvolve"]),
        (lambda a: np.clip(a * 0.35, 0, 255).astype(np.uint8), ["expose"]),
        (lambda a: np.clip(a * 2.5, 0, 255).astype(np.uint8), ["expose"]),
        (lambda a: (a * 0.35 + 90).astype(np.uint8), ["stretch"]),
        (dark_and_noisy, ["expose", "denoise"]),
    ],
    ids=["impulses", "noise", "blur", "dark", "burnt", "faded", "dark and noisy"],
)
def test_the_measured_defect_decides_the_repair(photo: np.ndarray, damage: Any, repairs: list[str]) -> None:
    damaged = damage(photo)
    mended = mend(damaged, STANDARD, min_fidelity=0.75)
    assert [step.name for step in mended.kept] == repairs
    assert mended.rose
    assert psnr(photo, mended.pixels) > psnr(photo, damaged) + 1
    again = [{"name": step.name, "params": step.params} for step in mended.kept]
    assert np.array_equal(replay(damaged, again), mended.pixels)


def test_only_the_repairs_that_are_allowed_are_made(photo: np.ndarray) -> None:
    assert mend(noisy(photo, 25), STANDARD, repairs=["stretch", "expose"]).steps == ()


def test_a_repair_that_is_not_faithful_is_not_kept(photo: np.ndarray) -> None:
    mended = mend(salted(photo, 0.3), STANDARD, min_fidelity=0.999)
    assert [step.kept for step in mended.steps].count(True) == 0
    assert np.array_equal(mended.pixels, salted(photo, 0.3))


def test_fidelity_sees_structure_and_not_brightness_or_fine_noise(photo: np.ndarray) -> None:
    assert fidelity(photo, photo) == pytest.approx(1)
    assert fidelity(photo, (photo * 0.6 + 20).astype(np.uint8)) > 0.97
    assert fidelity(photo, noisy(photo, 10)) > 0.97
    assert fidelity(photo, photo[:, ::-1]) < 0.3
    assert fidelity(photo, cv2.GaussianBlur(photo, (0, 0), 20)) < 0.75
    assert fidelity(photo[:1, :1], photo[:1, :1]) == pytest.approx(1)


def test_what_is_taken_away_must_look_like_noise() -> None:
    """Noise is the same everywhere, texture is little in most places and much in some."""
    rng = np.random.default_rng(0)
    plain = np.full((80, 100, 3), 128.0)
    even, uneven = rng.normal(0, 10, (80, 100, 1)), rng.laplace(0, 7, (80, 100, 1))
    assert noise.only_noise((plain + even).astype(np.uint8), plain.astype(np.uint8))
    assert not noise.only_noise((plain + uneven).astype(np.uint8), plain.astype(np.uint8))
