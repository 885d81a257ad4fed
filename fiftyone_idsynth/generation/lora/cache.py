"""What the frozen parts of the model make of images and texts: computed once, kept on disk while a LoRA is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...engine import batched, process
from ...engine.worker import Item, Worker
from ...errors import IdsynthError
from ...media import write_atomically
from ...stage import current_run, fingerprint
from .buckets import Placement

if TYPE_CHECKING:
    from .base import Base
    from .examples import Example


class Cache:
    """Latents of images and embeddings of texts.

    Args:
        folder: where the files are; it belongs to the training of one LoRA
        base: the model
    """

    def __init__(self, folder: Path, base: Base):
        self._folder, self._base = folder, base

    def fill(self, examples: Sequence[Example], *, texts: bool, num_workers: int | None) -> None:
        """Computes what is not there yet.

        Args:
            examples: the images and their texts
            texts: whether the text encoders stay as they are, so that embeddings can be kept
            num_workers: threads that decode images
        """
        import torch

        missing = [example for example in examples if not self._latents(example).exists()]
        with torch.no_grad():
            self._encode(missing, num_workers)
            if texts:
                self._embed(sorted({example.text for example in examples}))

    def latents(self, examples: Sequence[Example]) -> Any:
        """The latents of images of one bucket: float32 tensor, images x channels x height x width."""
        return self._stacked([self._latents(example) for example in examples], "latents")

    def embeddings(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """The embeddings of texts, and for SDXL the pooled ones, else None; in the precision of the model."""
        files = [self._text(text) for text in texts]
        pooled = self._stacked(files, "pooled") if self._base.generator.family == "sdxl" else None
        return self._stacked(files, "embedding"), pooled

    def _encode(self, examples: Sequence[Example], num_workers: int | None) -> None:
        """Encodes images one by one, so that the latents of each do not depend on what is beside it."""
        import torch

        vae = self._base.vae.float()  # in float16 the one of SDXL overflows
        by_id = {example.id: example for example in examples}
        items = [Item(example.id, example.filepath, {"placement": example.placement}) for example in examples]
        with current_run().progress(len(examples)) as bar:
            for outcomes in process(_Cropping(), batched(items, 4), num_workers=num_workers):
                for outcome in outcomes:
                    if outcome.result is None:  # it could be read a moment ago
                        raise IdsynthError(
                            f"{outcome.item.filepath} could be read when the training began, and cannot any more "
                            f"({outcome.refused or outcome.error}): put it back, and the same command continues"
                        )
                    pixels = torch.from_numpy(outcome.result).permute(2, 0, 1)[None].float() / 127.5 - 1
                    latents = vae.encode(pixels.to(self._base.device)).latent_dist.mode()
                    latents = (latents - (vae.config.get("shift_factor") or 0)) * vae.config.scaling_factor
                    self._write(self._latents(by_id[outcome.item.id]), latents=latents[0])
                bar.update(len(outcomes))
        if self._base.precision != "float32":
            vae.to(self._base.torch_dtype)

    def _embed(self, texts: Sequence[str]) -> None:
        for text in texts:
            if not self._text(text).exists():
                embedding, pooled = self._base.embed([text])
                self._write(
                    self._text(text), embedding=embedding[0], **({} if pooled is None else {"pooled": pooled[0]})
                )

    def _stacked(self, files: Sequence[Path], name: str) -> Any:
        import torch
        from safetensors import safe_open

        found = []
        for file in files:
            with safe_open(file, "pt") as opened:
                found.append(opened.get_tensor(name))
        return torch.stack(found).to(self._base.device)

    def _write(self, path: Path, **tensors: Any) -> None:
        from safetensors.torch import save

        write_atomically(path, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))

    def _latents(self, example: Example) -> Path:
        return self._folder / "latents" / f"{example.id}.safetensors"

    def _text(self, text: str) -> Path:
        return self._folder / "texts" / f"{fingerprint(text)}.safetensors"


class _Cropping(Worker):
    """Decodes images and brings them to the size of their bucket."""

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        return [crop(item.image.pixels, item.values["placement"]) for item in items]


def crop(pixels: np.ndarray, placement: Placement) -> np.ndarray:
    """Scales an image and crops it to the size of its bucket.

    Args:
        pixels: uint8 array, height x width x 3
        placement: how

    Returns:
        uint8 array of the bucket's size
    """
    from PIL import Image

    width, height = placement.bucket
    scaled = Image.fromarray(pixels).resize(placement.scaled, Image.Resampling.LANCZOS)
    return np.array(scaled)[placement.top : placement.top + height, placement.left : placement.left + width]
