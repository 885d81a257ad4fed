"""A language model behind an OpenAI-compatible address: structured answers, retries, a budget, errors with remedies."""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ParameterError, suggestion
from ..keys import find_key
from .answers import KINDS, as_kind, data_url, instruction, read_answer
from .errors import BudgetExceeded, LanguageModelError, check_address, explain, said

if TYPE_CHECKING:
    import openai
    from pydantic import BaseModel

    Answer = TypeVar("Answer", bound=BaseModel)

OPENAI_URL = "https://api.openai.com/v1"

IMAGE_TOKENS = 1000
"""What an image is estimated to cost; a picture of about a megapixel costs 700 to 1500 tokens."""

_UNSUPPORTED = re.compile(r"support|unknown|unrecogni|unexpected|not permitted|not allowed|extra", re.I)


class LanguageModel:
    """A language model that answers in the shape of a pydantic model; safe to use from several threads.

    A request is repeated for 408, 409, 425, 429, 5xx, broken connections and timeouts with a jittered exponential
    backoff, or after the time that ``Retry-After`` names (``openai`` does that). How the server takes structured
    answers (:data:`KINDS`) is found out at the first question and remembered.

    Args:
        model: the model's name at the server
        base_url (None): the server's address, e.g. ``"http://localhost:11434/v1"``; by default ``OPENAI_BASE_URL`` from
            the environment, else OpenAI's
        api_key (None): the key; by default the secret ``OPENAI_API_KEY``; ``""`` to send none. Servers other than
            OpenAI's are asked without one if there is none
        budget_tokens (None): how many tokens, of questions and answers, may be spent
        max_retries (3): how often a failed request is repeated, and how often the model is asked again after an invalid
            answer
        timeout (60.0): seconds to wait for the server at a time
        temperature (0.2): randomness, from 0 to 2; ``None`` for the server's own
        seed (None): a seed, for servers that know one
        context_tokens (8192): how many tokens a question and its answer may have together
        answer_tokens (1024): how many of them are kept free for the answer, which is not limited otherwise

    Attributes:
        spent_tokens: tokens of questions and answers so far
        calls: requests answered so far
        notes: remarks for the user, e.g. that the server does not take JSON schemas
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        budget_tokens: int | None = None,
        max_retries: int = 3,
        timeout: float = 60.0,
        temperature: float | None = 0.2,
        seed: int | None = None,
        context_tokens: int = 8192,
        answer_tokens: int = 1024,
    ):
        if not model.strip():
            raise ParameterError("model", model, "name a model of the server, e.g. 'gpt-4o-mini'")
        for name, value, least in (
            ("budget_tokens", budget_tokens, 1),
            ("max_retries", max_retries, 0),
            ("answer_tokens", answer_tokens, 1),
            ("context_tokens", context_tokens, answer_tokens + 1),
        ):
            if value is not None and value < least:
                raise ParameterError(name, value, f"must be at least {least}")
        if temperature is not None and not 0 <= temperature <= 2:
            raise ParameterError("temperature", temperature, "must be between 0 and 2")
        if not 0 < timeout < math.inf:
            raise ParameterError("timeout", timeout, "must be a number of seconds above 0")
        self.model = model.strip()
        self.base_url = (base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).strip().rstrip("/")
        self.budget_tokens = budget_tokens
        self.max_retries = max_retries
        self.timeout = timeout
        self.context_tokens = context_tokens
        self.answer_tokens = answer_tokens
        self.spent_tokens = 0
        self.calls = 0
        self.notes: list[str] = []
        self._key = ((find_key("OPENAI_API_KEY") if api_key is None else api_key) or "").strip()
        self._local = check_address(self.base_url, bool(self._key))
        if not self._key and self.base_url == OPENAI_URL:
            raise LanguageModelError(
                "no_key", f"{self.model} at {OPENAI_URL} needs a key: set OPENAI_API_KEY, or name another base_url"
            )
        self._settings = {k: v for k, v in (("temperature", temperature), ("seed", seed)) if v is not None}
        self._kind = KINDS[0]
        self._reserved = 0
        self._lock = threading.RLock()
        self._made: openai.OpenAI | None = None

    def __repr__(self) -> str:
        return f"LanguageModel({self.model!r}, base_url={self.base_url!r}, spent_tokens={self.spent_tokens})"

    @property
    def has_key(self) -> bool:
        """Whether a key is sent."""
        return bool(self._key)

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; a later question opens new ones."""
        with self._lock:
            if self._made is not None:
                self._made.close()
            self._made = None

    def estimate_tokens(self, text: str) -> int:
        """Estimates how many tokens a text has, on the safe side.

        One per 3 ASCII characters and one per other character: English prose has about 4
        characters per token, lists of words and JSON about 3, other scripts 1 to 3.
        """
        ascii = sum(character.isascii() for character in text)
        return math.ceil(ascii / 3) + len(text) - ascii

    def fits(self, text: str) -> bool:
        """Whether a question (its instructions included) leaves room for the answer within ``context_tokens``."""
        return self.estimate_tokens(text) + self.answer_tokens <= self.context_tokens

    def ask(
        self,
        instructions: str,
        content: str | Sequence[dict[str, Any]],
        answer: type[Answer],
        *,
        images: Sequence[bytes] = (),
    ) -> Answer:
        """Asks a question and returns the answer; an invalid one is sent back with what is wrong with it.

        Args:
            instructions: what the model is to do (the system message)
            content: the question: text, or a list of parts as OpenAI's interface names them
            answer: the shape of the answer
            images (()): JPEG, PNG, WebP or GIF files that the question is about, after its text

        Returns:
            an instance of ``answer``

        Raises:
            LanguageModelError: there was no usable answer; ``reason`` says why
            BudgetExceeded: the call would have surpassed ``budget_tokens``
        """
        parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        parts += [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in images]
        simple = isinstance(content, str) and not images  # some servers take parts only from models that see
        question: list[dict[str, Any]] = [
            {"role": "system", "content": instructions},
            {"role": "user", "content": content if simple else parts},
        ]
        messages, problem, text = question, "", ""
        for _ in range(self.max_retries + 1):
            text, cut = self._complete(messages, answer)
            try:
                return read_answer(text, answer)
            except ValueError as error:
                problem = "it ends in the middle: it is too long" if cut else str(error)
            again = f"This answer is not valid: {problem}. Answer again. {instruction(answer)}"
            messages = [
                *question,
                {"role": "assistant", "content": text[:1000] or "-"},
                {"role": "user", "content": again},
            ]
        raise LanguageModelError(
            "invalid_answer",
            f"{self.model} gave no valid answer in {self.max_retries + 1} tries. It answered "
            f"{self.scrubbed(text)[:200]!r}, which is not valid: {self.scrubbed(problem)[:300]}. "
            "Use a larger model, or simpler instructions",
        )

    def _complete(self, messages: list[dict[str, Any]], answer: type[BaseModel]) -> tuple[str, bool]:
        """The text of an answer and whether it was cut off; learns how the server takes structured answers."""
        refused: LanguageModelError | None = None
        for kind in KINDS[KINDS.index(self._kind) :]:
            try:
                completion = self._send(as_kind(kind, messages, answer))
            except LanguageModelError as error:
                if error.reason != "refused":
                    raise
                refused = refused or error
                continue
            if refused:  # and this kind was taken, so that it was the kind that was refused
                self._settle_for(kind, refused)
            return self._text(completion)
        assert refused is not None
        raise refused

    def _settle_for(self, kind: str, refused: LanguageModelError) -> None:
        with self._lock:
            if KINDS.index(kind) <= KINDS.index(self._kind):
                return
            self._note(
                f"{self.model} does not take a response_format {self._kind!r}; answers are asked for as {kind!r} and "
                f"checked here ({refused.detail})"
            )
            self._kind = kind

    def _send(self, request: dict[str, Any]) -> Any:
        import openai

        estimate = self._estimate(request)
        self._reserve(estimate)
        try:
            while True:
                settings = dict(self._settings)
                try:
                    completion = self._client().chat.completions.create(**{"model": self.model, **request, **settings})
                except (openai.OpenAIError, json.JSONDecodeError) as error:
                    if not self._dropped_setting(error, settings):
                        raise explain(error, self) from None
                else:
                    self._spend(completion, estimate)
                    return completion
        finally:
            with self._lock:
                self._reserved -= estimate

    def _estimate(self, request: dict[str, Any]) -> int:
        texts = [json.dumps(request.get("response_format", ""))]
        images = 0
        for message in request["messages"]:
            content = message["content"]
            for part in [{"text": content}] if isinstance(content, str) else content:
                texts.append(part.get("text", ""))
                images += part.get("type") == "image_url"
        question = self.estimate_tokens("\n".join(texts)) + images * IMAGE_TOKENS
        if question + self.answer_tokens > self.context_tokens:
            raise LanguageModelError(
                "context",
                f"the question has about {question} tokens; with {self.answer_tokens} for the answer that is more than "
                f"context_tokens={self.context_tokens}. Ask about less at a time, or raise context_tokens if "
                f"{self.model} takes more (some servers cut a longer question without saying so)",
            )
        return question + self.answer_tokens

    def _reserve(self, estimate: int) -> None:
        with self._lock:
            if self.budget_tokens is not None and self.spent_tokens + self._reserved + estimate > self.budget_tokens:
                waiting = f", {self._reserved} set aside for calls under way" if self._reserved else ""
                raise BudgetExceeded(
                    f"{self.spent_tokens} of budget_tokens={self.budget_tokens} are spent{waiting}; the next call to "
                    f"{self.model} may need {estimate}. Raise the budget, or ask about less"
                )
            self._reserved += estimate

    def _spend(self, completion: Any, estimate: int) -> None:
        usage = getattr(completion, "usage", None)
        counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        known = [count for count in counts if isinstance(count, int) and count >= 0]
        with self._lock:
            self.calls += 1
            if len(known) == 2:
                self.spent_tokens += sum(known)
                return
            message = _message(completion)
            text = (getattr(message, "content", None) or "") if message else ""
            self.spent_tokens += estimate - self.answer_tokens + self.estimate_tokens(str(text))
            self._note(f"{self.base_url} does not say how many tokens a call took; they are estimated")

    def _text(self, completion: Any) -> tuple[str, bool]:
        message = _message(completion)
        if message is None:
            said = self.scrubbed(completion if isinstance(completion, str) else str(completion))[:200]
            raise LanguageModelError(
                "server_error", f"{self.base_url} answered no chat completion: {said!r}. Is base_url right (.../v1)?"
            )
        finish = getattr(completion.choices[0], "finish_reason", None)
        if declined := getattr(message, "refusal", None) or (finish == "content_filter" and "its content filter"):
            raise LanguageModelError(
                "declined",
                f"{self.model} declined to answer: {self.scrubbed(str(declined))[:200]}. Change the question",
            )
        return str(message.content or ""), finish == "length"

    def _dropped_setting(self, error: Exception, sent: dict[str, Any]) -> bool:
        """Whether the request failed for a setting that the model does not know, which is left out from now on."""
        import openai

        if not isinstance(error, openai.APIStatusError) or error.status_code not in (400, 422):
            return False
        words = said(error)
        for name in sent:
            if error.param == name or (re.search(rf"\b{name}\b", words) and _UNSUPPORTED.search(words)):
                with self._lock:
                    self._settings.pop(name, None)
                    self._note(f"{self.model} does not take {name}={sent[name]}; it is left out")
                return True
        return False

    def known_models(self) -> str:
        """The names of models that the server knows, as a remedy for one that it does not."""
        import openai

        try:
            names = [model.id for model in self._client().with_options(max_retries=0).models.list().data]
        except (openai.OpenAIError, ValueError, AttributeError, TypeError):  # many servers have no such list
            return "check the model's name, and that base_url ends like '/v1'"
        return suggestion(self.model, names)

    def _client(self) -> openai.OpenAI:
        with self._lock:
            if self._made is None:
                import openai

                def outgoing(request: Any) -> None:
                    if not self._key:
                        request.headers.pop("Authorization", None)

                def incoming(response: Any) -> None:
                    if response.status_code == 425:  # the one status worth a retry that openai leaves out
                        response.headers["x-should-retry"] = "true"

                http = openai.DefaultHttpxClient(
                    event_hooks={"request": [outgoing], "response": [incoming]},
                    follow_redirects=False,
                    trust_env=not self._local,  # no proxy between a machine and itself
                )
                self._made = openai.OpenAI(
                    api_key=self._key or "none",  # openai insists on one
                    base_url=self.base_url,
                    max_retries=self.max_retries,
                    timeout=self.timeout,
                    http_client=http,
                )
            return self._made

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def scrubbed(self, text: str) -> str:
        """A text without the key."""
        return text.replace(self._key, "***") if self._key else text


def _message(completion: Any) -> Any:
    choices = getattr(completion, "choices", None)
    return getattr(choices[0], "message", None) if choices else None
