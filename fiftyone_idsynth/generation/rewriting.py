"""A language model rewrites descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import RefusedImage
from .english import whole_word

if TYPE_CHECKING:
    from ..llm import LanguageModel
    from ..llm.errors import LanguageModelError

_Asked = tuple[str, tuple[str, ...]]
"""A text, and the words that must stay in it."""

REWRITE_INSTRUCTION = """\
You vary the descriptions of images. For each numbered description write another one in which the main subject stays \
exactly what it is, named by the same words, while everything else changes: surroundings, light, weather, season, \
style, material or mood. Rules:
- One sentence each, at most 40 words, concrete and plain; something that a camera or an artist could show.
- Keep the number of main subjects and what they do. Add no text, logos, people or brands that were not there.
- The new description must differ clearly from the old one."""
"""What a language model is told by default when it rewrites texts."""

_AT_ONCE = 20
"""Texts that a language model is given at once, at most."""

_TOKENS_EACH = 60
"""What the new description of a text takes of the answer, about: 40 words."""

ASKED_AGAIN = 1500
"""Characters that are left free for an invalid answer, which is sent back with what is wrong with it."""

_MAY_BE_SPLIT = ("context", "invalid_answer", "declined", "refused", "timeout")
"""Why a question can fail because of one of its texts, or because of their number."""

_HOPELESS = 8
"""Questions without any answer after which a language model is given up; 20 texts are split 5 times."""


def rewrite(
    texts: Sequence[str],
    model: LanguageModel,
    *,
    instruction: str | None = None,
    subjects: Sequence[Sequence[str]] = (),
) -> list[str | RefusedImage]:
    """Lets a language model rewrite texts so that the main subject stays and the rest changes.

    It is given as many at a time as its context and its answer have room for. A question that fails because of one of
    its texts is split until only this text is refused; when no other question would be answered either (the budget is
    spent, no connection), the texts that are left are refused.

    Args:
        texts: the descriptions
        model: the language model
        instruction (None): what it is told, by default :data:`REWRITE_INSTRUCTION`
        subjects (()): for each text words that must stay in it

    Returns:
        for each text the new one, or why there is none

    Raises:
        LanguageModelError: it gave no usable answer at all
    """
    asking = _Asking(model, instruction or REWRITE_INSTRUCTION)
    asked = [(text, tuple(subjects[n]) if subjects else ()) for n, text in enumerate(texts)]
    results: list[str | RefusedImage] = []
    while len(results) < len(asked):
        results += asking.about(asking.batch(asked[len(results) :]))
    if asking.failed is not None and not asking.answered:
        raise asking.failed
    return results


class _Asking:
    """Questions to a language model about texts with words that must stay in them.

    Attributes:
        answered: whether it answered any
        failed: the last error
    """

    def __init__(self, model: LanguageModel, instruction: str):
        self._model, self._instruction = model, instruction
        self.answered = False
        self.failed: LanguageModelError | None = None
        self._failures = 0

    def batch(self, texts: Sequence[_Asked]) -> Sequence[_Asked]:
        """As many of the first texts as there is room for, in the question and in the answer; at least one."""
        from ..llm.answers import instruction

        most = min(_AT_ONCE, max(1, self._model.answer_tokens // _TOKENS_EACH))
        around = self._instruction + 2 * instruction(_answer_of(most)) + "x" * ASKED_AGAIN
        number = 1
        while number < min(most, len(texts)) and self._model.fits(around + _question(texts[: number + 1])):
            number += 1
        return texts[:number]

    def about(self, texts: Sequence[_Asked]) -> list[str | RefusedImage]:
        """Asks about some texts; if that fails because of one of them, or of their number, about a half at a time."""
        from ..llm.errors import FATAL, LanguageModelError

        hopeless = not self.answered and self._failures > _HOPELESS
        if self.failed is not None and (hopeless or self.failed.reason in FATAL):
            return [RefusedImage(self.failed.reason, f"not asked: {self.failed.detail}")] * len(texts)
        try:
            answer: Any = self._model.ask(self._instruction, _question(texts), _answer_of(len(texts)))
        except LanguageModelError as error:
            self.failed = error
            self._failures += 1
            if error.reason in _MAY_BE_SPLIT and len(texts) > 1:
                half = len(texts) // 2
                return self.about(texts[:half]) + self.about(texts[half:])
            return [RefusedImage(error.reason, error.detail)] * len(texts)
        self.answered = True
        return [_checked(text, new, kept) for (text, kept), new in zip(texts, answer.descriptions, strict=True)]


def _question(texts: Sequence[_Asked]) -> str:
    return "\n".join(
        f"{number}. {' '.join(text.split())}" + (f" [keep: {', '.join(kept)}]" if kept else "")
        for number, (text, kept) in enumerate(texts, 1)
    )


def _answer_of(number: int) -> Any:
    from pydantic import Field, create_model

    return create_model("Descriptions", descriptions=(list[str], Field(min_length=number, max_length=number)))


def _checked(before: str, after: str, kept: Sequence[str]) -> str | RefusedImage:
    text = " ".join(after.split())
    if not text:
        return RefusedImage("empty_rewrite", f"the language model gave nothing for {before!r}")
    if text.lower() == before.lower():
        return RefusedImage("same_rewrite", f"the language model changed nothing in {before!r}")
    missing = [word for word in kept if not whole_word(word).search(text)]
    if missing:
        return RefusedImage("subject_lost", f"{', '.join(missing)} is not in the language model's {text!r}")
    return text
