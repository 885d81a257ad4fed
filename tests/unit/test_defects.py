"""The defect measures on made-up images, where the truth is known exactly."""

from __future__ import annotations

import io
import warnings

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.measures.defects import blur, border, color_cast, emptiness, impulse_noise, measure, noise
from fiftyone_idsynth.measures.rating import MEASURES
from fiftyone_idsynth.media import decode_image


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    from skimage import data

    return data.astronaut()


def test_every_measure_is_reported_as_a_finite_number(photo):
    found = measure(photo)
    assert list(found) == list(MEASURES)
    assert all(value is None or np.isfinite(value) for value in found.values())


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3), (16, 16), (23, 24), (40, 31), (1300, 1000)])
@pytest.mark.parametrize("content", ["black", "white", "random"])
def test_any_image_is_measured_without_error_or_warning(size, content):
    pixels = np.full((*size, 3), 255 if content == "white" else 0, np.uint8)
    if content == "random":
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(pixels)
    assert all(value is None or np.isfinite(value) for value in found.values())


def test_measuring_does_not_change_the_image_and_accepts_views(photo):
    turned = photo[::-1, ::2]
    before = turned.copy()
    assert measure(turned) == measure(before)
    assert np.array_equal(turned, before)


@pytest.mark.parametrize("quality", [1, 5, 24, 25, 49, 50, 51, 75, 90, 95, 99, 100])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_the_quality_of_a_jpeg_file_is_exact(photo, quality, subsampling):
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    image = decode_image(buffer.getvalue())
    assert measure(image.pixels, quantization=image.quantization)["jpeg_quality"] == quality


@pytest.mark.parametrize("quality", [10, 30, 50, 75])
@pytest.mark.parametrize("corner", [(0, 0), (3, 5)])
def test_the_quality_of_a_former_jpeg_is_found_in_its_pixels_also_when_cropped(photo, quality, corner):
    data = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)[corner[0] :, corner[1] :, ::-1]
    assert measure(pixels)["jpeg_quality"] == pytest.approx(quality, abs=3)


def test_an_image_that_was_never_compressed_shows_no_trace():
    from skimage import data

    # The astronaut as it comes was once a JPEG: scaling removes the grid.
    pixels = cv2.resize(data.astronaut(), (390, 390), interpolation=cv2.INTER_AREA)
    assert measure(pixels)["jpeg_quality"] == 100


@pytest.mark.parametrize("sigma", [5, 10, 20, 40])
def test_noise_is_measured_on_a_plane_and_on_a_slope(sigma):
    slope = np.linspace(60, 190, 256)[None, :, None] * np.ones((256, 1, 3))
    for clean in (np.full((256, 256, 3), 128.0), slope):
        noisy = np.clip(clean + np.random.default_rng(1).normal(0, sigma, clean.shape), 0, 255)
        assert noise([noisy.round().astype(np.uint8)]) == pytest.approx(sigma, rel=0.1)


def test_fine_texture_beside_a_plain_area_is_not_noise():
    texture = np.random.default_rng(2).integers(60, 190, (256, 256, 3)).astype(np.uint8)
    texture[:, 128:] = 120
    assert noise([texture]) < 1


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_the_share_of_impulses_on_mid_grey_is_exact(share):
    pixels = np.full((400, 400, 3), 120, np.uint8)
    drawn = np.random.default_rng(3).random((400, 400))
    pixels[drawn < share / 2] = 0
    pixels[drawn > 1 - share / 2] = 255
    assert impulse_noise([pixels]) == pytest.approx(np.mean(pixels[..., 1] != 120), rel=0.05)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_blur_grows_with_the_blur_and_keeps_its_unit(photo, sigma):
    blurred = cv2.GaussianBlur(photo, (0, 0), sigma)
    assert measure(blurred)["blur"] == pytest.approx(sigma, rel=0.3)


def test_motion_is_told_from_defocus():
    grey = np.zeros((300, 300), np.uint8)
    for x, y, r in np.random.default_rng(4).integers([0, 0, 8], [300, 300, 30], (60, 3)):
        cv2.circle(grey, (int(x), int(y)), int(r), int(x * 255 // 300), -1)
    moved = cv2.blur(grey, (15, 1))
    defocused = cv2.GaussianBlur(grey, (0, 0), 3)
    assert (blur(moved)[1] or 0) > 0.4
    assert (blur(defocused)[1] or 1) < 0.3


def test_a_letterbox_is_a_border_and_the_white_around_a_product_is_not(photo):
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    boxed = grey.copy()
    boxed[:64] = boxed[-64:] = 0
    assert border(boxed) == pytest.approx(0.25, abs=0.01)
    assert border(np.ascontiguousarray(boxed.T)) == pytest.approx(0.25, abs=0.01)
    product = np.full_like(grey, 255)
    inside = cv2.circle(np.zeros_like(grey), (256, 256), 150, 1, -1) > 0
    product[inside] = grey[inside]
    assert border(product) == 0
    assert border(np.full((100, 100), 7, np.uint8)) == 0


def test_an_empty_image_is_empty_and_a_photo_is_not(photo):
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    sky = np.tile(np.linspace(150, 200, 400).astype(np.uint8)[:, None], (1, 600))
    assert emptiness(sky) == 1
    assert emptiness(grey) < 0.5


def test_tinted_light_is_a_cast_and_a_grey_image_has_none(photo):
    grey = np.repeat(photo[..., 1:2], 3, axis=2)
    tinted = (grey * np.array([1.0, 0.85, 0.6])).astype(np.uint8)
    assert color_cast(grey) < 0.5
    assert color_cast(tinted) > 8


def test_exposure_and_contrast_move_their_own_measure(photo):
    normal = measure(photo)
    bright = measure(np.clip(photo * 2.5, 0, 255).astype(np.uint8))
    dark = measure((photo * 0.3).astype(np.uint8))
    flat = measure((photo * 0.3 + 90).astype(np.uint8))
    assert bright["overexposure"] > normal["overexposure"] + 0.2
    assert dark["underexposure"] > 0.66 > normal["underexposure"]
    assert flat["contrast"] < 0.35 < normal["contrast"]


def test_the_white_background_of_a_product_photo_is_not_overexposed(photo):
    product = np.full_like(photo, 255)
    inside = cv2.circle(np.zeros(photo.shape[:2], np.uint8), (256, 256), 150, 1, -1) > 0
    product[inside] = photo[inside]
    assert measure(product)["overexposure"] < 0.15
    assert measure(np.clip(product * 3.0, 0, 255).astype(np.uint8))["overexposure"] > 0.15


def test_a_large_image_is_measured_like_its_smaller_self(photo):
    large = cv2.resize(photo, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    small, big = measure(cv2.resize(photo, (1024, 1024), interpolation=cv2.INTER_CUBIC)), measure(large)
    for name in ("overexposure", "underexposure", "contrast", "border", "emptiness"):
        assert big[name] == pytest.approx(small[name], abs=0.05), name
    assert big["blur"] == pytest.approx(small["blur"], rel=0.3)
