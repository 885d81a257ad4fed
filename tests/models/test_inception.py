"""InceptionV3 with untrained weights: the real network and file formats, compared with torchmetrics."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import UsageError
from fiftyone_idsynth.quality.distribution import inception
from fiftyone_idsynth.quality.distribution.record import INFO


@pytest.fixture(scope="module")
def untrained() -> Any:
    """The network with random weights."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any, **__: Any) -> None:
            """Leaves the weights as they were drawn."""

    torch.manual_seed(0)
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    return Untrained("untrained", ["2048"], feature_extractor_weights_path=nothing)


@pytest.fixture(scope="module")
def weights(untrained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    path = tmp_path_factory.mktemp("inception") / inception.FILES[0]
    torch.save(untrained.state_dict(), path)
    return path


def pictures(count: int, seed: int, spread: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        cv2.resize(rng.integers(0, spread, (5, 5, 3)).astype(np.uint8), (299, 299), interpolation=cv2.INTER_CUBIC)
        for _ in range(count)
    ]


def add(dataset: Any, folder: Path, images: list[np.ndarray], tag: str) -> None:
    samples = []
    for number, image in enumerate(images):
        path = folder / f"{tag}-{number}.png"
        cv2.imwrite(str(path), image[..., ::-1])
        samples.append(fo.Sample(filepath=str(path), tags=[tag]))
    dataset.add_samples(samples, progress=False)


def test_fid_is_of_the_features_that_torchmetrics_computes(dataset: Any, weights: Path, tmp_path: Path) -> None:
    import torch

    made, real = pictures(14, 1, 255), pictures(12, 2, 120)
    add(dataset, tmp_path, made, "made")
    add(dataset, tmp_path, real, "real")
    settings: dict[str, Any] = {
        "reference": dataset.match_tags("real"), "metrics": ("fid", "kid", "inception_score"), "device": "cpu",
        "report_path": tmp_path / "report.html", "progress": False,
    }  # fmt: skip
    report = ids.measure_distribution(dataset.match_tags("made"), inception_weights=weights.parent, **settings)
    assert "12 images are fewer than the 2048 dimensions" in " ".join(report.notes)
    assert list(dataset.get_run_info(report.run_key).config.models) == [inception.MODEL]

    peer = pytest.importorskip("torchmetrics.image.fid")
    network = peer.NoTrainInceptionV3("peer", ["2048"], str(weights))
    expected = [network(torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2)).numpy() for part in (made, real)]
    np.testing.assert_allclose(np.stack(dataset.values("inception")), np.concatenate(expected), rtol=1e-3, atol=1e-5)
    a, b = (part.astype(float) - part.mean(0) for part in expected)
    common = np.linalg.svd(a @ b.T / np.sqrt(13 * 11), compute_uv=False).sum()
    mean = np.square(expected[0].mean(0, dtype=float) - expected[1].mean(0, dtype=float)).sum()
    distance = mean + np.square(a).sum() / 13 + np.square(b).sum() / 11 - 2 * common
    assert report.outputs["fid"]["value"] == pytest.approx(distance, rel=1e-3)

    # Once computed, the features are enough: neither images nor weights are read again.
    for path in dataset.values("filepath"):
        os.utime(path, (0, 0))
    again = ids.measure_distribution(
        dataset.match_tags("made"), **{**settings, "metrics": ("fid", "kid")}, embeddings_field="inception"
    )
    assert again.outputs["fid"] == report.outputs["fid"]
    dataset.reload()
    assert {"fid", "fid_extrapolated", "kid"} == set(dataset.info[INFO][-1]["figures"])
    assert dataset.info[INFO][-1]["embedding"] == "InceptionV3"


def test_the_environment_names_the_weights(
    dataset: Any, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(dataset, tmp_path, pictures(4, 3, 255), "made")
    monkeypatch.setenv(inception.WEIGHTS_VARIABLE, str(weights))
    report = ids.measure_distribution(
        dataset, metrics=("inception_score",), device="cpu", report_path=tmp_path / "r.html", progress=False
    )
    assert report.outputs["inception_score"]["value"] >= 1


def test_weights_as_safetensors_give_the_same_features(untrained: Any, weights: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    other = tmp_path / inception.FILES[2]
    save_file(untrained.state_dict(), other)
    image = torch.from_numpy(np.stack(pictures(1, 4, 255))).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = untrained(image)[0]
        for file in (inception.find_weights(tmp_path), weights):
            found = inception._network(file, "", "cpu")(image)[0]
            torch.testing.assert_close(found, expected)


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch harmed",))


def test_files_that_are_no_such_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    code, text, other = tmp_path / "code.pth", tmp_path / "text.pth", tmp_path / "other.pth"
    code.write_bytes(pickle.dumps(_Harmful()))
    text.write_bytes(b"<html>not found</html>")
    torch.save({"fc.weight": torch.zeros(2, 2)}, other)
    for path, problem in ((code, "holds more than arrays"), (text, "cannot be read as weights"),
                          (other, "does not hold the weights of this network")):  # fmt: skip
        with pytest.raises(UsageError, match=problem):
            inception.InceptionWorker(path, "inception", "cpu")
    assert not (tmp_path / "harmed").exists()
    with pytest.raises(UsageError, match=r"holds none of weights-inception-2015-12-05-6726825d.pth"):
        inception.find_weights(tmp_path)


def test_images_of_any_size_are_resized_without_aliasing() -> None:
    stripes = np.zeros((598, 700, 3), np.uint8)
    stripes[:, ::2] = 255
    small = inception.resized(stripes)
    assert small.shape == (299, 299, 3)
    assert abs(int(small.mean()) - 127) <= 1
    assert small[:, 20:-20].std() < 20  # taking every second column would leave black and white ones
    same = pictures(1, 5, 255)[0]
    assert inception.resized(same) is same
