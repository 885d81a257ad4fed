"""Errors cost one image, a killed run continues to the same result, and memory does not grow with the dataset."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_idsynth import fields
from fiftyone_idsynth.engine import Item, Worker, update_samples
from fiftyone_idsynth.errors import EmptyViewError, StorageError
from fiftyone_idsynth.samples import Rejection, active, reject, restore
from fiftyone_idsynth.stage import BatchSize, Engine, NumWorkers, Progress, Report, Samples, Seed, current_run, stage


class Brightness(Worker):
    fields = ("tags",)

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, items: Sequence[Item]) -> Sequence[Any]:
        time.sleep(float(os.environ.get("SLOW", "0")))
        if any("trap" in item.filepath for item in items):
            raise RuntimeError("this image breaks its batch")
        return [{"quality.score": float(i.image.pixels.mean()) + self.seed} for i in items if i.image is not None]


@stage(label="Measure brightness", group="Test")
def brightness(
    samples: Samples, *, seed: Seed = 0, batch_size: BatchSize = 4, num_workers: NumWorkers = None,
    engine: Engine = "local", progress: Progress = None,
) -> Report:  # fmt: skip
    """Measures brightness."""
    run = current_run()
    fields.declare(run.dataset, "quality")
    update_samples(samples, Brightness(seed), batch_size=batch_size, num_workers=num_workers, engine=engine)
    return run.report()


def fill(dataset: Any, folder: Path, count: int, names: Sequence[str] = ()) -> None:
    paths = [folder / name for name in names] or [folder / f"{number:04d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((8, 8, 3), number % 256, np.uint8)).save(path)
    dataset.add_samples([fo.Sample(filepath=str(path)) for path in paths], progress=False)


def test_one_bad_image_costs_only_itself(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path, 0, ["a.png", "trap.png", "b.png", "c.png", "broken.png"])
    (tmp_path / "broken.png").write_bytes(b"no image")
    report = brightness(dataset, batch_size=5)
    assert dataset.exists("quality.score").count() == 3
    why = {os.path.basename(what): reason for what, reason in report.failed}
    assert why["trap.png"] == "RuntimeError: this image breaks its batch"
    assert why["broken.png"].startswith("not_an_image")
    again = brightness(dataset, batch_size=5)
    assert (again.skipped, again.processed, len(again.failed)) == (3, 2, 2), "only what failed is tried again"
    info = dataset.get_run_info(report.run_key)
    assert info.config.failed == 2
    results = dataset.load_run_results(report.run_key)
    assert len(results.failures) == 2


def test_only_what_changed_is_done_again(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path, 10)
    assert brightness(dataset).processed == 10
    assert brightness(dataset).skipped == 10
    assert brightness(dataset.limit(3)).skipped == 3, "a view of the same samples is up to date too"
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(dataset.first().filepath)
    assert brightness(dataset).processed == 1
    assert dataset.first().quality.score == 200
    dataset.limit(2).tag_samples("seen")
    assert brightness(dataset).processed == 2, "the worker reads tags, and they changed"
    assert brightness(dataset, seed=1).processed == 10, "a parameter changed"
    assert dataset.first().quality.score == 201


def test_progress_callback(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path, 9)
    seen: list[tuple[int, int]] = []
    brightness(dataset, progress=lambda bar: seen.append((bar.iteration, bar.total)))
    assert seen[-1] == (9, 9)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_an_empty_view_and_a_missing_dataset(dataset: Any, tmp_path: Path) -> None:
    with pytest.raises(EmptyViewError, match="has no samples"):
        brightness(dataset)
    fill(dataset, tmp_path, 2)
    with pytest.raises(EmptyViewError, match=r"this view .* is empty \(the dataset has 2 samples\)"):
        brightness(dataset.match_tags("none"))
    with pytest.raises(ValueError, match="there is no dataset 'tset'"):
        brightness("tset")
    with pytest.raises(ValueError, match="no saved view 'x'"):
        brightness(f"{dataset.name}:x")
    with pytest.raises(ValueError, match="no sample tag 'x'"):
        brightness(f"{dataset.name}#x")


def test_running_out_of_disk_stops_the_run_with_a_remedy(dataset: Any, tmp_path: Path, monkeypatch: Any) -> None:
    fill(dataset, tmp_path, 20)

    def full(self: Worker, items: Sequence[Item]) -> Sequence[Any]:
        if any(item.filepath.endswith("0012.png") for item in items):
            raise StorageError("cannot write: the disk is full")
        return [{"quality.score": 1.0} for _ in items]

    monkeypatch.setattr(Brightness, "__call__", full)
    with pytest.raises(StorageError, match="the disk is full"):
        brightness(dataset, num_workers=1)
    done = dataset.exists("quality.score").count()
    assert done >= 12, "what was computed before is saved"
    assert dataset.get_run_info("brightness").config.status.startswith("failed: cannot write")
    monkeypatch.undo()
    assert brightness(dataset).skipped == done


def test_rejecting_and_restoring(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path, 4)
    first, second, *_ = dataset.values("id")
    why = {first: Rejection("blurred", "score 0.1"), second: Rejection("copy", other=first)}
    assert reject(dataset, why, stage="test") == {"blurred": 1, "copy": 1}
    assert reject(dataset, why, stage="test") == {}, "rejecting again changes nothing"
    assert active(dataset).count() == 2
    assert dataset.load_saved_view("rejected").count() == 2
    assert dataset[first].rejected.detail == "score 0.1"
    assert restore(dataset, reasons=["blurred"]) == 1
    assert active(dataset).count() == 3
    assert reject(dataset, why, stage="test") == {}, "a stage never rejects again what somebody restored"
    assert reject(dataset, why, stage="other") == {"blurred": 1}


KILLED = """
import sys, fiftyone as fo
sys.path[:0] = [{tests!r}, {root!r}]
from test_engine import brightness
brightness({name!r}, batch_size=2, num_workers=2)
"""


def test_a_killed_run_continues_to_the_same_dataset(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path, 120)
    undisturbed = dataset.clone()
    brightness(undisturbed)
    tests = Path(__file__).parent
    code = KILLED.format(tests=str(tests), root=str(tests.parents[1]), name=dataset.name)
    environment = {**os.environ, "SLOW": "0.3"}
    for minimum in (1, 20):
        child = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while dataset.exists("quality.score").count() < minimum:
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    left = 120 - dataset.exists("quality.score").count()
    assert left > 0, "it was killed in the middle"
    dataset.reload()
    report = brightness(dataset)
    assert report.processed >= left
    columns = ["filepath", "quality.score", "stages.brightness"]
    assert dataset.values(columns) == undisturbed.values(columns)
    undisturbed.delete()


MEMORY = """
import os, resource, sys, tempfile
sys.path[:0] = [{tests!r}, {root!r}]
import fiftyone as fo, numpy as np
from PIL import Image
from test_engine import brightness
folder = tempfile.mkdtemp(dir={folder!r})
for number in range(20):
    pixels = np.random.default_rng(number).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(pixels).save(f"{{folder}}/{{number}}.jpg")
