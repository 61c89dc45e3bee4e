"""The outcomes worker's state on disk: one atomic file with everything that must move together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from serving.feedback.joining import Joining
from serving.inference.stretches import Place
from serving.pipeline import Pipeline
from streams.snapshots import Snapshot, SnapshotStore, log_identity


@dataclass(frozen=True)
class Saved:
    """What stands beside the state.

    ``positions``: topic → partition → next offset. ``newest``: see
    :class:`serving.monitoring.watermark.Watermark`. ``texts``: those of the groups' numbers.
    """

    positions: dict[str, dict[int, int]] = field(default_factory=dict)
    newest: list[list[str | int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, positions: Mapping[Place, int], newest: list[list[str | int]], texts: list[str]
    ) -> Saved:
        """Return what belongs to a state."""
        by_topic: dict[str, dict[int, int]] = {}
        for (topic, partition), at in positions.items():
            by_topic.setdefault(topic, {})[partition] = at
        return cls(by_topic, newest, texts)

    def position(self, place: Place) -> int:
        """Return the next offset of a place."""
        return self.positions.get(place[0], {}).get(place[1], 0)


class OutcomeSnapshots:
    """Saves and loads; a state of other declarations, or of other logs, is not used."""

    def __init__(self, folder: Path | str, bootstrap: str, pipeline: Pipeline) -> None:
        topics = pipeline.topics
        inputs = (topics.predictions, topics.labels)
        self._store = SnapshotStore(folder, " ".join(log_identity(bootstrap, t) for t in inputs))
        groups = [(d.version, d.groups) for d in pipeline.definitions if d.groups]
        content = repr((pipeline.labels, pipeline.model.task, pipeline.labels_within, groups))
        self._maker = hashlib.sha256(content.encode()).hexdigest()

    def save(self, joining: Joining, saved: Saved) -> None:
        """Replace the snapshot; raises StateError where the disk refuses."""
        meta = np.frombuffer(msgspec.json.encode(saved), dtype=np.uint8)
        self._store.save(0, Snapshot(0, {"meta": meta, **joining.snapshot()}, self._maker))

    def load(
        self, committed: Mapping[Place, int], begin: Callable[[], Joining]
    ) -> tuple[Saved, Joining]:
        """Return what was saved; the state of nothing where that is not to be trusted.

        A snapshot of more than is committed is of another time: a topic or a group was set back.
        """
        found = self._store.load(0)
        if found is None:
            return Saved(), begin()
        if found.maker != self._maker:
            self._store.discard(0, "the labels, the task or the groups are declared otherwise now")
            return Saved(), begin()
        meta = msgspec.json.decode(found.arrays["meta"].tobytes())
        saved = msgspec.convert(meta, Saved, strict=False, str_keys=True)
        ahead = [
            (topic, partition)
            for topic, by_partition in saved.positions.items()
            for partition, at in by_partition.items()
            if at > committed.get((topic, partition), 0)
        ]
        if ahead:
            self._store.discard(0, f"it is of more than is committed of {ahead}")
            return Saved(), begin()
        joining = begin()
        try:
            joining.restore(found.arrays)
        except (ValueError, KeyError) as error:
            self._store.discard(0, str(error))
            return Saved(), begin()
        return saved, joining
