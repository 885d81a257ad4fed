"""Safe decoding of image files, and an atomic, content-addressed store for the files this project writes."""

from __future__ import annotations

import hashlib
import io
import mimetypes
import os
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import RefusedImage, StorageError, storage_error

if TYPE_CHECKING:
    import fiftyone as fo
    from PIL import Image as PILImage

Mode = Literal["RGB", "L", "RGBA"]

MAX_PIXELS = 89_478_485
"""Largest image that is decoded: Pillow's own bound against decompression bombs (a 256 MiB RGB image)."""

MAX_BYTES = 256 * 1024**2
"""Largest file that is read."""

EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "MPO": (".jpg", ".jpeg", ".mpo"), "PNG": (".png", ".apng"),
    "WEBP": (".webp",), "GIF": (".gif",), "BMP": (".bmp", ".dib"), "AVIF": (".avif", ".avifs"),
    "TIFF": (".tif", ".tiff"), "PPM": (".ppm", ".pgm", ".pbm", ".pnm"), "TGA": (".tga",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
}  # fmt: skip
"""The formats that are decoded (by content, whatever the name says) and the names they go by. Every other format is
refused: vector and document formats run interpreters, and the rest is not photography."""

DISPLAYABLE = {"JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"}
"""Formats that browsers, and so the FiftyOne App, show."""


@dataclass
class Image:
    """A decoded image, upright.

    Attributes:
        pixels: uint8 array, height x width x channels (RGB or RGBA), or height x width for mode ``"L"``
        path: the file
        format: Pillow's name of the file's format
        width: width in pixels of the whole upright image, also when a draft was decoded
        height: its height in pixels
        orientation: the EXIF orientation (1 to 8) that was undone
        quantization: the quantization tables of a JPEG file
        has_alpha: whether the file carries transparency
    """

    pixels: np.ndarray
    path: str
    format: str
    width: int
    height: int
    orientation: int = 1
    quantization: dict[int, list[int]] | None = None
    has_alpha: bool = False


