"""From a topic to the queries it is searched with: languages, synonyms, and where they come from."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from ..errors import ParameterError, suggestion
from ..languages import LANGUAGES, language_code, named
from ..words import find_words
from .sources.base import Query

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..llm import LanguageModel

Variants = Literal["none", "words", "llm"]

MAX_LENGTH = 200
"""Characters that a query has at most; search engines cut longer ones."""

_LABELLED = re.compile(r"\s*([A-Za-z]{2,3}(?:-[A-Za-z]+)?):(?!//)(.*)", re.S)

QUERY_INSTRUCTION = """\
You write search phrases for image search engines. For the topic that you are given, write the phrases with which \
people who speak each of the given languages would look for photographs of exactly this thing: its usual name first, \
then synonyms and other common names.
Rules:
- Each phrase is written in its own language and script, as a native speaker would type it: one to five words.
- A phrase means neither more nor less than the topic: no broader, narrower or merely related thing. If a name means \
something else as well, add a word that tells them apart.
- No quotation marks, search operators, numbers or explanations; no two phrases that differ only in case or number.
- Leave a phrase out if you are not sure of it.
Say in topic_language in which language the topic itself is written (its two-letter code of ISO 639-1)."""
"""What a language model is told by default; topic, languages and the number of phrases follow as the question."""


@dataclass
class Queries:
    """What is searched for.

    Attributes:
        queries: the queries, the most fitting first
        remarks: what the user should know, e.g. which languages were left out
    """

    queries: list[Query] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def make_queries(
    topic: str,
    *,
    languages: Sequence[str] = ("en",),
    synonyms: Sequence[str] = (),
    queries: Sequence[str] = (),
    variants: Variants = "none",
    word_list: str | os.PathLike[str] | None = None,
    model: LanguageModel | None = None,
    instruction: str | None = None,
    topic_language: str | None = None,
    max_queries: int = 24,
) -> Queries:
    """Makes the queries that a topic is searched with.

    A language for which there is no word is left out, with a remark: a word of one language is never searched as one of
    another.

    Args:
        topic: what the images are to show
        languages (("en",)): the languages to search in (ISO 639-1), the topic's own first
        synonyms (()): further words, in the topic's language (the first of ``languages`` if that is not among
            them) or as ``"de:Katzenbär"``
        queries (()): exactly these queries (``"de:Katzenbär"``, or just words in the first language) and no others
        variants ("none"): where translations and synonyms come from: nowhere, an offline word list (``"words"``) or a
            language model (``"llm"``)
        word_list (None): for ``"words"``, a file of further words (see :func:`fiftyone_idsynth.words.find_words`)
        model (None): for ``"llm"``, the language model
        instruction (None): for ``"llm"``, what it is told, by default :data:`QUERY_INSTRUCTION`
        topic_language (None): the language of the topic; by default what the word list or the language model finds,
            else the first of ``languages``
        max_queries (24): how many queries are made at most; those given in ``queries`` are all used

    Returns:
        the queries and remarks on them

    Raises:
        ParameterError: a value is wrong, or no query is left
        LanguageModelError: the language model gave no usable answer
    """
    topic = _words(topic, "topic")
    wanted = list(dict.fromkeys(language_code(code) for code in _listed(languages)))
    if not wanted:
        raise ParameterError("languages", languages, "name at least one language, e.g. 'en'")
    if variants not in get_args(Variants):
        raise ParameterError("variants", variants, suggestion(str(variants), get_args(Variants)))
    if max_queries < 1:
        raise ParameterError("max_queries", max_queries, "must be at least 1")
    if variants == "llm" and model is None and not queries:
        raise ParameterError("model", None, "variants='llm' needs a language model: name one, or use variants='words'")
    own_language = language_code(topic_language, "topic_language") if topic_language else None
    if queries:
        return Queries(_merged([_given(text, wanted[0], "queries") for text in _listed(queries)]))

    for text in _listed(synonyms):
        _given(text, wanted[0], "synonyms")  # a mistake is found before anything is asked
    made = Queries()
    further: Mapping[str, Sequence[str]] = {}
    if variants == "words":
        found = find_words(
            topic, wanted, spoken=[own_language] if own_language else _likeliest(wanted), word_list=word_list
        )
        own_language = own_language or (found.language if found else None)
        further = found.words if found else {}
    elif model is not None and variants == "llm":
        own_language, further = _asked(model, instruction, topic, wanted, own_language, max_queries)
    own_language = own_language or wanted[0]
    spoken = own_language if own_language in wanted else wanted[0]
    extra = [_given(text, spoken, "synonyms") for text in _listed(synonyms)]
    first = [Query(topic, own_language, "topic")] if own_language in wanted else []
    made.queries = _merged([*first, *extra, *_in_turn(first, further, wanted, variants)])
    made.remarks = _remarks(topic, wanted, own_language, made.queries, variants, bool(further))
    if spoken != own_language and not all(_LABELLED.match(text) for text in _listed(synonyms)):
        made.remarks.append(
            f"synonyms without a language are taken as {named([spoken])}: write '{own_language}:...' else"
        )
    if not made.queries:
        raise ParameterError("topic", topic, f"no query is left: {'; '.join(made.remarks)}")
    if len(made.queries) > max_queries:
        made.remarks.append(f"{max_queries} of {len(made.queries)} queries are used: raise max_queries to use all")
        del made.queries[max_queries:]
    return made


def _in_turn(first: list[Query], further: Mapping[str, Sequence[str]], wanted: list[str], origin: str) -> list[Query]:
    """One query of each language, then the next of each, so that none is lost to a limit."""
    columns = []
    for code in wanted:
        topic = [query for query in first if query.language == code]
        columns.append(_merged([*topic, *(Query(text, code, origin) for text in further.get(code, ()))]))
    return [query for row in itertools.zip_longest(*columns) for query in row if query is not None]


def _likeliest(wanted: list[str]) -> list[str]:
    return list(dict.fromkeys([wanted[0], "en", *wanted]))


def _listed(values: Sequence[str]) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


def _words(text: str, parameter: str) -> str:
    words = " ".join(str(text).split())
    if not any(character.isalnum() for character in words):
        raise ParameterError(parameter, text, "has no words: say what the images are to show, e.g. 'red panda'")
    if len(words) > MAX_LENGTH:
        raise ParameterError(parameter, text, f"has {len(words)} characters; at most {MAX_LENGTH} can be searched")
    return words


def _given(text: str, language: str, parameter: str) -> Query:
    """A query of the user's: ``"de:Katzenbär"``, or words in ``language``."""
    if match := _LABELLED.match(text):
        try:
            language, text = language_code(match[1], parameter), match[2]
        except ParameterError as error:
            problem = f"{match[1]!r} {error.problem}; if it is no language, write '{language}:{text.strip()}'"
            raise ParameterError(parameter, text, problem) from None
    return Query(_words(text, parameter), language, "user")


