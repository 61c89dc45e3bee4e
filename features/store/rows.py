"""What an online store keeps of a row: its values as one string of bytes, made column by column.

A row is four bytes that name its layout (see :attr:`RowLayout.id`), then a protobuf message of
Feast's type ``RepeatedValue`` with one ``Value`` per field. So Feast's own classes read it in one
call, and nothing here builds an object per value: a double is always the same eleven bytes but for
eight of them, which NumPy puts into place for all rows at once.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streams.errors import StateError

# Of Feast's Value_pb2: RepeatedValue.val = 1, Value.string_val = 2, Value.double_val = 5.
_VALUE = 0x0A
_STRING = 0x12
_DOUBLE = 0x29
_DOUBLE_WIDTH = 11  # tag, length 9, tag, eight bytes
_MISSING = bytes([_VALUE, 0])

_STRING_TYPE = 2  # of Feast's ValueType
_Texts = Sequence[Sequence[str]]


@dataclass(frozen=True)
class RowLayout:
    """Which fields a row has, in order: the numbers first, then the texts.

    Args:
        numbers: names of the fields that hold a double.
        others: names of all other fields; texts, where rows are made here.
        types: what else tells layouts apart, for example the others' types.
    """

    numbers: tuple[str, ...]
    others: tuple[str, ...] = ()
    types: tuple[str, ...] = ()

    @cached_property
    def id(self) -> bytes:
        """Four bytes: rows of a view whose fields were other ones then are not misread."""
        text = "\n".join((*self.numbers, "", *self.others, "", *self.types))
        return struct.pack("<I", zlib.crc32(text.encode()))

    @property
    def names(self) -> tuple[str, ...]:
        """All fields in the order of the row's values."""
        return self.numbers + self.others

    def encode(self, numeric: NDArray[np.float64], texts: _Texts) -> list[bytes]:
        """Return n rows.

        Args:
            numeric: shape (n, numbers); NaN is a missing value.
            texts: per other field n texts; ``""`` is a missing value.
        """
        rows = self._numbers(np.ascontiguousarray(numeric, dtype=np.float64))
        if not texts:
            return rows
        known = _EncodedTexts()
        columns = [map(known.__getitem__, column) for column in texts]
        return list(map(b"".join, zip(rows, *columns, strict=True)))

    def _numbers(self, numeric: NDArray[np.float64]) -> list[bytes]:
        """Return for each row the layout's name and the values of its numbers."""
        n, k = numeric.shape
        head, width = len(self.id), len(self.id) + _DOUBLE_WIDTH * k
        made = np.empty((n, width), dtype=np.uint8)
        made[:, :head] = np.frombuffer(self.id, dtype=np.uint8)
        values = made[:, head:].reshape(n, k, _DOUBLE_WIDTH)
        values[:, :, :3] = (_VALUE, 9, _DOUBLE)
        values[:, :, 3:] = numeric.view(np.uint8).reshape(n, k, 8)
        missing = np.isnan(numeric)
        if not missing.any():
            content = made.tobytes()
            return [content[at : at + width] for at in range(0, n * width, width)]
        # A missing value is the tag and a length of zero: the nine bytes behind them are left out.
        values[:, :, 1][missing] = 0
        kept = np.ones((n, width), dtype=np.bool_)
        kept[:, head:].reshape(n, k, _DOUBLE_WIDTH)[:, :, 2:] = ~missing[:, :, None]
        content = made[kept].tobytes()
        ends = np.cumsum(width - (_DOUBLE_WIDTH - 2) * missing.sum(axis=1)).tolist()
        return [content[start:end] for start, end in pairwise([0, *ends])]

    @cached_property
    def _whole(self) -> tuple[int, bytes, bytes, bytes, struct.Struct]:
        """What the numbers of a row look like where none is missing."""
        k = len(self.numbers)
        marks = [bytes([mark]) * k for mark in (_VALUE, 9, _DOUBLE)]
        end = len(self.id) + _DOUBLE_WIDTH * k
        return end, marks[0], marks[1], marks[2], struct.Struct("<" + "3xd" * k)

    def _leading_numbers(self, row: bytes) -> tuple[list[float | str | None], int]:
        """Return the numbers at once where none is missing, and the place of what comes next."""
        end, value, length, double, numbers = self._whole
        step = _DOUBLE_WIDTH
        if row[4:end:step] == value and row[5:end:step] == length and row[6:end:step] == double:
            return list(numbers.unpack_from(row, 4)), end
        return [], 4

    def decode(self, row: bytes) -> dict[str, float | str | None] | None:
        """Return name → value; None where the row has another layout.

        Raises:
            StateError: the row is damaged, or holds values other than doubles and texts.
        """
        if row[:4] != self.id:
            return None
        try:
            values, at = self._leading_numbers(row)
            while at < len(row):
                if row[at] != _VALUE:
                    raise ValueError(f"byte {row[at]} where a value should begin")
                length, start = _varint(row, at + 1)
                at = start + length
                if at > len(row):
                    raise ValueError("a value is cut off")
                values.append(_value(row[start:at]))
            return dict(zip(self.names, values, strict=True))
        except (ValueError, IndexError, struct.error) as error:
            raise StateError(
                f"a row of the online store is damaged, or was written by another program "
                f"({error}): delete the store, the feature worker fills it again from the log"
            ) from error


def entity_keys(field: str, entities: Sequence[str]) -> list[bytes]:
    """Return each entity's key, as Feast (serialisation version 3) makes it for one text field."""
    name = field.encode()
    front = struct.pack("<III", 1, _STRING_TYPE, len(name)) + name + struct.pack("<I", _STRING_TYPE)
    fronts = _Fronts(front)
    encoded = list(map(str.encode, entities))
    return [fronts[len(entity)] + entity for entity in encoded]


def field_values(values: Mapping[str, bytes], layout: RowLayout) -> bytes:
    """Return a row from serialised values by name; those of the layout that lack are missing."""
    parts = [layout.id]
    for name in layout.names:
        value = values.get(name, b"")
        parts.append(bytes([_VALUE]) + _as_varint(len(value)) + value)
    return b"".join(parts)


class _Fronts(dict[int, bytes]):
    """What stands in front of an entity's bytes, by their number."""

    def __init__(self, front: bytes) -> None:
        super().__init__()
        self._front = front

    def __missing__(self, length: int) -> bytes:
        made = self[length] = self._front + struct.pack("<I", length)
        return made


class _EncodedTexts(dict[str, bytes]):
    """Text → its bytes in a row; of a batch each distinct text is encoded once."""

    def __missing__(self, text: str) -> bytes:
        if not text:
            made = _MISSING
        else:
            content = text.encode()
            value = bytes([_STRING]) + _as_varint(len(content)) + content
            made = bytes([_VALUE]) + _as_varint(len(value)) + value
        self[text] = made
        return made


def _value(message: bytes) -> float | str | None:
    if not message:
        return None
    if message[0] == _DOUBLE:
        (number,) = struct.unpack("<d", message[1:])
        return float(number)
    if message[0] == _STRING:
        length, start = _varint(message, 1)
        if start + length != len(message):
            raise ValueError("a text is cut off")
        return message[start:].decode()
    raise ValueError(f"a value of a type with tag {message[0]}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return (number, place behind it)."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _as_varint(number: int) -> bytes:
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