peaks = []
for count in (300, 300, 3000):
    dataset = fo.Dataset()
    dataset.add_samples([fo.Sample(filepath=f"{{folder}}/{{n % 20}}.jpg") for n in range(count)], progress=False)
    brightness(dataset, progress=False)
    dataset.delete()
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print("PEAKS", *peaks)
"""


def test_memory_stays_flat_as_the_dataset_grows(dataset: Any, tmp_path: Path) -> None:
    tests = Path(__file__).parent
    code = MEMORY.format(tests=str(tests), root=str(tests.parents[1]), folder=str(tmp_path))
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    _, warm, large = map(float, shown.stdout.split("PEAKS")[1].split())
    # 2,700 more decoded images would be 930 MiB.
    assert large - warm < 60, f"{large - warm:.0f} MiB more for 2,700 more images"


GONE = """
import sys, time
sys.path[:0] = [{tests!r}, {root!r}]
import fiftyone as fo
from pathlib import Path
from test_engine import brightness, fill
from fiftyone_idsynth.errors import DatabaseError
dataset = fo.Dataset("gone")
fill(dataset, Path({folder!r}), 60)
print("READY", flush=True)
try:
    brightness(dataset, batch_size=1, num_workers=1)
except DatabaseError as error:
    print("CAUGHT", error)
"""


def test_a_database_that_goes_away_is_one_clear_error(tmp_path: Path) -> None:
    """The server is killed in the middle of a run."""
    from fiftyone_idsynth.doctor import mongod_path
    from tests.database import PrivateDatabase

    if mongod_path() is None:
        pytest.skip("needs a mongod of its own to kill")
    tests = Path(__file__).parent
    (tmp_path / "photos").mkdir()
    server = PrivateDatabase(tmp_path / "database")
    code = GONE.format(tests=str(tests), root=str(tests.parents[1]), folder=str(tmp_path / "photos"))
    environment = {**os.environ, "SLOW": "0.5", "FIFTYONE_DATABASE_URI": f"{server.uri}/?serverSelectionTimeoutMS=3000"}
    child = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "READY\n"
    time.sleep(3)
    server.process.kill()
    shown, _ = child.communicate(timeout=300)
    assert "CAUGHT the database went away" in shown
    assert "start the same command again: it continues" in shown


def test_ray_gives_the_same_values(dataset: Any, photos: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    import fiftyone_idsynth as ids

    ids.ingest(dataset, photos / "backgrounds")
    other = dataset.clone()
    local = ids.score_quality(dataset)
    on_ray = ids.score_quality(other, engine="ray", num_workers=2)
    assert on_ray.processed == local.processed == 19
    assert dataset.values("quality") == other.values("quality")
    assert ids.score_quality(other).skipped == 19, "it does not matter where it ran"
    other.delete()
