"""Prompts for generated images: of templates and words, or written by a language model; varied, and how varied."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ParameterError, UsageError, suggestion
from .combining import combinations
from .english import content_words, singulars, with_article
from .rewriting import ASKED_AGAIN
from .variety import Distinct
from .wordlist import Vocabulary

if TYPE_CHECKING:
    from ..llm import LanguageModel

TEMPLATES: dict[str, tuple[str, ...]] = {
    "detection": (
        "a photo of {a subject} {setting}, {view}, {light}",
        "a photo of {a subject} {setting}, {weather}, {view}",
    ),
    "segmentation": (
        "a photo of {a subject} {setting}, {view}, {light}",
        "a photo of {a subject} {setting}, {weather}, {view}",
    ),
    "classification": (
        "a photo of {a subject} {setting}, {light}",
        "a photo of {a subject}, {view}, {light}, {camera}",
    ),
    "generation": (
        "{a style} of {a subject} {setting}, {light}",
        "{a style} of {a subject}, {view}, {season}",
    ),
}
"""Task -> the patterns of its prompts."""

INSTRUCTION = """\
You write prompts for a text-to-image model. The images become training data, so they must show the given subject in \
many different ways. Rules:
- Every prompt names the subject by the words that are given, and shows it clearly.
- Vary surroundings, distance, viewpoint, light, weather, season, other things in the picture and, only if you are \
asked for it, the style. No two prompts describe nearly the same picture.
- One line each, 8 to 40 words, concrete and plain. No numbers, no quality words ("8k", "masterpiece"), no text in the \
picture, no names of artists or brands.
- Do not repeat prompts that you are shown."""
"""What a language model is told by default."""

_ASKED_AT_ONCE = 25
_SHOWN_AT_ONCE = 30
_LONGEST = 100
"""Words that a prompt of a language model has at most."""

_SLOT = re.compile(r"\{([^{}]*)\}")


@dataclass
class Prompts:
    """Prompts that differ.

    Attributes:
        texts: the prompts
        similar: how many others were left out since they say nearly the same as one of them
        remarks: what the user should know
    """

    texts: list[str] = field(default_factory=list)
    similar: int = 0
    remarks: list[str] = field(default_factory=list)


def make_prompts(
    subject: str,
    count: int,
    *,
    task: str = "detection",
    templates: Sequence[str] = (),
    vocabulary: Vocabulary,
    max_similarity: float = 0.8,
    seed: int = 51,
) -> Prompts:
    """Makes prompts of templates and words; every template and every word occurs about equally often.

    Args:
        subject: what the images show
        count: how many; the same seed gives the same ones first, and more of them for a larger count
        task ("detection"): what the images are for
        templates (()): patterns with ``{subject}`` or ``{a subject}`` (with its article) and groups of the vocabulary
            in braces; by default :data:`TEMPLATES` of the task
        vocabulary: the words
        max_similarity (0.8): see :class:`Distinct`
        seed (51): of every choice

    Returns:
        the prompts; fewer if there are not so many that differ

    Raises:
        UsageError: the subject is empty, or a template has an unknown slot or no subject
    """
    if not subject.strip():
        raise ParameterError("subject", subject, "say what the images shall show, e.g. 'red panda'")
    distinct, made = Distinct(max_similarity, subject), Prompts()
    for text in grid(templates or TEMPLATES[task], vocabulary, seed, subject):
        if distinct.take(text):
            made.texts.append(text)
        else:
            made.similar += 1
        if len(made.texts) == count:
            break
    if len(made.texts) < count:
        made.remarks.append(
            f"{len(made.texts)} different prompts for {subject!r} can be made of the templates, not {count}: they "
            "repeat with other seeds. Add words (vocabulary) or templates, or raise max_similarity"
        )
    return made


def grid(patterns: Sequence[str], vocabulary: Vocabulary, seed: int, subject: str | None = None) -> Iterator[str]:
    """Fills templates with words, one of each template in turn, until all combinations were made.

    Args:
        patterns: the templates
        vocabulary: the words; those that contradict one another are not combined
        seed: of the order
        subject (None): what the slot ``{subject}`` stands for; without one the templates must not have it

    Raises:
        UsageError: a template has an unknown slot, or no subject
    """
    turns = []
    for number, pattern in enumerate(patterns):
        used = _slots(pattern, vocabulary, subject is not None)
        values = combinations([vocabulary.words(name) for name in used], seed + number, vocabulary.clash)
        turns.append((pattern, used, values))
    while turns:
        for turn in list(turns):
            pattern, used, values = turn
            chosen = next(values, None)
            if chosen is None:
                turns.remove(turn)
            else:
                words = dict(zip(used, chosen, strict=True))
                yield fill(pattern, subject or "", words)


def _slots(pattern: str, vocabulary: Vocabulary, with_subject: bool) -> list[str]:
    """The groups of the vocabulary that a template uses."""
    names = [name.strip().removeprefix("a ").strip() for name in _SLOT.findall(pattern)]
    allowed = {*vocabulary.groups, *(["subject"] if with_subject else [])}
    for name in names:
        if name not in allowed:
            raise ParameterError("templates", pattern, f"{{{name}}} is no slot: {suggestion(name, allowed)}")
    if with_subject and "subject" not in names:
        raise ParameterError("templates", pattern, "must contain {subject}, or {a subject} with its article")
    return list(dict.fromkeys(name for name in names if name != "subject"))


def fill(pattern: str, subject: str, values: Mapping[str, str] = {}) -> str:
    """Fills in a template: ``{subject}``, ``{setting}``, or with its article ``{a subject}``; other slots stay."""
    known = {**values, "subject": subject}

    def word(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name in known:
            return known[name]
        plain = name.removeprefix("a ")
        return with_article(known[plain]) if plain in known else match[0]

    return " ".join(_SLOT.sub(word, pattern).split())


def ask_prompts(
    subject: str,
    count: int,
    model: LanguageModel,
    *,
    task: str = "detection",
    instruction: str | None = None,
    max_similarity: float = 0.8,
    known: Sequence[str] = (),
) -> Prompts:
    """Lets a language model write prompts, in rounds, until there are enough or it has no new ones.

    Args:
        subject: what the images show
        count: how many, those that are known included
        model: the language model
        task ("detection"): what the images are for
        instruction (None): what it is told, by default :data:`INSTRUCTION`
        max_similarity (0.8): see :class:`Distinct`
        known (()): prompts that there are already; they come first

    Returns:
        the prompts; fewer if the model had no more, or its budget was spent

    Raises:
        LanguageModelError: it gave no usable answer to the first question
    """
    from ..llm.errors import FATAL, LanguageModelError

    made, distinct, refused = Prompts(), Distinct(max_similarity, subject), Counter[str]()
    made.texts += [text for text in known if distinct.take(text)]
    told = instruction or INSTRUCTION
    barren, most = 0, _ASKED_AT_ONCE
    while len(made.texts) < count and barren < 2:
        wanted = min(most, count - len(made.texts) + 5)
        try:
            answer: Any = model.ask(told, _question(subject, task, wanted, made.texts, told, model), _answer())
        except LanguageModelError as error:
            if not made.texts:
                raise
            barren, most = barren + 1, max(1, most // 2)  # perhaps it was too much for it
            if error.reason in FATAL or barren == 2:
                made.remarks.append(f"the language model stopped after {len(made.texts)} prompts: {error.detail}")
                break
            continue
        before = len(made.texts)
        for text in (" ".join(text.split()) for text in answer.prompts):
            problem = _problem(text, subject)
            if problem:
                refused[problem] += 1
            elif not distinct.take(text):
                made.similar += 1
            elif len(made.texts) < count:
                made.texts.append(text)
        barren = barren + 1 if len(made.texts) == before else 0
    else:
        if len(made.texts) < count:
            had = f"{len(made.texts)} different prompts for {subject!r}"
            made.remarks.append(f"the language model had no more than {had}")
    made.remarks += [f"{number} prompts of the language model left out: {why}" for why, number in refused.items()]
    return made


def _question(subject: str, task: str, wanted: int, there: Sequence[str], told: str, model: LanguageModel) -> str:
    """What a language model is asked, with as many of the latest prompts as there is room for."""
    styles = "any style" if task == "generation" else "photographs only"
    asked = f"Subject: {subject}\nStyle: {styles}\nHow many prompts: {wanted}\n"
    for shown in range(min(_SHOWN_AT_ONCE, len(there)), 0, -1):
        question = asked + "There are already:\n" + "\n".join(f"- {text}" for text in there[-shown:])
        if model.fits(told + question + "x" * ASKED_AGAIN):
            return question
    return asked


def _answer() -> Any:
    from pydantic import create_model

    return create_model("Answer", prompts=(list[str], ...))


def _problem(text: str, subject: str) -> str:
    """Why a text is no prompt for a subject; empty if it is one."""
    words = text.lower().split()
    if len(words) < 3:
        return "too short"
    if len(words) > _LONGEST:
        return f"more than {_LONGEST} words"
    there = {form for word in content_words(text) for form in singulars(word)}
    missing = [word for word in content_words(subject) if not there & set(singulars(word))]
    return f"without {', '.join(missing)}" if missing else ""


def read_texts(value: Any) -> tuple[str, ...]:
    """Texts as a user gives them: a list, a text file with one a line (``.txt``), or one text; ``|`` parts several.

    Raises:
        UsageError: the file cannot be read or is empty, or a text is none
    """
    if isinstance(value, Path) or (isinstance(value, str) and value.strip().lower().endswith(".txt")):
        path = Path(str(value).strip()).expanduser()
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{str(path)!r} cannot be read as a text file with one text a line: {error}") from error
        texts = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not texts:
            raise UsageError(f"{str(path)!r} has no texts: write one a line")
        return tuple(texts)
    parts: Iterable[Any] = re.split(r"[|\n]", value) if isinstance(value, str) else value
    texts = []
    for part in parts:
        if not isinstance(part, str):
            raise UsageError(f"{part!r} is no text: give texts, or a text file (.txt) with one a line")
        if part.strip():
            texts.append(part.strip())
    return tuple(texts)