@dataclass
class Probe:
    """What :func:`probe_image` found in a file that can be used.

    Attributes:
        sha256: hash of the file's content, hexadecimal
        format: Pillow's name of its format
        width: upright width in pixels
        height: upright height in pixels
        channels: 1, 3 or 4
        convert: why the file cannot be referenced as it is (``"cmyk"``, ``"animated"``, ...), or an empty tuple
    """

    sha256: str
    format: str
    width: int
    height: int
    channels: int
    convert: tuple[str, ...] = field(default_factory=tuple)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Reads an image file, refusing what is no plain file or too large."""
    try:
        if not os.path.isfile(path):
            raise RefusedImage("missing" if not os.path.exists(path) else "not_a_file", str(path))
        size = os.path.getsize(path)
        if size > MAX_BYTES:
            raise RefusedImage("too_large", f"{size / 1024**2:.0f} MiB, at most {MAX_BYTES // 1024**2} MiB are read")
        if size == 0:
            raise RefusedImage("empty_file", str(path))
        return Path(path).read_bytes()
    except OSError as error:
        raise RefusedImage("unreadable", error.strerror or str(error)) from error


def read_image(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "RGB",
    draft: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """Decodes an image file safely and turns it upright.

    The first frame is taken of an animation; transparency becomes white unless the mode is ``"RGBA"``; 16-bit images
    are scaled to 8 bits; CMYK is converted.

    Args:
        path: the file
        mode ("RGB"): ``"RGB"``, ``"L"`` (grey) or ``"RGBA"``
        draft (None): a size ``(width, height)`` to which a JPEG may be reduced while decoding, always to at least that
        max_pixels (MAX_PIXELS): larger images are refused before they are decoded

    Returns:
        an :class:`Image`

    Raises:
        RefusedImage: the file is no image, broken, too large or of a format that is not decoded
    """
    return decode_image(read_bytes(path), path=str(path), mode=mode, draft=draft, max_pixels=max_pixels)


def decode_image(
    data: bytes,
    *,
    path: str = "<memory>",
    mode: Mode = "RGB",
    draft: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """Decodes the content of an image file; see :func:`read_image`."""
    from PIL import ImageOps

    with _opened(data, max_pixels) as opened:
        orientation = _orientation(opened)
        width, height = opened.size if orientation < 5 else opened.size[::-1]
        quantization = getattr(opened, "quantization", None)
        alpha = _has_alpha(opened)
        if draft is not None and opened.format in ("JPEG", "MPO") and opened.mode in ("L", "RGB", "YCbCr"):
            opened.draft("L" if mode == "L" else "RGB", draft)
        with _refusing():
            opened.load()
            upright = ImageOps.exif_transpose(opened) if orientation != 1 else opened
            pixels = np.asarray(_to_mode(upright, mode))
    return Image(
        pixels, path, opened.format or "", width, height, orientation,
        {k: list(v) for k, v in quantization.items()} if quantization else None, alpha,
    )  # fmt: skip


def probe_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Probe:
    """Decodes an image file fully and says whether it can be referenced in place.

    Args:
        path: the file
        max_pixels (MAX_PIXELS): larger images are refused

    Returns:
        a :class:`Probe`

    Raises:
        RefusedImage: the file cannot be used
    """
    data = read_bytes(path)
    with _opened(data, max_pixels) as opened:
        probe = _probe(opened, data)
        with _refusing():
            opened.load()
    fitting = os.path.splitext(path)[1].lower() in EXTENSIONS[probe.format] and _is_image_name(path)
    if (probe.format in DISPLAYABLE or probe.format == "MPO") and not fitting:
        probe.convert = ("wrong_extension", *probe.convert)
    return probe


def examine(
    data: bytes, *, draft: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[Probe, np.ndarray]:
    """Decodes the content of an image file to its end and says what it is.

    Args:
        data: the content
        draft (None): a size ``(width, height)`` to which a JPEG may be reduced while decoding, always to at least that
        max_pixels (MAX_PIXELS): larger images are refused before they are decoded

    Returns:
        a :class:`Probe`, and the pixels as stored (not turned upright): uint8 array, height x width x 3

    Raises:
        RefusedImage: the content cannot be used
    """
    if not data:
        raise RefusedImage("empty_file", "0 bytes")
    with _opened(data, max_pixels) as opened:
        probe = _probe(opened, data)
        if draft is not None and opened.format == "JPEG" and opened.mode in ("L", "RGB", "YCbCr"):
            opened.draft("RGB", draft)
        with _refusing():
            opened.load()
            return probe, np.asarray(_to_mode(opened, "RGB"))


def _probe(opened: PILImage.Image, data: bytes) -> Probe:
    """What can be said before the picture is decoded."""
    name, mode = opened.format or "", opened.mode
    reasons = []
    if name not in DISPLAYABLE and name != "MPO":
        reasons.append(f"{name.lower()}_format")
    if mode in ("CMYK", "YCCK", "LAB", "HSV", "YCbCr"):
        reasons.append("cmyk" if mode in ("CMYK", "YCCK") else f"{mode.lower()}_colours")
    if mode.startswith("I") or mode == "F":
        reasons.append("more_than_8_bits")
    if _frames(opened) > 1 and name != "MPO":
        reasons.append("animated")
    width, height = opened.size if _orientation(opened) < 5 else opened.size[::-1]
    channels = {"1": 1, "L": 1, "LA": 2, "RGBA": 4, "CMYK": 3}.get(mode, 3)
    return Probe(hashlib.sha256(data).hexdigest(), name, width, height, channels, tuple(reasons))


class _refusing:
    """Turns whatever a decoder raises on a broken file into a :class:`RefusedImage`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is None or isinstance(error, (RefusedImage, KeyboardInterrupt, SystemExit)):
            return
        text = str(error) or type(error).__name__
        if type(error).__name__.startswith("DecompressionBomb"):
            raise RefusedImage("too_many_pixels", text) from error
        if isinstance(error, MemoryError):
            raise RefusedImage("too_many_pixels", "not enough memory to decode it") from error
        truncated = "truncated" in text.lower() or "broken data stream" in text.lower() or isinstance(error, EOFError)
        raise RefusedImage("truncated" if truncated else "corrupt", text) from error


