"""The online store in Redis: one key per view and entity, compared and set by a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from features.store.columnar import Stored
from streams.errors import ConfigurationError, StateError

T = TypeVar("T")

ROWS_PER_CALL = 500
"""Rows per call of the script: a millisecond in which the server does nothing else."""
TIMEOUT_S = 10.0

# A value is the event time as a double (exact for milliseconds up to the year 287,000), then the
# row. ARGV[1]: milliseconds until a key that is not written again is forgotten, 0 for never;
# KEYS[1]: the view's newest event time.
_WRITE = """
local ttl, taken, newest = tonumber(ARGV[1]), 0, nil
for i = 2, #KEYS do
  local value = ARGV[i]
  local at = struct.unpack('<d', value)
  local stored = redis.call('GETRANGE', KEYS[i], 0, 7)
  if stored == '' or struct.unpack('<d', stored) <= at then
    if ttl > 0 then redis.call('SET', KEYS[i], value, 'PX', ttl)
    else redis.call('SET', KEYS[i], value) end
    taken = taken + 1
  end
  if newest == nil or at > newest then newest = at end
end
local before = redis.call('GET', KEYS[1])
if not before or tonumber(before) < newest then
  redis.call('SET', KEYS[1], string.format('%.0f', newest))
end
return taken
"""


class RedisStore:
    """An :class:`features.store.columnar.OnlineStore` on one Redis or Valkey server, from 5.0 on.

    Not for Redis Cluster: a call of the script touches keys of several slots.

    Args:
        address: ``redis://[user:password@]host:port/database``. No error shows it: it may hold a
            password.
    """

    def __init__(self, address: str) -> None:
        try:
            import redis
        except ImportError as error:
            raise ConfigurationError(
                "KAPPA_ONLINE_STORE names a Redis server, but the Python package redis is not "
                "installed: install kappa-ml[redis]"
            ) from error
        try:
            self._client: Any = redis.Redis.from_url(
                address, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
            )
        except ValueError as error:
            raise ConfigurationError(
                "KAPPA_ONLINE_STORE is no address of a Redis server: it looks like "
                "redis://127.0.0.1:6379/0, special characters of a password as %XX"
            ) from error
        self._failure: type[Exception] = redis.RedisError
        self._unknown_script: type[Exception] = redis.exceptions.NoScriptError
        self._script: str | None = None

    def create(self, view: str) -> None:  # noqa: ARG002
        """Nothing needs to be made; see that the server answers."""
        self._call(self._client.ping)

    def drop(self, view: str) -> None:
        """Remove the view's keys, found by walking over all keys of the database."""

        def drop() -> None:
            pattern = b"".join(
                b"\\" + bytes([c]) if c in b"*?[]\\" else bytes([c]) for c in _front(view)
            )
            some: list[bytes] = []
            for key in self._client.scan_iter(pattern + b"*", count=1000):
                some.append(key)
                if len(some) == 1000:
                    self._client.unlink(*some)
                    some.clear()
            self._client.unlink(*some, _newest_key(view))

        self._call(drop)

    def write(
        self,
        view: str,
        keys: Sequence[bytes],
        times_ms: NDArray[np.int64],
        rows: Sequence[bytes],
        ttl_ms: int | None = None,
    ) -> int:
        """Store rows by event time, in one round trip; atomic per 500 rows."""
        if not keys:
            return 0
        front, newest = _front(view), _newest_key(view)
        times = times_ms.astype("<f8").tobytes()
        names = [front + key for key in keys]
        values = [times[8 * i : 8 * i + 8] + row for i, row in enumerate(rows)]
        ttl = ttl_ms or 0

        def write() -> int:
            if self._script is None:
                self._script = self._client.script_load(_WRITE)
            pipeline = self._client.pipeline(transaction=False)
            for first in range(0, len(names), ROWS_PER_CALL):
                part = slice(first, first + ROWS_PER_CALL)
                pipeline.evalsha(
                    self._script, 1 + len(names[part]), newest, *names[part], ttl, *values[part]
                )
            return sum(pipeline.execute())

        try:
            return self._call(write)
        except _ScriptLost:  # the server was started anew
            self._script = None
            return self._call(write)

    def read(self, view: str, keys: Sequence[bytes]) -> list[Stored | None]:
        """Return each key's row, by one command."""
        if not keys:
            return []
        front = _front(view)
        found = self._call(lambda: self._client.mget([front + key for key in keys]))
        return [
            None if value is None else (int(np.frombuffer(value, "<f8", 1)[0]), value[8:])
            for value in found
        ]

    def newest_ms(self, view: str) -> int | None:
        """Return the newest event time ever written to the view."""
        found = self._call(lambda: self._client.get(_newest_key(view)))
        return None if found is None else int(found)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _call(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except self._unknown_script as error:
            raise _ScriptLost from error
        except self._failure as error:
            raise StateError(
                f"the online store in Redis refuses, or can't be reached ({error}): does the "
                "server that KAPPA_ONLINE_STORE names run, and has it memory left?"
            ) from error


class _ScriptLost(Exception):  # noqa: N818 - not an error of anybody
    pass


def _front(view: str) -> bytes:
    return b"kappa:" + view.encode() + b":"


def _newest_key(view: str) -> bytes:
    return b"kappa-newest:" + view.encode()
