"""Which partition a key belongs to: as Kafka's own Java client and the pipeline's producers choose.

The hash is 32-bit MurmurHash2 (Austin Appleby, public domain) with Kafka's seed.
"""

import numpy as np
from numpy.typing import NDArray

from streams.byte_columns import ByteColumn
from streams.compiled import compiled

_SEED = 0x9747B28C
_MIX = 0x5BD1E995


def partitions_of(keys: ByteColumn, partitions: int) -> NDArray[np.int64]:
    """Return each key's partition among so many, shape (n,); an absent key counts as empty."""
    data = np.frombuffer(keys.data, dtype=np.uint8)
    return _partitions(data, keys.starts, keys.lengths, partitions)


@compiled
def _partitions(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], partitions: int
) -> NDArray[np.int64]:
    found = np.empty(len(starts), dtype=np.int64)
    for i in range(len(starts)):
        found[i] = _murmur2(data, starts[i], max(lengths[i], 0)) % partitions
    return found


@compiled
def _murmur2(data: NDArray[np.uint8], start: int, length: int) -> int:
    """Return the hash of a stretch of ``data`` without its sign bit."""
    mix, byte = np.uint32(_MIX), np.uint32(8)
    h = np.uint32(_SEED) ^ np.uint32(length)
    at = start
    for _ in range(length // 4):
        k = (
            np.uint32(data[at])
            | (np.uint32(data[at + 1]) << byte)
            | (np.uint32(data[at + 2]) << np.uint32(16))
            | (np.uint32(data[at + 3]) << np.uint32(24))
        )
        k = np.uint32(k * mix)
        k = np.uint32((k ^ (k >> np.uint32(24))) * mix)
        h = np.uint32(np.uint32(h * mix) ^ k)
        at += 4
    rest = length % 4
    if rest >= 3:
        h ^= np.uint32(data[at + 2]) << np.uint32(16)
    if rest >= 2:
        h ^= np.uint32(data[at + 1]) << byte
    if rest >= 1:
        h = np.uint32((h ^ np.uint32(data[at])) * mix)
    h = np.uint32((h ^ (h >> np.uint32(13))) * mix)
    h ^= h >> np.uint32(15)
    return int(np.int64(h) & 0x7FFFFFFF)
