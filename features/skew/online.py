"""Whether the online store has what the log gives: a sample of entities, bytes against bytes.

An entity is in the sample by the hash of its name, so restarts and machines agree. Rows are on
their way for a while, and the audit itself is behind: so a difference counts only once it has
lasted for ``patience_s``, with neither side moving, and once the audit has seen every event that
stood in the log when it was first met.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from features.engine.engine import Processed
from features.engine.identities import hashes
from features.processing.stages import Stage
from features.skew.audit import Difference
from features.store.columnar import OnlineStore, Stored
from features.store.rows import entity_keys
from features.store.views import stored_name, view_of

LARGEST = 4_096
"""How many entities the sample has at most: over that every other one is given up."""


class _Newest(msgspec.Struct, frozen=True, array_like=True):
    """The newest row of an entity: what the store should hold."""

    partition: int
    time_ms: int
    row: bytes


class _Sample(msgspec.Struct):
    one_of: int
    newest: dict[str, _Newest]


@dataclass(frozen=True, slots=True)
class _Suspect:
    since_s: float
    found: Stored | None
    expected: _Newest
    end: int


class OnlineSample:
    """The newest rows of a sample of a stage's entities.

    Args:
        stage: makes the rows; it has a view.
        store: where they are served from.
        patience_s: how long a difference must last. The writer may be behind for so long.
        clock_s: seconds that never go back.
    """

    def __init__(
        self,
        stage: Stage,
        store: OnlineStore,
        patience_s: float = 60.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage, self._store = stage, store
        self._patience_s, self._clock_s = patience_s, clock_s
        self._view = view_of(stage.definition, stage.events, stage.key)
        self.name = stored_name(stage.topics.name, self._view.name)
        numeric, texts = (stage.definition.names(kind) for kind in ("numeric", "category"))
        self._numeric = [i for i, name in enumerate(numeric) if name in self._view.names]
        self._texts = [i for i, name in enumerate(texts) if name in self._view.names]
        self._sample = _Sample(1, {})
        self._suspects: dict[str, _Suspect] = {}
        self._watermark_ms = 0

    def __len__(self) -> int:
        """Return the number of entities in the sample."""
        return len(self._sample.newest)

    def take(self, processed: Processed) -> None:
        """Note the newest rows of the sample's entities; batches come in log order."""
        times_ms = processed.rows.event_times_ms
        if not len(times_ms):
            return
        self._watermark_ms = max(self._watermark_ms, int(times_ms.max()))
        entities = processed.stage_entities
        chosen = np.flatnonzero(hashes(entities) % self._sample.one_of == 0)
        by_time = chosen[np.argsort(times_ms[chosen], kind="stable")]
        newest = {entities[i]: i for i in by_time.tolist()}  # of equal times the last in the log
        known = self._sample.newest
        later = [
            (entity, i)
            for entity, i in newest.items()
            if entity not in known or times_ms[i] >= known[entity].time_ms
        ]
        for (entity, i), row in zip(
            later, self._rows(processed, [i for _, i in later]), strict=True
        ):
            known[entity] = _Newest(processed.rows.partition, int(times_ms[i]), row)
        self._thin_out()

    def check(
        self, ends: Mapping[int, int], positions: Mapping[int, int]
    ) -> tuple[int, list[Difference]]:
        """Compare the store with the sample.

        Args:
            ends: partition → end of the stage's input now.
            positions: partition → next offset of it that :meth:`take` has not seen.

        Returns:
            How many entities were compared, and the differences that have lasted.
        """
        entities = list(self._sample.newest)
        keys = entity_keys(self._view.entity, entities)
        compared, differences = 0, []
        for entity, found in zip(entities, self._store.read(self.name, keys), strict=True):
            expected = self._sample.newest[entity]
            if found == (expected.time_ms, expected.row):
                self._suspects.pop(entity, None)
                compared += 1
            elif self._expired(expected):
                self._suspects.pop(entity, None)
            elif self._lasts(entity, found, expected, ends, positions):
                compared += 1
                differences.append(self._difference(entity, found, expected))
        return compared, differences

    def to_bytes(self) -> bytes:
        """Return the sample, to be saved."""
        return msgspec.json.encode(self._sample)

    def from_bytes(self, saved: bytes) -> None:
        """Go on with a sample that was saved; raises ValueError where it is none."""
        if saved:
            self._sample = msgspec.json.decode(saved, type=_Sample)
            times_ms = (newest.time_ms for newest in self._sample.newest.values())
            self._watermark_ms = max(times_ms, default=0)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def _rows(self, processed: Processed, places: list[int]) -> list[bytes]:
        """Return the rows at these places as the store keeps them."""
        rows, stage = processed.rows, self._stage
        numeric = rows.numeric[places]
        if stage.is_last:
            numeric = numeric[:, self._numeric]
            texts = [[rows.categories[t][i] for i in places] for t in self._texts]
        else:  # only what the stages have made so far; the view has what this one did
            numeric = numeric[:, stage.own_columns]
            texts = []
        return self._view.layout.encode(numeric, texts)

    def _lasts(
        self,
        entity: str,
        found: Stored | None,
        expected: _Newest,
        ends: Mapping[int, int],
        positions: Mapping[int, int],
    ) -> bool:
        """Return whether a difference is no matter of time any more."""
        suspect = self._suspects.get(entity)
        now_s = self._clock_s()
        if suspect is None or (suspect.found, suspect.expected) != (found, expected):
            end = ends[expected.partition]
            self._suspects[entity] = _Suspect(now_s, found, expected, end)
            return False
        is_seen = positions.get(expected.partition, 0) >= suspect.end
        return is_seen and now_s - suspect.since_s >= self._patience_s

    def _expired(self, expected: _Newest) -> bool:
        """Return whether the store may have forgotten the row."""
        ttl_ms = self._view.ttl_ms
        return ttl_ms is not None and expected.time_ms < self._watermark_ms - ttl_ms

    def _difference(self, entity: str, found: Stored | None, expected: _Newest) -> Difference:
        name, at = f"online store, view {self.name}", expected.time_ms
        if found is None:
            return Difference("missing", name, 0, at, entity, "", "", "")
        layout = self._view.layout
        wanted = layout.decode(expected.row) or {}
        try:
            given = layout.decode(found[1])
        except Exception as error:  # whatever stands there, it is told and not raised
            return Difference("unreadable", name, 0, at, entity, "", str(error), "")
        for feature, value in wanted.items():
            if given is not None and given.get(feature) != value:
                served = str(given.get(feature))
                return Difference("different", name, 0, at, entity, feature, served, str(value))
        if found[0] != expected.time_ms:
            return Difference(
                "different", name, 0, at, entity, "event time", str(found[0]), str(at)
            )
        return Difference("different", name, 0, at, entity, "", found[1].hex(), expected.row.hex())

    def _thin_out(self) -> None:
        """Halve the sample while it is too large, by the same hashes."""
        sample = self._sample
        while len(sample.newest) > LARGEST:
            sample.one_of *= 2
            entities = list(sample.newest)
            kept = hashes(entities) % sample.one_of == 0
            sample.newest = {
                entity: sample.newest[entity]
                for entity, keep in zip(entities, kept.tolist(), strict=True)
                if keep
            }
            self._suspects = {e: s for e, s in self._suspects.items() if e in sample.newest}
