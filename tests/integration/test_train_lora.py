"""Training a LoRA from a dataset: it learns what it is shown, goes on after a kill, and refuses with advice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import FieldError, ParameterError, UsageError
from fiftyone_idsynth.models.loading import find_model, release
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Generator, Sampling, Wanted
from tests.models.tiny_diffusion import model
from tests.zoo import judge
from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    release()


def add(dataset: Any, folder: Path, pictures: Sequence[np.ndarray], captions: Sequence[str], tag: str = "new") -> None:
    """Adds RGB pictures with their captions to a dataset."""
    samples = []
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        path = folder / f"{tag}-{number:03d}.png"
        cv2.imwrite(str(path), picture[..., ::-1])
        samples.append(fo.Sample(filepath=str(path), caption=caption or None, tags=[tag]))
    dataset.add_samples(samples, progress=False)


@pytest.fixture
def noise(dataset: Any, tmp_path: Path) -> Any:
    """Eight captioned pictures of three proportions."""
    rng = np.random.default_rng(0)
    sizes = [(64, 64)] * 4 + [(64, 96)] * 2 + [(100, 70)] * 2
    add(dataset, tmp_path, [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes], ["a thing"] * 8)
    return dataset


def train(samples: Any, path: Path, **options: Any) -> Any:
    """A short training of a small model with random weights."""
    quick: dict[str, Any] = {
        "model": str(model("sd")), "path": path, "trigger_word": "zorb", "steps": 6, "rank": 2, "train_batch_size": 2,
        "learning_rate": 0.01, "device": "cpu", "progress": False,
    }  # fmt: skip
    return ids.train_lora(samples, **{**quick, **options})


def painted(prompt: str, count: int, loras: tuple[tuple[str, float], ...]) -> list[np.ndarray]:
    generator = find_model(Generator, str(MODELS / "sd"), Options(device="cpu", dtype="float32"))  # type: ignore[type-abstract]
    wanted = [Wanted(prompt, 700 + number) for number in range(count)]
    pictures = generator.paint(wanted, Sampling(64, 64, steps=15, guidance=4.0, loras=loras))
    return [picture for picture in pictures if isinstance(picture, np.ndarray)]


def test_a_new_shape_is_learnt_by_a_word_that_meant_nothing(dataset: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    stars = [judge.star(rng) for _ in range(32)]
    add(dataset, tmp_path, [star.image for star in stars], [star.caption.replace("star", "zorb") for star in stars])
    known = world.scenes(900, 48, 1)
    captions = [world.prompt(scene, rng) for scene in known]
    add(dataset, tmp_path, [scene.image for scene in known], captions, tag="known")
    report = ids.train_lora(
        dataset.match_tags("new"), regularization=dataset.match_tags("known"), model=str(MODELS / "sd"),
        trigger_word="zorb", path=tmp_path / "lora", steps=250, train_batch_size=8, learning_rate=5e-3,
        train_text_encoder=True, text_learning_rate=5e-3, device="cpu", progress=False,
    )  # fmt: skip
    assert (report.processed, report.outputs["regularization_images"]) == (80, 48)
    lora = ((report.outputs["lora"], 1.0),)

    # A star fills little of its convex hull; every shape that the model knew fills nearly all of it.
    assert solidity(painted("a large red zorb on a plain background", 6, ())) > 0.9
    for prompt in ("a large red zorb on a plain background", "a large blue zorb on stripes"):
        pictures = painted(prompt, 6, lora)
        assert solidity(pictures) < 0.83
        assert sum(judge.colour_of(picture) == prompt.split()[2] for picture in pictures) >= 5
    for colour, shape in (("red", "circle"), ("blue", "square")):
        pictures = painted(f"a large {colour} {shape} on a plain background", 6, lora)
        assert solidity(pictures) > 0.9
        assert sum(judge.colour_of(picture) == colour for picture in pictures) >= 5
        assert sum(seen.shape == shape for seen in judge.see(pictures)) >= 5


def solidity(pictures: Sequence[np.ndarray]) -> float:
    """The median share of its convex hull that the shape in a picture fills."""
    return float(np.median([judge.solidity(judge.cover(picture)) for picture in pictures]))


def test_what_a_training_leaves_behind(noise: Any, tmp_path: Path) -> None:
    rejected = noise.last()
    rejected.tags.append("rejected")
    rejected.save()
    before = noise.values("last_modified_at")
    folder = tmp_path / "lora"
    report = train(
        noise, folder, checkpoint_every=4, validation_prompts=["zorb", "a thing"], validation_every=3, epochs=None
    )
    assert report.processed == 7
    assert report.outputs["images_per_size"] == {"56x72": 1, "64x64": 4, "80x48": 2}
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == [
        "loss.csv", "loss.png", "pytorch_lora_weights.safetensors", "steps/zorb-000004.safetensors",
        "steps/zorb-000006.safetensors", "training.json", "validation/000000-1.png", "validation/000000-2.png",
        "validation/000003-1.png", "validation/000003-2.png", "validation/000006-1.png", "validation/000006-2.png",
        "zorb.safetensors",
    ]  # fmt: skip
    assert len((folder / "loss.csv").read_text().splitlines()) == 1 + 6
    chosen = noise.match_tags("rejected", bool=False).values("id")
    record = json.loads((folder / "training.json").read_text())
    assert sorted(record["images"]) == sorted(chosen)
    assert {image["text"] for image in record["images"].values()} == {"zorb, a thing"}
    results = noise.load_run_results(report.run_key)
    assert sorted(results.remembered["samples"]) == sorted(chosen)
    assert noise.get_run_info(report.run_key).config.models == {str(model("sd")): record["parameters"]["revision"]}
    assert noise.values("last_modified_at") == before

    finished = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = train(noise, folder, checkpoint_every=4, validation_prompts=["zorb", "a thing"], validation_every=3)
    assert (again.processed, again.skipped) == (0, 7)
    assert again.outputs == report.outputs
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == finished


def test_a_training_that_was_killed_ends_as_if_it_had_not_been(noise: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 40, "train_text_encoder": True, "checkpoint_every": 5}
    whole = train(noise, tmp_path / "whole", **options)
    folder = tmp_path / "killed"
    program = textwrap.dedent(
        f"""
        import torch
        torch.set_num_threads(1)
        import fiftyone_idsynth as ids
        ids.train_lora({noise.name!r}, path={str(folder)!r}, model={str(model("sd"))!r}, trigger_word="zorb", rank=2,
                       train_batch_size=2, learning_rate=0.01, device="cpu", progress=False, **{options!r})
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=os.environ)
    deadline = time.monotonic() + 240
    while not (folder / "steps" / "zorb-000010.safetensors").exists() and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "zorb.safetensors").exists()
    report = train(noise, folder, **options)
    assert report.outputs["steps"] == 40
    for file in ("zorb.safetensors", "pytorch_lora_weights.safetensors", "steps/zorb-000025.safetensors"):
        first, second = load_file(tmp_path / "whole" / file), load_file(folder / file)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert (folder / "loss.csv").read_text() == (tmp_path / "whole" / "loss.csv").read_text()
    assert report.outputs["final_loss"] == whole.outputs["final_loss"]
    assert not list(folder.rglob(".partial-*"))
    assert not (folder / "cache").exists()


