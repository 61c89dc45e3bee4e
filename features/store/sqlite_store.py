"""The online store in a SQLite file: one table per view, one row per entity."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.store.columnar import Stored
from streams.errors import StateError

FILE_NAME = "online.sqlite3"
BUSY_TIMEOUT_S = 10.0
ROWS_PER_STATEMENT = 500
"""Rows per INSERT. ``executemany`` gives up Python's lock for every single row and, beside a busy
thread, waits for it each time: 1,000 rows/s, measured, against 50,000 with many rows a statement.
"""

_NEWEST = "kappa_newest"


class SqliteStore:
    """An :class:`features.store.columnar.OnlineStore`; several processes may share the file.

    Args:
        path: the file; made with its folder when first needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._created: set[str] = set()

    def create(self, view: str) -> None:
        """Make the view's table."""
        with self._connected() as connection:
            self._ensure(connection, view)

    def drop(self, view: str) -> None:
        """Remove the view's table."""
        with self._connected() as connection, _transaction(connection):
            connection.execute(f"DROP TABLE IF EXISTS {_quoted(view)}")
            connection.execute(f"DELETE FROM {_NEWEST} WHERE view = ?", (view,))  # noqa: S608
            self._created.discard(view)

    def write(
        self,
        view: str,
        keys: Sequence[bytes],
        times_ms: NDArray[np.int64],
        rows: Sequence[bytes],
        ttl_ms: int | None = None,  # noqa: ARG002 - a file keeps what it has; readers look at ages
    ) -> int:
        """Store rows in one transaction, by event time."""
        if not keys:
            return 0
        # In the order of the keys neighbouring rows share a page: half the work, measured.
        order = sorted(range(len(keys)), key=keys.__getitem__)
        fields: list[object] = [None] * (3 * len(order))
        fields[0::3] = map(keys.__getitem__, order)
        fields[1::3] = times_ms[order].tolist()
        fields[2::3] = map(rows.__getitem__, order)
        step = 3 * ROWS_PER_STATEMENT
        with self._connected() as connection:
            self._ensure(connection, view)
            before = connection.total_changes
            with _transaction(connection):
                for first in range(0, len(fields), step):
                    part = fields[first : first + step]
                    connection.execute(_insert(view, len(part) // 3), part)
                taken = connection.total_changes - before
                connection.execute(
                    f"INSERT INTO {_NEWEST} VALUES (?, ?) ON CONFLICT (view) DO UPDATE "  # noqa: S608
                    "SET event_ms = max(event_ms, excluded.event_ms)",
                    (view, int(times_ms.max())),
                )
        return taken

    def read(self, view: str, keys: Sequence[bytes]) -> list[Stored | None]:
        """Return each key's row."""
        found: dict[bytes, Stored] = {}
        with self._connected() as connection:
            self._ensure(connection, view)
            for first in range(0, len(keys), ROWS_PER_STATEMENT):
                part = keys[first : first + ROWS_PER_STATEMENT]
                for key, time_ms, row in connection.execute(_select(view, len(part)), part):
                    found[key] = (time_ms, row)
        return list(map(found.get, keys))

    def newest_ms(self, view: str) -> int | None:
        """Return the newest event time ever written to the view."""
        with self._connected() as connection:
            row = connection.execute(
                f"SELECT event_ms FROM {_NEWEST} WHERE view = ?",  # noqa: S608
                (view,),
            ).fetchone()
        return None if row is None else int(row[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
                self._created.clear()

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Yield the one connection, to one thread at a time."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _connect(self._path)
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                raise StateError(
                    f"the online store {self._path} can't be used ({error}): is the disk full, or "
                    "held by another program? It holds nothing that the log does not, so it may "
                    "be deleted while no worker runs"
                ) from error

    def _ensure(self, connection: sqlite3.Connection, view: str) -> None:
        if view not in self._created:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {_quoted(view)} (entity_key BLOB PRIMARY KEY, "
                "event_ms INTEGER NOT NULL, row BLOB NOT NULL) WITHOUT ROWID"
            )
            self._created.add(view)


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        # Readers and the one writer don't wait for each other; a commit is on the disk when it
        # returns, since a snapshot of the feature worker promises that.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {_NEWEST} "
            "(view TEXT PRIMARY KEY, event_ms INTEGER NOT NULL)"
        )
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@lru_cache(256)
def _insert(view: str, rows: int) -> str:
    table = _quoted(view)
    return (
        f"INSERT INTO {table} VALUES {','.join(['(?,?,?)'] * rows)} "  # noqa: S608 - quoted name
        "ON CONFLICT (entity_key) DO UPDATE SET event_ms = excluded.event_ms, row = excluded.row "
        f"WHERE excluded.event_ms >= {table}.event_ms"
    )


@lru_cache(256)
def _select(view: str, keys: int) -> str:
    return (
        f"SELECT entity_key, event_ms, row FROM {_quoted(view)} "  # noqa: S608 - quoted name
        f"WHERE entity_key IN ({','.join('?' * keys)})"
    )


def _quoted(view: str) -> str:
    return '"view_' + view.replace('"', '""') + '"'
