"""What can go wrong between us and a language model, each with its remedy."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import IdsynthError, ParameterError

if TYPE_CHECKING:
    import openai

    from .client import LanguageModel

_TOO_LONG = re.compile(r"context.{0,12}(length|window|size)|maximum context|prompt is too long|too many tokens", re.I)


class LanguageModelError(IdsynthError):
    """A language model gave no usable answer.

    Args:
        reason: one of ``"no_key"``, ``"key_refused"``, ``"unknown_model"``, ``"no_connection"``, ``"timeout"``,
            ``"rate_limit"``, ``"quota"``, ``"context"`` (too long), ``"budget"``, ``"refused"`` (the request),
            ``"server_error"``, ``"declined"`` (by the model) or ``"invalid_answer"``
        detail: what was seen, with the value and the remedy
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class BudgetExceeded(LanguageModelError):
    """The next call would spend more tokens than allowed; it was not made."""

    def __init__(self, detail: str):
        super().__init__("budget", detail)


def check_address(url: str, has_key: bool) -> bool:
    """Checks a server's address and returns whether it is this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise ParameterError("base_url", url, f"is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ParameterError("base_url", url, "must look like 'http://localhost:11434/v1' or 'https://host/v1'")
    if parts.username or parts.password or parts.query or parts.fragment:
        shown = f"{parts.scheme}://{host}{parts.path}"  # what is left out may be secret
        raise ParameterError("base_url", shown, "was given with a user, password, query or fragment: leave that out")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if parts.scheme == "http" and has_key and not local:
        raise ParameterError(
            "base_url",
            url,
            "would send the key unencrypted: use https, or send no key (api_key='' or no OPENAI_API_KEY)",
        )
    return local


def said(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        return str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    return str(body or error.message)


def explain(error: Exception, server: LanguageModel) -> LanguageModelError:
    """Says what an error of ``openai`` means, with its remedy and without the key."""
    import openai

    where, tries = f"{server.model} at {server.base_url}", f"{server.max_retries + 1} tries"
    if isinstance(error, openai.APITimeoutError):
        remedy = "raise timeout, or ask about less"
        return LanguageModelError("timeout", f"{where} did not answer in {server.timeout:g} s ({tries}): {remedy}")
    if isinstance(error, openai.APIConnectionError):
        cause = server.scrubbed(str(error.__cause__ or error))[:200]
        remedy = "Does the server run, and is base_url right?"
        return LanguageModelError("no_connection", f"no connection to {server.base_url}: {cause}. {remedy}")
    if not isinstance(error, openai.APIStatusError):
        detail = f"{where} answered what is no chat completion: {server.scrubbed(str(error))[:200]!r}"
        return LanguageModelError("server_error", f"{detail}. Is base_url right (.../v1)?")
    if 300 <= error.status_code < 400:
        moved = server.scrubbed(error.response.headers.get("location", "elsewhere"))[:200]
        return LanguageModelError("server_error", f"{server.base_url} has moved to {moved}: give that as base_url")
    words = server.scrubbed(said(error))
    reason, detail = _meaning(error, words, server, where, tries)
    return LanguageModelError(reason, f"{detail}. It says ({error.status_code}): {words[:300]!r}")


def _meaning(
    error: openai.APIStatusError, words: str, server: LanguageModel, where: str, tries: str
) -> tuple[str, str]:
    status = error.status_code
    if status == 413 or error.code == "context_length_exceeded" or (status < 500 and _TOO_LONG.search(words)):
        return "context", f"the question is too long for {where}: ask about less at a time, or lower context_tokens"
    if status in (401, 403):
        if server.has_key:
            return "key_refused", f"{where} refuses the key: check OPENAI_API_KEY"
        return "no_key", f"{where} wants a key: set OPENAI_API_KEY"
    if status == 404:
        return "unknown_model", f"{where} is not there: {server.known_models()}"
    if status == 402 or error.code == "insufficient_quota":
        return "quota", f"the account at {server.base_url} has nothing left to spend: top it up, or use another server"
    if status == 429:
        return "rate_limit", f"{where} gets too many requests ({tries}): wait, then go on"
    if status in (400, 422):
        return "refused", f"{where} refuses the request"
    return "server_error", f"{where} failed ({tries}): try again later"


FATAL = ("no_key", "key_refused", "unknown_model", "no_connection", "quota", "budget")
"""Reasons for which a server will not answer the next question either."""
