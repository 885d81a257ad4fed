"""What made images are worth to a model, as ``measure_usefulness`` finds it, and how sure that is.

    python benchmarks/usefulness.py [--flowers FOLDER --embedding FILE.onnx] [--seeds 10] [--repeats 5] [--quick]

Handwritten digits of scikit-learn (8 x 8 pixels, which are their embeddings; linear model): 50 real ones are labelled,
600 test. The part is four made copies of each: turned by up to 10 degrees (``turned``), shifted by up to a pixel, which
is an eighth of the picture (``shifted``), or turned and with a wrong class (``wrong``); or 50 more real ones
(``real``). Over several draws of the 50: the mean gain in accuracy, and in how many draws the 95 % interval shows a
gain, a loss, or neither.

Shapes drawn in code (a small vision transformer of random weights, which learns their colours): 12 pictures on all
backgrounds are labelled, 80 test; the part are 60 on plain ones alone, as compositions would be. One draw, and as many
seeds as ``--repeats`` says.

Flowers (photographs in a folder for each class; needs an embedding in ONNX that takes 1 x 224 x 224 x 3 bytes): eight
of each class are labelled, the rest test; the part is three copies of each, mirrored, cropped and in other light.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.database import PrivateDatabase


def measure(name: str, rows: Sequence[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """Makes a dataset of samples with ``role`` real, part or test, and measures the part."""
    import fiftyone as fo

    import fiftyone_idsynth as ids

    dataset = fo.Dataset()
    dataset.add_samples(
        [
            fo.Sample(
                filepath=row["filepath"],
                ground_truth=fo.Classification(label=row["label"]),
                tags=[row["role"]],
                **({"embedding": row["embedding"].astype(np.float32)} if "embedding" in row else {}),
            )
            for row in rows
        ],
        progress=False,
    )
    try:
        report = ids.measure_usefulness(dataset, part=dataset.match_tags("part"), progress=False, **options)
    finally:
        dataset.delete()
    return dict(report.outputs)


def digits(kind: str, seed: int) -> list[dict[str, Any]]:
    """50 real digits, a part, and 600 to test with."""
    from scipy.ndimage import rotate, shift
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    rows = []

    def add(role: str, pixels: np.ndarray, label: int) -> None:
        place = f"/nowhere/{role}-{len(rows):04}.png"
        rows.append({"filepath": place, "label": str(label), "role": role, "embedding": pixels.ravel() / 16})

    for number in order[:50]:
        add("real", images[number], classes[number])
        for _ in range(4 if kind != "real" else 0):
            copy = images[number].reshape(8, 8)
            if kind == "shifted":
                copy = shift(copy, rng.integers(-1, 2, 2), order=0)
            else:
                copy = np.clip(rotate(copy, rng.uniform(-10, 10), reshape=False, order=1), 0, 16)
            wrong = rng.integers(1, 10) if kind == "wrong" else 0
            add("part", copy, (classes[number] + wrong) % 10)
    for number in order[50:100] if kind == "real" else ():
        add("part", images[number], classes[number])
    for number in order[100:700]:
        add("test", images[number], classes[number])
    return rows


def shapes(folder: Path) -> list[dict[str, Any]]:
    """Pictures of one large shape, told apart by its colour."""
    import cv2

    from tests.zoo import shapes_world as world

    rows = []
    for role, count, background in (("real", 12, None), ("part", 60, "plain"), ("test", 80, None)):
        for number in range(count):
            colour = list(world.COLOURS)[number % len(world.COLOURS)]
            start = {"real": 0, "part": 10_000, "test": 20_000}[role]
            scene = world.random_scene(start + number, 1, size="large", background=background, colour=colour)
            path = folder / f"{role}-{number:03}.png"
            cv2.imwrite(str(path), scene.image[..., ::-1])
            rows.append({"filepath": str(path), "label": colour, "role": role})
    return rows


def flowers(folder: Path, embedding: Path, seed: int) -> list[dict[str, Any]]:
    """Photographs and altered copies of some, with embeddings."""
    import cv2
    import onnxruntime

    from fiftyone_idsynth.media import read_image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(embedding), options)
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []

    def add(role: str, path: Path, pixels: np.ndarray) -> None:
        small = cv2.resize(pixels, (224, 224), interpolation=cv2.INTER_AREA)
        (found,) = session.run(None, {session.get_inputs()[0].name: small[None]})
        place = str(path.with_name(f"copy-{len(rows)}-{path.name}") if role == "part" else path)
        rows.append({"filepath": place, "label": path.parent.name, "role": role, "embedding": found.ravel()})

    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in kind.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        for number, index in enumerate(rng.permutation(len(files))):
            pixels = read_image(files[index]).pixels
            add("real" if number < 8 else "test", files[index], pixels)
            for _ in range(3 if number < 8 else 0):
                add("part", files[index], altered(pixels, rng))
    return rows


def altered(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photograph mirrored by chance, cropped to 60 to 100 % of its sides, and in other light."""
    height, width = (round(side * rng.uniform(0.6, 1)) for side in pixels.shape[:2])
    top, left = (
        int(rng.integers(0, whole - side + 1)) for whole, side in zip(pixels.shape, (height, width), strict=False)
    )
    part = pixels[top : top + height, left : left + width]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    return np.clip(part * rng.uniform(0.7, 1.3), 0, 255).astype(np.uint8)


