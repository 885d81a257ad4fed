"""The prompts that the stage ``generate`` is asked for, and the model that suits them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ParameterError
from ..runs import Run, fingerprint
from .prompts import Prompts, ask_prompts, fill, make_prompts
from .variety import Apart, Distinct, spread
from .wordlist import read_vocabulary

if TYPE_CHECKING:
    import fiftyone as fo

    from ..llm import LanguageModel
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

_MOST = 4
"""How many times as many prompts as are wanted are made at most to replace those that the matcher finds alike."""

_MORE = 10
"""How many more prompts are made at least to replace some."""


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
    subjects, count = tuple(values["subject"]) or ("",), values["count"]
    matcher = _matcher(values["matcher"], options)
    writer = _Writer(run, matcher)
    try:
        if values["prompts"]:
            made = [writer.own(subject, several=len(subjects) > 1) for subject in subjects]
        else:
            made = [writer.new(subject, -(-count // len(subjects))) for subject in subjects]
    finally:
        writer.close()
    for remark in dict.fromkeys(remark for prompts in made for remark in prompts.remarks):
        run.note(remark)
    rows = itertools.zip_longest(*(prompts.texts for prompts in made))
    found = [Prompt(text, s) for row in rows for s, text in zip(subjects, row, strict=True) if text is not None]
    figures = spread([prompt.text for prompt in found], matcher)
    return found, {"prompts": len(found), "too similar": sum(prompts.similar for prompts in made), **figures}


class _Writer:
    """Writes the prompts for one subject after the other; they share the budget of the language model."""

    def __init__(self, run: Run, matcher: Matcher | None):
        self._run, self._matcher = run, matcher
        self._model: LanguageModel | None = None

    def close(self) -> None:
        """Closes connections, and tells what the language model's server left to tell."""
        if self._model is not None:
            self._model.close()
            for remark in self._model.notes:
                self._run.note(remark)

    def own(self, subject: str, *, several: bool) -> Prompts:
        """The user's prompts, without those that say nearly the same as an earlier one."""
        given, most = self._run.params["prompts"], self._run.params["max_similarity"]
        for text in given if several else ():
            if fill(text, "1") == fill(text, "2"):
                problem = "there are several subjects: write {subject} where each belongs, or run it for one at a time"
                raise ParameterError("prompts", text, problem)
        texts = [fill(text, subject) for text in given]
        distinct = Distinct(most, subject)
        made = Prompts()
        made.texts, alike = _parted(texts, [not distinct.take(text) for text in texts])
        if alike:
            remedy = f": max_similarity=1 keeps all that are not repeated (it is {most:g})" if most < 1 else ""
            made.remarks.append(
                f"{len(alike)} of your {len(texts)} prompts are left out, since they say nearly the same as another "
                f"one, e.g. {alike[0]!r}{remedy}"
            )
        near: list[str] = []
        if self._matcher is not None:
            made.texts, near = _parted(made.texts, Apart(self._matcher, LEAST_DISTANCE).near(made.texts))
        if near:
            made.remarks.append(
                f"{len(near)} of your {len(texts)} prompts are left out, since they mean the same as another one to "
                f"the matcher, e.g. {near[0]!r}"
            )
        made.similar = len(alike) + len(near)
        return made

    def new(self, subject: str, count: int) -> Prompts:
        """As many prompts as are wanted; those that mean the same to the matcher are replaced."""
        made = self._candidates(subject, count)
        if self._matcher is None:
            return made
        remarks = made.remarks
        apart, looked_at, asked, kept = Apart(self._matcher, LEAST_DISTANCE), 0, count, list[str]()
        while True:
            new = made.texts[looked_at:]
            looked_at = len(made.texts)
            kept += _parted(new, apart.near(new))[0]
            if len(kept) >= count or looked_at < asked or asked >= _MOST * count:
                break
            asked = min(_MOST * count, asked + max(2 * (count - len(kept)), _MORE))
            made = self._candidates(subject, asked)
        alike = looked_at - len(kept)
        if len(kept) < count:
            remarks = made.remarks
            remarks.append(
                f"{len(kept)} different prompts for {subject!r} were found, not {count}, and repeat with other seeds: "
                f"of {looked_at}, {alike} mean the same as another one to the matcher"
            )
        return Prompts(kept[:count], made.similar + alike, remarks)

    def _candidates(self, subject: str, count: int) -> Prompts:
        values = self._run.params
        if values["written_by"] == "grid":
            return make_prompts(
                subject, count, task=values["task"], templates=values["templates"],
                vocabulary=read_vocabulary(values["vocabulary"]), max_similarity=values["max_similarity"],
                seed=values["seed"],
            )  # fmt: skip
        dataset = self._run.dataset
        key = fingerprint(subject, *(values[name] for name in ("task", "instruction", "llm_model", "max_similarity")))
        known = written_prompts(dataset).get(key, [])
        if len(known) >= count:
            return Prompts(known[:count])
        made = ask_prompts(
            subject, count, self._language_model(), task=values["task"], instruction=values["instruction"],
            max_similarity=values["max_similarity"], known=known,
        )  # fmt: skip
        # Kept, so that a run that was interrupted, or one that makes more, goes on with the same ones.
        dataset.info["idsynth_prompts"] = {**written_prompts(dataset), key: made.texts}
        dataset.save()
        return made

    def _language_model(self) -> LanguageModel:
        from ..llm import LanguageModel

        if self._model is None:
            values = self._run.params
            self._model = LanguageModel(
                values["llm_model"], base_url=values["llm_url"], budget_tokens=values["llm_budget"]
            )
        return self._model


def _parted(texts: Sequence[str], left_out: Sequence[bool]) -> tuple[list[str], list[str]]:
    """The texts that stay, and the others."""
    pairs = list(zip(texts, left_out, strict=True))
    return [text for text, out in pairs if not out], [text for text, out in pairs if out]


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