def test_the_folder_of_another_training_is_left_alone(noise: Any, tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    train(noise, folder)
    finished = (folder / "zorb.safetensors").read_bytes()
    with pytest.raises(ParameterError, match=r"another LoRA \(alpha=2, not 3; rank=2, not 3\).*another name or path"):
        train(noise, folder, rank=3)
    with pytest.raises(ParameterError, match="1 of its 8 are missing now"):
        train(noise.limit(7), folder)
    sample = noise.first()
    sample["caption"] = "something else"
    sample.save()
    with pytest.raises(ParameterError, match="1 have changed"):
        train(noise, folder)
    assert (folder / "zorb.safetensors").read_bytes() == finished

    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(ParameterError, match="holds other files"):
        train(noise, tmp_path / "letters")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["a.txt"]


def test_too_few_and_too_small_images_are_refused_with_advice(noise: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"3 images are too few: from fewer than 5 \(min_images\).*Add images"):
        train(noise.limit(3), tmp_path / "few")
    with pytest.raises(ParameterError, match=r"8 of 8 images .* too small.*With resolution=64 8 of them"):
        train(noise, tmp_path / "small", resolution=256)
    with pytest.raises(ParameterError, match="must divide by 8 .*: 64 or 72 will do"):
        train(noise, tmp_path / "odd", resolution=70)
    assert not list(tmp_path.glob("few")) + list(tmp_path.glob("small")) + list(tmp_path.glob("odd"))
    report = train(noise, tmp_path / "some", resolution=88, max_upscale=1.2, min_images=2)
    assert report.rejected == {"too_small": 4}
    assert any("4 of 8 images (samples) are left out" in note for note in report.notes)


def test_images_without_a_text_need_a_trigger_word(noise: Any, tmp_path: Path) -> None:
    noise.clear_sample_field("caption")
    with pytest.raises(FieldError, match="8 of 8 images have no text"):
        train(noise, tmp_path / "lora", trigger_word="", name="things")
    with pytest.raises(FieldError, match="no sample field of texts by that name"):
        train(noise, tmp_path / "lora", text_field="words")
    report = train(noise, tmp_path / "lora")
    record = json.loads((tmp_path / "lora" / "training.json").read_text())
    assert {image["text"] for image in record["images"].values()} == {"zorb"}
    assert report.outputs["lora"].endswith("zorb.safetensors")


def test_a_broken_image_costs_only_itself(noise: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"nothing" * 20)
    noise.add_sample(fo.Sample(filepath=str(tmp_path / "broken.png"), caption="nothing"))
    report = train(noise, tmp_path / "lora")
    assert report.processed == 8
    assert [Path(what).name for what, _ in report.failed] == ["broken.png"]


def test_parameters_that_contradict_each_other_or_cannot_be_names(noise: Any, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="give one of them"):
        train(noise, tmp_path / "lora", epochs=3)
    with pytest.raises(ParameterError, match="part of file names"):
        train(noise, tmp_path / "lora", name="../lora")
    report = train(noise, tmp_path / "lora", steps=None, epochs=3, gradient_accumulation_steps=2)
    assert report.outputs["steps"] == 6  # four batches an epoch, two of them to a step


def test_texts_that_are_too_long_are_said(noise: Any, tmp_path: Path) -> None:
    sample = noise.first()
    sample["caption"] = "a thing " * 40
    sample.save()
    report = train(noise, tmp_path / "lora", steps=1)
    assert any("1 of 2 texts are longer" in note for note in report.notes)
