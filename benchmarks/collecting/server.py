"""What is downloaded: JPEG files, and an nginx of one's own that serves them at once, 80 ms late, and over TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

INSTALL = "apt-get install nginx libnginx-mod-http-echo openssl"
MODULE = "ngx_http_echo_module.so"
MODULES = (Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules"), Path("/usr/local/nginx/modules"))
LATENCY = 0.08
X_DENSITY = 14
"""Where a JFIF file of Pillow's has its horizontal density, two bytes that do not change the picture."""


def missing() -> str:
    """What this machine lacks to serve the files; empty if nothing."""
    if nginx() is None or shutil.which("openssl") is None or module() is None:
        return f"nginx with its echo module, and openssl, are needed: {INSTALL}"
    return ""


def nginx() -> str | None:
    """The program, which is often not on the path of ordinary users."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/local/nginx/sbin")


def module() -> Path | None:
    """nginx's echo module, which delays answers."""
    return next((folder / MODULE for folder in MODULES if (folder / MODULE).exists()), None)


def write_photos(folder: Path, count: int, kilobytes: int = 65) -> int:
    """Writes different JPEG files of 640 x 480 pixels: cut-outs of photographs that come with scikit-image and
    scikit-learn, at the quality that gives about the size.

    Returns:
        their mean size in bytes
    """
    import io

    import numpy as np
    from PIL import Image
    from skimage import data
    from sklearn.datasets import load_sample_image

    photos = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    photos += [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    rng = np.random.default_rng(51)

    def cut_out(photo: np.ndarray) -> Image.Image:
        height, width = (round(side * rng.uniform(0.6, 0.95)) for side in photo.shape[:2])
        top, left = rng.integers(photo.shape[0] - height), rng.integers(photo.shape[1] - width)
        piece = Image.fromarray(photo[top : top + height, left : left + width])
        return piece.resize((640, 480), Image.Resampling.LANCZOS)

    def encode(image: Image.Image, quality: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()

    def find_quality(photo: np.ndarray) -> int:
        image = cut_out(photo)
        return min(range(50, 100), key=lambda quality: abs(len(encode(image, quality)) - 1000 * kilobytes))

    qualities = [find_quality(photo) for photo in photos]
    folder.mkdir(parents=True)
    total = 0
    for number in range(count):
        content = encode(cut_out(photos[number % len(photos)]), qualities[number % len(photos)])
        (folder / f"{number}.jpg").write_bytes(content)
        total += len(content)
    return total // count


def write_variants(folder: Path, originals: Path, count: int) -> None:
    """Writes files that differ in content but not in what they cost: the originals with other densities."""
    contents = [path.read_bytes() for path in sorted(originals.glob("*.jpg"))]
    folder.mkdir()
    for number in range(count):
        content = bytearray(contents[number % len(contents)])
        content[X_DENSITY : X_DENSITY + 2] = (2 + number // len(contents)).to_bytes(2, "big")
        (folder / f"{number}.jpg").write_bytes(content)


class Nginx:
    """An nginx that serves a folder on three loopback ports, run as the current user.

    Args:
        folder: where its configuration and certificate go
        root: what it serves

    Attributes:
        at_once: its address
        late: the address where every answer, robots.txt included, comes 80 ms later
        tls: the address over TLS
        certificate: the self-signed certificate for 127.0.0.1, a PEM file
    """

    def __init__(self, folder: Path, root: Path):
        folder.mkdir()
        ports = _free_ports(3)
        self.at_once, self.late = (f"http://127.0.0.1:{port}" for port in ports[:2])
        self.tls = f"https://127.0.0.1:{ports[2]}"
        self.hosts = tuple(f"127.0.0.1:{port}" for port in ports)
        self.certificate = folder / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        (folder / "nginx.conf").write_text(_configuration(folder, root, ports))
        command = [str(nginx()), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        self.process = subprocess.Popen(command)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", ports[0]), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"nginx did not start:\n{(folder / 'error.log').read_text()}") from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Stops the server."""
        self.process.terminate()
        self.process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _configuration(folder: Path, root: Path, ports: list[int]) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return f"""
load_module {module()};
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 75;
    keepalive_requests 1000000;
    types {{ image/jpeg jpg; text/plain txt; }}
    {" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)}
    root {root};
    server {{ listen 127.0.0.1:{ports[0]} backlog=1024; }}
    server {{
        listen 127.0.0.1:{ports[1]} backlog=1024;
        location / {{ echo_sleep {LATENCY}; echo_exec @file; }}
        location @file {{ }}
    }}
    server {{
        listen 127.0.0.1:{ports[2]} ssl backlog=1024;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
    }}
}}
"""
