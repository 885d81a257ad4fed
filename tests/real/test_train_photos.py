"""The linear model on photographs of flowers, with the embeddings of a real network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np

import fiftyone_idsynth as ids
from fiftyone_idsynth.media import read_image


def test_flowers_are_told_apart_after_a_few_labels(shared: Path, dataset: Any, tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(shared / "weights/mobilenet_v1_embedding.onnx"), options)
    samples = []
    for kind in sorted(path for path in (shared / "data/flowers5").iterdir() if path.is_dir()):
        for number, file in enumerate(sorted(kind.glob("*.jpg"))[:24]):
            pixels = cv2.resize(read_image(file).pixels, (224, 224), interpolation=cv2.INTER_AREA)
            (found,) = session.run(None, {"input": pixels[None]})
            samples.append(
                fo.Sample(
                    filepath=str(file),
                    embedding=found.ravel().astype(np.float32),
                    ground_truth=fo.Classification(label=kind.name),
                    tags=["test"] if number >= 12 else [],
                )
            )
    dataset.add_samples(samples, progress=False)
    ids.train(dataset, path=tmp_path / "model", progress=False)
    report = ids.predict(dataset, model=str(tmp_path / "model"), progress=False)
    assert report.outputs["test"]["images"] == 60
    assert report.outputs["test"]["accuracy"] > 0.7  # by chance 0.2
