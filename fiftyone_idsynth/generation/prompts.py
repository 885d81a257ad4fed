"""Prompts for generated images: of templates and words, or written by a language model; varied, and how varied."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ParameterError, UsageError, suggestion
from .variation import Vocabulary, begins_with_vowel, content_words

if TYPE_CHECKING:
    from ..llm import LanguageModel
    from ..models.roles import Matcher

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

_COMPARED = 1000
"""How many prompts the embedding measures of :func:`spread` look at, at most."""


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


class Distinct:
    """Tells prompts that say nearly the same as an earlier one.

    Two prompts are compared by the words that mean something, without those of the subject: by the share of common ones
    among all (Jaccard).

    Args:
        max_similarity: a greater similarity, 0..1, is too much
        common: words that do not count, e.g. the subject
    """

    def __init__(self, max_similarity: float, common: str = ""):
        self._most = max_similarity
        self._common = set(content_words(common))
        self._texts: set[str] = set()
        self._sizes: list[int] = []
        self._with: dict[str, list[int]] = {}

    def take(self, text: str) -> bool:
        """Takes a prompt, unless one like it was taken before."""
        normal = " ".join(text.lower().split())
        words = set(content_words(text)) - self._common
        if normal in self._texts or self._nearest(words) > self._most:
            return False
        self._texts.add(normal)
        for word in words:
            self._with.setdefault(word, []).append(len(self._sizes))
        self._sizes.append(len(words))
        return True

    def _nearest(self, words: set[str]) -> float:
        """The greatest similarity with a prompt that was taken."""
        lists = [self._with[word] for word in words if word in self._with]
        if not lists:
            return 0.0
        shared = np.bincount(np.concatenate([np.asarray(numbers) for numbers in lists]), minlength=len(self._sizes))
        union = np.asarray(self._sizes) + len(words) - shared
        return float((shared / union).max())


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
    patterns = list(templates) or list(TEMPLATES[task])
    slots = [_slots(pattern, vocabulary) for pattern in patterns]
    turns = [
        (pattern, used, combinations([vocabulary.words(name) for name in used], seed + number))
        for number, (pattern, used) in enumerate(zip(patterns, slots, strict=True))
    ]
    distinct, made = Distinct(max_similarity, subject), Prompts()
    while turns and len(made.texts) < count:
        for turn in list(turns):
            pattern, used, values = turn
            chosen = next(values, None)
            if chosen is None:
                turns.remove(turn)
                continue
            text = fill(pattern, subject, dict(zip(used, chosen, strict=True)))
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


def combinations(lists: Sequence[Sequence[str]], seed: int) -> Iterator[tuple[str, ...]]:
    """All combinations of one word from each list, so that all words of a list occur equally often at any time.

    Each list is gone through in a new order again and again; what came before is passed over. When that finds nothing
    new for long, the rest follows in a random order.

    Args:
        lists: the words
        seed: of the orders
    """
    rng = np.random.default_rng(seed)
    total = int(np.prod([len(words) for words in lists], dtype=object)) if lists else 1
    seen: set[tuple[int, ...]] = set()
    streams = [_turns(len(words), rng) for words in lists]
    failures = 0
    while len(seen) < total and failures < 1000:
        chosen = tuple(next(stream) for stream in streams)
        if chosen in seen:
            failures += 1
            continue
        failures = 0
        seen.add(chosen)
        yield tuple(words[number] for words, number in zip(lists, chosen, strict=True))
    rest = [c for c in itertools.product(*(range(len(words)) for words in lists)) if c not in seen]
    for number in rng.permutation(len(rest)):
        yield tuple(words[n] for words, n in zip(lists, rest[number], strict=True))


def _turns(length: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from (int(number) for number in rng.permutation(length))


def _slots(pattern: str, vocabulary: Vocabulary) -> list[str]:
    """The groups of the vocabulary that a template uses."""
    names = [name.strip().removeprefix("a ") for name in _SLOT.findall(pattern)]
    unknown = [name for name in names if name != "subject" and name not in vocabulary.groups]
    if unknown:
        known = suggestion(unknown[0], ["subject", *vocabulary.groups])
        raise ParameterError("templates", pattern, f"{{{unknown[0]}}} is no slot: {known}")
    if "subject" not in names:
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


def with_article(noun: str) -> str:
    """A noun with "a" or "an", unless it has an article, a number or a plural already."""
    first, _, _ = noun.partition(" ")
    head = noun.partition(" of ")[0]
    plural = head.endswith("s") and not head.endswith(("ss", "us", "is"))
    if first.lower() in ("a", "an", "the", "some", "two", "three", "several", "many") or first.isdigit() or plural:
        return noun
    return f"{'an' if begins_with_vowel(first) else 'a'} {noun}"


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
    from ..llm.errors import LanguageModelError

    made, distinct, refused = Prompts(), Distinct(max_similarity, subject), Counter[str]()
    made.texts += [text for text in known if distinct.take(text)]
    styles = "any style" if task == "generation" else "photographs only"
    barren = 0
    while len(made.texts) < count and barren < 2:
        wanted = min(_ASKED_AT_ONCE, count - len(made.texts) + 5)
        shown = "\n".join(f"- {text}" for text in made.texts[-_SHOWN_AT_ONCE:])
        question = f"Subject: {subject}\nStyle: {styles}\nHow many prompts: {wanted}\n" + (
            f"There are already:\n{shown}" if shown else ""
        )
        try:
            answer: Any = model.ask(instruction or INSTRUCTION, question, _answer())
        except LanguageModelError as error:
            if not made.texts:
                raise
            made.remarks.append(f"the language model stopped after {len(made.texts)} prompts: {error.detail}")
            break
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
    if barren == 2:
        made.remarks.append(f"the language model had no more than {len(made.texts)} different prompts for {subject!r}")
    made.remarks += [f"{number} prompts of the language model left out: {why}" for why, number in refused.items()]
    return made


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
    missing = [word for word in content_words(subject) if not any(part.startswith(word[:-1] or word) for part in
                                                                 content_words(text))]  # fmt: skip
    return f"without {', '.join(missing)}" if missing else ""


def spread(texts: Sequence[str], matcher: Matcher | None = None) -> dict[str, float]:
    """Measures how varied texts are.

    Args:
        texts: the texts
        matcher (None): compares them by meaning too

    Returns:
        ``distinct-1`` and ``distinct-2``: different words, and pairs of words, per word and pair (Li et al. 2016, "A
        diversity-promoting objective function for neural conversation models"); with a matcher also ``mean distance``
        (1 - cosine) of the embeddings of two texts, of at most 1,000 texts
    """
    found: dict[str, float] = {}
    tokens = [re.findall(r"[\w'-]+", text.lower()) for text in texts]
    for n in (1, 2):
        grams = [tuple(words[i : i + n]) for words in tokens for i in range(len(words) - n + 1)]
        found[f"distinct-{n}"] = round(len(set(grams)) / len(grams), 4) if grams else 0.0
    if matcher is not None and len(texts) > 1:
        chosen = texts[:: -(-len(texts) // _COMPARED)]
        vectors = matcher.embed_texts(list(chosen))
        cosines = vectors @ vectors.T
        pairs = len(chosen) * (len(chosen) - 1)
        found["mean distance"] = round(float(1 - (cosines.sum() - np.trace(cosines)) / max(1, pairs)), 4)
    return found


def too_near(texts: Sequence[str], matcher: Matcher, min_distance: float) -> list[bool]:
    """Which texts mean nearly the same as an earlier one that is none of these itself.

    Args:
        texts: the texts
        matcher: compares them
        min_distance: the least distance (1 - cosine)
    """
    vectors = np.concatenate([matcher.embed_texts(list(texts[i : i + 256])) for i in range(0, len(texts), 256)])
    kept: list[int] = []
    near = []
    for number, vector in enumerate(vectors):
        close = bool(kept) and float((vectors[kept] @ vector).max()) > 1 - min_distance
        near.append(close)
        if not close:
            kept.append(number)
    return near


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