def _opened(data: bytes, max_pixels: int) -> PILImage.Image:
    from PIL import Image as pil
    from PIL import UnidentifiedImageError

    # Pillow warns of broken metadata image by image; catch_warnings() would not be safe in threads.
    warnings.filterwarnings("ignore", module=r"PIL\..*")
    with _refusing():
        try:
            opened = pil.open(io.BytesIO(data), formats=[name for name in EXTENSIONS if name != "MPO"])
        except UnidentifiedImageError:
            raise RefusedImage("not_an_image", _what_is(data)) from None
        width, height = opened.size
        if width * height > max_pixels:
            raise RefusedImage("too_many_pixels", f"{width} x {height}, at most {max_pixels} pixels are decoded")
        if opened.format == "TIFF":  # Pillow turns TIFF files upright while loading, and no other format
            opened.load()
        return opened


def _is_image_name(path: str | os.PathLike[str]) -> bool:
    """Whether FiftyOne takes a file of this name for an image."""
    return (mimetypes.guess_type(path)[0] or "").startswith("image/")


def _what_is(data: bytes) -> str:
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "it is a web page"
    if head.startswith((b"<svg", b"<?xml")):
        return "it is SVG or XML; vector graphics are not decoded"
    if head.startswith((b"%!ps", b"%pdf")):
        return "it is a document; PostScript and PDF are not decoded"
    return f"no image format that is decoded ({', '.join(EXTENSIONS)})"


def _frames(opened: PILImage.Image) -> int:
    try:
        return int(getattr(opened, "n_frames", 1))
    except Exception:  # Pillow walks the whole file here: a broken later frame says nothing of the first
        opened.seek(0)
        return 2


def _orientation(opened: PILImage.Image) -> int:
    try:
        value = opened.getexif().get(0x0112, 1)
    except Exception:  # broken EXIF does not make the picture unusable: it is shown as stored
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _has_alpha(opened: PILImage.Image) -> bool:
    return opened.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in opened.info


