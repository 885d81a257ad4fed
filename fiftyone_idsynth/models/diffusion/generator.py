"""Pictures by a pipeline of diffusers: from text, from a picture, and in a mask, with the same weights."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ParameterError, RefusedImage
from ..errors import WrongModel
from ..options import Options
from ..roles import Generator, Sampling, Wanted
from .abilities import does, family_of, kinds_of, side_of, unit_of
from .controls import load_controlnet
from .loras import check_lora, find_lora, use_loras
from .schedulers import check_scheduler, make_scheduler, scheduler_name, usual

KINDS = {
    "text": "AutoPipelineForText2Image",
    "image": "AutoPipelineForImage2Image",
    "inpaint": "AutoPipelineForInpainting",
}
"""What a generator can do -> the class of diffusers that finds the pipeline for it."""

DOING = {"text": "make a picture from text alone", "image": "change a picture as a whole", "inpaint": "paint in a mask"}


SLICING = "decoding one picture at a time and computing attention in slices"
OFFLOADING = "keeping only the part that is at work on the device"
TILING = "decoding in tiles, which may alter fine details"

MEASURES = (SLICING, OFFLOADING, TILING)
"""What saves memory, in the order in which it is taken; tiling, which may alter details, is the last."""


class PipelineGenerator(Generator):
    """A pipeline of diffusers.

    Args:
        pipeline: the loaded pipeline
        options: how it is loaded
    """

    def __init__(self, pipeline: Any, options: Options):
        self.device = options.torch_device()
        self._options = options
        self._own = pipeline
        self._scheduler = pipeline.scheduler
        self._checker = getattr(pipeline, "safety_checker", None)
        self._pipelines: dict[tuple[str, str | None], Any] = {}
        self._loras: tuple[tuple[Path, float], ...] = ()
        self._saved: list[str] = []
        self.parts = dict(pipeline.components)
        vae = self.parts.get("vae")
        self._vae_dtype = vae.dtype if vae is not None else None
        self.unit, self.side = unit_of(pipeline), side_of(pipeline)
        self.dtype = str(pipeline.dtype).removeprefix("torch.")
        self.family = family_of(self.parts)
        self.kinds = kinds_of(pipeline)
        self.has_safety_checker = self._checker is not None
        self._prepare()

    def paint(self, wanted: Sequence[Wanted], sampling: Sampling) -> list[np.ndarray | RefusedImage]:
        kind = wanted[0].kind
        self._check(wanted, kind, sampling)
        pipeline = self._pipeline(kind, sampling.controlnet)
        sampling = self.complete(sampling)
        self._use_loras(sampling)
        pipeline.scheduler = make_scheduler(sampling.scheduler, self._scheduler)
        if self.has_safety_checker:
            pipeline.safety_checker = self._checker if sampling.safety_checker else None
        _check_steps(kind, sampling)
        vae = self.parts.get("vae")
        if vae is not None and vae.dtype != self._vae_dtype:
            vae.to(self._vae_dtype)  # SDXL decodes in float32; where memory ran out meanwhile, it was left so
        results: dict[int, np.ndarray | RefusedImage] = {}
        for members in _alike(pipeline, wanted):
            together = [wanted[number] for number in members]
            made = pipeline(**self._arguments(pipeline, together, kind, sampling))
            refused = getattr(made, "nsfw_content_detected", None) or [False] * len(together)
            finished = [_finished(*one) for one in zip(together, made.images, refused, strict=True)]
            results |= dict(zip(members, finished, strict=True))
        return [results[number] for number in range(len(wanted))]

    def complete(self, sampling: Sampling) -> Sampling:
        check_scheduler(sampling.scheduler, self._own, self._scheduler, self.about)
        scheduler = make_scheduler(sampling.scheduler, self._scheduler)
        steps, guidance = usual(self._own, scheduler, self._scheduler, self.family)
        return replace(
            sampling,
            steps=sampling.steps or steps,
            guidance=guidance if sampling.guidance is None else sampling.guidance,
            scheduler=scheduler_name(scheduler),
        )

    def cut_off(self, prompt: str) -> str:
        rests = [_beyond(part, prompt) for name, part in self.parts.items() if name.startswith("tokenizer") and part]
        return min(rests, key=len, default="")

    def heeds_negative(self, sampling: Sampling) -> bool:
        known = inspect.signature(type(self._own).__call__).parameters
        guidance = self.complete(sampling).guidance
        if "true_cfg_scale" in known or "negative_prompt" not in known:  # Flux leaves it out unless asked to
            return False
        return guidance is not None and guidance > 1

    def seconds_per_image(self, sampling: Sampling) -> float:
        kind = "text" if "text" in self.kinds else self.kinds[0]
        blank = np.full((sampling.height, sampling.width, 3), 127, np.uint8)
        one = Wanted(
            "", 0, picture=None if kind == "text" else blank,
            mask=np.ones(blank.shape[:2], bool) if kind == "inpaint" else None,
        )  # fmt: skip
        few = replace(self.complete(sampling), strength=1.0, controlnet=None)
        taken = []
        for steps in (1, 1, 3) if self.device.startswith("cuda") else (1, 3):  # the first run on CUDA warms it up
            started = time.perf_counter()
            self.paint([one], replace(few, steps=steps))
            taken.append(time.perf_counter() - started)
        one_step = max(0.0, taken[-1] - taken[-2]) / 2
        share = sampling.strength if kind != "text" else 1.0
        done = (self.complete(sampling).steps or 1) * share
        return float(taken[-2] + one_step * max(0.0, done - 1))

    def spare_memory(self) -> str:
        measures = [name for name in MEASURES if name != OFFLOADING or self.device.startswith("cuda")]
        if len(self._saved) == len(measures):
            return ""
        self._saved.append(measures[len(self._saved)])
        for pipeline in {id(p): p for p in (self._own, *self._pipelines.values())}.values():
            self._spare(pipeline, self._saved[-1])
        return self._saved[-1]

    def _prepare(self) -> None:
        import torch

        if self.device.startswith("cuda"):
            torch.set_float32_matmul_precision("high")  # TF32 where a part stays in float32
        for name in ("unet", "vae"):
            if self.parts.get(name) is not None:
                self.parts[name].to(memory_format=torch.channels_last)
        self._own.to(self.device)
        self._own.set_progress_bar_config(disable=True)

    def _spare(self, pipeline: Any, measure: str) -> None:
        vae = self.parts.get("vae")
        if measure == OFFLOADING:
            pipeline.enable_model_cpu_offload(device=self.device)
        elif measure == TILING and vae is not None:
            vae.enable_tiling()
        elif measure == SLICING:
            pipeline.enable_attention_slicing()
            if vae is not None:
                vae.enable_slicing()

    def _pipeline(self, kind: str, controlnet: str | None) -> Any:
        """The pipeline for a kind of work, made of the same parts."""
        import diffusers

        key = (kind, controlnet)
        if key not in self._pipelines:
            more = {"controlnet": load_controlnet(controlnet, self, self._options)} if controlnet else {}
            if not more and does(self._own, kind):
                made = self._own
            else:
                try:
                    made = getattr(diffusers, KINDS[kind]).from_pipe(self._own, **more)
                except ValueError as error:
                    with_it = " with a ControlNet" if more else ""
                    raise WrongModel(f"{self.about} cannot {DOING[kind]}{with_it}: {error}") from error
            made.set_progress_bar_config(disable=True)
            for measure in self._saved:
                self._spare(made, measure)
            self._pipelines[key] = made
        return self._pipelines[key]

    def _use_loras(self, sampling: Sampling) -> None:
        wanted = tuple((find_lora(name, self._options), strength) for name, strength in sampling.loras)
        if wanted == self._loras:
            return
        for path, _ in wanted:
            check_lora(path, self.parts, self.about)
        self._loras = ()
        use_loras(self._own, wanted, self.about)
        self._loras = wanted

    def _check(self, wanted: Sequence[Wanted], kind: str, sampling: Sampling) -> None:
        if kind not in self.kinds:
            can = " or ".join(DOING[other] for other in self.kinds)
            raise WrongModel(f"{self.about} cannot {DOING[kind]}, it can only {can}: name another model")
        check_size(sampling.width, sampling.height, self.unit, self.about)
        shape = (sampling.height, sampling.width)
        wanted_size = f"{sampling.width}x{sampling.height}"
        for one in wanted:
            if one.kind != kind:
                raise ValueError(f"pictures of the kinds {kind} and {one.kind} cannot be made together")
            for name, array in (("picture", one.picture), ("mask", one.mask), ("condition", one.condition)):
                if array is not None and array.shape[:2] != shape:
                    size = f"{array.shape[1]}x{array.shape[0]}"
                    raise ParameterError(name, size, f"must be as large as what is asked for: {wanted_size}")
            if one.mask is not None and not one.mask.any():
                raise ParameterError(
                    "mask", "empty", "nothing of the picture is to be painted: mark at least one pixel"
                )
            if sampling.controlnet and one.condition is None:
                raise ParameterError(
                    "controlnet", sampling.controlnet, "needs a condition (edges or depth) for each picture"
                )

    def _arguments(self, pipeline: Any, wanted: Sequence[Wanted], kind: str, sampling: Sampling) -> dict[str, Any]:
        """What the pipeline is called with."""
        import torch
        from PIL import Image

        known = inspect.signature(type(pipeline).__call__).parameters
        given: dict[str, Any] = {
            "prompt": [one.prompt for one in wanted],
            "generator": [torch.Generator("cpu").manual_seed(one.seed) for one in wanted],
            "num_inference_steps": sampling.steps,
            "output_type": "pil",
        }
        if sampling.guidance is not None:
            given["guidance_scale"] = sampling.guidance
        if any(one.negative for one in wanted) and "negative_prompt" in known:
            given["negative_prompt"] = [one.negative for one in wanted]
        if "width" in known:
            given |= {"width": sampling.width, "height": sampling.height}
        if kind != "text":
            given["image"] = [Image.fromarray(one.picture) for one in wanted if one.picture is not None]
            given["strength"] = sampling.strength
        if kind == "inpaint":
            given["mask_image"] = [
                Image.fromarray(one.mask.astype(np.uint8) * 255) for one in wanted if one.mask is not None
            ]
        if sampling.controlnet:
            images = [Image.fromarray(one.condition) for one in wanted if one.condition is not None]
            given["control_image" if "control_image" in known else "image"] = images
            given["controlnet_conditioning_scale"] = sampling.control_scale
        return given


def _alike(pipeline: Any, wanted: Sequence[Wanted]) -> list[list[int]]:
    """The numbers of the pictures that can be made at once.

    SDXL takes zeros for no negative prompt at all, but reads an empty one beside others as a text: a picture without
    one would turn out differently in the company of pictures with one.
    """
    numbers = list(range(len(wanted)))
    if not pipeline.config.get("force_zeros_for_empty_prompt"):
        return [numbers]
    groups = ([n for n in numbers if wanted[n].negative], [n for n in numbers if not wanted[n].negative])
    return [group for group in groups if group]


def _finished(one: Wanted, image: Any, unsafe: bool) -> np.ndarray | RefusedImage:
    """What a pipeline made, as pixels."""
    if unsafe:
        return RefusedImage("unsafe", "the model's safety checker refused the picture")
    pixels = np.array(image.convert("RGB"))
    if one.mask is not None and one.picture is not None:
        pixels[~one.mask] = one.picture[~one.mask]  # the autoencoder alters what it only passes on
    return pixels


def check_size(width: int, height: int, unit: int, about: str) -> None:
    """Raises :class:`ParameterError` unless both sides divide by the model's unit; names the nearest that do."""
    for name, side in (("width", width), ("height", height)):
        if side % unit or side < unit:
            below = max(unit, side // unit * unit)
            raise ParameterError(name, side, f"must divide by {unit} for {about}: {below} or {below + unit} will do")


def _check_steps(kind: str, sampling: Sampling) -> None:
    if kind != "text" and int((sampling.steps or 1) * sampling.strength) < 1:
        least = -(-1 // sampling.strength) if sampling.strength else None
        remedy = f"take at least {int(least)} steps, or more strength" if least else "take more strength"
        raise ParameterError(
            "strength", sampling.strength,
            f"of {sampling.steps} steps only steps x strength are done, which is less than one here: {remedy}",
        )  # fmt: skip


def _beyond(tokenizer: Any, prompt: str) -> str:
    """What of a prompt a tokenizer leaves out."""
    limit = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    tokens = tokenizer.tokenize(prompt)
    if not 0 < limit < 100_000 or len(tokens) <= limit:
        return ""
    return str(tokenizer.decode(tokenizer.convert_tokens_to_ids(tokens[limit:]))).strip()
