"""A dead letter keeps the bytes and says why in its headers."""

import pytest

from streams.dead_letters import DUPLICATE_EVENT, DeadLetter


@pytest.mark.parametrize(("key", "value"), [(b"k", b"\xff\x00"), (None, None)])
def test_the_record_of_a_dead_letter(key: bytes | None, value: bytes | None) -> None:
    letter = DeadLetter(DUPLICATE_EVENT, "it's 'ä' again", "p.events.v1", 3, 42, key, value, 99)
    assert letter.to_record() == (
        value,
        key,
        [
            ("topic", b"p.events.v1"),
            ("partition", b"3"),
            ("offset", b"42"),
            ("error", b"DuplicateEvent"),
            ("reason", "it's 'ä' again".encode()),
        ],
    )


def test_a_reason_that_is_no_valid_text_does_not_fail() -> None:
    letter = DeadLetter("DecodeError", "bad \ud800", "t", 0, 0, None, b"", 0)
    assert dict(letter.to_record()[2])["reason"] == b"bad ?"
