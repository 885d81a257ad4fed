"""Images per second of ``tag``, ``caption``, ``detect`` and ``filter_irrelevant`` against plain loops.

    python benchmarks/annotate.py [--device cuda] [--images 16] [--repeat 3] [--only tag detect] [--dtype bfloat16]

Models have published sizes (ViT-B/16 tagger for 448 pixels with 10,861 tags, BLIP base, CLIPSeg rd64, CLIP ViT-B/32)
and random weights, which cost the same as trained ones. The images are different crops of real photographs, 640 x 480.

* plain loop: opens an image with Pillow, prepares it and puts it through transformers, then the next one, in float32;
* stage: all of it, with decoding, database, records and fingerprints. The model is loaded before, by a warm-up.

Both make captions of exactly 20 tokens with 3 beams (the weights keep random captions from ending early). Both look for
one object with CLIPSeg, against one description of the background: the plain loop puts the image through once for each
of the two texts, and draws one box, as the stage does here, without writing masks. For ``filter_irrelevant`` by
similarity the plain loop makes the embedding of the image alone.

Each batch size is tried once; then the plain loop, batch 1 and the best batch take turns. Seconds are medians, ratios
are medians of the ratio to the plain loop of the same turn. Where other programs use the processors too, the processor
time is the more reliable figure. Memory is what a run takes at its peak beyond the loaded models.
"""

from __future__ import annotations

import argparse
import atexit
import ctypes
import gc
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.annotating import models, plain
from benchmarks.engine import make_photos
from tests.database import PrivateDatabase

BATCHES = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 2, 4, 8, 16, 32, 64, 128)}
IMAGES = {"cpu": 16, "cuda": 256}

COLUMNS = ("work", "way", "batch", "images/s", "s/image", "processor s/image", "times the plain loop", "memory, MiB")


@dataclass
class Taken:
    """What a run took: wall clock and processor time in seconds, and bytes of memory where they are known."""

    seconds: float
    processor: float
    memory: int | None


@dataclass
class Way:
    """One way to do a kind of work.

    Attributes:
        name: what it is called in the table
        batch: images at once
        run: does the work once for all images, given what ``prepare`` made
        prepare: makes what a run needs, outside the time that is taken
        taken: what each run took
    """

    name: str
    batch: int
    run: Callable[[Any], Any]
    prepare: Callable[[], Any] = lambda: None
    taken: list[Taken] = field(default_factory=list)

    def measure(self, memory: Memory) -> Taken:
        prepared = self.prepare()
        memory.start()
        processor, started = time.process_time(), time.perf_counter()
        self.run(prepared)  # its results are in the main memory: the device has finished
        return Taken(time.perf_counter() - started, time.process_time() - processor, memory.peak())


class Memory:
    """The peak of the memory in use, above what is in use at the start: the device's on CUDA, else the process's."""

    def __init__(self, device: str):
        self._cuda = device.startswith("cuda")

    def start(self) -> None:
        if self._cuda:
            import torch

            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before: int | None = torch.cuda.memory_allocated()
            return
        try:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # what earlier runs freed counts as free
            Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory counts from now
            self._before = _status("VmRSS")
        except (OSError, AttributeError):  # neither is there on other systems
            self._before = None

    def peak(self) -> int | None:
        if self._before is None:
            return None
        if self._cuda:
            import torch

            return torch.cuda.max_memory_allocated() - self._before
        return max(0, _status("VmHWM") - self._before)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


def plain_way(kind: str, folder: Path, paths: list[str], arguments: argparse.Namespace) -> Way:
    """The plain loop, with a model of its own."""
    loop = plain.LOOPS[kind](folder, plain.Settings(device=arguments.device, new_tokens=arguments.new_tokens))
    loop(paths[:1])
    return Way("plain loop", 1, lambda _: loop(paths))


def stage_way(kind: str, folder: Path, paths: list[str], batch: int, arguments: argparse.Namespace) -> Way:
    """A stage; each run has a new dataset, since what is done is not done again."""
    import fiftyone as fo

    import fiftyone_idsynth as ids

    asked = plain.Settings()
    options: dict[str, dict[str, Any]] = {
        "tag": {"threshold": asked.threshold},
        "caption": {"max_new_tokens": arguments.new_tokens, "num_beams": asked.num_beams},
        "detect": {
            "classes": asked.objects, "background": (asked.background,), "one_box": True, "masks": False,
        },
        "filter_irrelevant": {"query": asked.objects[0], "method": "similarity"},
    }  # fmt: skip

    def prepare() -> Any:
        dataset = fo.Dataset()
        dataset.add_samples([fo.Sample(filepath=path) for path in paths], progress=False)
        return dataset

    def run(dataset: Any) -> None:
        report = getattr(ids, kind)(
            dataset, model=str(folder), device=arguments.device, dtype=arguments.dtype, batch_size=batch,
            progress=False, **options[kind],
        )  # fmt: skip
        if report.processed != len(paths):
            raise RuntimeError(f"{kind} lost images: {report}")

    return Way("stage", batch, run, prepare)


