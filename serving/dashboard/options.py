"""How the dashboard is set up: where it listens, and who may look and act."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from serving.http.options import SHORTEST_TOKEN, is_loopback
from streams.errors import ConfigurationError

PORT = 8790


@dataclass(frozen=True)
class DashboardOptions:
    """Where the dashboard listens, and who may use it.

    Args:
        host: the address on which it listens.
        port: the port; ``tries`` ports from it on are tried.
        token: what one may log in with at any time; None: the one-time links alone.
        remote: whether a host that other machines can reach is meant.
        names: the names of this machine by which browsers may ask, besides ``host``.
        tries: how many ports are tried, from ``port`` on.
        link_file: where the current one-time link is written, readable for its owner alone.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    token: str | None = field(default=None, repr=False)
    remote: bool = False
    names: tuple[str, ...] = ()
    tries: int = 1
    link_file: Path | None = None

    def __post_init__(self) -> None:
        """Check; raises ConfigurationError."""
        if not self.local and (self.token is None or not self.remote):
            raise ConfigurationError(
                f"--host {self.host} can be reached from other machines, and whoever gets in can "
                "change what is live: give a token by --token-file or KAPPA_DASHBOARD_TOKEN_FILE, "
                "and say --remote to mean it; or use 127.0.0.1"
            )
        if not self.local and not self.names and _is_every_address(self.host):
            raise ConfigurationError(
                f"--host {self.host} is no name that a browser asks by: name this machine by --name"
            )
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise ConfigurationError(
                f"the token has {len(self.token)} characters: it needs {SHORTEST_TOKEN} at least; "
                "`openssl rand -hex 32` makes one"
            )

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @property
    def open(self) -> bool:
        """Whether whoever asks may look: not where a proxy passes on what other machines ask."""
        return self.local and not self.names

    def is_own(self, name: str) -> bool:
        """Return whether a browser may ask by this name: others would be another site's."""
        if self.open:
            return is_loopback(name)
        return name.lower() in {self.host.lower(), *(each.lower() for each in self.names)}


def _is_every_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host
