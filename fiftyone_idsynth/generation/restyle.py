"""Restyling: image to image with changed prompts; the layout and its labels stay."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..errors import ParameterError, UsageError
from ..modelling import AllowPickle, Device, DType, Offline, Revision
from ..models.options import Options
from ..painting import (
    SHOWN,
    DryRun,
    Guidance,
    Loras,
    NegativePrompt,
    PaintBatch,
    Painter,
    SafetyChecker,
    Scheduler,
    Steps,
    Strength,
)
from ..samples import dataset_of
from ..stage import (
    Bounds,
    Convert,
    ExistingPath,
    Fraction,
    LabelField,
    Progress,
    Report,
    Run,
    Samples,
    Seed,
    current_run,
    stage,
)
from .prompts import read_texts

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from .restyling import Prompting
    from .rewording import Rewording
    from .verifying import Verifier


@stage(label="Restyle images", group="Generate", icon="style", unit="images")
def restyle(
    samples: Samples,
    *,
    change: Literal["swap", "rewrite"] = "swap",
    swaps: dict[str, str] = {},  # noqa: B006 (never changed)
    random_swaps: Annotated[int | None, Bounds(0, 20)] = None,
    swap_groups: tuple[str, ...] = (),
    vocabulary: Annotated[Path | None, ExistingPath()] = None,
    prompts: Annotated[tuple[str, ...], Convert(read_texts)] = (),
    text_field: str | None = None,
    instruction: str | None = None,
    negative_prompt: NegativePrompt = "",
    variants: Annotated[int, Bounds(1, 10_000)] = 1,
    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5",
    strength: Strength = 0.6,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = "default",
    loras: Loras = {},  # noqa: B006 (never changed)
    safety_checker: SafetyChecker = True,
    longest_side: Annotated[int | None, Bounds(64, 8192)] = None,
    control: Literal["none", "edges", "depth"] = "none",
    controlnet: str | None = None,
    control_scale: Annotated[float, Bounds(0, 10)] = 1.0,
    depth_model: str = "depth-anything/Depth-Anything-V2-Small-hf",
    label_fields: tuple[Annotated[str, LabelField()], ...] | None = None,
    verifier: str | None = None,
    min_iou: Fraction = 0.5,
    verifier_threshold: Fraction = 0.3,
    llm_model: str = "gpt-4o-mini",
    llm_url: str | None = None,
    llm_budget: Annotated[int, Bounds(1, 100_000_000)] = 100_000,
    seed: Seed = 51,
    dry_run: DryRun = False,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: PaintBatch = 4,
    progress: Progress = None,
) -> Report:
    """Makes variants of images in which the layout stays and style, light, weather, colour or material change.

    The prompt of a variant is what is written about its sample, with other words: swapped by you, at random within the
    groups of a word list, or in a text that a language model wrote anew. The classes of a sample's labels are never
    swapped at random. An image is scaled to the nearest size that the model takes. Labels are carried over to the new
    size, with the attributes ``inherited`` and ``inherited_from``; where you swap a word of a class, the label says the
    new one. A detector may verify them. Split tags are inherited.

    Samples that were made from other samples are left out, unless there are no others.

    Args:
        change ("swap"): how texts are changed: words are swapped, or a language model rewrites them (rewrite)
        swaps ({}): old word -> new word, e.g. modern=retro or red=blue; samples without any of them are left out,
            unless something else changes their prompt
        random_swaps (None): words of a text that are swapped at random for others of their group, e.g. day for night;
            where none can be, one is added. By default 1, or 0 where ``swaps`` or ``prompts`` say what changes
        swap_groups (()): only words of these groups of the word list, e.g. style, material, season
        vocabulary (None): a CSV file of words with the columns group and words, the words parted by |; they are added
            to the words there are
        prompts (()): patterns of prompts: texts, or a text file with one a line, e.g. "an oil painting of {text}"; the
            images of a sample take them in turn
        text_field (None): a field with the text of each image: text, tags or a class; by default the first of
            training_text, caption, the prompt of a generated image, content_tags and classification that says
            something
        instruction (None): what the language model is told, by default
            :data:`fiftyone_idsynth.generation.rewriting.REWRITE_INSTRUCTION`: keep the main subject, change the rest
        variants (1): images made from each sample; a larger number later adds to the earlier ones
        model ("stable-diffusion-v1-5/stable-diffusion-v1-5"): hub id, folder or .safetensors file
        strength (0.6): how much of the image is given up: near 0 it stays as it is, at 1 nothing is left
        longest_side (None): longest side of the new images in pixels; by default that which the model was trained at.
            Smaller images are not enlarged
        control ("none"): what a ControlNet keeps of the layout, so that boxes stay true at high strengths: the edges or
            the depth
        controlnet (None): hub id or folder of the ControlNet; by default a usual one for SD 1.5 and SDXL
        control_scale (1.0): how strictly it is followed
        depth_model ("depth-anything/Depth-Anything-V2-Small-hf"): what estimates the depth
        label_fields (None): the fields whose labels are carried over; by default all but tags, which say what changes
        verifier (None): a detector that looks for the objects again, e.g. google/owlv2-base-patch16: boxes that it does
            not confirm are dropped. Images without any confirmed box stay, with the tag unconfirmed
        min_iou (0.5): least overlap (intersection over union) of an inherited box and the one that the verifier finds
        verifier_threshold (0.3): least confidence of what it finds
        llm_model ("gpt-4o-mini"): the language model, behind any OpenAI-compatible address
        llm_url (None): that address, by default OPENAI_BASE_URL or OpenAI's
        llm_budget (100_000): tokens that the language model may use
        seed (51): of every random choice

    Returns:
        a report with what was left out, and what the verifier confirmed and dropped
    """
    from ..engine import create_samples
    from ..media import media_store
    from ..parents import check_painter, find_parents, not_yet_made, plan_of, read_parents, sizes_of
    from .restyling import RestyleWorker

    run = current_run()
    options = Options(device, dtype, revision, offline, allow_pickle)
    painter = Painter(
        model, options, steps=steps, guidance=guidance, scheduler=scheduler, loras=loras,
        safety_checker=safety_checker, batch_size=batch_size, control_scale=control_scale,
        controlnet=_controlnet(control, controlnet, model, options),
    )  # fmt: skip
    rewording = _rewording(run)
    carried = _label_fields(samples, label_fields)
    prompting = _prompting(samples, run, rewording, carried)
    ids, left_out = _worded(samples, find_parents(samples, run), prompting)
    check_painter(painter, strength)
    looker = _verifier(samples, ids, run, carried, swaps)

    plan, total = plan_of(run, painter, rewording.vocabulary.groups), len(ids) * variants
    left = not_yet_made(run, plan, total)
    longest = longest_side or painter.generator.side
    size = _usual([painter.fit(*one, longest) for one in sizes_of(samples, ids)])
    seconds = painter.announce(left, *size, strength, always=dry_run) if size else 0.0
    parents = read_parents(samples, ids, list(dict.fromkeys((*carried, *prompting.text_fields))))
    tasks = prompting.tasks(itertools.islice(parents, SHOWN) if dry_run else parents, plan, variants, run)
    outputs: dict[str, Any] = {"model": model, **left_out}
    try:
        if dry_run:
            run.preview = True
            shown = [task.payload.prompt for task in itertools.islice(tasks, SHOWN) if task.payload.prompt]
            painter.check_prompts(shown)
            return run.report({**outputs, "images to make": left, "seconds": round(seconds, 1), "prompts": shown})
        painter.record()
        worker = RestyleWorker(
            painter, media_store(run.dataset), _layout(control, depth_model, options), strength=strength,
            negative=negative_prompt, longest=longest, label_fields=carried, verifier=looker,
        )  # fmt: skip
        create_samples(run.dataset, tasks, worker, total=total, batch_size=batch_size)
    finally:
        if prompting.writer:
            prompting.writer.close()
    painter.check_prompts(worker.prompts)
    if looker:
        outputs |= {
            "boxes confirmed": worker.counts["confirmed"], "boxes dropped": worker.counts["dropped"],
            "images without a confirmed box": worker.counts["images"],
        }  # fmt: skip
    return run.report(outputs)


def _controlnet(control: str, name: str | None, model: str, options: Options) -> str | None:
    """The ControlNet: that which was named, or a usual one for the model."""
    from ..models.loading import find_model
    from ..models.roles import Generator
    from .rescaling import CONTROLNETS

    if control == "none":
        if name:
            problem = "say what it keeps of the layout: control='edges' or control='depth'"
            raise ParameterError("controlnet", name, problem)
        return None
    if name:
        return name
    family = find_model(Generator, model, options).family  # type: ignore[type-abstract]  # an interface
    if (family, control) not in CONTROLNETS:
        raise ParameterError("controlnet", None, f"no usual one is known for {model}: name one that was made for it")
    return CONTROLNETS[family, control]


def _rewording(run: Run) -> Rewording:
    """How texts are changed."""
    from .rewording import SLOT, Rewording, check_words
    from .wordlist import read_vocabulary

    values = run.params
    swaps, templates = values["swaps"], tuple(values["prompts"])
    rewritten = values["change"] == "rewrite"
    check_words(swaps, templates)
    for name in ("swaps", "random_swaps", "swap_groups") if rewritten else ("instruction",):
        if values[name]:
            other = "swap" if rewritten else "rewrite"
            raise ParameterError(name, values[name], f"is for change={other!r}")
    count = values["random_swaps"]
    if count is None:
        count = 0 if swaps or templates or rewritten else 1
    vocabulary = read_vocabulary(values["vocabulary"])
    for group in values["swap_groups"]:
        vocabulary.words(group)
    return Rewording(templates or (SLOT,), swaps, count, tuple(values["swap_groups"]), vocabulary, values["seed"])


def _label_fields(samples: SampleCollection, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The fields whose labels are carried over; if none is named all but tags, which say what is changed."""
    import fiftyone as fo

    from ..carrying import chosen_fields

    chosen = chosen_fields(samples, names)
    schema = dataset_of(samples).get_field_schema()
    return chosen if names else tuple(n for n in chosen if schema[n].document_type is not fo.Classifications)


