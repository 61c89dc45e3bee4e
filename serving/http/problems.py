"""What goes wrong, as RFC 9457 problem details: what, where, why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

MEDIA_TYPE = "application/problem+json"
LISTED = 16
"""How many places of a request an answer names at most."""


class Place(msgspec.Struct, frozen=True):
    """One thing that is wrong: ``where`` is a path into the body, such as ``$[3].entity``."""

    where: str
    why: str


class ProblemDetails(msgspec.Struct, frozen=True, rename="lower"):
    """The body of an answer that is none; ``type`` names the kind of problem for programs."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[Place]


@dataclass(eq=False)
class ProblemError(Exception):
    """A request that is not answered.

    Args:
        status: the HTTP status.
        kind: what programs tell problems apart by, such as ``unknown-entity``.
        detail: what, where, why, and what to do.
        errors: the places in the request, where there are several.
        headers: of the answer, besides the usual ones.
    """

    status: int
    kind: str
    detail: str
    errors: Sequence[Place] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> bytes:
        """Return the answer's body."""
        return msgspec.json.encode(
            ProblemDetails(
                f"urn:kappa:problem:{self.kind}",
                HTTPStatus(self.status).phrase,
                self.status,
                self.detail,
                request_id,
                list(self.errors[:LISTED]),
            )
        )


def not_ready(why: str) -> ProblemError:
    """Return the problem of a service that can't answer now."""
    return ProblemError(503, "not-ready", f"nothing can be answered now: {why}", (), RETRY)


RETRY = {"retry-after": "1"}
