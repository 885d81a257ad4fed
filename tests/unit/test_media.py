"""Files are decoded safely and upright; what is written is complete, named by content and free of metadata."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fiftyone_idsynth.errors import RefusedImage, StorageError
from fiftyone_idsynth.media import (
    MediaStore,
    clean_copy,
    decode_image,
    encode_image,
    probe_image,
    read_image,
    write_atomically,
)


def scene(width: int = 64, height: int = 48) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.dstack([columns * 255 // width, rows * 255 // height, (rows + columns) % 256]).astype(np.uint8)


def with_exif(path: Path, orientation: int, ext_format: str = "JPEG") -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x013B] = "A Person"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    Image.fromarray(scene()).save(path, ext_format, exif=exif, quality=95, comment=b"made at home")
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_and_clean_copies_too(tmp_path: Path, orientation: int) -> None:
    path = with_exif(tmp_path / "photo.jpg", orientation)
    image = read_image(path)
    with Image.open(path) as opened:
        from PIL import ImageOps

        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert np.array_equal(image.pixels, expected)
    assert (image.width, image.height) == expected.shape[1::-1]
    data, ext = clean_copy(path)
    assert ext == ".jpg"
    assert b"A Person" not in data
    assert b"made at home" not in data
    copied = decode_image(data)
    assert copied.orientation == 1
    assert np.abs(copied.pixels.astype(int) - expected).mean() < 2
    if orientation == 1:
        assert np.array_equal(copied.pixels, expected), "a copy that needs no turning keeps its pixels"


def test_png_metadata_goes_and_pixels_stay(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Author", "A Person")
    Image.fromarray(scene()).save(tmp_path / "a.png", pnginfo=info)
    data, ext = clean_copy(tmp_path / "a.png")
    assert ext == ".png"
    assert b"A Person" not in data
    assert np.array_equal(decode_image(data).pixels, scene())


def test_data_behind_the_picture_goes(tmp_path: Path) -> None:
    path = with_exif(tmp_path / "a.jpg", 1)
    path.write_bytes(path.read_bytes() + b"secret trailer")
    assert b"secret" not in clean_copy(path)[0]


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty_file"),
        (b"hello", "not_an_image"),
        (b"<!DOCTYPE html><html></html>", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "not_an_image"),
        (bomb(20_000, 20_000), "too_many_pixels"),
        (bomb(64, 64), "truncated"),
    ],
)
def test_hostile_files_are_refused_with_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file.jpg"
    path.write_bytes(content)
    for read in (read_image, probe_image):
        with pytest.raises(RefusedImage) as caught:
            read(path)
        assert caught.value.reason == reason


def test_a_truncated_jpeg_and_what_is_no_file(tmp_path: Path) -> None:
    whole = with_exif(tmp_path / "a.jpg", 1).read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in (("half.jpg", "truncated"), ("none.jpg", "missing"), ("pipe.jpg", "not_a_file")):
        with pytest.raises(RefusedImage) as caught:
            read_image(tmp_path / name)
        assert caught.value.reason == reason


def test_other_modes_become_rgb(tmp_path: Path) -> None:
    grey16 = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(grey16).save(tmp_path / "deep.png")
    pixels = read_image(tmp_path / "deep.png").pixels
    assert pixels.shape == (64, 64, 3)
    assert pixels[0, 0, 0] == 0
    assert pixels[-1, -1, 0] == 255
    assert probe_image(tmp_path / "deep.png").convert == ("more_than_8_bits",)

    Image.fromarray(scene()).convert("CMYK").save(tmp_path / "print.jpg")
    assert probe_image(tmp_path / "print.jpg").convert == ("cmyk",)
    assert decode_image(clean_copy(tmp_path / "print.jpg")[0]).pixels.shape == (48, 64, 3)

    clear = np.dstack([scene(), np.zeros((48, 64), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").pixels.min() == 255
    assert read_image(tmp_path / "clear.png", mode="RGBA").pixels[..., 3].max() == 0

    frames = [Image.fromarray(scene()), Image.fromarray(scene()[::-1])]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert probe_image(tmp_path / "moving.webp").convert == ("animated",)
    assert np.array_equal(read_image(tmp_path / "moving.webp").pixels, scene())

    Image.fromarray(scene()).save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "named.jpg")
    assert probe_image(tmp_path / "named.jpg").convert == ("wrong_extension",)


def test_draft_decodes_smaller_and_reports_the_whole_size(tmp_path: Path) -> None:
    Image.fromarray(scene(640, 480)).save(tmp_path / "large.jpg")
    image = read_image(tmp_path / "large.jpg", mode="L", draft=(72, 64))
    assert image.pixels.shape == (60, 80) or image.pixels.shape == (120, 160)
    assert (image.width, image.height) == (640, 480)


def test_the_store_writes_each_content_once(tmp_path: Path) -> None:
    store = MediaStore(tmp_path / "store")
    first = store.write_image(scene())
    before = os.stat(first).st_mtime_ns
    assert store.write_image(scene()) == first
    assert os.stat(first).st_mtime_ns == before
    assert np.array_equal(np.asarray(Image.open(first)), scene())
    assert store.write_image(scene()[::-1]) != first
    assert not [name for _, _, names in os.walk(store.root) for name in names if name.startswith(".partial")]


def test_a_full_disk_or_forbidden_folder_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="choose another folder"):
        write_atomically(tmp_path / "file" / "image.png", b"data")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full: free some space"):
        write_atomically(tmp_path / "folder" / "image.png", b"data")
    assert list((tmp_path / "folder").iterdir()) == []


def test_encoding_is_deterministic() -> None:
    from fiftyone_idsynth.media import encode_image

    for ext in (".png", ".jpg", ".webp"):
        assert encode_image(scene(), ext) == encode_image(scene(), ext)
    assert Image.open(io.BytesIO(encode_image(scene(), ".jpg"))).getexif() == {}


@pytest.mark.parametrize("quality", [95, 80])
def test_jpeg_files_are_those_that_pillow_writes(quality: int) -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (40, 60, 3), np.uint8)
    for pixels in (colour, colour[..., 0].copy()):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0 if quality == 95 else 2)
        ours, theirs = Image.open(io.BytesIO(encode_image(pixels, ".jpg", quality))), Image.open(buffer)
        assert ours.quantization == theirs.quantization  # type: ignore[attr-defined]
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_what_is_too_long_is_no_jpeg_file() -> None:
    with pytest.raises(StorageError, match=r"65501 x 1 pixels.*65500.*\.png"):
        encode_image(np.zeros((1, 65501, 3), np.uint8), ".jpg")
    assert decode_image(encode_image(np.zeros((1, 65500, 3), np.uint8), ".jpg")).width == 65500


def test_what_has_transparency_is_no_jpeg_file() -> None:
    with pytest.raises(StorageError, match=r"4 channels.*\.png"):
        encode_image(np.zeros((4, 4, 4), np.uint8), ".jpg")
