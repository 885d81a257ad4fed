"""Images per second of ``generate`` against diffusers alone.

    python benchmarks/generate.py [--device cuda] [--images 32] [--repeat 3] [--only sd sdxl lcm] [--batches 1 4 16]

Models have published sizes (Stable Diffusion 1.5 at 512 x 512, SDXL at 1024 x 1024, each with 30 steps, and a latent
consistency model of the size of SD 1.5 with 4 steps) and random weights, which cost the same as trained ones.

* one by one: diffusers as its documentation shows it, an image per call, float16 on CUDA and float32 elsewhere, the
  attention that diffusers takes by default; this is how the dissertation behind this project made its images;
* diffusers: the same at the batch size and in the precision of the stage, images kept in memory;
* stage: all of it, with database, PNG files and records, and on the processor the measurement for its forecast.

Each batch size is tried once by the stage; then the ways take turns. Seconds are medians, ratios are medians of the
ratio within a turn. Memory is what a run takes at its peak beyond the loaded models, on CUDA that of the device. On the
processor, where published sizes take hours, the models are tiny unless ``--size published`` is given: then the table
shows that everything runs, and what the stage costs around models that cost nothing.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.annotate import Memory, Way, busy, machine, release
from benchmarks.generating import models
from benchmarks.generating.plain import Plain
from tests.database import PrivateDatabase

BATCHES = {"cpu": (1, 2, 4), "cuda": (1, 2, 4, 8, 16, 32)}
IMAGES = {"cpu": 4, "cuda": 32}
STEPS = {"sd": 30, "sdxl": 30, "lcm": 4}

PROMPT = "a photo of a red panda on a mossy branch in the forest, early morning, soft light"

COLUMNS = (
    "model", "way", "batch", "images/s", "s/image", "times one by one", "times diffusers at the same batch",
    "memory, MiB",
)  # fmt: skip


@dataclass
class Entry:
    """A way, and the one that it is compared with at the same batch size."""

    way: Way
    same_batch: Way | None = None


@dataclass
class Setting:
    """What is made.

    Attributes:
        kind: of the model, a key of :data:`STEPS`
        folder: of the model
        side: width and height in pixels
        steps: denoising steps
        count: number of images
        device: where it runs
        dtype: precision of the stage
    """

    kind: str
    folder: Path
    side: int
    steps: int
    count: int
    device: str
    dtype: Any

    def resolved(self) -> str:
        """The precision that the stage computes in."""
        from fiftyone_idsynth.models.options import Options

        return str(Options(device=self.device, dtype=self.dtype).torch_dtype()).removeprefix("torch.")


def plain_way(name: str, plain: Plain, batch: int, setting: Setting) -> Way:
    """Diffusers alone."""
    plain([PROMPT] * batch, batch, 2, setting.side)  # the first time takes longer
    prompts = [PROMPT] * setting.count
    return Way(name, batch, lambda _: plain(prompts, batch, setting.steps, setting.side))


def stage_way(batch: int, setting: Setting, count: int | None = None) -> Way:
    """The stage; each run has a new dataset, since what is there is not made again."""
    import fiftyone as fo

    import fiftyone_idsynth as ids

    wanted = count or setting.count

    def run(dataset: Any) -> None:
        report = ids.generate(
            dataset, prompts=(PROMPT,), count=wanted, model=str(setting.folder), width=setting.side,
            height=setting.side, steps=setting.steps, device=setting.device, dtype=setting.dtype, batch_size=batch,
            progress=False,
        )  # fmt: skip
        if report.created != wanted:
            raise RuntimeError(f"generate lost images: {report}")
        for note in report.notes:
            if "memory" in note:  # what was measured is not what was asked for
                print(f"{setting.kind}, batch {batch}: {note}", flush=True)

    return Way("stage", batch, run, fo.Dataset)


def compare(setting: Setting, batches: list[int], repeat: int) -> list[Entry]:
    """Tries the batch sizes of the stage, then lets the ways take turns.

    Returns:
        one by one, the stage at batch 1 and at its best batch, and diffusers at the batch sizes of these
    """
    memory = Memory(setting.device)
    stage_way(1, setting, count=1).measure(memory)  # loads the model
    sizes = [size for size in batches if size <= setting.count]
    stages = {size: stage_way(size, setting) for size in sizes}
    tried = {}
    for size, way in stages.items():
        tried[size] = way.measure(memory).seconds
        print(f"{setting.kind}, batch {size}: {setting.count / tried[size]:.3g} images/s", flush=True)
    best = min(sizes, key=lambda size: tried[size])
    old = "float16" if setting.device.startswith("cuda") else "float32"
    loop = Plain(setting.folder, setting.device, old)
    plain = loop if setting.resolved() == old else Plain(setting.folder, setting.device, setting.resolved())
    first = plain_way("one by one", loop, 1, setting)
    entries = [Entry(first)]
    for size in dict.fromkeys((sizes[0], best)):
        same = first if size == 1 and plain is loop else plain_way("diffusers", plain, size, setting)
        if same is not first:
            entries.append(Entry(same, same))
        entries.append(Entry(stages[size], same))
    for _ in range(repeat):
        for entry in entries:
            entry.way.taken.append(entry.way.measure(memory))
    return entries


def rows(setting: Setting, entries: list[Entry]) -> list[tuple[str, ...]]:
    """The lines of the table for a model."""
    lines = []
    for entry in entries:
        way = entry.way
        seconds = statistics.median(taken.seconds for taken in way.taken)
        peaks = [taken.memory for taken in way.taken if taken.memory is not None]
        lines.append((
            setting.kind, way.name, str(way.batch), f"{setting.count / seconds:.3g}", f"{seconds / setting.count:.3g}",
            _ratio(entries[0].way, way), _ratio(entry.same_batch, way) if entry.same_batch else "",
            f"{max(peaks) / 2**20:.0f}" if peaks else "unknown",
        ))  # fmt: skip
    return lines


def _ratio(base: Way, way: Way) -> str:
    """How many times as fast a way is as another one."""
    return f"{statistics.median(a.seconds / b.seconds for a, b in zip(base.taken, way.taken, strict=True)):.2f}"


def table(lines: list[tuple[str, ...]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [COLUMNS, ("---",) * len(COLUMNS), *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    parser.add_argument("--size", choices=("published", "tiny"), help="of the models; tiny by default on the CPU")
    parser.add_argument("--images", type=int, help="default 4 on the CPU, 32 on CUDA")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=tuple(STEPS), default=tuple(STEPS))
    parser.add_argument("--batches", nargs="+", type=int, help="default 1 to 4 on the CPU, 1 to 32 on CUDA")
    parser.add_argument("--dtype", default="auto", help="of the stage; one by one has float16 on CUDA, else float32")
    parser.add_argument("--steps", type=int, help="default 30, and 4 for lcm")
    arguments = parser.parse_args()
    family = arguments.device.partition(":")[0]
    arguments.size = arguments.size or ("published" if family == "cuda" else "tiny")
    count = arguments.images or IMAGES[family]
    batches = sorted(arguments.batches or BATCHES[family])
    folder = Path(tempfile.mkdtemp(prefix="idsynth-generate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(
        FIFTYONE_DO_NOT_TRACK="true", FIFTYONE_DATABASE_URI=PrivateDatabase(folder / "database").uri,
        FIFTYONE_DATABASE_VALIDATION="false", IDSYNTH_MEDIA_DIR=str(folder / "media"), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    print(machine(arguments.device), flush=True)
    lines = []
    for kind in arguments.only:
        model = models.build(kind, folder, arguments.size)
        side, steps = models.SIDES[arguments.size][kind], arguments.steps or STEPS[kind]
        setting = Setting(kind, model, side, steps, count, arguments.device, arguments.dtype)
        print(f"{kind}: {side} x {side}, {steps} steps, stage in {setting.resolved()}", flush=True)
        lines += rows(setting, compare(setting, batches, arguments.repeat))
        release()
        shutil.rmtree(model)
    print(f"\n{count} images, models of size {arguments.size}, {arguments.repeat} turns")
    print(f"{table(lines)}\n\nload at the end: {busy()}")


if __name__ == "__main__":
    main()
