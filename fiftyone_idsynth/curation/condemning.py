"""A language model names the tags that prove that an image does not fit a query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import AfterValidator, BaseModel, create_model

from ..llm import LanguageModel
from ..llm.answers import instruction
from .irrelevance import plain

TAG_INSTRUCTION = """\
You clean up the results of an image search. Each image was tagged by a model. You are given the search query, and the \
tags with the number of images that have them and the tags that they are most often seen with. Name the tags that \
prove that an image does not show what the query asks for: images with such a tag will be put aside.
Rules:
- Copy tags exactly as they are listed; name no other tags and none twice.
- Name a tag only if hardly any image that fits the query would have it: things of another kind, other species, wrong \
meanings of the query's words, drawings or products if photographs of the real thing are wanted.
- Spare tags that mean the query or a part of it, its usual surroundings, colours, poses and companions, and tags so \
general that fitting images have them too.
- Taggers mistake things for others that look alike. Spare a tag that looks like what the query asks for.
- Tags with many images matter most. Name fewer than allowed, or none at all, rather than a doubtful one."""
"""What a language model is told by default; query, number of tags, tags named so far and tags follow as the question.

After the dissertation behind this project, which let GPT-4o name ten tags.
"""

_ASKED_AGAIN = 1500
"""Characters that are left free for an invalid answer, which is sent back with what is wrong with it."""


@dataclass(frozen=True)
class TagLine:
    """What a language model is told of a tag.

    Attributes:
        name: the tag
        images: how many images have it
        companions: tags that it is most often seen with
    """

    name: str
    images: int
    companions: Sequence[str] = ()

    def __str__(self) -> str:
        seen = f"; often with: {', '.join(self.companions)}" if self.companions else ""
        return f"- {self.name} ({self.images} image{'s' if self.images != 1 else ''}{seen})"


@dataclass
class Named:
    """The tags that were named.

    Attributes:
        tags: names as in the :class:`TagLine`, in the order in which they were named
        remarks: what the user should know, e.g. that named tags do not occur
    """

    tags: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def name_tags(
    model: LanguageModel,
    query: str,
    lines: Sequence[TagLine],
    *,
    max_tags: int,
    prompt: str = TAG_INSTRUCTION,
    spared: Sequence[str] = (),
    progress: Callable[[int], None] = lambda count: None,
) -> Named:
    """Asks which tags prove that an image does not fit a query.

    As many tags at a time as the model's context has room for, the most frequent first, each time with the tags that
    were named so far. If these become too many, a last round chooses among them.

    Args:
        model: the language model
        query: what the images shall show
        lines: the tags that occur
        max_tags: how many tags may be named
        prompt (TAG_INSTRUCTION): what the model is told
        spared (()): tags that mean the query; they are never taken
        progress: called with the number of tags that were asked about

    Returns:
        the tags

    Raises:
        LanguageModelError: there was no usable answer, e.g. none of the named tags occurs
        BudgetExceeded: the budget does not suffice
    """
    asking = _Asking(model, query, max_tags, prompt, set(map(plain, spared)))
    by_name = {plain(line.name): line for line in lines}
    ordered = sorted(lines, key=lambda line: (-line.images, line.name))
    chosen = asking.round(ordered, progress)
    while len(chosen) > max_tags:
        fewer = asking.round([by_name[name] for name in chosen], lambda count: None, last=True)
        if len(fewer) >= len(chosen) or not fewer:
            asking.remark(f"{model.model} named {len(chosen)} tags; those with the most images are taken")
            chosen = sorted(chosen, key=lambda name: -by_name[name].images)[:max_tags]
        else:
            chosen = fewer
    return Named([by_name[name].name for name in chosen], asking.remarks)


class _Asking:
    """Questions to a language model about tags, and the remarks on its answers."""

    def __init__(self, model: LanguageModel, query: str, max_tags: int, prompt: str, spared: set[str]):
        self._model, self._query, self._max_tags, self._prompt, self._spared = model, query, max_tags, prompt, spared
        self.remarks: list[str] = []

    def remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def round(self, lines: Sequence[TagLine], progress: Callable[[int], None], *, last: bool = False) -> list[str]:
        """Asks about all of some tags, batch by batch; returns the plain names of those that were named."""
        chosen: list[str] = []
        first = 0
        while first < len(lines):
            batch = self._batch(lines[first:], chosen)
            carried = [] if last else chosen
            chosen += [name for name in self._ask(batch, carried) if name not in chosen]
            first += len(batch)
            progress(len(batch))
        return chosen

    def _batch(self, lines: Sequence[TagLine], chosen: Sequence[str]) -> list[TagLine]:
        """As many of the first tags as there is room for, at least one."""
        schema = instruction(_answer_model(set()))
        around = self._prompt + self._question([], chosen) + 2 * schema
        free = self._model.context_tokens - self._model.answer_tokens - self._model.estimate_tokens("x" * _ASKED_AGAIN)
        free -= self._model.estimate_tokens(around)
        batch: list[TagLine] = []
        for line in lines:
            free -= self._model.estimate_tokens(f"{line}\n") + 1
            if batch and free < 0:
                break
            batch.append(line)
        return batch

    def _question(self, batch: Sequence[TagLine], chosen: Sequence[str]) -> str:
        named = f"\nTags named so far, from other lists: {', '.join(chosen)}" if chosen else ""
        listed = "\n".join(map(str, batch))
        return f"Query: {self._query}\nName at most {self._max_tags} tags.{named}\nTags:\n{listed}"

    def _ask(self, batch: Sequence[TagLine], chosen: Sequence[str]) -> list[str]:
        occurring = {plain(line.name) for line in batch}
        answer = self._model.ask(
            self._prompt, self._question(batch, chosen), _answer_model(occurring | set(chosen))
        ).model_dump()
        named = list(dict.fromkeys(map(plain, answer["tags"])))
        valid = [name for name in named if name in occurring and name not in self._spared]
        unknown = [name for name in named if name not in occurring and name not in chosen]
        if unknown:
            self.remark(f"{self._model.model} named tags that do not occur, which are left out: {', '.join(unknown)}")
        if meant := [name for name in named if name in self._spared & occurring]:
            self.remark(f"{self._model.model} named tags that mean the query, which are spared: {', '.join(meant)}")
        return valid[: self._max_tags]


def _answer_model(occurring: set[str]) -> type[BaseModel]:
    """The shape of the answer; one with tags of which none occurs is not valid, so that it is asked for again."""

    def checked(tags: list[str]) -> list[str]:
        if tags and not any(plain(tag) in occurring for tag in tags):
            raise ValueError("none of these tags is in the list; copy tags from the list, or name none")
        return tags

    return create_model("IrrelevantTags", tags=(Annotated[list[str], AfterValidator(checked)], ...))
