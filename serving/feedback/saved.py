"""The outcomes worker's state on disk: one atomic file with everything that must move together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from serving.feedback.state import OutcomeState
from serving.inference.stretches import Place
from serving.pipeline import Pipeline
from streams.snapshots import Snapshot, SnapshotStore, log_identity


@dataclass(frozen=True)
class _Meta:
    """What stands beside the arrays. ``positions``: topic → partition → next offset."""

    positions: dict[str, dict[int, int]]
    newest: list[list[str | int]]
    texts: list[str]


class OutcomeSnapshots:
    """Saves and loads; a state of other declarations, or of other logs, is not used."""

    def __init__(self, folder: Path | str, bootstrap: str, pipeline: Pipeline) -> None:
        topics = pipeline.topics
        inputs = (topics.predictions, topics.labels)
        self._store = SnapshotStore(folder, " ".join(log_identity(bootstrap, t) for t in inputs))
        groups = [(d.version, d.groups) for d in pipeline.definitions if d.groups]
        content = repr((pipeline.labels, pipeline.model.task, pipeline.labels_within, groups))
        self._maker = hashlib.sha256(content.encode()).hexdigest()

    def save(self, state: OutcomeState, positions: Mapping[Place, int]) -> None:
        """Replace the snapshot by the state of ``positions``; raises StateError."""
        by_topic: dict[str, dict[int, int]] = {}
        for (topic, partition), at in positions.items():
            by_topic.setdefault(topic, {})[partition] = at
        content = msgspec.json.encode(_Meta(by_topic, state.newest(), state.texts))
        meta = np.frombuffer(content, dtype=np.uint8)
        self._store.save(0, Snapshot(0, {"meta": meta, **state.joining.snapshot()}, self._maker))

    def load(self, committed: Mapping[Place, int], state: OutcomeState) -> dict[Place, int]:
        """Put what was saved into ``state``, which is empty, and return the positions it is of;
        none where there is nothing to trust.

        A snapshot of more than is committed is of another time: somebody set the group back.
        """
        found = self._store.load(0)
        if found is None:
            return {}
        if found.maker != self._maker:
            self._store.discard(0, "the labels, the task or the groups are declared otherwise now")
            return {}
        content = msgspec.json.decode(found.arrays["meta"].tobytes())
        meta = msgspec.convert(content, _Meta, strict=False, str_keys=True)
        positions = {
            (topic, partition): at
            for topic, by_partition in meta.positions.items()
            for partition, at in by_partition.items()
        }
        ahead = [place for place, at in positions.items() if at > committed.get(place, 0)]
        if ahead:
            self._store.discard(0, f"it is of more than is committed of {ahead}")
            return {}
        try:
            state.restore(dict(found.arrays), meta.texts, meta.newest)
        except (ValueError, KeyError) as error:
            self._store.discard(0, str(error))
            return {}
        return positions
