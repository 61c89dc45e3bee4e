"""Kafka's last words, in the user's language."""

import pytest

from infra.kafka_failures import explain, port_was_taken


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("java.io.IOException: No space left on device", "1,000 bytes are free"),
        ("KafkaException: Socket server failed to bind: Address already in use.", "took its port"),
        ("java.lang.OutOfMemoryError: Java heap space", "KAPPA_BROKER_HEAP_MB"),
        ("Failed to acquire lock on file .lock in /x/data", "another Kafka"),
        ("java.io.IOException: Too many open files", "ulimit -n"),
        ("java.nio.file.AccessDeniedException: Permission denied", "may not write"),
    ],
)
def test_a_known_cause_is_named_with_its_remedy(text: str, meaning: str) -> None:
    explained = explain(f"2026-01-01 ERROR kafka.Kafka {text}\n\tat x.y", free_bytes=1000)
    assert explained is not None
    assert meaning in explained


def test_an_unknown_cause_is_not_guessed() -> None:
    assert explain("WARN something else", free_bytes=1000) is None
    assert not port_was_taken("WARN something else")
