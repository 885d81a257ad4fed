"""How long ``send_to_label_studio`` and ``pull_from_label_studio`` take beside the server's own bare calls.

    python benchmarks/label_studio.py [--count 2500] [--repeat 3] [--quick]

A Label Studio of its own is started (``make label-studio``, or ``IDSYNTH_LABEL_STUDIO``): SQLite, loopback. Bare calls
carry the same tasks, with the same predictions or answers, as JSON that is ready before the clock starts, and nothing
is checked: for the push ``POST /api/projects/ID/import``, all tasks at once and in the chunks that ours takes; for the
pull ``GET /api/projects/ID/export`` of all tasks, decoded. Ours is the whole stage: reading the samples and what a
model says of them, checking files and token, making the project, letting the server serve the images, reading keys,
importing, counting; then reading, merging and writing the answers into FiftyOne, with tags, agreement and the run's
record.

Repetitions are interleaved, each with a new dataset and projects of its own; the ratio is the median of the ratios of
ours and the bare call of the same repetition.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.database import PrivateDatabase
from tests.label_studio_server import LabelStudioServer

CLASSES = ("cat", "dog", "bird")
CHUNK = 1000
BOUND = 1.5


def make_dataset(folder: Path, count: int) -> Any:
    """Samples with a class by a model each; their images are small files of their own."""
    import fiftyone as fo
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(51)
    samples = []
    for n in range(count):
        path = folder / f"{n}.jpg"
        Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(path)
        shares = rng.dirichlet(np.ones(len(CLASSES)))
        label = fo.Classification(
            label=CLASSES[int(shares.argmax())], confidence=float(shares.max()), model="org/model",
            scores=dict(zip(CLASSES, map(float, shares), strict=True)),
        )  # fmt: skip
        size = fo.ImageMetadata(width=32, height=24)
        samples.append(fo.Sample(filepath=str(path), metadata=size, classification=label))
    dataset = fo.Dataset(f"benchmark-{uuid.uuid4().hex[:8]}")
    dataset.add_samples(samples, progress=False)
    return dataset


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    found = function()
    return time.perf_counter() - began, found


def measure(root: Path, count: int) -> dict[str, float]:
    """Seconds of one repetition."""
    import fiftyone_idsynth as ids
    from fiftyone_idsynth.learning.label_studio.client import Server
    from fiftyone_idsynth.learning.label_studio.keys import key_of

    server = Server()
    dataset = make_dataset(root / uuid.uuid4().hex[:8], count)
    seconds: dict[str, float] = {}
    seconds["push"], sent = timed(lambda: ids.send_to_label_studio(dataset, progress=False))
    project = server.project_of(dataset)
    assert project is not None
    assert sent.outputs["tasks in the project"] == count
    said = dict(zip(*dataset.values(["id", "classification"]), strict=True))
    tasks = [
        {"data": task["data"], "predictions": predicted(said[key.sample_id])}
        for task in server.tasks(project.id, key_only=True)
        if (key := key_of(task))
    ]
    for name, size in (("import", count), ("import in chunks", CHUNK)):
        bare = server.create_project(f"{name} {uuid.uuid4().hex[:6]}", project.config_xml)
        chunks = [tasks[start : start + size] for start in range(0, count, size)]
        path = f"/api/projects/{bare.id}/import"
        seconds[name], _ = timed(lambda chunks=chunks, path=path: [server.post(path, chunk) for chunk in chunks])
        assert server.count(bare.id) == count
    seconds["push again"], _ = timed(lambda: ids.send_to_label_studio(dataset, progress=False))

    answered = server.create_project(f"answered {uuid.uuid4().hex[:6]}", project.config_xml)
    answers = [{"data": task["data"], "annotations": answer(n)} for n, task in enumerate(tasks)]
    for start in range(0, count, CHUNK):
        server.import_tasks(answered.id, answers[start : start + CHUNK])
    path = f"/api/projects/{answered.id}/export"
    seconds["export"], found = timed(lambda: server.get(path, exportType="JSON", download_all_tasks="true"))
    assert len(found) == count
    for name in ("pull", "pull again"):
        seconds[name], _ = timed(lambda: ids.pull_from_label_studio(dataset, project=answered.title, progress=False))
        assert dataset.exists("ground_truth").count() == count
    dataset.delete()
    return seconds


def predicted(label: Any) -> list[dict[str, Any]]:
    """What a model says, as ours sends it."""
    result = {"id": "0", "from_name": "ground_truth", "to_name": "image", "type": "choices"}
    value = {"value": {"choices": [label.label]}}
    return [{"model_version": label.model, "score": label.confidence, "result": [{**result, **value}]}]


def answer(n: int) -> list[dict[str, Any]]:
    """What somebody answered."""
    value = {"choices": [CLASSES[n % len(CLASSES)]]}
    return [{"result": [{"from_name": "ground_truth", "to_name": "image", "type": "choices", "value": value}]}]


def report(rows: list[dict[str, float]], count: int) -> bool:
    """Prints the table and returns whether the bound is kept."""
    kept = True
    print(f"\n{count} tasks, medians of {len(rows)}:\n")
    print("| call | seconds | tasks/s | ours / bare |\n|---|---:|---:|---:|")
    for name, bare in (
        ("import", None), ("import in chunks", None), ("push", "import in chunks"), ("push again", None),
        ("export", None), ("pull", "export"), ("pull again", None),
    ):  # fmt: skip
        took = statistics.median(row[name] for row in rows)
        shown = ""
        if bare is not None:
            ratio = statistics.median(row[name] / row[bare] for row in rows)
            kept &= ratio <= BOUND
            shown = f"{ratio:.2f}"
        print(f"| {name} | {took:.2f} | {count / took:.0f} | {shown} |")
    whole = statistics.median(row["push"] / row["import"] for row in rows)
    print(
        f"\nPush beside one import of all tasks at once: {whole:.2f}. At most {BOUND}: {'kept' if kept else 'MISSED'}"
    )
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2500)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="once, with 50 tasks: shows that it runs")
    parser.add_argument("--json", type=Path, help="write the seconds of all repetitions here")
    given = parser.parse_args()
    count, repeat = (50, 1) if given.quick else (given.count, given.repeat)
    with tempfile.TemporaryDirectory(prefix="idsynth-benchmark-") as folder:
        database = PrivateDatabase(Path(folder) / "database")
        try:
            with LabelStudioServer(Path(folder) / "server") as server:
                os.environ.update(
                    FIFTYONE_DATABASE_URI=database.uri,
                    FIFTYONE_DO_NOT_TRACK="true",
                    IDSYNTH_MEDIA_DIR=str(Path(folder) / "media"),
                    LABEL_STUDIO_URL=server.url,
                    LABEL_STUDIO_API_KEY=server.token,
                )
                print(f"{platform.machine()}, {os.cpu_count()} processors, load at the start {os.getloadavg()[0]:.1f}")
                measure(server.document_root, 50)  # the server's first requests are slow, and so are our imports
                rows = [measure(server.document_root, count) for _ in range(repeat)]
        finally:
            database.stop()
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    kept = report(rows, count)
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    return 0 if kept or given.quick else 1


if __name__ == "__main__":
    sys.exit(main())
