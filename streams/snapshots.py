"""Snapshots: the state of one partition and the source offset it stands at, as one atomic object.

File layout: a line ``kappa-snapshot 1 <SHA-256 of the rest>``, a line of JSON (source, maker,
partition, next offset), then the arrays as NumPy's npz, never pickled. A snapshot that is missing,
damaged or out of reach costs only a replay of the log: it is never an error, and never believed.
"""

import contextlib
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog
from kafka.errors import KafkaError
from numpy.typing import NDArray

from streams.errors import BrokerError, StateError
from streams.state_folders import open_folder
from streams.topics import connect_admin

_MAGIC = b"kappa-snapshot 1 "


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state: plain arrays (numbers or fixed bytes) after all records before ``next_offset``.

    ``maker`` names what the arrays mean, for example a definition's hash.
    """

    next_offset: int
    arrays: Mapping[str, NDArray[Any]]
    maker: str = ""


class _Head(msgspec.Struct, frozen=True):
    source: str
    maker: str
    partition: int
    next_offset: int


class SnapshotStore:
    """The snapshots of one stage, a file per partition.

    Args:
        folder: where they lie: a folder, or an address that fsspec knows, such as ``s3://bucket/p``
            or ``memory://p``; made when the first is saved.
        source: identity of the log they were made from, see :func:`log_identity`.
            A snapshot of another log (a topic made anew, another cluster) is not used.
    """

    def __init__(self, folder: Path | str, source: str) -> None:
        self._folder = open_folder(folder)
        self._source = source

    def where(self, partition: int) -> str:
        """Return the path or address of a partition's snapshot."""
        return self._folder.where(_name(partition))

    def save(self, partition: int, snapshot: Snapshot) -> None:
        """Put ``snapshot`` in the place of the one before, atomically.

        Raises:
            StateError: the disk or the store refuses.
        """
        body = _encode(
            _Head(self._source, snapshot.maker, partition, snapshot.next_offset), snapshot.arrays
        )
        digest = hashlib.sha256(body).hexdigest().encode()
        try:
            self._folder.write(_name(partition), b"".join((_MAGIC, digest, b"\n", body)))
        except OSError as error:
            raise StateError(
                f"the snapshot {self.where(partition)} can't be written ({error}): make room or "
                "correct the permissions; until then a restart replays the log"
            ) from error

    def load(self, partition: int) -> Snapshot | None:
        """Return the partition's snapshot; None, with a warning, where there is none to trust."""
        try:
            head, arrays = _decode(self._folder.read(_name(partition)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError) as error:
            _warn(self.where(partition), str(error))
            return None
        if (head.source, head.partition) != (self._source, partition):
            _warn(self.where(partition), f"it is of {head.source}, not of {self._source}")
            return None
        return Snapshot(head.next_offset, arrays, head.maker)

    def discard(self, partition: int, why: str) -> None:
        """Take a snapshot away that does not fit, with a warning."""
        _warn(self.where(partition), why)
        with contextlib.suppress(OSError):  # the next one takes its place anyway
            self._folder.remove(_name(partition))


def log_identity(bootstrap: str, topic: str) -> str:
    """Return a name that no other topic has, nor this one once it is deleted and made anew.

    Raises:
        BrokerError: the broker can't be asked, or has no such topic.
    """
    admin = connect_admin(bootstrap)
    try:
        described = admin.describe_topics([topic])[0]
    except KafkaError as error:
        raise BrokerError(f"topic {topic} at {bootstrap} can't be described: {error}") from error
    finally:
        admin.close()
    if described["error_code"]:
        raise BrokerError(f"{bootstrap} has no topic {topic}: create it with `kappa up`")
    return f"{topic}@{described['topic_id']}"


def _encode(head: _Head, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects:
        raise StateError(f"a snapshot holds plain arrays only, and {objects} hold objects")
    stream = io.BytesIO()
    stream.write(msgspec.json.encode(head) + b"\n")
    np.savez(stream, allow_pickle=False, **dict(arrays))
    return stream.getvalue()


def _decode(content: bytes) -> tuple[_Head, dict[str, NDArray[Any]]]:
    first, _, body = content.partition(b"\n")
    if not first.startswith(_MAGIC):
        raise ValueError("it is no snapshot of this format")
    if hashlib.sha256(body).hexdigest().encode() != first.removeprefix(_MAGIC):
        raise ValueError("its checksum does not fit its content")
    head, _, data = body.partition(b"\n")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return msgspec.json.decode(head, type=_Head), {name: file[name] for name in file.files}


def _name(partition: int) -> str:
    return f"partition-{partition}.snapshot"


def _warn(where: str, why: str) -> None:
    structlog.get_logger().warning(
        "snapshot not used: the state is rebuilt from the beginning of the log",
        path=where,
        why=why,
    )
