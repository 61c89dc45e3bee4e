"""Records that nobody can use, and how they are kept: original bytes, the reason in headers."""

from dataclasses import dataclass

Headers = list[tuple[str, bytes]]

NULL_VALUE = "NullValue"
DECODE_ERROR = "DecodeError"
VALIDATION_ERROR = "ValidationError"
DUPLICATE_EVENT = "DuplicateEvent"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One unusable record: where it stands, what it held, and why it can't be used.

    ``error`` is a class of failure: ``NullValue`` (no value at all), ``DecodeError`` (no JSON),
    ``ValidationError`` (JSON that breaks the type or its constraints) or ``DuplicateEvent``.
    ``reason`` says it in words. ``timestamp_ms`` is the record's, milliseconds since the epoch.
    """

    error: str
    reason: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int

    def to_record(self) -> tuple[bytes | None, bytes | None, Headers]:
        """Return (value, key, headers) of the record for the dead-letter topic.

        The bytes are the original ones; the headers are all text, encoded as UTF-8.
        """
        headers = [
            ("topic", self.topic.encode()),
            ("partition", str(self.partition).encode()),
            ("offset", str(self.offset).encode()),
            ("error", self.error.encode()),
            ("reason", self.reason.encode(errors="replace")),
        ]
        return self.value, self.key, headers
