"""CRC-32C (Castagnoli), the checksum of Kafka's record batches."""

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled


def crc32c(data: bytes, crc: int = 0) -> int:
    """Return the CRC-32C (Castagnoli) of ``data``, going on from that of what stands before."""
    return _crc32c(np.frombuffer(data, dtype=np.uint8), crc, _CRC_TABLES)


def first_damaged(
    data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], crcs: NDArray[np.int64]
) -> int | None:
    """Return the place of the first stretch ``data[start:end]`` whose CRC-32C is another."""
    place = _first_damaged(np.frombuffer(data, dtype=np.uint8), starts, ends, crcs, _CRC_TABLES)
    return None if place == len(crcs) else place


def _crc_tables() -> NDArray[np.uint32]:
    """Return the tables of the slicing-by-8 method, shape (8, 256).

    M. Kounavis and F. Berry, "Novel Table Lookup-Based Algorithms for High-Performance CRC
    Generation", IEEE Transactions on Computers 57 (2008).
    """
    tables = np.zeros((8, 256), dtype=np.uint32)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        tables[0, byte] = crc
    for i in range(1, 8):
        tables[i] = (tables[i - 1] >> np.uint32(8)) ^ tables[0, tables[i - 1] & np.uint32(0xFF)]
    return tables


_CRC_TABLES = _crc_tables()


@compiled
def _crc32c(data: NDArray[np.uint8], crc: int, t: NDArray[np.uint32]) -> int:
    c = np.uint32(crc) ^ np.uint32(0xFFFFFFFF)
    byte = np.uint32(0xFF)
    i = 0
    while i + 8 <= len(data):
        c ^= (
            np.uint32(data[i])
            | (np.uint32(data[i + 1]) << np.uint32(8))
            | (np.uint32(data[i + 2]) << np.uint32(16))
            | (np.uint32(data[i + 3]) << np.uint32(24))
        )
        c = (
            t[7, c & byte]
            ^ t[6, (c >> np.uint32(8)) & byte]
            ^ t[5, (c >> np.uint32(16)) & byte]
            ^ t[4, c >> np.uint32(24)]
            ^ t[3, data[i + 4]]
            ^ t[2, data[i + 5]]
            ^ t[1, data[i + 6]]
            ^ t[0, data[i + 7]]
        )
        i += 8
    while i < len(data):
        c = (c >> np.uint32(8)) ^ t[0, (c ^ np.uint32(data[i])) & byte]
        i += 1
    return int(c ^ np.uint32(0xFFFFFFFF))


@compiled
def _first_damaged(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    crcs: NDArray[np.int64],
    tables: NDArray[np.uint32],
) -> int:
    for i in range(len(crcs)):
        if _crc32c(data[starts[i] : ends[i]], 0, tables) != crcs[i]:
            return i
    return len(crcs)
