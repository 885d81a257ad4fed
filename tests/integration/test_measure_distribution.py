"""Distributions of datasets: against a reference, across splits, by class, by annotators, and of enhanced images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth import fields
from fiftyone_idsynth.errors import EmptyViewError, FieldError, ParameterError, UsageError
from fiftyone_idsynth.quality.distribution.record import INFO
from tests.integration.shapes import broken_image, fill, scenes_of_one, trained


def picture(seed: int, side: int = 48) -> np.ndarray:
    """A picture of coarse noise: no two alike."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def add(
    dataset: Any, folder: Path, vectors: Sequence[Any] | None = None, count: int = 0, tags: Sequence[str] = (),
    first: int = 0, **values: Any,
) -> list[str]:  # fmt: skip
    """Adds pictures, with embeddings where there are vectors; returns their ids."""
    fields.declare(dataset, "source", "lineage")
    samples = []
    for number in range(len(vectors) if vectors is not None else count):
        path = folder / f"{first + number}.png"
        cv2.imwrite(str(path), picture(first + number))
        more = {"embedding": np.asarray(vectors[number], np.float32)} if vectors is not None else {}
        samples.append(fo.Sample(filepath=str(path), tags=list(tags), **more, **values))
    if vectors is not None and not dataset.has_field("embedding"):
        dataset.add_sample_field("embedding", fo.VectorField)
    return list(dataset.add_samples(samples, progress=False))


def normal(count: int, seed: int, shift: float = 0.0, dimensions: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32) + shift


def measure(samples: Any, tmp_path: Path, **params: Any) -> Any:
    params = {"report_path": tmp_path / "report.html", "progress": False, **params}
    return ids.measure_distribution(samples, **params)


@pytest.fixture
def two_sides(dataset: Any, tmp_path: Path) -> Any:
    """60 real images, and 50 generated ones of which the last ten copy the first ten real ones."""
    real = normal(60, 1)
    real_ids = add(dataset, tmp_path, real, tags=("real",))
    add(dataset, tmp_path, normal(40, 2), tags=("generated",), first=60)
    lineage = fo.DynamicEmbeddedDocument(parents=real_ids[:1], stage="restyle")
    add(dataset, tmp_path, real[:1] + 1e-4, tags=("generated",), first=100, lineage=lineage)
    add(dataset, tmp_path, real[1:10] + 1e-4, tags=("generated",), first=101)
    return dataset


# -- against a reference ----------------------------------------------------------------------------------------------


