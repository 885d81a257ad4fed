"""Images per second of ``compose``, per blending mode.

    python benchmarks/compose.py [--count 60] [--size 640 480] [--repeat 3]

Objects, distractors and backgrounds are the demo's: photographs that come with scikit-image and scikit-learn. Two
figures per mode, each the median of interleaved repetitions with the decoded images in the cache:

* rendering: from the drawn layout to the pixels, on one thread;
* made: the whole work of one image as the stage does it with one mode (draw the layout, render, encode as JPEG of
  quality 95, write image and masks to the disk), with as many threads as there are processors, without the database.

The last line is the stage itself on a database: all four modes, everything included.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.database import PrivateDatabase

MODES = ("none", "gaussian", "motion", "poisson")


def make_worker(folder: Path, store: Path, size: tuple[int, int]) -> Any:
    """The stage's worker with the demo's photographs."""
    from fiftyone_idsynth.demo.photos import write_photos
    from fiftyone_idsynth.errors import RefusedImage
    from fiftyone_idsynth.generation.composites import ComposeWorker, Ingredient, Pool
    from fiftyone_idsynth.generation.layout import LayoutRules
    from fiftyone_idsynth.media import MediaStore, read_image

    write_photos(folder)
    found: dict[str, list[Path]] = {}
    for kind in ("objects", "distractors", "backgrounds"):
        for path in sorted((folder / kind).rglob("*.*")):
            try:
                read_image(path)
            except RefusedImage:  # one of the demo's photographs is broken on purpose
                continue
            found.setdefault(kind, []).append(path)
    names = {kind: tuple(path.name for path in paths) for kind, paths in found.items()}
    ingredients = {path.name: Ingredient(str(path), path.stem) for paths in found.values() for path in paths}
    pool = Pool((("coin", names["objects"]),), names["distractors"], names["backgrounds"])
    rules = LayoutRules(max_objects=4, scale_min=0.15, scale_max=0.4)
    worker = ComposeWorker(
        MediaStore(store), {"train": pool}, ingredients, rules, seed=51, width=size[0], height=size[1]
    )
    worker.setup()
    return worker


def time_rendering(worker: Any, mode: str, count: int) -> float:
    """Seconds per image for rendering alone."""
    from fiftyone_idsynth.generation.blend import render
    from fiftyone_idsynth.generation.composites import Order

    seconds = 0.0
    for index in range(count):
        layout, patches, background = worker.draw(Order(index, "train"))
        started = time.perf_counter()
        render(background, layout, patches, mode)  # type: ignore[arg-type]
        seconds += time.perf_counter() - started
    return seconds / count


def time_making(worker: Any, mode: str, count: int, start: int) -> float:
    """Seconds per image for all but the database."""
    from fiftyone_idsynth.engine import Task, process
    from fiftyone_idsynth.generation.composites import Order

    tasks = [[Task((str(i),), Order(i, "train", {str(i): mode}))] for i in range(start, start + count)]  # type: ignore[dict-item]
    started = time.perf_counter()
    outcomes = [outcome for batch in process(worker, tasks) for outcome in batch]
    seconds = time.perf_counter() - started
    assert all(outcome.result for outcome in outcomes), [o for o in outcomes if not o.result][:1]
    return seconds / count


def time_stage(folder: Path, count: int, size: tuple[int, int]) -> tuple[float, int]:
    """Seconds and images of the stage on a database."""
    import fiftyone as fo

    import fiftyone_idsynth as ids

    dataset = fo.Dataset("benchmark", persistent=True, overwrite=True)
    try:
        for kind in ("objects", "distractors", "backgrounds"):
            paths = [p for p in sorted((folder / kind).rglob("*.*")) if p.stem != "broken"]
            dataset.add_samples([fo.Sample(filepath=str(path), tags=[kind]) for path in paths], progress=False)
        views = [dataset.match_tags(kind) for kind in ("objects", "backgrounds", "distractors")]
        report = ids.compose(
            dataset, views[0], views[1], distractors=views[2], default_label="coin", count=count, max_objects=4,
            scale_min=0.15, scale_max=0.4, width=size[0], height=size[1], progress=False,
        )  # fmt: skip
        return report.seconds, report.created
    finally:
        dataset.delete()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=60, help="layouts per repetition")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), help="canvas width and height in pixels")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    options = parser.parse_args()
    size = (options.size[0], options.size[1])
    with tempfile.TemporaryDirectory(prefix="idsynth-benchmark-") as root:
        # FiftyOne reads these when it is imported: the benchmark has a database and media of its own.
        server = PrivateDatabase(Path(root) / "database")
        os.environ.update(
            FIFTYONE_DO_NOT_TRACK="true", FIFTYONE_DATABASE_URI=server.uri, FIFTYONE_DATABASE_VALIDATION="false",
            IDSYNTH_MEDIA_DIR=f"{root}/media", FIFTYONE_SHOW_PROGRESS_BARS="false",
        )  # fmt: skip
        worker = make_worker(Path(root) / "photos", Path(root) / "store", size)
        for mode in MODES:
            time_making(worker, mode, 20, 0)
        rendering: dict[str, list[float]] = {mode: [] for mode in MODES}
        making: dict[str, list[float]] = {mode: [] for mode in MODES}
        for repetition in range(options.repeat):
            start = 1000 * (repetition + 1)  # other layouts each time: a file that exists is not written again
            for mode in MODES:
                rendering[mode].append(time_rendering(worker, mode, options.count))
                making[mode].append(time_making(worker, mode, options.count, start))
        seconds, images = time_stage(Path(root) / "photos", options.count, size)
        server.stop()
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} processors, load {load:.1f}; canvas {size[0]} x {size[1]}")
    print(f"{'mode':<10}{'rendering ms':>14}{'made images/s':>15}{'time / none':>13}")
    for mode in MODES:
        render_ms, made = 1000 * statistics.median(rendering[mode]), statistics.median(making[mode])
        ratio = made / statistics.median(making["none"])
        print(f"{mode:<10}{render_ms:>14.1f}{1 / made:>15.1f}{ratio:>13.2f}")
    print(f"stage with database, four modes: {images} images in {seconds:.1f} s, {images / seconds:.1f} images/s")


if __name__ == "__main__":
    main()
