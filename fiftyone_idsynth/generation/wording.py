"""The prompts that the stage ``generate`` is asked for, and the model that suits them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..runs import Run, fingerprint
from .prompts import Prompts, ask_prompts, fill, make_prompts
from .variation import read_vocabulary
from .variety import spread, too_near

if TYPE_CHECKING:
    import fiftyone as fo

    from ..models.options import Options
    from ..models.roles import Matcher

SMALL_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
LARGE_MODEL = "stabilityai/stable-diffusion-xl-base-1.0"

SMALL_SIDE = 640
"""Up to this longer side in pixels the small model is chosen: it was trained at 512."""

SIMPLE_WORDS = 25
"""Up to this many words in the prompts, on average, the small model is chosen."""

LEAST_DISTANCE = 0.02
"""Prompts whose embeddings are nearer (1 - cosine) mean the same to the model that compares them."""


@dataclass(frozen=True)
class Prompt:
    """What an image shall show.

    Attributes:
        text: in the words that the model gets
        subject: the subject that it is about, if there is one
    """

    text: str
    subject: str = ""


def write_prompts(run: Run, options: Options) -> tuple[list[Prompt], dict[str, Any]]:
    """Writes the prompts that the parameters of ``generate`` ask for.

    Args:
        run: the run of ``generate``
        options: how the model that compares prompts is loaded

    Returns:
        the prompts, those of different subjects in turns, and how varied they are
    """
    values = run.params
    subjects, count = tuple(values["subject"]), values["count"]
    matcher = _matcher(values["matcher"], options)
    if values["prompts"]:
        made = [Prompts(list(dict.fromkeys(fill(t, s) for t in values["prompts"]))) for s in subjects or ("",)]
    else:
        share = -(-count // len(subjects))
        made = [_prompts_for(run, subject, share) for subject in subjects]
    for prompts in made:
        for remark in prompts.remarks:
            run.note(remark)
        if matcher is not None and not values["prompts"]:
            near = too_near(prompts.texts, matcher, LEAST_DISTANCE)
            prompts.similar += sum(near)
            prompts.texts = [text for text, is_near in zip(prompts.texts, near, strict=True) if not is_near]
    rows = itertools.zip_longest(*(prompts.texts for prompts in made))
    found = [Prompt(t, s) for row in rows for s, t in zip(subjects or ("",), row, strict=True) if t is not None]
    figures = spread([prompt.text for prompt in found], matcher)
    return found, {"prompts": len(found), "too similar": sum(prompts.similar for prompts in made), **figures}


def _prompts_for(run: Run, subject: str, count: int) -> Prompts:
    values = run.params
    if values["written_by"] == "grid":
        return make_prompts(
            subject, count, task=values["task"], templates=values["templates"],
            vocabulary=read_vocabulary(values["vocabulary"]), max_similarity=values["max_similarity"],
            seed=values["seed"],
        )  # fmt: skip
    from ..llm import LanguageModel

    key = fingerprint(subject, *(values[name] for name in ("task", "instruction", "llm_model", "max_similarity")))
    known = written_prompts(run.dataset).get(key, [])
    if len(known) >= count:
        return Prompts(known[:count])
    model = LanguageModel(values["llm_model"], base_url=values["llm_url"], budget_tokens=values["llm_budget"])
    try:
        made = ask_prompts(
            subject, count, model, task=values["task"], instruction=values["instruction"],
            max_similarity=values["max_similarity"], known=known,
        )  # fmt: skip
    finally:
        model.close()
    # Kept, so that a run that was interrupted, or one that makes more, goes on with the same ones.
    run.dataset.info["idsynth_prompts"] = {**written_prompts(run.dataset), key: made.texts}
    run.dataset.save()
    return made


def written_prompts(dataset: fo.Dataset) -> dict[str, list[str]]:
    """The prompts that language models wrote for a dataset, by what they were asked."""
    return dict(dataset.info.get("idsynth_prompts") or {})


def _matcher(name: str | None, options: Options) -> Matcher | None:
    if not name:
        return None
    from ..models.loading import find_model
    from ..models.roles import Matcher

    return find_model(Matcher, name, options)  # type: ignore[type-abstract]  # an interface


def choose_model(prompts: Sequence[Prompt], width: int | None, height: int | None) -> tuple[str, str]:
    """Chooses between Stable Diffusion 1.5, for small and simple pictures, and SDXL.

    Args:
        prompts: what is to be made
        width: width in pixels, if one is asked for
        height: height in pixels, if one is asked for

    Returns:
        the hub id, and why, in words
    """
    words = sum(len(prompt.text.split()) for prompt in prompts) / max(1, len(prompts))
    largest = max(width or 0, height or 0)
    if largest > SMALL_SIDE:
        return LARGE_MODEL, f"model: SDXL, since {largest} pixels are more than SD 1.5 was trained for"
    if words > SIMPLE_WORDS:
        return LARGE_MODEL, f"model: SDXL, since the prompts are long ({words:.0f} words on average)"
    return SMALL_MODEL, "model: SD 1.5, since the images are small and the prompts are simple"