def _to_mode(image: PILImage.Image, mode: Mode) -> PILImage.Image:
    from PIL import Image as pil

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        top = 65535.0 if image.mode.startswith("I;16") or values.max(initial=0) > 255 else 255.0
        image = pil.fromarray(np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8))
    if _has_alpha(image) and mode != "RGBA":
        image = image.convert("RGBA")
        image = pil.alpha_composite(pil.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image if image.mode == mode else image.convert(mode)


# -- writing ----------------------------------------------------------------------------------------------------------


class MediaStore:
    """A folder of image files named by their content; a file in it is complete or absent, and carries no metadata.

    Args:
        root: the folder; it is made when the first file is written
    """

    def __init__(self, root: str | os.PathLike[str]):
        self.root = str(root)

    def write_bytes(self, data: bytes, ext: str) -> str:
        """Writes a file, once per content.

        Args:
            data: the content
            ext: the extension, with the dot

        Returns:
            its path
        """
        name = hashlib.sha256(data).hexdigest()
        path = os.path.join(self.root, name[:2], name + ext)
        if not os.path.exists(path):
            write_atomically(path, data)
        return path

    def write_image(self, pixels: np.ndarray, ext: str = ".png", quality: int = 95) -> str:
        """Encodes and writes an image.

        Args:
            pixels: uint8 array, height x width or height x width x 3 (RGB) or 4 (RGBA)
            ext (".png"): ``".png"``, ``".jpg"`` or ``".webp"`` (lossless)
            quality (95): JPEG quality

        Returns:
            its path
        """
        return self.write_bytes(encode_image(pixels, ext, quality), ext)


def media_store(dataset: fo.Dataset) -> MediaStore:
    """The media store of a dataset: ``$IDSYNTH_MEDIA_DIR/NAME``, or ``idsynth-media/NAME`` in FiftyOne's default
    dataset folder. The place is remembered in ``dataset.info["idsynth_media"]`` when it is first used."""
    import fiftyone as fo

    root = dataset.info.get("idsynth_media")
    if not root:
        base = os.environ.get("IDSYNTH_MEDIA_DIR") or os.path.join(fo.config.default_dataset_dir, "idsynth-media")
        root = os.path.abspath(os.path.join(base, dataset.slug or dataset.name))
        dataset.info["idsynth_media"] = root
        dataset.save()
    return MediaStore(root)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file so that it is there completely or not at all, making its folder.

    A process that is killed meanwhile can leave a file ``.partial-*`` in the folder, which nothing reads.

    Raises:
        StorageError: no space, no permission
    """
    folder = os.path.dirname(os.path.abspath(path))
    temporary = None
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".partial-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise storage_error(error, str(path)) from error


def encode_image(pixels: np.ndarray, ext: str = ".png", quality: int = 95) -> bytes:
    """Encodes pixels as the content of an image file without metadata; see :meth:`MediaStore.write_image`."""
    from PIL import Image as pil

    if ext in (".jpg", ".jpeg"):
        return _encode_jpeg(pixels, quality)
    buffer = io.BytesIO()
    image = pil.fromarray(pixels)
    if ext == ".png":
        image.save(buffer, "PNG", compress_level=4)
    elif ext == ".webp":
        image.save(buffer, "WEBP", lossless=True)
    else:
        raise StorageError(f"images are written as .png, .jpg or .webp, not {ext!r}")
    return buffer.getvalue()


def _encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """A JPEG file, with OpenCV: the same as Pillow writes, which however keeps all other threads waiting."""
    import cv2

    if max(pixels.shape[:2]) > _LONGEST_JPEG_SIDE:
        size = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise StorageError(
            f"{size} pixels: no side of a JPEG file may have more than {_LONGEST_JPEG_SIDE}: write it as .png"
        )
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise StorageError(f"a picture with {pixels.shape[2]} channels cannot be a JPEG file: write it as .png")
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if quality >= 90 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    done, data = cv2.imencode(".jpg", ordered, options)
    if not done:
        raise StorageError(f"OpenCV cannot write a picture of {pixels.shape[1]} x {pixels.shape[0]} pixels as JPEG")
    return data.tobytes()


_LONGEST_JPEG_SIDE = 65500
"""Pixels; the limit of libjpeg."""


def clean_copy(path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """Returns an image file's content without personal metadata (EXIF, GPS, XMP, IPTC, comments), upright.

    JPEG and PNG files that stand upright keep their compressed pixels untouched; the colour profile stays. Other
    files are decoded and written again: losslessly as PNG, or as JPEG of quality 95 where a JPEG has to be turned.

    Args:
        path: the file

    Returns:
        the content and its extension
    """
    return clean_bytes(read_bytes(path))


def clean_bytes(data: bytes) -> tuple[bytes, str]:
    """Returns the content of an image file without personal metadata; see :func:`clean_copy`."""
    with _opened(data, MAX_PIXELS) as opened:
        name, upright = opened.format, _orientation(opened) == 1
        plain = opened.mode in ("1", "L", "LA", "P", "RGB", "RGBA") and _frames(opened) == 1
    if name == "JPEG" and upright and plain:
        return strip_jpeg(data), ".jpg"
    if name == "PNG" and upright and plain:
        return strip_png(data), ".png"
    image = decode_image(data)
    if image.has_alpha:
        image = decode_image(data, mode="RGBA")
    ext = ".jpg" if name in ("JPEG", "MPO") else ".png"
    return encode_image(image.pixels, ext), ext


def strip_jpeg(data: bytes) -> bytes:
    """Removes the EXIF, XMP, IPTC and comment segments of a JPEG file; the picture itself is copied bit by bit.

    Kept are JFIF (APP0), the ICC profile (APP2) and Adobe's colour transform (APP14), which change how it looks.
    """
    out = bytearray(data[:2])
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xDA:  # the scan: the rest is the picture
            end = data.rfind(b"\xff\xd9")  # whatever was appended behind the picture goes too
            return bytes(out + data[position : end + 2 if end > position else len(data)])
        length = int.from_bytes(data[position + 2 : position + 4], "big") + 2
        segment = data[position : position + length]
        application = 0xE0 <= marker <= 0xEF
        keep_profile = marker == 0xE2 and segment[4:16] == b"ICC_PROFILE\x00"
        if marker != 0xFE and (not application or marker in (0xE0, 0xEE) or keep_profile):
            out += segment
        position += length
    raise RefusedImage("corrupt", "a JPEG file without a picture")


def strip_png(data: bytes) -> bytes:
    """Removes the EXIF, text and time chunks of a PNG file; the picture itself is copied bit by bit."""
    out = bytearray(data[:8])
    position = 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind not in (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME"):
            out += data[position:end]
        position = end
        if kind == b"IEND":
            return bytes(out)
    raise RefusedImage("truncated", "a PNG file without its end")
