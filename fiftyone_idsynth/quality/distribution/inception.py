"""Features of InceptionV3, the network that the FID, the KID and the inception score are defined with.

The network is that of torch-fidelity (Apache-2.0), converted from the TensorFlow graph of 2015-12-05. Its weights
(Apache-2.0) are a file of the user's: nothing is downloaded here.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...engine.worker import Item, Worker
from ...errors import UsageError
from ...stage import current_run, fingerprint

if TYPE_CHECKING:
    import torch

MODEL = "inception-v3-2015-12-05"
"""What the features are called in the description of their field."""

FIELD = "inception"
"""The field that holds the features, unless another one is named."""

WEIGHTS_VARIABLE = "IDSYNTH_INCEPTION_WEIGHTS"

FILES = (
    "weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth",
    "inception-2015-12-05.safetensors",
)  # fmt: skip
"""The names that a folder is searched for."""

PUBLISHED = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILES[0]}"

DIMENSIONS = 2048

SIDE = 299


def find_weights(given: str | os.PathLike[str] | None = None) -> Path | None:
    """The file with the weights: the one given, or found in the folder given; else what the environment names.

    Args:
        given (None): a file or folder; by default ``$IDSYNTH_INCEPTION_WEIGHTS``, if it is set

    Returns:
        the file, or ``None`` if none is named

    Raises:
        UsageError: there is no such file
    """
    named = given or os.environ.get(WEIGHTS_VARIABLE)
    if not named:
        return None
    path = Path(named).expanduser()
    if path.is_file():
        return path
    found = next((path / name for name in FILES if (path / name).is_file()), None)
    if found is None:
        where = f"the folder {path} holds none of {', '.join(FILES)}" if path.is_dir() else f"there is no file {path}"
        raise UsageError(f"inception_weights: {where}. {remedy()}")
    return found


def remedy() -> str:
    """What to do where the weights are missing."""
    return (
        f"Put {FILES[0]} (published at {PUBLISHED}) on this machine and name it with inception_weights or "
        f"${WEIGHTS_VARIABLE}; or measure frechet_distance and kernel_distance on other embeddings (embeddings_field, "
        "model)"
    )


class InceptionWorker(Worker):
    """Computes the features of InceptionV3's last pooling: 2048 numbers for each image.

    Images are resized to 299 x 299 by Pillow's antialiased bicubic filter, as clean-fid does (Parmar, Zhang and Zhu,
    "On aliased resizing and surprising subtleties in GAN evaluation", CVPR 2022): other resizing gives other features.

    Args:
        weights: the file
        field: the field that gets the features
        device: where the network runs
    """

    serial = True

    def __init__(self, weights: Path, field: str, device: str):
        from ...models.options import Options

        self._weights, self._field, self._device = weights, field, Options(device).torch_device()
        self.about = {"model": MODEL, "revision": _digest(weights, os.path.getmtime(weights))}
        self.key = fingerprint(type(self).__name__, self.about, field)
        self.setup()  # so that wrong weights fail before anything runs

    @property
    def classifier(self) -> np.ndarray:
        """The weights of the last layer: float32 (1008 classes x 2048)."""
        return np.asarray(_network(self._weights, self.about["revision"], self._device).fc.weight.cpu())

    def setup(self) -> None:
        """Loads the network."""
        _network(self._weights, self.about["revision"], self._device)

    def __call__(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        from ...models.batches import in_batches

        pictures = [resized(item.image.pixels) for item in items if item.image is not None]
        return [{self._field: row} for row in in_batches(self._features, pictures, len(items), current_run().note)]

    def _features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        network = _network(self._weights, self.about["revision"], self._device)
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(self._device)
            (features,) = network(batch)
        found: np.ndarray = features.float().cpu().numpy()
        return found

    def record(self) -> None:
        """Notes the network in the run's record."""
        current_run().models[self.about["model"]] = self.about["revision"]


def resized(pixels: np.ndarray) -> np.ndarray:
    """A picture as the network takes it: uint8, 299 x 299 x 3."""
    from PIL import Image

    if pixels.shape[:2] == (SIDE, SIDE):
        return pixels
    bands = [Image.fromarray(pixels[..., band].astype(np.float32)) for band in range(3)]
    turned = [np.asarray(band.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for band in bands]
    return np.clip(np.rint(np.stack(turned, axis=-1)), 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=1)
def _network(weights: Path, revision: str, device: str) -> Any:
    """The network, loaded once per process."""
    import io

    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    state = _read(weights)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        # torch-fidelity unpickles whatever a file holds: it gets only what was read safely before.
        network = FeatureExtractorInceptionV3(FIELD, [str(DIMENSIONS)], feature_extractor_weights_path=buffer)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise UsageError(
            f"inception_weights: {weights} does not hold the weights of this network ({first}). {remedy()}"
        ) from error
    return network.to(device)


def _read(weights: Path) -> dict[str, torch.Tensor]:
    """Reads weights; a pickled file may hold nothing but arrays."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if weights.suffix == ".safetensors":
            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise UsageError(
            f"inception_weights: {weights} cannot be read as weights, or holds more than arrays "
            f"({type(error).__name__}). {remedy()}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UsageError(f"inception_weights: {weights} holds no table of arrays. {remedy()}")
    return state


@functools.lru_cache(maxsize=4)
def _digest(weights: Path, changed: float) -> str:
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
