"""The monitor's state on disk: one atomic file with everything that must move together."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from serving.monitor_state import MonitorState
from streams.errors import ConfigurationError
from streams.snapshots import Snapshot, SnapshotStore, log_identity


@dataclass(frozen=True)
class Saved:
    """What stands beside the state: where it has read and written up to.

    ``positions``: input topic → partition → next offset. ``newest``: see
    :class:`serving.watermark.Watermark`. ``commands_done``: how many commands of the log were
    obeyed. ``written``: see :class:`serving.outbox.Outbox`.
    """

    positions: dict[str, dict[int, int]] = field(default_factory=dict)
    newest: list[list[str | int]] = field(default_factory=list)
    commands_done: int = 0
    written: dict[str, int] = field(default_factory=dict)


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

    def load(self, state: MonitorState) -> Saved | None:
        """Fill ``state`` and return what belongs to it; None where there is nothing to trust."""
        found = self._store.load(0)
        if found is None:
            return None
        if found.maker != self._maker:
            self._store.discard(0, "the declarations of the monitors or the features have changed")
            return None
        meta = msgspec.json.decode(found.arrays["meta"].tobytes())
        state.load_snapshot(meta["state"], dict(found.arrays))
        return msgspec.convert(meta["saved"], Saved, strict=False, str_keys=True)


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