def _prompting(samples: SampleCollection, run: Run, rewording: Rewording, carried: tuple[str, ...]) -> Prompting:
    """Where prompts come from."""
    from ..describing import text_fields
    from ..llm import LanguageModel
    from .restyling import Prompting

    values, writer = run.params, None
    if values["change"] == "rewrite":
        writer = LanguageModel(values["llm_model"], base_url=values["llm_url"], budget_tokens=values["llm_budget"])
    return Prompting(text_fields(samples, values["text_field"]), carried, rewording, writer, values["instruction"])


def _worded(
    samples: SampleCollection, ids: list[str], prompting: Prompting
) -> tuple[list[str], dict[str, int]]:  # fmt: skip
    """The samples that get another prompt than their text, and how many do not."""
    from ..describing import text_of

    paths, rewording = prompting.text_fields, prompting.rewording
    columns = dataset_of(samples).select(ids, ordered=True).values(list(paths)) if paths else []
    rows = zip(*columns, strict=True) if paths else ((),) * len(ids)
    texts = [text_of(dict(zip(paths, row, strict=True)), paths) for row in rows]
    worded = [(one, text) for one, text in zip(ids, texts, strict=True) if text or not rewording.needs_text]
    changed = [one for one, text in worded if prompting.writer or rewording.changes(text)]
    if not worded:
        where = ", ".join(paths) or "training_text, caption, content_tags or classification"
        raise UsageError(
            f"samples: none has a text in {where}: run caption or tag first, name a text_field, or give prompts "
            "without {text}"
        )
    if not changed:
        words = ", ".join(rewording.explicit)
        raise ParameterError("swaps", dict(rewording.explicit), f"no text has any of the words {words}")
    return changed, {"without a text": len(ids) - len(worded), "nothing to swap": len(worded) - len(changed)}


