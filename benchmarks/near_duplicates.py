"""Near-duplicate search and dHash, side by side with faiss-cpu, imagededup and plain imagehash.

    python benchmarks/near_duplicates.py [--sizes 10000 100000 1000000] [--radii 3 4 7] [--limit 120]

Every run is a process of its own, the methods take turns, and the table gives medians of the search alone: imports and
a first small search do not count. faiss-cpu runs ``IndexBinaryMultiHash`` in the quickest layout that is still exact,
on all processors; imagededup runs its default search. A run that takes longer than ``--limit`` seconds or more than
8 GiB is stopped and the table says so. The found pairs are compared: "same pairs" means that the methods agree on
every single one.

The peers are optional: ``pip install faiss-cpu``, ``pip install --no-deps imagededup`` (with PyWavelets and tqdm).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import multiprocessing
import os
import platform
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fiftyone_idsynth.measures.hashing import dhash, hamming, near_pairs
from fiftyone_idsynth.media import read_image

METHODS = {"idsynth": "fiftyone-idsynth", "faiss": "faiss-cpu", "imagededup": "imagededup"}
MEMORY = 8 * 1024**3
IMAGEDEDUP_MAX = 10_000
DRAFT = (72, 64)


def make_hashes(count: int, blanks: float, seed: int = 51) -> np.ndarray:
    """Random hashes, one in a hundred a copy of another with up to 8 bits flipped, and a share of identical blanks."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    for i in rng.choice(count, count // 100, replace=False):
        bits = rng.choice(64, rng.integers(0, 9), replace=False).astype(np.uint64)
        hashes[i] = hashes[rng.integers(count)] ^ np.bitwise_or.reduce(np.uint64(1) << bits, initial=np.uint64(0))
    hashes[rng.choice(count, int(count * blanks), replace=False)] = 0
    return hashes


# -- the methods: hashes and radius in; a function that searches, and one that gives the pairs it found ----------------


def idsynth(hashes: np.ndarray, radius: int) -> tuple[Callable[[], Any], Callable[[Any], np.ndarray]]:
    return lambda: near_pairs(hashes, radius), lambda found: np.stack([found.first, found.second])


def faiss(hashes: np.ndarray, radius: int) -> tuple[Callable[[], Any], Callable[[Any], np.ndarray]]:
    import faiss

    codes = hashes.view(np.uint8).reshape(-1, 8)
    # Exact by the pigeonhole principle: radius < tables * (flips + 1). The quickest of the layouts that were tried.
    wide = radius > 4 or (radius == 4 and len(hashes) > 300_000)
    tables, bits, flips = (4, 16, 0) if radius <= 3 else (4, 16, 1) if wide else (5, 12, 0)

    def search() -> Any:
        index = faiss.IndexBinaryMultiHash(64, tables, bits)
        index.nflip = flips
        index.add(codes)
        return index.range_search(codes, radius + 1)  # distances below the given radius

    def pairs(found: Any) -> np.ndarray:
        starts, _, others = found
        return np.stack([np.repeat(np.arange(len(hashes)), np.diff(starts.astype(np.int64))), others])

    return search, pairs


def imagededup(hashes: np.ndarray, radius: int) -> tuple[Callable[[], Any], Callable[[Any], np.ndarray]]:
    from imagededup.methods import DHash

    method = DHash(verbose=False)
    encodings = {str(i): f"{value:016x}" for i, value in enumerate(hashes.tolist())}

    def search() -> Any:
        return method.find_duplicates(encoding_map=encodings, max_distance_threshold=radius)

    def pairs(found: Any) -> np.ndarray:
        return np.array([(int(i), int(j)) for i, others in found.items() for j in others], np.int64).reshape(-1, 2).T

    return search, pairs


def digest(hashes: np.ndarray, pairs: np.ndarray) -> str:
    """Identifies a set of pairs of different hashes, whatever their order; equal hashes count as one."""
    a, b = np.sort(hashes[pairs], axis=0)
    different = np.unique(np.stack([a, b])[:, a != b], axis=1)
    return f"{different.shape[1]} {hashlib.blake2b(different.tobytes(), digest_size=8).hexdigest()}"


def _child(method: str, path: str, radius: int, connection: Any) -> None:
    os.setsid()  # so that its own worker processes can be stopped with it
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    hashes = np.load(path)
    try:
        make = globals()[method]
        make(make_hashes(2000, 0.0), radius)[0]()  # imports and first calls do not count
        search, pairs = make(hashes, radius)
        start = time.perf_counter()
        found = search()
        seconds = time.perf_counter() - start
    except ModuleNotFoundError:
        connection.send("not installed")
        return
    except MemoryError:
        connection.send("> 8 GiB")
        return
    connection.send(seconds)
    connection.send(digest(hashes, pairs(found)))