def show(name: str, found: Sequence[dict[str, Any]], started: float) -> None:
    """Prints a row."""
    told = Counter("neither" if one["includes_zero"] else "gain" if one["gain"] > 0 else "loss" for one in found)
    means = {key: float(np.mean([one[key] for one in found])) for key in ("without", "with", "gain")}
    low, high = np.mean([one["interval"] for one in found], axis=0)
    print(
        f"| {name} | {means['without']:.3f} | {means['with']:.3f} | {means['gain']:+.3f} | {low:+.3f} to {high:+.3f} | "
        f"{told['gain']} / {told['neither']} / {told['loss']} of {len(found)} | {time.monotonic() - started:.0f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flowers", type=Path, help="a folder of photographs, with a folder for each class")
    parser.add_argument("--embedding", type=Path, help="an ONNX file that makes embeddings")
    parser.add_argument("--seeds", type=int, default=10, help="draws of the labelled images")
    parser.add_argument("--repeats", type=int, default=5, help="seeds that the vision transformer is trained with")
    parser.add_argument("--quick", action="store_true", help="two draws, two seeds, few epochs")
    args = parser.parse_args()
    seeds, repeats = (2, 2) if args.quick else (args.seeds, args.repeats)
    with tempfile.TemporaryDirectory() as root:
        server = PrivateDatabase(Path(root) / "database")
        # FiftyOne reads these when it is imported: the benchmark has a database and media of its own.
        os.environ.update(
            FIFTYONE_DO_NOT_TRACK="true", FIFTYONE_DATABASE_URI=server.uri, FIFTYONE_DATABASE_VALIDATION="false",
            IDSYNTH_MEDIA_DIR=str(Path(root) / "media"), FIFTYONE_SHOW_PROGRESS_BARS="false",
        )  # fmt: skip
        try:
            run(args, seeds, repeats, Path(root))
        finally:
            server.stop()


def run(args: argparse.Namespace, seeds: int, repeats: int, root: Path) -> None:
    """Measures and prints all rows."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors")
    print("| part | accuracy without | with | gain | mean 95 % interval | gain / neither / loss shown | s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for kind in ("turned", "shifted", "wrong", "real"):
        started = time.monotonic()
        show(f"digits, {kind}", [measure(kind, digits(kind, seed)) for seed in range(seeds)], started)
    if args.flowers and args.embedding:
        started = time.monotonic()
        found = [measure("flowers", flowers(args.flowers, args.embedding, seed)) for seed in range(min(seeds, 5))]
        show("flowers, altered copies", found, started)
    from tests.models.tiny import vit_classifier

    started = time.monotonic()
    base = vit_classifier(root / "base")
    pictures = root / "pictures"
    pictures.mkdir()
    found = [
        measure(
            "shapes", shapes(pictures), model=str(base), repeats=repeats, epochs=2 if args.quick else 20,
            learning_rate=1e-3, patience=30, device="cpu",
        )
    ]  # fmt: skip
    show(f"shapes, plain backgrounds ({repeats} seeds)", found, started)


if __name__ == "__main__":
    main()
