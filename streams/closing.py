"""Clients of the broker closed within a time, whatever they wait for.

librdkafka's close takes no time-out: a consumer asks for its group's coordinator until it is told,
and after a broker's restart that may be never (its issue 3740). A worker that closes such a client
to begin again would stand still from there on, deaf to signals too.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from streams.time_limit import TimeLimit

CLOSE_S = 5.0
"""What a close takes is some milliseconds, and up to a second while the broker is away."""

_LOG = structlog.get_logger(__name__)


class Client(Protocol):
    """What can be closed: a consumer or a producer."""

    def close(self) -> object: ...


def close_client(client: Client, what: str, seconds: float = CLOSE_S) -> bool:
    """Close ``client``, called ``what`` in the log; return whether that ended within ``seconds``.

    What ``close`` raises is raised. One that does not end is left behind in a daemon thread, which
    holds on to the client: freed anywhere else, it would close once more. Its call-backs may still
    come, from that thread and at any time.
    """
    limit = TimeLimit(f"close {what}")
    try:
        limit.call(seconds, client.close)
    except TimeoutError:
        _LOG.warning("a client that does not close is left behind", client=what, seconds=seconds)
        return False
    limit.close()
    return True
