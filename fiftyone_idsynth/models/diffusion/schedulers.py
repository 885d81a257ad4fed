"""The schedulers that can be asked for by name, and how many steps and how much guidance a model is made for."""

from __future__ import annotations

import inspect
from typing import Any

from ...errors import ParameterError

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lcm": "LCMScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""Name -> class in diffusers."""

STEPS = 30
"""Denoising steps of Stable Diffusion and SDXL, as in the dissertation behind this project."""

FEW_STEPS = 4
"""Denoising steps of models that were distilled for few: LCM takes 2 to 8, Turbo 1 to 4."""


def make_scheduler(name: str, original: Any) -> Any:
    """Makes a scheduler with the noise schedule of the model's own.

    Args:
        name: one of :data:`SCHEDULERS`, or ``"default"``
        original: the scheduler that the model came with
    """
    import diffusers

    if name == "default":
        return type(original).from_config(original.config)
    # As Stable Diffusion sets it: the first steps of PNDM would be Runge-Kutta steps, of four evaluations each.
    more = {"skip_prk_steps": True} if name == "pndm" else {}
    return getattr(diffusers, SCHEDULERS[name]).from_config(original.config, **more)


def check_scheduler(name: str, pipeline: Any, original: Any, about: str) -> None:
    """Raises :class:`ParameterError` where a model works with no other scheduler than its own.

    Models of flow matching have a noise schedule of another kind, and the pipeline for latent consistency models asks
    its scheduler for what others do not have.

    Args:
        name: one of :data:`SCHEDULERS`, or ``"default"``
        pipeline: the model, as a pipeline of diffusers
        original: the scheduler that the model came with
        about: what the model is called
    """
    if name in ("default", scheduler_name(original)):
        return
    bound = "original_inference_steps" in inspect.signature(type(pipeline).__call__).parameters
    if bound or "beta_schedule" not in original.config:
        raise ParameterError(
            "scheduler", name, f"{about} works only with its own ({type(original).__name__}): leave it at 'default'"
        )


def scheduler_name(scheduler: Any) -> str:
    """The name of a scheduler; ``"default"`` for one that has none here."""
    made = type(scheduler).__name__
    return next((name for name, known in SCHEDULERS.items() if known == made), "default")


def is_lcm(scheduler: Any) -> bool:
    """Whether a scheduler is that of a latent consistency model."""
    return type(scheduler).__name__ == SCHEDULERS["lcm"]


def is_turbo(scheduler: Any, family: str) -> bool:
    """Whether a model's own scheduler is that of SD-Turbo and SDXL-Turbo.

    They are told by it: both use Euler steps with trailing timesteps, which other models do not come with.
    """
    euler = type(scheduler).__name__ in (SCHEDULERS["euler"], SCHEDULERS["euler_a"])
    return family in ("sd", "sdxl") and euler and scheduler.config.get("timestep_spacing") == "trailing"


def usual(pipeline: Any, scheduler: Any, own: Any, family: str) -> tuple[int, float | None]:
    """Steps and guidance that a model is made for.

    Args:
        pipeline: the model, as a pipeline of diffusers
        scheduler: the scheduler that is used
        own: the scheduler that it came with
        family: ``"sd"``, ``"sdxl"`` or ``"other"``

    Returns:
        the number of steps, and the guidance; None for a pipeline that has none
    """
    known = inspect.signature(type(pipeline).__call__).parameters
    guidance = known["guidance_scale"].default if "guidance_scale" in known else None
    if is_lcm(scheduler):
        # A latent consistency model has learnt the guidance as an input; an LCM-LoRA needs none beside it.
        return FEW_STEPS, guidance if _has_guidance_input(pipeline) else 1.0
    if is_turbo(own, family):
        return FEW_STEPS, 0.0
    return (STEPS if family in ("sd", "sdxl") else known["num_inference_steps"].default), guidance


def _has_guidance_input(pipeline: Any) -> bool:
    unet = getattr(pipeline, "unet", None)
    return unet is not None and unet.config.get("time_cond_proj_dim") is not None
