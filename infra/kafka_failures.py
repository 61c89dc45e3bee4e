"""What Kafka's last words mean for the user."""

from dataclasses import dataclass


@dataclass(frozen=True)
class _Cause:
    signs: tuple[str, ...]
    meaning: str


PORT_TAKEN = ("Address already in use", "BindException")

_CAUSES = (
    _Cause(
        ("No space left on device", "Not enough space"),
        "there is no space left on its disk ({free_bytes:,} bytes are free); free some and start "
        "again, the log on disk is recovered",
    ),
    _Cause(PORT_TAKEN, "another process took its port; start again"),
    _Cause(
        ("OutOfMemoryError", "Could not reserve enough space", "insufficient memory"),
        "there is too little memory for it; free some, or change its heap by KAPPA_BROKER_HEAP_MB",
    ),
    _Cause(
        ("Failed to acquire lock on file .lock",),
        "another Kafka that is not this one runs on the same folder; end it",
    ),
    _Cause(("Too many open files",), "it may open too few files; raise the limit (ulimit -n)"),
    _Cause(("Permission denied",), "it may not write its folder; correct the owner or the mode"),
)


def port_was_taken(text: str) -> bool:
    """Return whether Kafka's output says that its port had been taken."""
    return any(sign in text for sign in PORT_TAKEN)


def explain(text: str, free_bytes: int) -> str | None:
    """Return cause and remedy from Kafka's output, None where it tells neither."""
    for cause in _CAUSES:
        if any(sign in text for sign in cause.signs):
            return cause.meaning.format(free_bytes=free_bytes)
    return None
