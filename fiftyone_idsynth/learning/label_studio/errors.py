"""What can go wrong between us and a Label Studio server, each with its remedy; no message holds a token."""

from __future__ import annotations

from typing import Any

from ...errors import IdsynthError

ACCOUNT = "Label Studio: Account & Settings"


class LabelStudioError(IdsynthError):
    """A Label Studio server did not do what was asked. Whatever it had done before stays.

    Args:
        reason: a short name; see the sub-classes
        detail: what was seen, with the value and the remedy
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail)


class Unreachable(LabelStudioError):
    """No server answers at the address: ``"unreachable"``, or ``"not_label_studio"`` if something else does."""


class TokenError(LabelStudioError):
    """The server does not take the token.

    The reason is ``"no_token"``, ``"wrong"``, ``"expired"``, ``"revoked"``, ``"legacy_off"`` (legacy tokens are
    switched off), ``"personal_off"`` (personal access tokens are), ``"access"`` (a token that lasts five minutes),
    ``"cut"`` (a personal access token without its end) or ``"forbidden"``.
    """


class ProjectError(LabelStudioError):
    """A project is not there (``"not_found"``), not the only one (``"ambiguous"``) or does not fit (``"config"``)."""


class TruncatedAnswer(LabelStudioError):
    """The server gave fewer tasks than it says there are: nothing was changed by what it gave (``"truncated"``)."""


class Unconfirmed(LabelStudioError):
    """Nobody knows whether the server did what was asked: the answer was lost on the way (``"unconfirmed"``)."""


class Refused(LabelStudioError):
    """The server refuses what was sent and has done nothing (``"refused"``), or does not have it (``"not_found"``)."""


class ServerFailed(LabelStudioError):
    """The server failed, again and again (``"server"``)."""


def token_error(url: str, reason: str) -> TokenError:
    """Says why a token does not do, and how to get one that does."""
    fresh = f"make a new one ({ACCOUNT} > Personal Access Token) and set LABEL_STUDIO_API_KEY to it"
    details = {
        "no_token": f"needs a token: {fresh}",
        "wrong": "does not know the token in LABEL_STUDIO_API_KEY: check that it is copied whole and belongs to this "
        f"server, or {fresh}",
        "expired": f"would refuse the personal access token in LABEL_STUDIO_API_KEY, which has expired: {fresh}",
        "revoked": f"refuses the personal access token in LABEL_STUDIO_API_KEY, which was revoked: {fresh}",
        "legacy_off": "does not take the legacy token in LABEL_STUDIO_API_KEY, because legacy tokens are switched off: "
        f"{fresh}, or switch them on (Organization > Access Token Settings)",
        "personal_off": "does not take personal access tokens, which are switched off: switch them on (Organization > "
        f"Access Token Settings), or set LABEL_STUDIO_API_KEY to a legacy token ({ACCOUNT} > Legacy Token)",
        "access": "was given an access token, which lasts five minutes: set LABEL_STUDIO_API_KEY to the personal "
        "access token (the refresh token) that it was made of",
        "cut": "was given a personal access token without its last part (lists of tokens show them so): copy it whole "
        f"when it is made; or {fresh}",
        "forbidden": "does not allow this to the token's owner: ask its administrator, or use another's token",
    }
    return TokenError(reason, f"Label Studio at {url} {details[reason]}")


def reason_of_refusal(kind: str, detail: str) -> str:
    """Why a token was refused.

    Args:
        kind: ``"legacy"``; ``"personal"`` when it was to be exchanged for an access token; ``"access"`` when the access
            token that came of it was refused
        detail: what the server says
    """
    text = detail.lower()
    if kind == "legacy":
        return "legacy_off" if "legacy token" in text and "disabled" in text else "wrong"
    if kind == "access":
        return "personal_off"
    if "blacklisted" in text:
        return "revoked"
    if "wrong type" in text:
        return "access"
    return "expired" if "expired" in text and "invalid" not in text else "wrong"


def described(body: Any) -> str:
    """What an error answer of the server says, in one line."""
    if not isinstance(body, dict):
        return " ".join(str(body or "no explanation").split())[:300]
    problems = body.get("validation_errors")
    if isinstance(problems, dict):
        said = "; ".join(f"{name}: {_joined(value)}" for name, value in problems.items())
    else:
        said = _joined(problems or body.get("detail") or body)
    return " ".join(said.split())[:500]


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
