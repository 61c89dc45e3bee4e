"""Which slices a batch of matches falls into: versions, groups, steps of arrival and of event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.cells import cells_of
from serving.monitoring.groups import Groups
from serving.monitoring.matching import Matches

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Slices:
    """How one family of slices (all, or the values of one group field) cuts a batch: ``cells`` (n,)
    number the distinct (version, step of arrival, step of event, value), of which ``of`` says
    what they are: (version, group or "", start of arrival's step, start of the event's step)."""

    cells: Ints
    of: list[tuple[int, str, int, int]]


def families(
    matches: Matches, groups: Groups, step_ms: int, fields: Sequence[str | None]
) -> Iterator[Slices]:
    """Yield the slices by each of the group ``fields`` (None: all matches in one), of those that
    the events have."""
    arrived, happened = matches.label_times_ms // step_ms, matches.event_times_ms // step_ms
    whole = [matches.versions, arrived, happened]
    for field in fields:
        if field is None:
            cells, first = cells_of(whole)
            called = [""] * len(first)
        elif field in groups.fields:
            i = groups.fields.index(field)
            cells, first = cells_of([*whole, matches.groups[:, i]])
            texts = groups.texts(i)
            called = [f"{field}={texts[code]}" for code in matches.groups[first, i].tolist()]
        else:
            continue
        versions = matches.versions[first].tolist()
        arrivals, events = (arrived[first] * step_ms).tolist(), (happened[first] * step_ms).tolist()
        yield Slices(cells, list(zip(versions, called, arrivals, events, strict=True)))


def key_of(version: int, group: str) -> str:
    """Return the key of a slice's sums: ``"3|"`` of all, ``"3|user=guest"`` of a group."""
    return f"{version}|{group}"


def slice_of(key: str) -> tuple[int, str]:
    """Return (version, group or "") of a key."""
    version, _, group = key.partition("|")
    return int(version), group
