"""The files of :class:`tests.hostile.HostileServer`: real images, and images made to do harm."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import numpy as np
from PIL import Image, TiffImagePlugin

MIB = 1024**2


@functools.cache
def jpeg(number: int, size: tuple[int, int] = (320, 240)) -> bytes:
    """A JPEG of a smooth pattern that differs from number to number, also to a perceptual hash."""
    grid = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@functools.cache
def turned_jpeg() -> bytes:
    """A JPEG lying on its side (EXIF orientation 6) that says where it was taken and by whom."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x013B] = "Jane Example"
    degrees = tuple(TiffImagePlugin.IFDRational(value) for value in (52, 31, 12))
    exif.get_ifd(0x8825).update({1: "N", 2: degrees, 3: "E", 4: degrees})
    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg(1006))).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@functools.cache
def pixel_bomb(side: int = 20_000) -> bytes:
    """A PNG of side x side black RGB pixels: 1.2 MB that decode to 1.2 GB."""
    content = zlib_of_zeros(side * (1 + 3 * side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", content), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


@functools.cache
def gzip_bomb(size: int = 1024 * MIB) -> bytes:
    """A gzip file of zeros: 1 MB that become 1 GiB."""
    checksum, zeros = 0, bytes(MIB)
    for _ in range(size // MIB):
        checksum = zlib.crc32(zeros, checksum)
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + deflated_zeros(size) + struct.pack("<II", checksum, size % 2**32)


def zlib_of_zeros(size: int) -> bytes:
    """Zeros as a zlib stream; their Adler-32 is known without computing it."""
    return b"\x78\x9c" + deflated_zeros(size) + struct.pack(">I", (size % 65521) << 16 | 1)


def deflated_zeros(size: int) -> bytes:
    """Zeros as a raw deflate stream, put together from compressed pieces of a MiB, in no time."""

    def piece(length: int) -> bytes:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        return deflate.compress(bytes(length)) + deflate.flush(zlib.Z_FULL_FLUSH)

    return piece(MIB) * (size // MIB) + piece(size % MIB) + b"\x03\x00"


@functools.cache
def certificate(*names: str) -> tuple[bytes, bytes]:
    """A self-signed certificate for 127.0.0.1 and these names, and its key, as PEM."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hostile.test")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    subjects: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    subjects += [x509.DNSName(name) for name in names]
    built = (
        x509.CertificateBuilder()
        .subject_name(who).issuer_name(who).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return built.public_bytes(serialization.Encoding.PEM), private
