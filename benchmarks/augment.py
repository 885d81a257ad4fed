"""Images per second of ``augment``, and how true the labels stay.

    python benchmarks/augment.py [--count 400] [--repeat 3] [--transforms 10000] [--shared ../shared]

The first table compares, on the same photographs with the same pipeline, interleaved, medians: OpenCV and
albumentations one image after the other with boxes (the dissertation's way), a bare albumentations loop without labels,
decoding, transforming and encoding alone on as many threads as there are processors, and the stage with labels, files
and database. The second part applies transforms to photographs of coco128 (polygons) and of raccoons (boxes): each
object is carried once with its mask and once as a box alone, and the two are compared.
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

from benchmarks.augmenting import loops, truth
from tests.database import PrivateDatabase


def find_photos(shared: Path, count: int) -> list[loops.Photo]:
    """Photographs of coco128 with the boxes of their objects, in turn until there are enough."""
    found: list[loops.Photo] = []
    for path, polygons in truth.coco_pictures(shared / "data/coco128"):
        boxes = [[*polygon.min(axis=0), *polygon.max(axis=0)] for polygon in polygons]
        found.append((str(path), [[float(v) for v in box] for box in boxes if box[2] > box[0] and box[3] > box[1]]))
    if not found:
        raise SystemExit(f"{shared}: there is no data/coco128 with instance_segmentation/labels: name it by --shared")
    return [found[number % len(found)] for number in range(count)]


def time_stage(photos: list[loops.Photo], preset: str, variants: int, seed: int) -> float:
    """Seconds of the stage on a database."""
    import fiftyone as fo

    import fiftyone_idsynth as ids

    dataset = fo.Dataset("benchmark", persistent=True, overwrite=True)
    try:
        samples = []
        for path, boxes in photos:
            found = [fo.Detection(label="object", bounding_box=[x, y, r - x, b - y]) for x, y, r, b in boxes]
            samples.append(fo.Sample(filepath=path, ground_truth=fo.Detections(detections=found)))
        dataset.add_samples(samples, progress=False)
        started = time.perf_counter()
        report = ids.augment(dataset, preset=preset, variants=variants, seed=seed, progress=False)  # type: ignore[arg-type]
        seconds = time.perf_counter() - started
        assert report.created == variants * len(photos), report
        return seconds
    finally:
        dataset.delete()


def compare(photos: list[loops.Photo], preset: str, repeat: int, folder: Path) -> None:
    """Prints the first table for one preset."""
    from fiftyone_idsynth.augmentation.catalogue import PRESETS
    from fiftyone_idsynth.engine.local import available_cpus

    spec, cpus = PRESETS[preset], available_cpus()
    ways: dict[str, Any] = {
        "OpenCV + albumentations, one by one, boxes": lambda n: loops.opencv_loop(photos, spec, folder, n),
        "bare albumentations loop, no labels": lambda n: loops.bare_loop(photos, spec, folder, n),
        f"decode + transform + encode alone, {cpus} threads": lambda n: loops.work_alone(photos, spec, n, cpus),
        "augment: boxes, files, database": lambda n: time_stage(photos, preset, 1, n),
        "augment, 4 variants of each": lambda n: time_stage(photos[: -(-len(photos) // 4)], preset, 4, n),
    }
    images = dict.fromkeys(ways, len(photos)) | {"augment, 4 variants of each": 4 * -(-len(photos) // 4)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeat + 1):  # the first turn warms up
        for name, way in ways.items():
            taken = way(1000 * turn) / images[name]
            if turn:
                seconds[name].append(taken)
    print(f"\npreset {preset}: {len(photos)} photographs, median of {repeat} interleaved turns")
    print("| way | images/s | s per 100 | times the first |\n| --- | ---: | ---: | ---: |")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    first, _, alone, stage, _ = median.values()
    for name, each in median.items():
        print(f"| {name} | {1 / each:.1f} | {100 * each:.2f} | {first / each:.2f} |")
    print(f"the stage takes {stage / alone:.2f} times decode + transform + encode alone")


def judge_labels(shared: Path, transforms: int) -> None:
    """Prints how true labels stay."""
    from fiftyone_idsynth.augmentation.catalogue import PRESETS

    pictures = {
        "coco128 polygons": truth.coco_pictures(shared / "data/coco128"),
        "raccoon boxes": truth.raccoon_pictures(shared / "data/raccoon"),
    }
    for name, found in pictures.items():
        started = time.perf_counter()
        seen = truth.measure(found, PRESETS["detection"], transforms // len(pictures))
        print("\n".join(truth.lines_of(f"label-safe preset, {name}", seen)))
        print(f"  {time.perf_counter() - started:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=400, help="photographs per turn")
    parser.add_argument("--repeat", type=int, default=3, help="turns")
    parser.add_argument("--transforms", type=int, default=10_000, help="transforms whose labels are judged; 0 for none")
    parser.add_argument(
        "--shared", type=Path, default=Path(__file__).parents[2] / "shared", help="folder with the data"
    )
    parser.add_argument("--presets", nargs="*", default=["detection", "classification"], help="presets that are timed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="idsynth-benchmark-") as root:
        # FiftyOne reads these when it is imported: the benchmark has a database and media of its own.
        server = PrivateDatabase(Path(root) / "database")
        os.environ.update(
            FIFTYONE_DO_NOT_TRACK="true", FIFTYONE_DATABASE_URI=server.uri, FIFTYONE_DATABASE_VALIDATION="false",
            FIFTYONE_DEFAULT_DATASET_DIR=f"{root}/datasets", FIFTYONE_SHOW_PROGRESS_BARS="false",
        )  # fmt: skip
        try:
            print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
            photos = find_photos(options.shared, options.count)
            for preset in options.presets:
                os.environ["IDSYNTH_MEDIA_DIR"] = f"{root}/media-{preset}"
                written = Path(root, preset)
                written.mkdir()
                compare(photos, preset, options.repeat, written)
            if options.transforms:
                judge_labels(options.shared, options.transforms)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