def run(method: str, path: str, radius: int, limit: float) -> tuple[float | str, str | None]:
    """Runs one search in its own process: seconds (or why there are none) and what identifies the found pairs."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(method, path, radius, theirs))
    process.start()
    theirs.close()
    try:
        if not ours.poll(limit + 20):
            return f"> {limit:.0f} s", None
        seconds = ours.recv()
        if isinstance(seconds, str):
            return seconds, None
        return (seconds, ours.recv()) if seconds <= limit else (f"> {limit:.0f} s", None)
    except EOFError:  # the process was stopped by the system
        return "> 8 GiB", None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(cast(int, process.pid), signal.SIGKILL)
        process.kill()
        process.join()


def search_table(sizes: list[int], radii: list[int], limit: float) -> Iterator[str]:
    header = f"{'hashes':>9} {'blanks':>6} {'radius':>6} | {'idsynth':>9} | {'faiss-cpu':>12} {'ratio':>6} | "
    yield header + f"{'imagededup':>13} {'ratio':>6} | pairs"
    for size in sizes:
        for blanks in (0.0, 0.02):
            for radius in radii:
                yield _search_row(size, blanks, radius, limit)


def _search_row(size: int, blanks: float, radius: int, limit: float) -> str:
    repetitions = 5 if size <= 10_000 else 3
    methods = [name for name in METHODS if name != "imagededup" or size <= IMAGEDEDUP_MAX]
    times: dict[str, list[float]] = {name: [] for name in methods}
    stopped: dict[str, str] = {}
    digests: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "hashes.npy")
        np.save(path, make_hashes(size, blanks))
        for turn in range(repetitions):
            for name in methods:
                if name in stopped or (turn and times[name][0] > 10):  # once is enough for the slow
                    continue
                seconds, found = run(name, path, radius, limit)
                if isinstance(seconds, str):
                    stopped[name] = seconds
                else:
                    times[name].append(seconds)
                    digests[name] = found or ""
    ours = statistics.median(times["idsynth"]) if times["idsynth"] else None
    cells = [f"{size:>9,} {blanks:>6.0%} {radius:>6} | " + (f"{ours:>7.3f} s" if ours else stopped["idsynth"])]
    for name, width in (("faiss", 10), ("imagededup", 11)):
        if times.get(name) and ours:
            theirs = statistics.median(times[name])
            cells.append(f"{theirs:>{width}.3f} s {theirs / ours:>5.0f}x")
        else:
            cells.append(f"{stopped.get(name, 'not run'):>{width + 2}} {'':>6}")
    agreement = "same pairs" if len(set(digests.values())) == 1 and len(digests) > 1 else "not compared"
    if len(set(digests.values())) > 1:
        agreement = f"DIFFERENT PAIRS: {digests}"
    count = digests["idsynth"].split()[0] if "idsynth" in digests else "?"
    return " | ".join([*cells, f"{count}, {agreement}"])


# -- dHash ------------------------------------------------------------------------------------------------------------


def write_photos(folder: str, count: int) -> list[str]:
    """Writes 640 x 480 JPEG files cut from the photographs that come with scikit-image and scikit-learn."""
    from PIL import Image
    from skimage import data
    from sklearn.datasets import load_sample_images

    originals = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), *load_sample_images().images]
    rng = np.random.default_rng(51)
    paths = []
    for i in range(count):
        image = Image.fromarray(originals[i % len(originals)])
        scale = float(rng.uniform(0.6, 0.95))
        width, height = int(image.width * scale), int(image.height * scale)
        left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
        cut = image.crop((left, top, left + width, top + height)).resize((640, 480), Image.Resampling.BICUBIC)
        paths.append(os.path.join(folder, f"{i}.jpg"))
        cut.save(paths[-1], quality=90)
    return paths


def hash_table(count: int, repetitions: int = 5) -> Iterator[str]:
    import imagehash
    from PIL import Image

    methods: dict[str, Callable[[str], Any]] = {
        "idsynth (safe, upright, draft decoding)": lambda p: dhash(read_image(p, mode="L", draft=DRAFT).pixels),
        "imagehash, Pillow's full decoding": lambda p: int(str(imagehash.dhash(Image.open(p))), 16),
    }
    try:
        from imagededup.methods import DHash

        encoder = DHash(verbose=False)
        methods["imagededup"] = lambda p: encoder.encode_image(image_file=p)
    except ModuleNotFoundError:
        yield "imagededup: not installed"
    rates: dict[str, list[float]] = {name: [] for name in methods}
    results: dict[str, list[Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photos(folder, count)
        size = sum(map(os.path.getsize, paths)) / len(paths) / 1000
        for _ in range(repetitions):
            for name, method in methods.items():
                method(paths[0])
                start = time.perf_counter()
                results[name] = [method(path) for path in paths]
                rates[name].append(count / (time.perf_counter() - start))
    ours = statistics.median(next(iter(rates.values())))
    yield f"{count} JPEG files of 640 x 480 pixels, {size:.0f} kB on average, one thread:"
    for name, found in rates.items():
        rate = statistics.median(found)
        yield f"  {name:<42} {rate:>6.0f} images/s   idsynth is {ours / rate:.2f}x as fast"
    draft, full = (np.array(values, np.uint64) for values in list(results.values())[:2])
    bits = hamming(draft, full)
    yield f"  bits between draft and full decoding: mean {bits.mean():.2f}, 99 % at most {np.percentile(bits, 99):.0f}"


def versions() -> str:
    found = []
    for package in ("numpy", "imagehash", "pillow", "faiss-cpu", "imagededup"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"Python {platform.python_version()}, {', '.join(found)}; {processors} processors"


def main() -> None:
    if not isinstance(sys.stdout, io.TextIOWrapper):
        raise SystemExit("run this as a program")
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="numbers of hashes")
    parser.add_argument("--radii", type=int, nargs="*", default=[3, 4, 7], help="largest Hamming distances")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a run is stopped")
    parser.add_argument("--photos", type=int, default=300, help="JPEG files for the dHash rate; 0 leaves it out")
    options = parser.parse_args()
    print(versions())
    for line in search_table(options.sizes, options.radii, options.limit):
        print(line)
    if options.photos:
        for line in hash_table(options.photos):
            print(line)


if __name__ == "__main__":
    main()