def _verifier(
    samples: SampleCollection, ids: list[str], run: Run, carried: tuple[str, ...], swaps: Mapping[str, str]
) -> Verifier | None:
    """What looks for the objects again."""
    import fiftyone as fo

    from ..describing import labels_of
    from .rewording import renamed
    from .verifying import Verifier

    values = run.params
    if not values["verifier"]:
        return None
    dataset = dataset_of(samples)
    boxed = [n for n in carried if dataset.get_field(n).document_type in (fo.Detection, fo.Detections)]
    if not boxed:
        raise ParameterError("verifier", values["verifier"], "there are no boxes to verify among the label fields")
    options = Options(values["device"], values["dtype"], None, values["offline"], values["allow_pickle"])
    verifier = Verifier(values["verifier"], options, values["min_iou"], values["verifier_threshold"])
    known = verifier.finder.classes
    if known is not None:
        labels = (label for name in boxed for value in dataset.select(ids).values(name) for label in labels_of(value))
        missing = {renamed(label, swaps) for label in labels} - {name.replace("_", " ") for name in known}
        if missing:
            raise ParameterError(
                "verifier", values["verifier"],
                f"does not know {', '.join(sorted(missing)[:5])}: take one that finds any class, e.g. "
                "google/owlv2-base-patch16, or verify fewer label_fields",
            )  # fmt: skip
    run.models[verifier.finder.name] = verifier.finder.revision
    return verifier


def _layout(control: Any, depth_model: str, options: Options) -> Any:
    from .rescaling import Layout

    # The revision that was asked for is one of the generator.
    return Layout(control, depth_model, replace(options, revision=None))


def _usual(sizes: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The middle one of some sizes."""
    return sorted(sizes, key=lambda size: size[0] * size[1])[len(sizes) // 2] if sizes else None
