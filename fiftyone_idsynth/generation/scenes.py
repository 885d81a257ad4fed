"""Descriptions of surroundings for objects: from the word list, or varied by a language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import RefusedImage
from ..stage import Run, fingerprint
from .rewriting import rewrite
from .variation import scene_prompts
from .wordlist import read_vocabulary

INSTRUCTION = """\
You describe surroundings into which a picture of {subject} will be set. For each numbered description write another \
one, of a place where it could be, seen at the same distance as it, with its light and weather. Rules:
- Describe only what is around it. Never name {subject}, nor anything of the same kind: it would be painted twice.
- One sentence each, at most 30 words, concrete and plain; something that a camera could show. No people, no text.
- The new description must differ clearly from the old one and from the others."""
"""What a language model is told by default; ``{subject}`` stands for the classes of the objects."""

_WRITTEN = "idsynth_prompts"
"""Where what language models wrote is kept in ``dataset.info``, so that a run that goes on has the same texts."""


def scenes_from_words(count: int, seed: int, vocabulary: Path | None) -> list[str]:
    """Surroundings from the word list.

    Args:
        count: how many
        seed: of every choice
        vocabulary: a file with further words, if any
    """
    return scene_prompts(count, seed, read_vocabulary(vocabulary))


def scenes_from_model(
    run: Run, scenes: Sequence[str], subjects: Sequence[str], *, name: str, url: str | None, budget: int,
    instruction: str | None,
) -> list[str]:  # fmt: skip
    """Surroundings that a language model makes of others.

    Args:
        run: the run
        scenes: descriptions to begin with
        subjects: classes of the objects, which must not be named
        name: the language model
        url: its address, if not the usual one
        budget: tokens that it may use
        instruction: what it is told, by default :data:`INSTRUCTION`

    Returns:
        the new ones; those that name a class are left out

    Raises:
        LanguageModelError: it gave no usable answer to the first question
    """
    from ..llm import LanguageModel

    told = (instruction or INSTRUCTION).replace("{subject}", " or ".join(subjects) or "an object")
    key = fingerprint(run.stage.name, list(scenes), list(subjects), told, name)
    kept: dict[str, list[str]] = dict(run.dataset.info.get(_WRITTEN) or {})
    if key not in kept:
        model = LanguageModel(name, base_url=url, budget_tokens=budget)
        try:
            answers = rewrite(list(scenes), model, instruction=told)
        finally:
            model.close()
        kept[key] = _usable(run, answers, subjects)
        run.dataset.info[_WRITTEN] = kept
        run.dataset.save()
    return kept[key]


def _usable(run: Run, answers: Sequence[str | RefusedImage], subjects: Sequence[str]) -> list[str]:
    texts = [answer for answer in answers if isinstance(answer, str)]
    apart = [text for text in texts if not any(subject.lower() in text.lower() for subject in subjects)]
    if len(apart) < len(answers):
        run.note(
            f"{len(answers) - len(apart)} of {len(answers)} descriptions of the language model were left out: "
            f"{len(texts) - len(apart)} name the object, the others say nothing new"
        )
    return list(dict.fromkeys(apart))
