"""Images per second of ``collect`` and of other downloaders, side by side.

    python benchmarks/collect.py [--peers [FOLDER]] [--count 500] [--repeat 3] [--only speed https memory]

Needs nginx: ``apt-get install nginx libnginx-mod-http-echo openssl``; it runs as the current user on free loopback
ports. With ``--peers`` aiohttp, icrawler, img2dataset and gallery-dl are compared too; each is installed into an
environment of its own, which a FOLDER keeps for the next time.

1. speed: different JPEG files of about 65 kB, answered at once and 80 ms late. Medians of interleaved repetitions after
   a warm-up, wall clock of each tool's own work from a list of addresses to files on the disk; imports and FiftyOne's
   start are not counted, what a tool starts itself (img2dataset's processes) is; icrawler ends with its last file, not
   with its wait for more. Ours reads robots.txt, checks addresses, bounds times and sizes, sniffs, hashes and decodes,
   filters, strips metadata, writes through to the disk and adds the samples to the database; the others do not.
2. https: TLS contexts made, in all runs over http and https with the warm-up, and processor time of the client per
   image, whose difference to http is what TLS costs.
3. memory: peak of a process that collects, and of one that collects ten times as many.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.collecting.server import Nginx, missing, write_photos, write_variants
from tests.database import PrivateDatabase

TOOLS = Path(__file__).parent / "collecting" / "tools.py"
TITLES = {
    "ours": "collect", "requests_hashing": "requests Session, 32 threads, SHA-256 + draft decode + dHash",
    "requests_session": "requests Session, 32 threads", "requests_get": "requests.get, 32 threads",
    "aiohttp": "aiohttp, 32 connections", "icrawler": "icrawler, default", "icrawler_32": "icrawler, 32 threads",
    "img2dataset": "img2dataset, default", "img2dataset_tuned": "img2dataset, tuned", "gallery_dl": "gallery-dl",
}  # fmt: skip
PEERS = {
    "aiohttp": ("aiohttp",), "icrawler": ("icrawler", "icrawler_32"),
    "img2dataset": ("img2dataset", "img2dataset_tuned"), "gallery-dl": ("gallery_dl",),
}  # fmt: skip


class Tool:
    """A tool in a process of its own, which is started when it is first needed."""

    def __init__(self, name: str, python: str = sys.executable, **environment: str):
        self.name, self._python, self._environment = name, python, environment
        self._process: subprocess.Popen[str] | None = None

    def run(self, urls: list[str], hosts: tuple[str, ...] = ()) -> dict[str, Any]:
        """Downloads the addresses once into a fresh folder.

        Raises:
            RuntimeError: it did not get them all
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [self._python, TOOLS, self.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, env=os.environ | self._environment,
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory(prefix="idsynth-benchmark-") as folder:
            self._process.stdin.write(json.dumps({"urls": urls, "folder": folder, "hosts": hosts}) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} ended with status {self._process.wait()}")
        result: dict[str, Any] = json.loads(answer)
        if result["images"] != len(urls):
            raise RuntimeError(f"{self.name} got {result['images']} of {len(urls)} images")
        return result

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None


def install_peers(folder: Path) -> list[Tool]:
    """Makes an environment for each peer; those that cannot be installed are left out, and it is said why."""
    uv = shutil.which("uv")
    command = [uv] if uv else [sys.executable, "-m", "uv"]
    tools = []
    for package, names in PEERS.items():
        python = folder / package / "bin" / "python"
        try:
            if not python.exists():
                make = [*command, "venv", "--python", sys.executable, folder / package]
                subprocess.run(make, check=True, capture_output=True, text=True)
            install = [*command, "pip", "install", "--python", python, package]
            subprocess.run(install, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            print(f"{package} is left out, it could not be installed: {error.stderr.strip()[-300:]}", file=sys.stderr)
            continue
        tools += [Tool(name, str(python), NO_ALBUMENTATIONS_UPDATE="1") for name in names]
    return tools


def compare_speed(tools: list[Tool], web: Nginx, files: list[str], repeat: int) -> None:
    """Prints the table of images per second."""
    measured: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for repetition in range(-1, repeat):
        for tool in list(tools):
            for address in (web.at_once, web.late):
                try:
                    result = tool.run([f"{address}/{file}" for file in files], web.hosts)
                except RuntimeError as error:
                    print(f"{TITLES[tool.name]} is left out: {error}", file=sys.stderr)
                    tools.remove(tool)
                    break
                if repetition >= 0:
                    measured.setdefault(tool.name, {}).setdefault(address, []).append(result)
    print("\n| tool | images/s at 0 ms | images/s at 80 ms | collect / tool at 80 ms | CPU ms per image at 80 ms |")
    print("|---|---:|---:|---:|---:|")
    ours = [result["seconds"] for result in measured["ours"][web.late]]
    for name, results in measured.items():
        speeds = [
            len(files) / statistics.median(result["seconds"] for result in results[address])
            for address in (web.at_once, web.late)
        ]
        late = results[web.late]
        ratio = statistics.median(result["seconds"] / own for result, own in zip(late, ours, strict=False))
        processor = 1000 * statistics.median(result["cpu"] for result in late) / len(files)
        print(f"| {TITLES[name]} | {speeds[0]:.0f} | {speeds[1]:.0f} | {ratio:.2f} | {processor:.1f} |", flush=True)


def compare_https(web: Nginx, files: list[str], repeat: int, folder: Path, **environment: str) -> None:
    """Prints the table of what TLS costs."""
    import certifi

    bundle = folder / "trusted.pem"  # as long as in real life: reading it is most of making a context
    bundle.write_text(Path(certifi.where()).read_text() + web.certificate.read_text())
    trusting = {"SSL_CERT_FILE": str(bundle), "REQUESTS_CA_BUNDLE": str(bundle), **environment}
    runs = repeat + 1
    print(f"\n| tool | TLS contexts in {runs} runs | CPU ms per image, https | http | images/s, https |")
    print("|---|---:|---:|---:|---:|")
    tools = [Tool(name, **trusting) for name in ("ours", "requests_session", "requests_get")]
    measured: dict[tuple[str, str], list[dict[str, Any]]] = {}
    contexts = dict.fromkeys((tool.name for tool in tools), 0)
    for repetition in range(-1, repeat):
        for tool in tools:
            for address in (web.at_once, web.tls):
                result = tool.run([f"{address}/{file}" for file in files], web.hosts)
                contexts[tool.name] += result["contexts"]
                if repetition >= 0:
                    measured.setdefault((tool.name, address), []).append(result)
    for tool in tools:
        tool.stop()
        secure, plain = measured[tool.name, web.tls], measured[tool.name, web.at_once]
        cost = [1000 * statistics.median(r["cpu"] for r in results) / len(files) for results in (secure, plain)]
        speed = len(files) / statistics.median(result["seconds"] for result in secure)
        print(
            f"| {TITLES[tool.name]} | {contexts[tool.name]} | {cost[0]:.1f} | {cost[1]:.1f} | {speed:.0f} |", flush=True
        )


def compare_memory(web: Nginx, root: Path, count: int, **environment: str) -> None:
    """Prints the table of peak memory."""
    write_variants(root / "many", root / "photos", 10 * count)
    print("\n| images | MiB before | MiB at most | images/s at 0 ms |")
    print("|---:|---:|---:|---:|")
    for images in (count, 10 * count):
        tool = Tool("ours", **environment)
        result = tool.run([f"{web.at_once}/many/{number}.jpg" for number in range(images)], web.hosts)
        tool.stop()
        speed = images / result["seconds"]
        print(f"| {images} | {result['before']:.0f} | {result['peak']:.0f} | {speed:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peers", nargs="?", const="", help="compare with other tools too; a folder keeps them")
    parser.add_argument("--count", type=int, default=500, help="images")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    parser.add_argument("--only", nargs="+", choices=("speed", "https", "memory"), help="only these tables")
    options = parser.parse_args()
    parts = options.only or ["speed", "https", "memory"]
    if lacking := missing():
        print(f"collect is not measured: {lacking}", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="idsynth-benchmark-") as folder:
        root = Path(folder)
        size = write_photos(root / "web" / "photos", options.count)
        files = [f"photos/{number}.jpg" for number in range(options.count)]
        server, web = PrivateDatabase(root / "database"), Nginx(root / "nginx", root / "web")
        own = {
            "FIFTYONE_DO_NOT_TRACK": "true", "FIFTYONE_DATABASE_URI": server.uri,
            "FIFTYONE_DATABASE_VALIDATION": "false", "FIFTYONE_SHOW_PROGRESS_BARS": "false",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }  # fmt: skip
        load = os.getloadavg()[0]
        print(
            f"{platform.machine()}, {os.cpu_count()} processors, load {load:.1f} before; {options.count} JPEG files of "
            f"{size / 1000:.0f} kB; medians of {options.repeat} repetitions", flush=True,
        )  # fmt: skip
        tools = [Tool("ours", **own), Tool("requests_hashing"), Tool("requests_session")]
        try:
            if "speed" in parts:
                if options.peers is not None:
                    tools += install_peers(Path(options.peers or root / "peers").resolve())
                compare_speed(tools, web, files, options.repeat)
            if "https" in parts:
                compare_https(web, files, options.repeat, root, **own)
            if "memory" in parts:
                compare_memory(web, root / "web", options.count, **own)
        finally:
            for tool in tools:
                tool.stop()
            web.stop()
            server.stop()


if __name__ == "__main__":
    main()
