"""One tool that downloads a list of addresses, in a process of its own.

    python tools.py NAME

Reads one job per line from standard input, ``{"urls": [...], "folder": "...", "hosts": [...]}``, and answers each with
one line: seconds, images, processor time, TLS contexts and memory of the tool's own work. What it imports, and making
an empty dataset, is not counted. Needs nothing but the tool itself, so that it runs in any environment.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import ssl
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

THREADS = 32

Job = dict[str, Any]
Work = Callable[[], int]


def ours(job: Job) -> Work:
    """``collect`` with every check on; files and samples are written."""
    import fiftyone as fo

    import fiftyone_idsynth as ids

    os.environ["IDSYNTH_MEDIA_DIR"] = job["folder"]
    listed = Path(job["folder"]) / "addresses.txt"
    listed.write_text("\n".join(job["urls"]))
    dataset = fo.Dataset(persistent=False)

    def work() -> int:
        report = ids.collect(
            dataset, "benchmark", sources=(), urls=listed, count=len(job["urls"]), allowed_hosts=tuple(job["hosts"]),
            rate_per_host=0, max_per_host=THREADS, max_connections=THREADS, progress=False,
        )  # fmt: skip
        return report.created

    return work


def requests_session(job: Job, finish: Callable[[bytes], None] = lambda content: None) -> Work:
    """A Session shared by 32 threads, which writes files and nothing else."""
    import requests
    from requests.adapters import HTTPAdapter

    def work() -> int:
        with requests.Session() as session, ThreadPoolExecutor(THREADS) as pool:
            session.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
            session.mount("https://", HTTPAdapter(pool_maxsize=THREADS))

            def download(numbered: tuple[int, str]) -> None:
                answer = session.get(numbered[1], timeout=15)
                answer.raise_for_status()
                finish(answer.content)
                (Path(job["folder"]) / f"{numbered[0]}.jpg").write_bytes(answer.content)

            return len(list(pool.map(download, enumerate(job["urls"]))))

    return work


def requests_hashing(job: Job) -> Work:
    """The same, and each image is hashed (SHA-256, dHash) and decoded as a draft."""
    import imagehash
    from PIL import Image

    def finish(content: bytes) -> None:
        hashlib.sha256(content).hexdigest()
        with Image.open(io.BytesIO(content)) as image:
            image.draft("L", (72, 64))
            imagehash.dhash(image)

    return requests_session(job, finish)


def requests_get(job: Job) -> Work:
    """``requests.get`` for each image, in 32 threads."""
    import requests

    def download(numbered: tuple[int, str]) -> None:
        answer = requests.get(numbered[1], timeout=15)
        answer.raise_for_status()
        (Path(job["folder"]) / f"{numbered[0]}.jpg").write_bytes(answer.content)

    def work() -> int:
        with ThreadPoolExecutor(THREADS) as pool:
            return len(list(pool.map(download, enumerate(job["urls"]))))

    return work


def aiohttp_session(job: Job) -> Work:
    """A ClientSession with 32 connections, which writes files and nothing else."""
    import asyncio

    import aiohttp

    async def download_all() -> int:
        limit = asyncio.Semaphore(THREADS)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=THREADS)) as session:

            async def download(number: int, url: str) -> None:
                async with limit, session.get(url) as answer:
                    answer.raise_for_status()
                    (Path(job["folder"]) / f"{number}.jpg").write_bytes(await answer.read())

            await asyncio.gather(*(download(number, url) for number, url in enumerate(job["urls"])))
        return len(job["urls"])

    return lambda: asyncio.run(download_all())


def icrawler_list(job: Job, threads: int = 1) -> Work:
    """icrawler's crawler of a list of addresses, as it comes (one thread downloads)."""
    import logging

    from icrawler.builtin import UrlListCrawler

    listed = Path(job["folder"]) / "addresses.txt"
    listed.write_text("\n".join(job["urls"]))

    def work() -> int:
        crawler = UrlListCrawler(
            downloader_threads=threads, storage={"root_dir": job["folder"]}, log_level=logging.ERROR
        )
        crawler.crawl(str(listed))
        return _files(job)

    return work


def icrawler_32(job: Job) -> Work:
    """The same with 32 threads."""
    return icrawler_list(job, THREADS)


def img2dataset_default(job: Job, **options: Any) -> Work:
    """img2dataset as it comes: one process, 256 threads, everything scaled to 256 x 256 and encoded again."""
    from img2dataset import download

    listed = Path(job["folder"]) / "addresses.txt"
    listed.write_text("\n".join(job["urls"]))

    def work() -> int:
        download(url_list=str(listed), output_folder=f"{job['folder']}/out", **options)
        return _files(job)

    return work


def img2dataset_tuned(job: Job) -> Work:
    """The same with a process per processor, 32 threads in all, files as they are."""
    processes = os.cpu_count() or 1
    return img2dataset_default(
        job, processes_count=processes, thread_count=max(1, THREADS // processes), resize_mode="no",
        number_sample_per_shard=-(-len(job["urls"]) // processes), disallowed_header_directives=[],
    )  # fmt: skip


def gallery_dl(job: Job) -> Work:
    """gallery-dl with a file of direct links."""
    import gallery_dl.config

    listed = Path(job["folder"]) / "addresses.txt"
    listed.write_text("\n".join(job["urls"]))

    def work() -> int:
        gallery_dl.config.clear()
        sys.argv = ["gallery-dl", "--quiet", "--config-ignore", "-D", job["folder"], "-i", str(listed)]
        gallery_dl.main()
        return _files(job)

    return work


def _files(job: Job) -> int:
    return sum(1 for _ in Path(job["folder"]).rglob("*.jpg"))


TOOLS: dict[str, Callable[[Job], Work]] = {
    "ours": ours, "requests_session": requests_session, "requests_hashing": requests_hashing,
    "requests_get": requests_get, "aiohttp": aiohttp_session, "icrawler": icrawler_list, "icrawler_32": icrawler_32,
    "img2dataset": img2dataset_default, "img2dataset_tuned": img2dataset_tuned, "gallery_dl": gallery_dl,
}  # fmt: skip


class _CountedContext:
    """Counts the TLS contexts that anything in this process makes."""

    def __init__(self) -> None:
        self.made = 0
        self._lock = threading.Lock()
        make = ssl.SSLContext.__new__

        def counting(cls: type, *args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.made += 1
            return make(cls, *args, **kwargs)

        ssl.SSLContext.__new__ = counting  # type: ignore[method-assign,assignment]


def _processor_seconds() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in both)


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024**2


def main() -> None:
    name = sys.argv[1]
    jobs, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    sys.stdin = Path(os.devnull).open()  # noqa: SIM115
    os.dup2(2, 1)  # whatever a tool prints must not be taken for an answer
    contexts = _CountedContext()
    for line in jobs:
        job = json.loads(line)
        work = TOOLS[name](job)
        before, made, used = _resident_megabytes(), contexts.made, _processor_seconds()
        began, started = time.time(), time.perf_counter()
        images = work()
        seconds = time.perf_counter() - started
        if name.startswith("icrawler"):  # which then waits 5 s for more to come: not counted
            seconds = max((path.stat().st_mtime for path in Path(job["folder"]).glob("*.jpg")), default=began) - began
        result = {
            "seconds": seconds, "images": images, "cpu": _processor_seconds() - used, "contexts": contexts.made - made,
            "before": before, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }  # fmt: skip
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main()
