"""What the outcomes worker has come to, as it stands beside its committed positions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from serving.feedback.joining import Counts
from streams.errors import StateError
from streams.group_offsets import GroupOffsets
from streams.topics import Topics


@dataclass(frozen=True)
class Account:
    """What became of answers and labels, how many answers wait, and up to when labels have come.

    ``clock_ms`` is the event time up to which all labels and predictions were read; None while
    nothing is known. ``nbytes`` is the memory of all that waits.
    """

    counts: Counts = field(default_factory=Counts)
    waiting: int = 0
    events: int = 0
    nbytes: int = 0
    clock_ms: int | None = None

    @property
    def match_rate(self) -> float | None:
        """The share of the answers whose time is over that got their label; None where none is."""
        over = self.counts.matched + self.counts.unlabelled
        return self.counts.matched / over if over else None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        counts = self.counts.to_json()
        rest = {name: value for name, value in asdict(self).items() if name != "counts"}
        return {**counts, **rest, "match_rate": self.match_rate}

    def note(self) -> str:
        """Return the text that stands beside the committed positions."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def of(cls, note: str) -> Account:
        """Return the account of a note; raises StateError where it is none."""
        try:
            return msgspec.json.decode(note, type=cls)
        except msgspec.MsgspecError as error:
            raise StateError(
                f"the outcomes worker's position carries {note[:80]!r}, which it did not write "
                f"({error}): another program commits for its group; stop that"
            ) from error


def read_account(bootstrap: str, topics: Topics) -> Account | None:
    """Return the account of a pipeline's outcomes; None where no worker has committed yet.

    Raises:
        BrokerError: the broker can't be reached.
    """
    offsets = GroupOffsets(bootstrap, topics.group("outcomes"), topics.labels)
    try:
        found = offsets.read(1)
    finally:
        offsets.close()
    return Account.of(found[0].note) if 0 in found and found[0].note else None
