"""How the service is set up: where it listens, what it refuses, who may ask."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from streams.errors import ConfigurationError
from streams.settings import from_environment

Logging = Literal["best-effort", "required", "off"]

SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Limits:
    """What is refused.

    Args:
        body_bytes: a larger body is 413.
        batch_rows: more rows in a request are 422.
        concurrent: of more requests under way at once the further ones are 429.
        timeout_s: a request that takes longer is 503; reading its body counts.
    """

    body_bytes: int = 1 << 20
    batch_rows: int = 1_000
    concurrent: int = 256
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        """Check; raises ConfigurationError."""
        for name in ("body_bytes", "batch_rows", "concurrent", "timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(
                    f"the limit {name} is {getattr(self, name)}: it must be greater than 0"
                )


@dataclass(frozen=True)
class ServeOptions:
    """The service's settings.

    Args:
        host, port: where it listens.
        token: what a client must show; required where ``host`` is not this machine alone.
        limits: what is refused.
        logging: whether answers are logged to ``P.requests.v1``: as far as the broker takes them,
            or as a condition of every answer, or not.
        access_log: whether a line is written per request.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)
    logging: Logging = "best-effort"
    access_log: bool = True

    def __post_init__(self) -> None:
        """Check; raises ConfigurationError."""
        if self.token is None and not is_loopback(self.host):
            raise ConfigurationError(
                f"--host {self.host} can be reached from other machines, and no token is set: put "
                "one into a file and name it by --token-file or KAPPA_SERVE_TOKEN_FILE, or serve "
                "on 127.0.0.1"
            )
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise ConfigurationError(
                f"the token has {len(self.token)} characters: it needs {SHORTEST_TOKEN} at least; "
                "`openssl rand -hex 32` makes one"
            )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a listener on ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(file: Path | None, variable: str | None) -> str | None:
    """Return the token that a file holds, or the environment variable of that name; or None.

    It is never given by value: command lines and their arguments are seen by everybody.

    Raises:
        ConfigurationError: both are named, or what is named is missing, empty or no line of text.
    """
    if file is not None and variable is not None:
        raise ConfigurationError("the token is named twice, by a file and by a variable: name one")
    if file is not None:
        try:
            token = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the token's file {file} can't be read: {error}") from error
        where = f"file {file}"
    elif variable is not None:
        token = (from_environment(variable) or "").strip()
        where = f"variable {variable}"
    else:
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            f"the token's {where} holds no token: one line of ASCII without spaces is wanted"
        )
    return token
