"""One POST to somebody else's server: bounded in time, no redirects, no secret in any message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from streams.errors import ConfigurationError
from streams.settings import from_environment

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 10.0
LONGEST_ASKED_WAIT_S = 300.0

_REFUSED = (400, 413, 422)
"""The record itself is not wanted: sent again it would be refused again."""


class NotDelivered(Exception):  # noqa: N818 - it is no error of this process
    """A target did not take a record; it is tried again after ``wait_s`` at least."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class Refused(Exception):  # noqa: N818 - as above
    """A target takes records, and not this one: it is told in the log and left out."""


class Poster:
    """Posts JSON to ``url``, with the bearer token of the environment variable ``token``.

    ``name`` is the server alone: the path of a webhook is often its secret.

    Raises:
        ConfigurationError: the address or the token can't be used.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        import httpx

        self.name, self._url = server_of(url), url
        headers = {"Content-Type": "application/json", "User-Agent": "kappa"}
        if token is not None:
            headers["Authorization"] = f"Bearer {_secret(token, self.name)}"
        timeout = httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._client = httpx.Client(timeout=timeout, headers=headers, follow_redirects=False)

    def post(self, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send ``body``; of the answer only its head is read.

        Raises:
            NotDelivered: nobody answers, or not that it was taken.
            Refused: the server says that this record is not to be taken.
        """
        import httpx

        content = msgspec.json.encode(body)
        try:
            with self._client.stream(
                "POST", self._url, content=content, headers=dict(headers or {})
            ) as answer:
                _check(answer)
        except httpx.HTTPError as error:  # its text may hold the address
            raise NotDelivered(f"no answer ({type(error).__name__})") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def server_of(url: str) -> str:
    """Return ``http://host:port``; raises ConfigurationError where ``url`` can't be posted to."""
    import httpx

    try:
        httpx.URL(url)
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except (ValueError, httpx.InvalidURL):
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(
            "alerting: the url of a webhook or an Alertmanager is none that can be posted to: "
            "give it as http://host:port/path or https://host/path"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"alerting: the url on {host} holds a user name or password: put the secret into an "
            "environment variable and name that, Webhook(url, token='MY_TOKEN')"
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + ("" if port is None else f":{port}")


def _secret(variable: str, name: str) -> str:
    """Return the variable's value; it appears in no message."""
    value = (from_environment(variable) or "").strip()
    if not value or not value.isascii() or not value.isprintable():
        what = "holds no token" if value else "is not set"
        raise ConfigurationError(
            f"alerting: the environment variable {variable}, named as the token for {name}, {what}:"
            " set it where the process `kappa worker notify` starts"
        )
    return value


def _check(answer: httpx.Response) -> None:
    status = answer.status_code
    if 200 <= status < 300:
        return
    if status in _REFUSED:
        raise Refused(f"it answers {status} {answer.reason_phrase}")
    if 300 <= status < 400:
        raise NotDelivered(
            f"it answers {status}, a redirect, which is not followed: declare the final address"
        )
    asked = answer.headers.get("Retry-After", "")
    wait_s = min(float(asked), LONGEST_ASKED_WAIT_S) if asked.isdecimal() else 0.0
    raise NotDelivered(f"it answers {status} {answer.reason_phrase}", wait_s)
