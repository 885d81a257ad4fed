"""The model that a LoRA is trained for, loaded for training."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...models.errors import WrongModel
from ...models.options import Options, Precision

if TYPE_CHECKING:
    from ...models.roles import Generator

PIPELINES = {"sd": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
"""Family of models -> the pipeline of diffusers that turns their texts into embeddings and saves their LoRAs."""

ENCODERS = {"sd": ("text_encoder",), "sdxl": ("text_encoder", "text_encoder_2")}

_LATENT_CHANNELS = 4


@dataclass
class Base:
    """A model whose parts may be changed, since nobody else has it.

    Attributes:
        generator: the model
        pipeline: its parts as a pipeline of diffusers
        precision: what its frozen weights are in, and what is computed in
    """

    generator: Generator
    pipeline: Any
    precision: Precision

    @property
    def unet(self) -> Any:
        return self.pipeline.unet

    @property
    def vae(self) -> Any:
        return self.pipeline.vae

    @property
    def encoders(self) -> dict[str, Any]:
        """The text encoders by name."""
        return {name: getattr(self.pipeline, name) for name in ENCODERS[self.generator.family]}

    @property
    def device(self) -> str:
        return self.generator.device

    @property
    def torch_dtype(self) -> Any:
        import torch

        return getattr(torch, self.precision)

    def autocast(self) -> Any:
        """The context for computing with trained parts in float32 and frozen parts in the precision of the model."""
        import torch

        kind = torch.device(self.device).type
        return torch.autocast(kind, self.torch_dtype, enabled=self.precision != "float32")

    def embed(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """What the text encoders make of texts: their embeddings, and for SDXL the pooled ones, else None."""
        found = self.pipeline.encode_prompt(
            list(texts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return found[0], found[2] if self.generator.family == "sdxl" else None


def load_base(model: str, options: Options) -> Base:
    """Loads a model for training.

    It is not shared with other stages: adapters are put into it and its autoencoder computes in float32. Models that
    are kept for other stages are freed before, since training needs the memory.

    Args:
        model: hub id, folder or ``.safetensors`` file
        options: how it is loaded; ``dtype="auto"`` means bfloat16 or float16 on CUDA and float32 elsewhere

    Raises:
        WrongModel: a LoRA for it cannot be trained
    """
    from ...models.loading import find_model, release
    from ...models.roles import Generator

    precision = training_precision(options)
    release()  # what is loaded now is made anew, for nobody else ...
    generator = find_model(Generator, model, replace(options, dtype=precision))  # type: ignore[type-abstract]
    release()  # ... and what comes later does not get this one
    _check(generator)
    return Base(generator, _pipeline(generator), precision)


def training_precision(options: Options) -> Precision:
    """The precision of the frozen weights; trained weights are always in float32."""
    import torch

    if options.dtype != "auto":
        return options.dtype
    # Some processors run models in bfloat16; what is learnt there for hours is worth full precision.
    if not options.torch_device().startswith("cuda"):
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def _check(generator: Generator) -> None:
    """Raises :class:`WrongModel` for what a LoRA cannot be trained for here."""
    about, unet = generator.about, generator.parts.get("unet")
    if generator.family not in PIPELINES or unet is None or not hasattr(unet.config, "cross_attention_dim"):
        raise WrongModel(
            f"{about} is neither Stable Diffusion nor SDXL, for which LoRAs are trained here: name one of these, e.g. "
            f"{generator.example}"
        )
    channels = unet.config.in_channels
    if channels != _LATENT_CHANNELS:
        what = {9: "inpainting", 8: "editing by instructions", 5: "depth"}.get(channels, "something else")
        raise WrongModel(
            f"{about} was made for {what}: its UNet has {channels} inputs, not {_LATENT_CHANNELS}. Train for the base "
            "model that it was made from; the LoRA works in both"
        )
    lacking = [name for name in (*ENCODERS[generator.family], "vae") if generator.parts.get(name) is None]
    if lacking:
        raise WrongModel(f"{about} has no {lacking[0]} (is it a refiner?): train for its base model")
    if unet.config.get("time_cond_proj_dim"):
        raise WrongModel(
            f"{about} is a latent consistency model, which would unlearn to paint in few steps: train for the model "
            "that it was distilled from; the LoRA works in both"
        )
    kind = generator.parts["scheduler"].config.get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction"):
        raise WrongModel(
            f"{about} predicts {kind!r}: LoRAs are trained for models that predict epsilon or v_prediction"
        )


def _pipeline(generator: Generator) -> Any:
    import diffusers

    made = getattr(diffusers, PIPELINES[generator.family])
    known = inspect.signature(made).parameters
    parts = {name: part for name, part in generator.parts.items() if name in known}
    if generator.family == "sd":
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = made(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