def _merged(queries: list[Query]) -> list[Query]:
    """The queries without those that differ from an earlier one only in case or spaces."""
    first: dict[tuple[str, str], Query] = {}
    for query in queries:
        first.setdefault((query.language, " ".join(query.text.casefold().split())), query)
    return list(first.values())


def _remarks(
    topic: str, wanted: list[str], own_language: str, queries: list[Query], variants: Variants, found: bool
) -> list[str]:
    remarks = []
    searched = {query.language for query in queries}
    others = [code for code in wanted if code not in searched]
    if variants == "words" and not found:
        remarks.append(f"the word list does not have {topic!r}; it is taken as {named([own_language])}")
    elif variants == "none" and own_language == wanted[0] != "en":
        remarks.append(f"{topic!r} is taken as {named([own_language])}; if it is not, set topic_language")
    if others:
        are = "is" if len(others) == 1 else "are"
        origin = {"none": "there are", "words": "the word list has", "llm": "the language model gave"}[variants]
        ways = {
            "none": ", or use variants='words' or 'llm'",
            "words": ", or a word_list, or use variants='llm'",
            "llm": "",
        }[variants]
        remarks.append(
            f"{origin} no words for {topic!r} in {named(others)}, which {are} left out: "
            f"give synonyms such as '{others[0]}:...'{ways}"
        )
    return remarks


def _asked(
    model: LanguageModel, instruction: str | None, topic: str, wanted: list[str], own_language: str | None, limit: int
) -> tuple[str, Mapping[str, Sequence[str]]]:
    """What a language model makes of a topic: the topic's language, and the phrases by language."""
    each = max(1, min(8, limit // len(wanted)))
    question = f"Topic: {topic}\nLanguages: {named(wanted)}\nPhrases per language: up to {each}"
    if own_language:
        question += f"\nThe topic is written in {named([own_language])}."
    answer: Any = model.ask(instruction or QUERY_INSTRUCTION, question, _answer_model(wanted))
    phrases: dict[str, list[str]] = {}
    for phrase in answer.phrases:
        phrases.setdefault(phrase.language, []).append(phrase.text)
    kept = {code: texts[:each] for code, texts in phrases.items()}
    return own_language or answer.topic_language, kept


def _answer_model(wanted: list[str]) -> type[BaseModel]:
    """The shape of the answer. Its limits are checked here and not in the schema, where few servers take them."""
    import pydantic

    def checked_text(text: str) -> str:
        text = " ".join(text.split()).strip("\"'“”„«»")
        if not any(character.isalnum() for character in text) or len(text) > 80:
            raise ValueError("a phrase has 1 to 80 characters")
        return text

    def checked_language(code: str) -> str:
        code = code.strip().lower()
        if code not in LANGUAGES:
            raise ValueError("is no two-letter code of ISO 639-1")
        return code

    language: Any = Literal[tuple(wanted)]
    phrase: Any = pydantic.create_model(
        "Phrase",
        language=(language, ...),
        text=(Annotated[str, pydantic.AfterValidator(checked_text)], ...),
    )
    return pydantic.create_model(
        "SearchPhrases",
        topic_language=(Annotated[str, pydantic.AfterValidator(checked_language)], ...),
        phrases=(list[phrase], ...),
    )
