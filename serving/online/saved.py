"""The online worker's state on disk: one atomic file with everything that must move together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from serving.online.learner import Arrays
from streams.errors import StateError
from streams.settings import Settings
from streams.snapshots import Snapshot, SnapshotStore, log_identity

_MAKER = "online 1"
_META = "meta"


@dataclass(frozen=True)
class Saved:
    """``course`` and ``arrays`` are those of :meth:`serving.online.course.Course.state`.

    ``pending`` is a version still to be registered (:func:`serving.online.packaging.to_json`),
    ``returned`` a return still to be told, None for none.
    """

    arrays: Arrays
    course: dict[str, Any]
    pending: dict[str, Any] | None
    returned: dict[str, Any] | None


class OnlineSnapshots:
    """Saves and loads; what is damaged, or of another log, is not used."""

    def __init__(self, bootstrap: str, pipeline: str, topic: str, home: Path) -> None:
        place = Settings().snapshots_of(pipeline, home)
        folder = place / "online" if isinstance(place, Path) else f"{place}/online"
        self._store = SnapshotStore(folder, log_identity(bootstrap, topic))

    def save(self, saved: Saved) -> None:
        """Replace the snapshot; raises StateError where the disk refuses."""
        told = {"course": saved.course, "pending": saved.pending, "returned": saved.returned}
        meta = np.frombuffer(msgspec.json.encode(told), dtype=np.uint8)
        next_offset = sum(saved.course["positions"].values())
        self._store.save(0, Snapshot(next_offset, {_META: meta, **saved.arrays}, _MAKER))

    def load(self) -> Saved | None:
        """Return the snapshot, or None where there is none to trust."""
        snapshot = self._store.load(0)
        if snapshot is None:
            return None
        arrays = dict(snapshot.arrays)
        try:
            if snapshot.maker != _MAKER:
                raise StateError(f"it was made by {snapshot.maker!r}")
            told = msgspec.json.decode(arrays.pop(_META).tobytes())
            return Saved(arrays, told["course"], told["pending"], told["returned"])
        except (StateError, KeyError, TypeError, msgspec.DecodeError) as error:
            self.discard(str(error))
            return None

    def discard(self, why: str) -> None:
        """Take the snapshot away, with a warning."""
        self._store.discard(0, why)