def test_generated_images_are_compared_with_real_ones(two_sides: Any, tmp_path: Path) -> None:
    report = measure(f"{two_sides.name}#generated", tmp_path, reference=f"{two_sides.name}#real")
    out = report.outputs
    own, real = (np.array(two_sides.match_tags(tag).values("embedding"), float) for tag in ("generated", "real"))
    from scipy.linalg import sqrtm

    s1, s2 = np.cov(own.T), np.cov(real.T)
    expected = ((own.mean(0) - real.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(sqrtm(s1 @ s2)))
    assert out["frechet_distance"]["value"] == pytest.approx(expected, rel=1e-4)
    assert out["frechet_distance"]["low"] < expected < out["frechet_distance"]["high"]
    assert out["train_copies"]["value"] == pytest.approx(0.2, abs=0.03)
    assert set(two_sides.match_tags("generated").values("id")[-10:]) <= set(out["copies"])
    assert out["vendi_score"] <= 8
    assert "1 of the" in " ".join(report.notes)  # one copy was made from what it resembles
    assert "fid" not in out
    assert "inception_score: it is defined with InceptionV3" in " ".join(out["not measured"])
    assert {"precision", "recall", "density", "coverage", "authenticity", "vendi_ratio"} <= set(out)

    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count('class="plotly-graph-div"') == 2
    assert "Fréchet distance on embedding" in page
    assert "data:image/jpeg;base64," in page
    assert len(report.charts) == 2


def test_measurements_are_kept_and_compared(two_sides: Any, tmp_path: Path) -> None:
    view, real = two_sides.match_tags("generated"), two_sides.match_tags("real")
    few = ("frechet_distance", "kernel_distance")
    before = measure(view, tmp_path, reference=real, metrics=few, name="before")
    measure(view, tmp_path, reference=real, metrics=few, name="before")  # nothing new: not kept twice
    copies = before.outputs["copies"]
    assert copies == []
    after = measure(view.limit(40), tmp_path, reference=real, metrics=few, name="after")
    two_sides.reload()
    kept = two_sides.info[INFO]
    assert [entry["name"] for entry in kept] == ["before", "after"]
    assert kept[0]["figures"]["kernel_distance"]["value"] == before.outputs["kernel_distance"]["value"]
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Measurements so far" in page
    assert "before" in page
    assert "measurements so far" in after.charts[-1]["title"]


def test_images_in_both_count_as_reference_only(two_sides: Any, tmp_path: Path) -> None:
    real = two_sides.match_tags("real")
    report = measure(two_sides, tmp_path, reference=real, metrics=("train_copies",))
    assert "60 images are in both" in " ".join(report.notes)
    assert report.outputs["train_copies"]["value"] == pytest.approx(0.2, abs=0.03)


def test_few_images_get_a_warning(dataset: Any, tmp_path: Path) -> None:
    add(dataset, tmp_path, normal(12, 1, dimensions=32), tags=("a",))
    add(dataset, tmp_path, normal(12, 2, dimensions=32), tags=("b",), first=12)
    report = measure(dataset.match_tags("a"), tmp_path, reference=dataset.match_tags("b"))
    assert "12 images are fewer than the 32 dimensions" in " ".join(report.notes)


def test_rejected_samples_do_not_count(two_sides: Any, tmp_path: Path) -> None:
    generated = two_sides.match_tags("generated")
    generated.skip(40).tag_samples("rejected")
    report = measure(generated, tmp_path, reference=two_sides.match_tags("real"), metrics=("train_copies",))
    assert report.outputs["train_copies"]["value"] <= 0.05


def test_a_model_computes_the_embeddings_of_both_datasets(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path, scenes_of_one(12))
    broken = broken_image(tmp_path)
    dataset.add_sample(fo.Sample(filepath=broken))
    real = fo.Dataset(persistent=True)
    try:
        other = tmp_path / "real"
        other.mkdir()
        fill(real, other, scenes_of_one(12, seed=300))
        model = trained("clip")
        report = measure(dataset, tmp_path, reference=real, model=model, batch_size=8)
        assert [what for what, _ in report.failed] == [broken]
        assert "1 images of the samples have no embedding" in " ".join(report.notes)
        assert {"frechet_distance", "kernel_distance", "vendi_score"} <= set(report.outputs)
        assert f"on {model}" in (tmp_path / "report.html").read_text("utf-8")
        again = measure(dataset, tmp_path, reference=real, model=model)
        assert again.skipped == 24
        assert again.outputs["kernel_distance"] == report.outputs["kernel_distance"]

        plain = fo.Dataset(persistent=True)
        try:
            folder = tmp_path / "plain"
            folder.mkdir()
            plain.add_sample_field("embedding", fo.VectorField, info={"model": "another", "revision": "1"})
            add(plain, folder, normal(12, 1, dimensions=len(real.first().embedding)))
            with pytest.raises(FieldError, match=r"those of the reference of another 1: compute both with one model"):
                measure(dataset, tmp_path, reference=plain)
        finally:
            plain.delete()
    finally:
        real.delete()


# -- errors -----------------------------------------------------------------------------------------------------------


def test_wrong_input_is_refused_before_anything_is_written(two_sides: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("IDSYNTH_INCEPTION_WEIGHTS", raising=False)
    view, real = two_sides.match_tags("generated"), two_sides.match_tags("real")
    with pytest.raises(EmptyViewError, match="samples: this view of .* is empty"):
        measure(two_sides.match_tags("none"), tmp_path)
    with pytest.raises(EmptyViewError, match="reference: this view of .* is empty"):
        measure(view, tmp_path, reference=two_sides.match_tags("none"))
    with pytest.raises(ParameterError, match="these are the samples themselves"):
        measure(real, tmp_path, reference=two_sides.match_tags("real"))
    with pytest.raises(UsageError, match=r"fid: defined with InceptionV3.*weights-inception-2015-12-05-6726825d.pth"):
        measure(view, tmp_path, reference=real, metrics=("fid",))
    with pytest.raises(UsageError, match=r"inception_weights: there is no file .*missing.pth.* Put weights-inception"):
        measure(view, tmp_path, reference=real, inception_weights=tmp_path / "missing.pth")
    with pytest.raises(UsageError, match="needs a reference"):
        measure(view, tmp_path, metrics=("kernel_distance",))
    with pytest.raises(UsageError, match="3 images of the samples have embeddings, and 7 are needed"):
        measure(view.limit(3), tmp_path, reference=real, metrics=("precision_recall",))
    with pytest.raises(ParameterError, match="there is no such field"):
        measure(view, tmp_path, embeddings_field="clip")
    with pytest.raises(UsageError, match="leave out the model"):
        measure(view, tmp_path, reference=real, metrics=("kid",), model="openai/clip-vit-base-patch32")
    with pytest.raises(UsageError, match="run split first"):
        measure(view, tmp_path, metrics=("leakage",))
    other = tmp_path / "notes.html"
    other.write_text("<p>mine</p>")
    with pytest.raises(UsageError, match=r"notes.html is another file"):
        measure(view, tmp_path, report_path=other)
    assert other.read_text() == "<p>mine</p>"
    two_sides.reload()
    assert INFO not in two_sides.info
    assert not two_sides.list_runs()


def test_embeddings_of_different_sizes_are_refused(dataset: Any, tmp_path: Path) -> None:
    real = fo.Dataset(persistent=True)
    try:
        add(dataset, tmp_path, normal(12, 1))
        folder = tmp_path / "real"
        folder.mkdir()
        add(real, folder, normal(12, 2, dimensions=6))
        with pytest.raises(
            FieldError, match="embeddings have 8 numbers, those of the reference 6, from different models"
        ):
            measure(dataset, tmp_path, reference=real)
    finally:
        real.delete()


def test_nothing_to_measure_says_what_would_help(dataset: Any, tmp_path: Path) -> None:
    add(dataset, tmp_path, count=3)
    with pytest.raises(UsageError, match=r"nothing can be measured. .*openai/clip-vit-base-patch32"):
        measure(dataset, tmp_path)
    assert not (tmp_path / "report.html").exists()


# -- classes, splits, annotators, pairs -------------------------------------------------------------------------------


def test_class_balance_against_a_reference(dataset: Any, tmp_path: Path) -> None:
    for tag, labels in (("a", "cat cat cat <b>dog</b>"), ("b", "cat cat bird bird")):
        for number, label in enumerate(labels.split()):
            add(dataset, tmp_path, count=1, tags=(tag,), first=10 * (tag == "b") + number,
                classification=fo.Classification(label=label))  # fmt: skip
    report = measure(dataset.match_tags("a"), tmp_path, reference=dataset.match_tags("b"))
    assert report.outputs["class_imbalance"] == 3
    assert report.outputs["class_evenness"] == pytest.approx(0.811, abs=0.001)
    assert report.outputs["class_divergence"] == pytest.approx(0.393, abs=0.001)
    assert "classes of the reference that the samples lack: bird" in report.notes
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<b>dog</b>" not in page
    assert "&lt;b&gt;dog&lt;/b&gt;" in page


def test_near_duplicates_and_relatives_across_splits(dataset: Any, tmp_path: Path) -> None:
    train = add(dataset, tmp_path, count=10, tags=("train",))
    add(dataset, tmp_path, count=6, tags=("test",), first=10)
    for number in (0, 1):  # saved again with another compression: near-duplicates
        path = tmp_path / f"again-{number}.jpg"
        cv2.imwrite(str(path), picture(number), [cv2.IMWRITE_JPEG_QUALITY, 60])
        dataset.add_sample(fo.Sample(filepath=str(path), tags=["test"]))
    lineage = fo.DynamicEmbeddedDocument(parents=[train[5]], stage="restyle")
    add(dataset, tmp_path, count=1, tags=("test",), first=50, lineage=lineage)
    add(dataset, tmp_path, count=1, tags=("val",), first=51)
    dataset.add_sample(fo.Sample(filepath=broken_image(tmp_path), tags=["val"]))
    report = measure(dataset, tmp_path, metrics=("leakage",))
    assert report.outputs["leakage"]["value"] == pytest.approx(2 / 11)
    assert report.outputs["related_leakage"]["value"] == pytest.approx(1 / 11)
    assert len(report.failed) == 1
    (heat,) = report.charts[0]["data"]
    assert heat["z"][1][0] == pytest.approx(0)  # val in train
    assert heat["z"][2][0] == pytest.approx(2 / 9)  # test in train
    assert not dataset.has_field("dhash") or dataset.count("dhash") == 0  # nothing of it is stored


def test_agreement_of_a_model_and_people_is_what_agree_says(dataset: Any, tmp_path: Path) -> None:
    box = [0.1, 0.1, 0.4, 0.4]
    for number in range(6):
        labels = {
            "detections": fo.Detections(detections=[fo.Detection(label="cat", bounding_box=box)]),
            "ground_truth": fo.Detections(
                detections=[fo.Detection(label="cat" if number < 4 else "dog", bounding_box=box)]
            ),
        }
        add(dataset, tmp_path, count=1, first=number, **labels)
    pair = ("detections", "ground_truth")
    direct = measure(dataset, tmp_path, metrics=("label_agreement",), annotators=pair).outputs["label_agreement"]
    assert direct["value"] == pytest.approx(4 / 6)
    assert not dataset.has_field("consensus")
    ids.agree(dataset, annotators=pair, progress=False)
    assert measure(dataset, tmp_path, metrics=("label_agreement",)).outputs["label_agreement"] == direct


def test_enhanced_images_are_compared_with_their_originals(dataset: Any, tmp_path: Path) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    originals = add(dataset, tmp_path, count=4)
    psnr = []
    for number, (parent, scale) in enumerate(zip(originals, (1, 1, 2, 1), strict=True)):
        pixels = picture(number)
        noise = np.random.default_rng(number).normal(0, 10 * (number < 3), pixels.shape)
        noisy = np.clip(pixels + noise, 0, 255).astype(np.uint8)
        if number < 2:
            psnr.append(peak_signal_noise_ratio(pixels, noisy))
        made = cv2.resize(noisy, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        path = tmp_path / f"enhanced-{number}.png"
        cv2.imwrite(str(path), made)
        if scale == 2:  # averaged down, it is what it was
            psnr.append(peak_signal_noise_ratio(pixels, noisy))
        dataset.add_sample(fo.Sample(
            filepath=str(path), source=fo.DynamicEmbeddedDocument(kind="enhanced"),
            lineage=fo.DynamicEmbeddedDocument(parents=[parent], stage="upscale" if scale == 2 else "enhance"),
        ))  # fmt: skip
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((20, 90, 3), np.uint8))
    dataset.add_sample(fo.Sample(
        filepath=str(tmp_path / "wide.png"), source=fo.DynamicEmbeddedDocument(kind="enhanced"),
        lineage=fo.DynamicEmbeddedDocument(parents=[originals[0]], stage="enhance"),
    ))  # fmt: skip
    report = measure(dataset, tmp_path)
    assert report.outputs["psnr"]["value"] == pytest.approx(np.mean(psnr), rel=1e-6)
    assert 0.5 < report.outputs["ssim"]["value"] < 1
    assert "1 enhanced images equal their originals" in " ".join(report.notes)
    assert [why for _, why in report.failed] == ["another_shape: 90 x 20 pixels cannot be compared with 48 x 48"]
    assert "upscale" in (tmp_path / "report.html").read_text("utf-8")


# -- the App and the shell --------------------------------------------------------------------------------------------


def test_the_app_shows_the_charts(two_sides: Any, tmp_path: Path) -> None:
    from fiftyone.server.app import app
    from starlette.testclient import TestClient

    from fiftyone_idsynth.plugin import NAME, install_plugin

    target = install_plugin()
    params = {
        "reference": f"{two_sides.name}#real", "metrics": ["train_copies"], "report_path": str(tmp_path / "r.html"),
        "view_target": "DATASET",
    }  # fmt: skip
    request = {"operator_uri": f"{NAME}/measure_distribution", "dataset_name": two_sides.name, "params": params}
    try:
        with TestClient(app) as client:
            streamed = client.post("/operators/execute/generator", json=request).text
    finally:
        target.unlink()
    shown = next(json.loads(line) for line in streamed.splitlines() if "show_output" in line)
    properties = json.dumps(shown)
    assert properties.count('"PlotlyView"') == 2
    assert "Distance to the nearest real image" in properties
    assert "train_copies" in properties


def test_the_shell_and_a_recipe_take_names(
    two_sides: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from fiftyone_idsynth.cli import entry

    real, report = f"{two_sides.name}#real", tmp_path / "r.html"
    arguments = [
        "idsynth", "measure-distribution", f"{two_sides.name}#generated", "--reference", real, "--metrics",
        "train_copies,vendi_score", "--report-path", str(report),
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", arguments)
    entry()
    shown = capsys.readouterr()
    assert "train_copies: value 0.2" in shown.out
    assert str(report) in shown.out

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"dataset: {two_sides.name}\nstages:\n  - measure_distribution:\n      metrics: [vendi_score]\n"
        f"      reference: {real}\n      report_path: {report}\n"
    )
    (found,) = ids.run_recipe(recipe, progress=False)
    assert found.outputs["vendi_ratio"]["value"] > 0
