"""What the engine costs and gains, and what a second run costs.

    python benchmarks/engine.py [--photos 1000] [--repeat 3]

The work is ``score_quality`` with all built-in measures on photographs of about 640 x 480 pixels (crops of those that
come with scikit-image and scikit-learn, each another). Three ways take turns; the table gives medians and ratios:

* stage: the stage, with its database, progress, records and fingerprints, on as many threads as there are processors;
* bare threads: the same worker and decoding on the same number of threads, no database, results thrown away;
* plain loop: the same worker and decoding, one image after the other on one thread.

Then a recipe (ingest, score_quality, deduplicate, split, export) is run twice on the same photographs: the second run
finds everything up to date.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.database import PrivateDatabase

RECIPE = """
dataset: engine-benchmark-recipe
stages:
  - ingest: {path: PHOTOS, captions: true}
  - score_quality: {task: detection}
  - deduplicate:
  - split:
  - export: {path: out, format: captions}
"""


def make_photos(folder: Path, count: int) -> list[str]:
    """Writes ``count`` different crops of real photographs, 640 x 480 pixels, as JPEG files of quality 90."""
    import numpy as np
    from PIL import Image

    from fiftyone_idsynth.demo.photos import write_photos

    write_photos(folder / "originals")
    names = ("astronaut", "chelsea", "coffee", "rocket", "china", "flower", "retina", "motorcycle_left", "brick")
    originals = [Image.open(folder / "originals" / "backgrounds" / f"{name}.jpg").convert("RGB") for name in names]
    photos = folder / "photos"
    photos.mkdir()
    rng = np.random.default_rng(51)
    paths = []
    for number in range(count):
        original = originals[number % len(originals)]
        share = rng.uniform(0.6, 0.95)
        width, height = int(original.width * share), int(original.height * share)
        left, top = rng.integers(original.width - width + 1), rng.integers(original.height - height + 1)
        crop = original.crop((left, top, left + width, top + height)).resize((640, 480))
        path = photos / f"{number:05d}.jpg"
        crop.save(path, quality=90)
        path.with_suffix(".txt").write_text(f"photo {number}")
        paths.append(str(path))
    return paths


def bare(worker: Any, paths: list[str], threads: int, batch_size: int = 16) -> None:
    from fiftyone_idsynth.engine.worker import Item, run_batch

    items = [Item(path, path) for path in paths]
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    if threads == 1:
        for batch in batches:
            run_batch(worker, batch)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda batch: run_batch(worker, batch), batches):
            pass


def compare(paths: list[str], repeat: int) -> None:
    import cv2
    import fiftyone as fo

    import fiftyone_idsynth as ids
    from fiftyone_idsynth.engine.local import available_cpus
    from fiftyone_idsynth.quality.metrics import resolve
    from fiftyone_idsynth.quality.score import QualityWorker

    cv2.setNumThreads(1)
    threads = available_cpus()
    worker = QualityWorker(resolve(("defects",))[0])
    worker.setup()
    bare(worker, paths[:32], threads)

    def stage() -> None:
        report = ids.score_quality(dataset, progress=False)
        assert report.processed == len(paths), report

    ways: dict[str, Callable[[], None]] = {
        "stage": stage,
        "bare threads": lambda: bare(worker, paths, threads),
        "plain loop": lambda: bare(worker, paths, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeat):
        dataset = fo.Dataset()
        dataset.add_samples([fo.Sample(filepath=path) for path in paths], progress=False)
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
        dataset.delete()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"score_quality, {len(paths)} photos, {threads} threads, median of {repeat}\n")
    print(f"{'way':<14}{'seconds':>9}{'images/s':>10}   each run")
    for name, median in medians.items():
        runs = " ".join(f"{value:.1f}" for value in seconds[name])
        print(f"{name:<14}{median:>9.2f}{len(paths) / median:>10.1f}   {runs}")
    pairs = list(zip(seconds["stage"], seconds["bare threads"], seconds["plain loop"], strict=True))
    overhead = statistics.median(stage / threads for stage, threads, _ in pairs)
    gain = statistics.median(loop / stage for stage, _, loop in pairs)
    print(f"\nstage / bare threads: {overhead:.2f}    plain loop / stage: {gain:.2f}\n")


def run_twice(folder: Path) -> None:
    from fiftyone_idsynth.recipe import load_recipe

    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("PHOTOS", str(folder / "photos")))
    loaded = load_recipe(recipe)
    print(f"{'recipe step':<16}{'first run, s':>14}{'second run, s':>15}")
    took: list[list[float]] = []
    for _ in range(2):
        took.append([])
        for step in loaded.steps:
            started = time.perf_counter()
            report = step.stage(step.target, **step.params, progress=False)
            took[-1].append(time.perf_counter() - started)
        assert len(took) == 1 or not (report.processed or report.created), report
    for step, first, second in zip(loaded.steps, *took, strict=True):
        print(f"{step.stage.name:<16}{first:>14.2f}{second:>15.2f}")
    print(f"{'all':<16}{sum(took[0]):>14.2f}{sum(took[1]):>15.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="idsynth-engine-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(
        FIFTYONE_DO_NOT_TRACK="true", FIFTYONE_DATABASE_URI=PrivateDatabase(folder / "database").uri,
        FIFTYONE_DATABASE_VALIDATION="false", IDSYNTH_MEDIA_DIR=str(folder / "media"),
    )  # fmt: skip
    paths = make_photos(folder, arguments.photos)
    compare(paths, arguments.repeat)
    run_twice(folder)


if __name__ == "__main__":
    main()