def compare(kind: str, folder: Path, paths: list[str], arguments: argparse.Namespace) -> list[Way]:
    """Tries the batch sizes of a stage, then lets it take turns with the plain loop.

    Returns:
        the plain loop, the stage with batch 1, and the stage with its best batch unless that is 1
    """
    memory = Memory(arguments.device)
    loop = plain_way(kind, folder, paths, arguments)
    sizes = [size for size in arguments.batches if size <= len(paths)]
    stages = {size: stage_way(kind, folder, paths, size, arguments) for size in sizes}
    warm = stage_way(kind, folder, paths[:1], 1, arguments)
    warm.measure(memory)
    tried = {size: way.measure(memory) for size, way in stages.items()}
    for size, taken in tried.items():
        rate = len(paths) / taken.seconds
        print(
            f"{kind}, batch {size}: {rate:.2f} images/s, {taken.processor / len(paths):.2f} processor s/image",
            flush=True,
        )
    best = min(sizes, key=lambda size: tried[size].seconds)
    ways = [loop, *(stages[size] for size in dict.fromkeys((sizes[0], best)))]
    for _ in range(arguments.repeat):
        for way in ways:
            way.taken.append(way.measure(memory))
    return ways


def rows(kind: str, ways: list[Way], count: int) -> list[tuple[str, ...]]:
    """The lines of the table for a kind of work."""
    lines = []
    for way in ways:
        seconds = statistics.median(taken.seconds for taken in way.taken)
        processor = statistics.median(taken.processor for taken in way.taken)
        ratios = [one.seconds / other.seconds for one, other in zip(ways[0].taken, way.taken, strict=True)]
        peaks = [taken.memory for taken in way.taken if taken.memory is not None]
        lines.append((
            kind, way.name, str(way.batch), f"{count / seconds:.2f}", f"{seconds / count:.3f}",
            f"{processor / count:.3f}", f"{statistics.median(ratios):.2f}",
            f"{max(peaks) / 2**20:.0f}" if peaks else "unknown",
        ))  # fmt: skip
    return lines


def table(lines: list[tuple[str, ...]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [COLUMNS, ("---",) * len(COLUMNS), *lines])


def machine(device: str) -> str:
    """The device, the versions, and how busy the processors are."""
    import torch
    import transformers

    from fiftyone_idsynth.engine.local import available_cpus

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else torch.backends.cpu.get_cpu_capability()
    return (
        f"{device}: {name}, {available_cpus()} processors ({platform.machine()}), load {busy()}; torch "
        f"{torch.__version__} with {torch.get_num_threads()} threads, transformers {transformers.__version__}"
    )


def busy() -> str:
    """The load of the last 1, 5 and 15 minutes: how many programs want a processor."""
    return " ".join(f"{load:.1f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    parser.add_argument("--size", choices=("published", "tiny"), default="published", help="of the models")
    parser.add_argument("--images", type=int, help="default 16 on the CPU, 256 on CUDA")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=tuple(plain.LOOPS), default=tuple(plain.LOOPS))
    parser.add_argument("--batches", nargs="+", type=int, help="default 1 to 16 on the CPU, 1 to 128 on CUDA")
    parser.add_argument("--dtype", default="auto", help="of the stages' models; the plain loop has float32")
    parser.add_argument("--new-tokens", type=int, default=20, help="length of the captions")
    arguments = parser.parse_args()
    family = arguments.device.partition(":")[0]
    count = arguments.images or IMAGES[family]
    arguments.batches = sorted(arguments.batches or BATCHES[family])
    folder = Path(tempfile.mkdtemp(prefix="idsynth-annotate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(
        FIFTYONE_DO_NOT_TRACK="true", FIFTYONE_DATABASE_URI=PrivateDatabase(folder / "database").uri,
        FIFTYONE_DATABASE_VALIDATION="false", IDSYNTH_MEDIA_DIR=str(folder / "media"), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    paths = make_photos(folder, count)
    print(machine(arguments.device), flush=True)
    lines = []
    for kind in arguments.only:
        model = models.build(kind, folder, arguments.size)
        lines += rows(kind, compare(kind, model, paths, arguments), count)
        release()
        shutil.rmtree(model)
    print(f"\n{count} images, models of size {arguments.size}, dtype {arguments.dtype}, {arguments.repeat} turns")
    print(f"{table(lines)}\n\nload at the end: {busy()}")


def release() -> None:
    """Frees the models of the stages; those of the plain loop are gone with it."""
    from fiftyone_idsynth.models.batches import empty_cache
    from fiftyone_idsynth.models.loading import release as release_models

    release_models()
    empty_cache()


if __name__ == "__main__":
    main()
