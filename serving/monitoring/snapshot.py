"""The monitor's state on disk: one atomic file with everything that must move together."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from serving.monitoring.state import MonitorState
from streams.errors import ConfigurationError
from streams.snapshots import Snapshot, SnapshotStore, log_identity


@dataclass(frozen=True)
class Saved:
    """What stands beside the state: where it has read and written up to.

    ``positions``: input topic → partition → next offset. ``features``: the definition whose
    features are followed; ``features_made``: its hash and the id of its log. ``newest``: see
    :class:`serving.monitoring.watermark.Watermark`. ``commands_done``: how many commands of the log
    were obeyed. ``written``: see :class:`serving.monitoring.outbox.Outbox`.
    """

    positions: dict[str, dict[int, int]] = field(default_factory=dict)
    newest: list[list[str | int]] = field(default_factory=list)
    commands_done: int = 0
    written: dict[str, int] = field(default_factory=dict)
    features: int = 0
    features_made: str = ""


class MonitorSnapshots:
    """Saves and loads. ``maker`` names the declarations that the state depends on; a state made
    under others, or from other logs than ``inputs`` are now, is not used."""

    def __init__(self, folder: Path, bootstrap: str, inputs: Sequence[str], maker: str) -> None:
        source = " ".join(log_identity(bootstrap, topic) for topic in inputs)
        self._store = SnapshotStore(folder, source)
        self._maker = maker

    def save(self, state: MonitorState, saved: Saved) -> None:
        """Replace the snapshot; raises StateError where the disk refuses."""
        content, arrays = state.to_snapshot()
        meta = msgspec.json.encode({"state": content, "saved": saved})
        columns = {"meta": np.frombuffer(meta, dtype=np.uint8), **arrays}
        self._store.save(0, Snapshot(next_offset=0, arrays=columns, maker=self._maker))

    def load(
        self, begin: Callable[[Saved], MonitorState | None]
    ) -> tuple[MonitorState, Saved] | None:
        """Return the state and what belongs to it; None where there is nothing to trust.

        ``begin`` returns an empty state for the features that were followed, or None where those
        are not what they were.
        """
        found = self._store.load(0)
        if found is None:
            return None
        if found.maker != self._maker:
            self._store.discard(0, "the declarations of the monitors or the features have changed")
            return None
        meta = msgspec.json.decode(found.arrays["meta"].tobytes())
        saved = msgspec.convert(meta["saved"], Saved, strict=False, str_keys=True)
        state = begin(saved)
        if state is None:
            self._store.discard(0, "the definition of the features, or their log, has changed")
            return None
        state.load_snapshot(meta["state"], dict(found.arrays))
        return state, saved


def folder_lock(folder: Path) -> IO[bytes]:
    """Return an open file that holds the folder for this process until it is closed.

    Raises:
        ConfigurationError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigurationError(
            f"another monitor of this pipeline runs on {folder}: one reads all partitions, so "
            "stop the other first"
        ) from None
    return file
