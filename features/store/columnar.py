"""Where the rows of online features lie: SQLite by default, Redis by ``KAPPA_ONLINE_STORE``.

A store knows keys, event times and rows of bytes; :mod:`features.store.rows` says what is in them.
It needs no Feast: :mod:`features.store.stores` makes Feast's online stores of it, and
:mod:`features.store.reader` reads it without Feast's eight seconds of import.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streams.errors import ConfigurationError
from streams.settings import Settings

Stored = tuple[int, bytes]
"""A row's event time, milliseconds since the epoch, and its values."""


class OnlineStore(Protocol):
    """Keeps per view and entity the newest row. Safe for several threads and processes."""

    def create(self, view: str) -> None:
        """Make room for a view; nothing where it is there."""
        ...

    def drop(self, view: str) -> None:
        """Remove a view and its rows; nothing where there is none."""
        ...

    def write(
        self,
        view: str,
        keys: Sequence[bytes],
        times_ms: NDArray[np.int64],
        rows: Sequence[bytes],
        ttl_ms: int | None = None,
    ) -> int:
        """Store rows, each only where its key has none that is newer by event time.

        The store itself compares, so no writer needs to know what others wrote; of rows with the
        same event time the later one counts. ``ttl_ms``: a store that can may forget a row when
        its key has not been written for so long.

        Returns:
            How many rows were taken; the others came too late.

        Raises:
            StateError: the store refuses, or can't be reached. Writing again does no harm.
        """
        ...

    def read(self, view: str, keys: Sequence[bytes]) -> list[Stored | None]:
        """Return each key's row; None where there is none.

        Raises:
            StateError: the store can't be read or reached.
        """
        ...

    def newest_ms(self, view: str) -> int | None:
        """Return the newest event time that was ever written to a view; None before any."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


def open_store(folder: Path, settings: Settings) -> OnlineStore:
    """Return the online store that the settings name.

    Args:
        folder: the Feast repository, where SQLite's file lies.
        settings: their ``online_store`` says which.

    Raises:
        ConfigurationError: the setting names no store that is known.
    """
    address = settings.online_store_address
    if address is None:
        from features.store.sqlite_store import FILE_NAME, SqliteStore

        return SqliteStore(folder / FILE_NAME)
    if address.partition("://")[0] not in ("redis", "rediss", "unix"):
        raise ConfigurationError(
            "KAPPA_ONLINE_STORE names no online store: it is 'sqlite' or an address such as "
            "redis://127.0.0.1:6379/0 (rediss:// for TLS, unix:// for a socket)"
        )
    from features.store.redis_store import RedisStore

    return RedisStore(address)
