"""Training a LoRA: a small file that teaches a diffusion model a subject or a style from a view's images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..errors import ParameterError
from ..modelling import AllowPickle, Device, DType, Offline, Revision
from ..models.options import Options
from ..stage import (
    Bounds,
    Fraction,
    NumWorkers,
    Progress,
    Report,
    Samples,
    Seed,
    current_run,
    stage,
)

if TYPE_CHECKING:
    from .lora.base import Base
    from .lora.examples import Example
    from .lora.folder import LoraFolder
    from .lora.training import Rules

Rate = Annotated[float, Bounds(0, 1)]

_STEPS = 1000


@stage(label="Train a LoRA", group="Generate", icon="model_training", unit="steps")
def train_lora(
    samples: Samples,
    *,
    name: str | None = None,
    trigger_word: str = "",
    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5",
    path: Path | None = None,
    regularization: Samples | None = None,
    text_field: str | None = None,
    resolution: Annotated[int | None, Bounds(16, 4096)] = None,
    steps: Annotated[int | None, Bounds(1, 1_000_000)] = None,
    epochs: Annotated[int | None, Bounds(1, 100_000)] = None,
    train_batch_size: Annotated[int, Bounds(1, 1024)] = 4,
    gradient_accumulation_steps: Annotated[int, Bounds(1, 1024)] = 1,
    rank: Annotated[int, Bounds(1, 1024)] = 16,
    alpha: Annotated[int | None, Bounds(1, 4096)] = None,
    layers: Literal["attention", "transformer"] = "transformer",
    learning_rate: Rate = 1e-4,
    train_text_encoder: bool = False,
    text_learning_rate: Rate = 5e-5,
    schedule: Literal["cosine", "linear", "constant"] = "cosine",
    warmup: Fraction = 0.05,
    snr_gamma: Annotated[float | None, Bounds(0.1, 100)] = None,
    gradient_checkpointing: bool = False,
    max_upscale: Annotated[float, Bounds(1, 100)] = 1.25,
    min_images: Annotated[int, Bounds(1, 1000)] = 5,
    checkpoint_every: Annotated[int, Bounds(1, 1_000_000)] = 250,
    validation_prompts: tuple[str, ...] = (),
    validation_every: Annotated[int, Bounds(1, 1_000_000)] = 250,
    seed: Seed = 51,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Trains a LoRA for Stable Diffusion or SDXL on images and their texts.

    Choose images of one subject or style, in surroundings as various as those that are to be painted later, and a rare
    trigger word that shall stand for it: it is put in front of each text that does not name it. Texts should name what
    is not part of the subject. Images are trained in sizes of about the same area that are near their proportions
    (aspect-ratio buckets), each enlarged at most ``max_upscale`` times; rejected samples are left out.

    The folder gets ``NAME.safetensors`` in the layout of kohya's trainers, which web UIs and diffusers load, the same
    as ``pytorch_lora_weights.safetensors`` for diffusers, the losses as a table and a picture, the LoRA at each
    checkpoint in ``steps/``, pictures of the validation prompts, and ``training.json`` with all parameters and images.
    A training that was interrupted goes on from its last checkpoint and ends as if it had not been. The samples are
    not changed.

    Args:
        name (None): the name of the LoRA; by default the trigger word, else the name of the dataset
        trigger_word (""): a rare word that shall stand for what the images have in common
        model ("stable-diffusion-v1-5/stable-diffusion-v1-5"): the base model: hub id, folder or ``.safetensors`` file
            of Stable Diffusion or SDXL
        path (None): the folder of the LoRA; by default ``loras/NAME`` in the dataset's media store
        regularization (None): samples of other things of the same kind, with texts of their own, that are trained
            equally often so that the model does not unlearn them (prior preservation, as in DreamBooth, Ruiz et al.,
            2022); they may be generated
        text_field (None): the field with the texts; by default ``training_text``, else ``caption``
        resolution (None): side of a square image in pixels, by default the model's own (512 for SD 1.5, 1024 for SDXL)
        steps (None): updates of the weights; 1000 by default
        epochs (None): instead of steps: how often all images are seen
        train_batch_size (4): images whose gradients are computed at once
        gradient_accumulation_steps (1): batches whose gradients make one step
        rank (16): inner dimension of the adapters; more can learn more, and more by heart
        alpha (None): the adapters' outputs are multiplied by alpha / rank; by default the rank
        layers ("transformer"): which layers get adapters: those of attention only, or all of the transformer blocks,
            as kohya's trainers choose
        learning_rate (1e-4): greatest learning rate of the UNet's adapters
        train_text_encoder (False): whether the text encoders get adapters too
        text_learning_rate (5e-5): greatest learning rate of those
        schedule ("cosine"): how the learning rate falls after the warm-up
        warmup (0.05): share of the steps during which the learning rate rises
        snr_gamma (None): limit of the signal-to-noise ratio in the weight of the loss (Min-SNR, Hang et al., 2023), 5
            as a rule; all noise levels count the same by default
        gradient_checkpointing (False): whether to compute activations twice, which saves memory and takes
            longer
        max_upscale (1.25): images that would have to be enlarged more often are left out
        min_images (5): fewer images are refused
        checkpoint_every (250): steps after which an interrupted training can go on
        validation_prompts (()): what is painted while training, with fixed seeds, to see what was learnt
        validation_every (250): steps after which it is painted, besides the beginning and the end
        seed (51): of every random choice

    Returns:
        a :class:`Report`; its outputs name the files, the final loss (the mean of the last 50 steps), the images of
        each size and the seconds per step
    """
    from .lora.base import load_base
    from .lora.buckets import Order
    from .lora.course import Course
    from .lora.examples import Selection, choose_examples, choose_regular, repeats
    from .lora.training import Rules

    run = current_run()
    folder = _folder(samples, path, name or trigger_word)
    if steps and epochs:
        raise ParameterError("epochs", epochs, f"steps={steps} says already how long: give one of them")
    base = load_base(model, Options(device, dtype, revision, offline, allow_pickle))
    generator = base.generator
    resolution = _resolution(resolution, base)
    selection = Selection(resolution, generator.unit, max_upscale, min_images, text_field, num_workers)
    examples = choose_examples(samples, trigger_word, selection)
    if regularization is not None:
        examples += choose_regular(regularization, examples, selection)
    order = Order([example.placement.bucket for example in examples], repeats(examples), train_batch_size, seed)
    if epochs:
        steps = -(-epochs * order.batches_per_epoch // gradient_accumulation_steps)
    rules = Rules(
        rank=rank, alpha=alpha or rank, layers=layers, learning_rate=learning_rate,
        text_learning_rate=text_learning_rate if train_text_encoder else None, schedule=schedule, warmup=warmup,
        steps=steps or _STEPS, batch_size=train_batch_size, accumulation=gradient_accumulation_steps,
        snr_gamma=snr_gamma, gradient_checkpointing=gradient_checkpointing, seed=seed,
    )  # fmt: skip
    folder.claim(_parameters(base, rules, resolution, trigger_word), examples)
    run.models[generator.name] = generator.revision
    run.remembered = {
        "samples": [example.id for example in examples if not example.regular],
        "regularization": [example.id for example in examples if example.regular],
    }
    if folder.result:
        folder.clean()
        run.skipped(len(examples))
        if list(validation_prompts) != folder.result["validation_prompts"]:
            run.note(
                f"the training is finished, so the validation prompts were not painted: use the stage generate with "
                f"loras={{{str(folder.file)!r}: 1}}"
            )
        return run.report(outputs=folder.result)
    _note_cut_off(base, examples, validation_prompts)
    Course(
        base, rules, folder, trigger_word, resolution, checkpoint_every, validation_prompts, validation_every
    ).run(examples, order, num_workers)  # fmt: skip
    run.processed(len(examples))
    return run.report(outputs=folder.result)


def _folder(samples: Any, path: Path | None, name: str) -> LoraFolder:
    """The folder of the LoRA; nothing is written yet."""
    from ..media import media_store
    from ..samples import dataset_of
    from .lora.folder import LoraFolder

    dataset = dataset_of(samples)
    name = name or dataset.slug or dataset.name
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ParameterError("name", name, "is to be part of file names: use letters, digits, '_', '-' and '.' only")
    return LoraFolder(path.expanduser().absolute() if path else Path(media_store(dataset).root) / "loras" / name, name)


def _resolution(resolution: int | None, base: Base) -> int:
    generator = base.generator
    resolution = resolution or generator.side
    if resolution % generator.unit:
        below = max(generator.unit, resolution // generator.unit * generator.unit)
        raise ParameterError(
            "resolution", resolution,
            f"must divide by {generator.unit} for {generator.about}: {below} or {below + generator.unit} will do",
        )  # fmt: skip
    if resolution > generator.side * 1.5 or resolution * 2 < generator.side:
        current_run().note(
            f"resolution={resolution} is far from the {generator.side} pixels that {generator.about} was trained with"
        )
    return resolution


def _parameters(base: Base, rules: Rules, resolution: int, trigger_word: str) -> dict[str, Any]:
    """All that decides the weights, besides the images and their texts."""
    about = {"model": base.generator.name, "revision": base.generator.revision, "dtype": base.precision}
    how = {name: value for name, value in asdict(rules).items() if name != "gradient_checkpointing"}
    stage_version = current_run().stage.version
    return {
        **about, **how, "resolution": resolution, "trigger_word": trigger_word, "version": stage_version
    }  # fmt: skip


def _note_cut_off(base: Base, examples: Sequence[Example], prompts: Sequence[str]) -> None:
    """Notes texts that the model does not read to their end."""
    texts = {example.text for example in examples} | set(prompts)
    cut = {text: rest for text in sorted(texts) if (rest := base.generator.cut_off(text))}
    if cut:
        text, rest = next(iter(cut.items()))
        current_run().note(
            f"{len(cut)} of {len(texts)} texts are longer than {base.generator.about} reads, e.g. {text[:60]!r}: it "
            f"does not see {rest[:60]!r}"
        )
