"""Pictures by diffusers alone: no dataset, no files, no records."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Plain:
    """A pipeline of diffusers as its documentation shows it.

    Args:
        folder: of the model
        device: where it runs
        dtype: precision, e.g. ``"float16"``
    """

    def __init__(self, folder: Path, device: str, dtype: str):
        import torch
        from diffusers import AutoPipelineForText2Image

        self._pipeline = AutoPipelineForText2Image.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True
        )
        self._pipeline.to(device)
        self._pipeline.set_progress_bar_config(disable=True)

    def __call__(self, prompts: list[str], batch: int, steps: int, side: int) -> list[Any]:
        """Makes a picture for each prompt.

        Args:
            prompts: what they show
            batch: how many at once
            steps: denoising steps
            side: width and height in pixels
        """
        import torch

        made: list[Any] = []
        for start in range(0, len(prompts), batch):
            some = prompts[start : start + batch]
            seeds = [torch.Generator("cpu").manual_seed(start + number) for number in range(len(some))]
            done = self._pipeline(some, num_inference_steps=steps, width=side, height=side, generator=seeds)
            made += done.images
        return made
