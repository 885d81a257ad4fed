"""Requests to a Label Studio server: its tokens, what is sent again and what never is, and what its answers mean."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from ...errors import ParameterError
from ...keys import find_key
from .errors import (
    LabelStudioError,
    Refused,
    ServerFailed,
    Unconfirmed,
    Unreachable,
    described,
    reason_of_refusal,
    token_error,
)

if TYPE_CHECKING:
    import urllib3

DEFAULT_URL = "http://localhost:8080"

CONNECT_SECONDS = 10
READ_SECONDS = 300
"""A server on SQLite needs half a minute for 20,000 tasks."""

PAUSES = (0.5, 1.0, 2.0)
"""Seconds before what only reads, or may be done twice, is asked again."""

RENEW_SECONDS = 60
"""An access token is renewed when it has less time left than this, or half of its life."""


class Connection:
    """A way to a Label Studio server. A token is never shown: not in messages, not in ``repr``.

    Args:
        url (None): its address; by default ``LABEL_STUDIO_URL`` from the environment, else ``http://localhost:8080``
        token (None): a legacy token or a personal access token; by default the secret ``LABEL_STUDIO_API_KEY``

    Attributes:
        url: the address, without a slash at its end
        local: whether it is this machine

    Raises:
        ParameterError: the address is none, or would send the token unencrypted to another machine
        TokenError: there is no token, or none that can be valid
    """

    def __init__(self, url: str | None = None, token: str | None = None):
        import urllib3

        self.url = (url or os.environ.get("LABEL_STUDIO_URL") or DEFAULT_URL).strip().rstrip("/")
        self.local = check_address(self.url)
        self._token = Token(self.url, find_key("LABEL_STUDIO_API_KEY") if token is None else token)
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        # Nothing is followed or sent again behind our back: a POST that was carried out would be carried out twice.
        self._pool = urllib3.PoolManager(retries=False, timeout=timeout, maxsize=4)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def token(self) -> str:
        """The token as the user gave it, for the client of ``label_studio_sdk``."""
        return self._token.text

    def get(self, path: str, **params: Any) -> Any:
        """Reads; asks again when the connection breaks or the server fails."""
        return self._decoded(self._patiently("GET", path, params=params))

    def content(self, path: str) -> bytes:
        """Reads what is no JSON, e.g. an image."""
        data: bytes = self._patiently("GET", path).data
        return data

    def patch(self, path: str, values: Mapping[str, Any]) -> Any:
        """Changes what is there; done twice it changes nothing more, so it is asked again like reading."""
        return self._decoded(self._patiently("PATCH", path, json=values))

    def delete(self, path: str) -> None:
        """Deletes what is at a path; that it is gone already is no failure."""
        try:
            self._patiently("DELETE", path)
        except Refused as error:
            if error.reason != "not_found":
                raise

    def post(self, path: str, values: Any = None, *, fields: Any = None, **params: Any) -> Any:
        """Sends something, once.

        Args:
            path: where to
            values (None): what is sent as JSON
            fields (None): what is sent as a form instead, as ``urllib3`` takes it
            **params: what is appended to the path

        Raises:
            Unconfirmed: nobody knows whether it was done; look before it is sent again
        """
        return self._decoded(self._once("POST", path, params=params, json=values, fields=fields))

    def _patiently(self, method: str, path: str, **what: Any) -> urllib3.BaseHTTPResponse:
        for pause in (*PAUSES, None):
            try:
                return self._once(method, path, **what)
            except Unconfirmed as error:
                failure: LabelStudioError = ServerFailed("server", f"{error.detail}. Look at the server's log")
            except Unreachable as error:
                failure = error
            if pause is None or failure.reason == "not_label_studio":
                raise failure
            time.sleep(pause)
        raise AssertionError

    def _once(self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None,
              fields: Any = None) -> urllib3.BaseHTTPResponse:  # fmt: skip
        query = urlencode({name: value for name, value in (params or {}).items() if value is not None}, doseq=True)
        address = f"{self.url}{path}?{query}" if query else f"{self.url}{path}"
        body = {"json": json} if json is not None else {"fields": fields} if fields is not None else {}
        response = self._sent(method, address, body, self._token.header(self))
        if response.status == 401 and self._token.renewable:
            # A refused request was not carried out. Clocks may differ, or the server's secret may have changed.
            self._token.forget()
            response = self._sent(method, address, body, self._token.header(self))
        return self._checked(response, method, path)

    def _sent(
        self, method: str, address: str, body: Mapping[str, Any], header: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        import urllib3
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

        try:
            headers = urllib3.HTTPHeaderDict(header)
            return self._pool.request(method, address, headers=headers, redirect=False, **body)
        except (NewConnectionError, ConnectTimeoutError, SSLError) as error:
            raise Unreachable("unreachable", self._unreachable(error)) from error
        except HTTPError as error:
            raise Unconfirmed("unconfirmed", f"{self.url} broke off ({type(error).__name__})") from error

    def _unreachable(self, error: Exception) -> str:
        why = "its certificate is not accepted" if type(error).__name__ == "SSLError" else "nothing answers there"
        return (
            f"no connection to Label Studio at {self.url}: {why}. Does the server run, and is the address right "
            "(url, or LABEL_STUDIO_URL)?"
        )

    def exchange(self, refresh: str) -> str:
        """Exchanges a personal access token for an access token.

        Raises:
            TokenError: the server does not take it
        """
        body = {"json": {"refresh": refresh}}
        for pause in (*PAUSES, None):
            try:
                response = self._sent("POST", f"{self.url}/api/token/refresh/", body, {})
                if response.status == 401:
                    raise token_error(self.url, reason_of_refusal("personal", described(_json(response))))
                return str(self._decoded(self._checked(response, "POST", "/api/token/refresh/"))["access"])
            except (Unconfirmed, Unreachable):  # exchanging it twice does no harm
                if pause is None:
                    raise
                time.sleep(pause)
        raise AssertionError

    def _checked(self, response: urllib3.BaseHTTPResponse, method: str, path: str) -> urllib3.BaseHTTPResponse:
        status = response.status
        if status < 300:
            return response
        says = f"({status}) {described(_json(response))}"
        if status < 400:
            target = urlsplit(response.headers.get("Location", ""))
            moved = f"{target.scheme}://{target.netloc}" if target.netloc else "another page"
            raise Unreachable("not_label_studio", f"{self.url} sends us to {moved}: give the address of Label Studio")
        if status == 401:
            raise token_error(self.url, reason_of_refusal(self._token.kind, says))
        if status == 403:
            error = token_error(self.url, "forbidden")
            raise type(error)(error.reason, f"{error.detail}. It says {says}")
        if status in (408, 425, 429) or status >= 500:
            raise Unconfirmed("unconfirmed", f"Label Studio at {self.url} failed at {method} {path}: {says}")
        if status == 404 and _json(response) is None:
            raise Unreachable("not_label_studio", f"{self.url} has no {path}: is this the address of a Label Studio?")
        reason = {404: "not_found", 413: "too_large"}.get(status, "refused")
        raise Refused(reason, f"Label Studio at {self.url} refuses {method} {path}: {says}")

    def _decoded(self, response: urllib3.BaseHTTPResponse) -> Any:
        if not response.data:
            return None
        found = _json(response)
        if found is None:
            raise Unreachable(
                "not_label_studio", f"{self.url} answers with what is no JSON: is this the address of a Label Studio?"
            )
        return found


class Token:
    """A token and the header that it becomes.

    A legacy token is sent as it is. A personal access token is exchanged for an access token, which lasts five minutes
    and is renewed in time, however long the work takes.
    """

    def __init__(self, url: str, text: str | None):
        self.text = _bare(text or "")
        if not self.text:
            raise token_error(url, "no_token")
        self._claims = claims(self.text)
        self.renewable = self._claims is not None
        self.kind = "access" if self.renewable else "legacy"
        self._lock = threading.Lock()
        self._access = ""
        self._good_until = 0.0
        if self._claims is not None:
            self._check(url, self._claims)

    def _check(self, url: str, said: Mapping[str, Any]) -> None:
        if said.get("token_type") == "access":
            raise token_error(url, "access")
        if self.text.count(".") < 2:
            raise token_error(url, "cut")
        if isinstance(said.get("exp"), (int, float)) and said["exp"] < time.time():
            raise token_error(url, "expired")

    def header(self, connection: Connection) -> dict[str, str]:
        """The header that shows the server who asks."""
        if not self.renewable:
            return {"Authorization": f"Token {self.text}"}
        with self._lock:
            if time.monotonic() >= self._good_until:
                self._access = connection.exchange(self.text)
                # The clocks of two machines differ: only the token's span of life is taken from it.
                said = claims(self._access) or {}
                span = float(said.get("exp", 0)) - float(said.get("iat", 0))
                self._good_until = time.monotonic() + max(span - RENEW_SECONDS, span / 2, 0)
            return {"Authorization": f"Bearer {self._access}"}

    def forget(self) -> None:
        """Forgets the access token, so that the next request gets another."""
        self._good_until = 0.0


def check_address(url: str) -> bool:
    """Checks a server's address and returns whether it is this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise ParameterError("url", url, f"is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ParameterError("url", url, "must look like 'http://localhost:8080' or 'https://labels.example.org'")
    if parts.username or parts.password or parts.query or parts.fragment:
        shown = f"{parts.scheme}://{host}{parts.path}"  # what is left out may be secret
        raise ParameterError("url", shown, "was given with a user, password, query or fragment: leave that out")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if parts.scheme == "http" and not local:
        raise ParameterError("url", url, "would send the token unencrypted to another machine: use https")
    return local


def claims(token: str) -> dict[str, Any] | None:
    """What a JSON Web Token says of itself, unverified; ``None`` for any other token."""
    parts = token.split(".")
    if len(parts) < 2:
        return None
    try:
        said = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _bare(token: str) -> str:
    """A token without the word that goes before it in a header."""
    kind, _, rest = token.strip().partition(" ")
    return rest.strip() if kind.lower() in ("token", "bearer") and rest else token.strip()


def _json(response: urllib3.BaseHTTPResponse) -> Any:
    try:
        return json.loads(response.data)
    except ValueError:
        return None
