"""The events that later ones of their entities will look back at: a function of a features log.

Of each entity of one partition the newest events are kept, one fewer than a history holds. Their
values stand in a pool in log order, each with the row of the entity's event before it, so a history
is found by following as many links as it is long, for all events of a batch at once. Rows that
nobody can look back at any more are swept out when the pool is full; a sweep costs as much as what
stays, and at least as much is taken in between two of them.

Memory of a partition with E entities, of which entity e has had n_e events: at most
2 · Σ min(n_e, L − 1) · (8 F + 4 C + 8) bytes for F numeric and C category features, and the names
of the entities. No entity is ever forgotten: its next event may come at any time.

What is asked does not count until it is confirmed, so that state and answers move as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.engine.slots import EntitySlots
from features.records import FeatureRows
from serving.inference.answers import not_answered
from streams.errors import StateError
from training.dataset.histories import NONE, EventValues, Histories
from training.dataset.texts import CodedTexts

_FIRST_ROWS = 1024
_NO_SOURCE = -1


@dataclass(frozen=True, slots=True)
class Looked:
    """Rows of a batch in the pool, (n,), −1 for repetitions; not confirmed yet."""

    rows: NDArray[np.int64]
    slots: NDArray[np.int64]
    newest_source: int


class EntityEvents:
    """The newest ``last`` − 1 events of each entity of a partition.

    ``next_offset`` is where the features log goes on behind what is held, ``newest_source`` the
    greatest source offset before it.
    """

    def __init__(self, numeric: int, categories: int, last: int, next_offset: int = 0) -> None:
        self.last, self.next_offset, self.newest_source = last, next_offset, _NO_SOURCE
        self._slots = EntitySlots()
        self._newest = np.full(_FIRST_ROWS, NONE, dtype=np.int64)
        self._texts = [_Texts() for _ in range(categories)]
        self._used = 0
        self._allocate(_FIRST_ROWS, numeric, categories)

    def __len__(self) -> int:
        """Return the number of events in the pool, those to be swept out included."""
        return self._used

    @property
    def nbytes(self) -> int:
        """How much memory the values, the links and the names take, in bytes."""
        arrays = (self._numeric, self._codes, self._previous, self._newest)
        return sum(array.nbytes for array in arrays) + self._slots.nbytes

    def look(self, rows: FeatureRows, upto: int | None = None) -> Looked:
        """Take the rows that follow in the log, to be confirmed or forgotten with the next call.

        Those behind the source offset ``upto`` do not count: they come again later in the log.
        """
        counting = not_answered(rows.source_offsets, self.newest_source)
        if upto is not None:
            counting &= rows.source_offsets <= upto
        new = np.flatnonzero(counting)
        found = np.full(len(rows), NONE, dtype=np.int64)
        if not len(new):
            return Looked(found, new, self.newest_source)
        self._make_room(len(new))
        begin, end = self._used, self._used + len(new)
        slots = self._slots.of([rows.entities[i] for i in new.tolist()])
        if len(self._slots) > len(self._newest):
            grown = np.full(2 * len(self._slots), NONE, dtype=np.int64)
            grown[: len(self._newest)] = self._newest
            self._newest = grown
        self._numeric[begin:end] = rows.numeric[new]
        for column, (texts, known) in enumerate(zip(rows.categories, self._texts, strict=True)):
            self._codes[begin:end, column] = known.codes(texts)[new]
        self._previous[begin:end] = self._before(slots, begin)
        found[new] = np.arange(begin, end)
        return Looked(found, slots, int(rows.source_offsets[new[-1]]))

    def histories(self, rows: NDArray[np.int64], last: int) -> Histories:
        """Return the histories of the events in ``rows`` (n,) of the pool, ``last`` at most."""
        if last > self.last:
            raise ValueError(f"histories of {last} events are asked of {self.last} kept")
        index = np.empty((len(rows), last), dtype=np.int64)
        at = rows
        for column in range(last - 1, -1, -1):
            index[:, column] = at
            at = np.where(at == NONE, NONE, self._previous[at])
        used, told = np.unique(index, return_inverse=True)
        none = int(len(used) > 0 and used[0] == NONE)
        events = used[none:]
        codes = self._codes[events]
        values = EventValues(
            self._numeric[events],
            [known.of(codes[:, column]) for column, known in enumerate(self._texts)],
        )
        return Histories(values, told.reshape(index.shape) - none)

    def confirm(self, looked: Looked, next_offset: int) -> None:
        """Count what the last :meth:`look` took; the log goes on at ``next_offset``."""
        n = len(looked.slots)
        # Where an entity has several, the last one is what stays.
        self._newest[looked.slots] = np.arange(self._used, self._used + n)
        self._used += n
        self.newest_source, self.next_offset = looked.newest_source, next_offset

    # --- as plain arrays -------------------------------------------------------------------------

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return the state as plain arrays, entity by entity, their events in log order."""
        slots = np.flatnonzero(self._newest != NONE)
        ranks, rows = self._kept(slots)
        order = np.lexsort((rows, ranks))
        ranks, rows = ranks[order], rows[order]
        arrays: dict[str, NDArray[Any]] = {
            **self._slots.snapshot(slots),
            "last": np.array([self.last]),
            "newest_source": np.array([self.newest_source]),
            "counts": np.bincount(ranks, minlength=len(slots)),
            "numeric": self._numeric[rows],
        }
        for column, known in enumerate(self._texts):
            used, codes = np.unique(self._codes[rows, column], return_inverse=True)
            texts = [text.encode() for text in known.of(used)]
            arrays[f"codes_{column}"] = codes.astype(np.int32)
            arrays[f"text_ends_{column}"] = np.array(
                list(accumulate(map(len, texts))), dtype=np.int64
            )
            arrays[f"text_bytes_{column}"] = np.frombuffer(b"".join(texts), dtype=np.uint8)
        return arrays

    @classmethod
    def restore(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        numeric: int,
        categories: int,
        next_offset: int,
    ) -> EntityEvents:
        """Return the state of :meth:`snapshot`; raises StateError where the arrays are none."""
        try:
            made = cls(numeric, categories, int(arrays["last"][0]), next_offset)
            made._fill(arrays, numeric)
        except (KeyError, IndexError, ValueError) as error:
            raise StateError(f"no events of entities: {error!r}") from error
        return made

    def _fill(self, arrays: Mapping[str, NDArray[Any]], numeric: int) -> None:
        counts, values = arrays["counts"].astype(np.int64), arrays["numeric"]
        n, categories = int(counts.sum()), len(self._texts)
        if values.shape != (n, numeric) or (counts < 1).any():
            raise ValueError(f"{values.shape} values of {n} events")
        self._slots = EntitySlots.restore(arrays["entity_ends"], arrays["entity_bytes"])
        if len(self._slots) != len(counts):
            raise ValueError(f"{len(self._slots)} entities, {len(counts)} counts")
        self._allocate(max(_FIRST_ROWS, n), numeric, categories)
        self._numeric[:n] = values
        for column in range(categories):
            bounds = [0, *arrays[f"text_ends_{column}"].tolist()]
            letters = arrays[f"text_bytes_{column}"].tobytes()
            texts = [letters[a:b].decode() for a, b in pairwise(bounds)]
            codes = arrays[f"codes_{column}"]
            if len(codes) != n or (n and not 0 <= codes.min() <= codes.max() < len(texts)):
                raise ValueError(f"codes of column {column}")
            self._texts[column] = _Texts(texts)
            self._codes[:n, column] = codes
        ends = np.cumsum(counts)
        self._previous[:n] = np.arange(n) - 1
        self._previous[ends - counts] = NONE
        self._newest = np.full(max(_FIRST_ROWS, len(counts)), NONE, dtype=np.int64)
        self._newest[: len(counts)] = ends - 1
        self._used = n
        self.newest_source = int(arrays["newest_source"][0])

    # --- the pool --------------------------------------------------------------------------------

    def _allocate(self, rows: int, numeric: int, categories: int) -> None:
        self._numeric = np.empty((rows, numeric), dtype=np.float64)
        self._codes = np.empty((rows, categories), dtype=np.int32)
        self._previous = np.empty(rows, dtype=np.int64)

    def _before(self, slots: NDArray[np.int64], begin: int) -> NDArray[np.int64]:
        """Return the row of the event before each (n,), which stand from ``begin`` on."""
        before = self._newest[slots]
        order = np.argsort(slots, kind="stable")
        again = slots[order[1:]] == slots[order[:-1]]
        before[order[1:][again]] = begin + order[:-1][again]
        return before

    def _kept(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what can still be looked back at: (place in ``slots``, row) of each event."""
        ranks, at = np.arange(len(slots)), self._newest[slots]
        found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for _ in range(max(1, self.last - 1)):
            found.append((ranks, at))
            at = self._previous[at]
            there = at != NONE
            ranks, at = ranks[there], at[there]
        empty = np.empty(0, dtype=np.int64)
        return (
            np.concatenate([empty, *(rank for rank, _ in found)]),
            np.concatenate([empty, *(row for _, row in found)]),
        )

    def _make_room(self, n: int) -> None:
        if self._used + n <= len(self._previous):
            return
        rows = np.sort(self._kept(np.flatnonzero(self._newest != NONE))[1])
        moved = np.full(self._used + 1, NONE, dtype=np.int64)  # [-1] stays none
        moved[rows] = np.arange(len(rows))
        numeric, codes, previous = self._numeric, self._codes, self._previous
        size = max(len(previous), 2 * (len(rows) + n))
        self._allocate(size, numeric.shape[1], codes.shape[1])
        kept = len(rows)
        self._numeric[:kept] = numeric[rows]
        self._previous[:kept] = moved[previous[rows]]
        for column, known in enumerate(self._texts):
            used, found = np.unique(codes[rows, column], return_inverse=True)
            self._texts[column] = _Texts(known.of(used))
            self._codes[:kept, column] = found
        self._newest = moved[self._newest]
        self._used = kept


class _Texts:
    """Texts and their codes, from 0 on."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._texts = list(texts)
        self._index = {text: code for code, text in enumerate(self._texts)}

    def codes(self, texts: Sequence[str]) -> NDArray[np.int32]:
        for text in dict.fromkeys(texts):
            if text not in self._index:
                self._index[text] = len(self._texts)
                self._texts.append(text)
        return np.fromiter(map(self._index.__getitem__, texts), np.int32, len(texts))

    def of(self, codes: NDArray[Any]) -> Sequence[str]:
        if len(codes) < len(self._texts):
            return list(map(self._texts.__getitem__, codes.tolist()))
        return CodedTexts(codes, tuple(self._texts))  # whoever encodes it asks once per text
