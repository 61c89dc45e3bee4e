"""Which model version answers an entity: a pure function of its id and the routing in the log.

An entity's place in [0, 1) is the first 8 bytes of SHA-256 over salt, a zero byte and the entity's
id (UTF-8), as a big-endian number, divided by 2⁶⁴. The arms of a routing take [0, share₁),
[share₁, share₁ + share₂), ... in order; the live version answers the rest. So anyone can recompute
which version had to answer; an arm that grows keeps its entities; and another salt draws anew.
"""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from streams.wire import Routing


def place_of(salt: str, entity: str) -> float:
    """Return the entity's place in [0, 1).

    >>> round(place_of("canary-7", "JC013"), 6)
    0.199369
    """
    return float(places_of(salt, [entity])[0])


def places_of(salt: str, entities: Sequence[str]) -> NDArray[np.float64]:
    """Return the places of n entities, shape (n,); each distinct entity is hashed once."""
    seed = sha256(salt.encode() + b"\0")
    known: dict[str, float] = {}
    for entity in set(entities):
        digest = seed.copy()
        digest.update(entity.encode())
        known[entity] = int.from_bytes(digest.digest()[:8], "big") / 2**64
    return np.fromiter(map(known.__getitem__, entities), np.float64, len(entities))


def arms_of(routing: Routing, entities: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of the arm that answers each entity, −1 for the live version, (n,)."""
    if not routing.arms:
        return np.full(len(entities), -1, np.int64)
    ends = np.cumsum([arm.share for arm in routing.arms])
    numbers = np.searchsorted(ends, places_of(routing.salt, entities), side="right")
    return np.where(numbers < len(ends), numbers, -1)


def versions_of(routing: Routing, entities: Sequence[str]) -> NDArray[np.int64]:
    """Return the version that answers each entity, shape (n,)."""
    versions = np.array([*(arm.version for arm in routing.arms), routing.live], np.int64)
    found: NDArray[np.int64] = versions[arms_of(routing, entities)]
    return found
