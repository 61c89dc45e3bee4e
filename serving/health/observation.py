"""What is seen of a pipeline at one moment, and from when on what matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from serving.health.broker import BrokerState
from serving.health.lag import Standing
from streams.wire import Severity, Vitals

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS

Standings = Mapping[str, Mapping[str, Mapping[int, Standing]]]
"""Role → topic → partition → where its group stands."""


@dataclass(frozen=True)
class Limits:
    """From when on something is wrong. Times in milliseconds.

    Args:
        stalled: a group that does not move for so long while its lag grows is suspected.
        stalled_surely: and confirmed, after so long.
        silent: a worker of which nothing is heard for so long is suspected.
        silent_surely: and confirmed.
        forgotten: a worker silent for so long is none of the pipeline's any more.
        restarts: so many restarts of a worker...
        restarts_within: ...within so long are too many.
        dead_share: this share of the records read must not end as dead letters...
        dead_within: ...over so long...
        dead_least: ...where these are as many at least.
        away_surely: brokers that do not answer for so long are confirmed.
        slow: an answer of the brokers must not take longer, milliseconds.
        lasting: what has to last (slow answers, partitions without a replica) lasts so long.
        disk_bytes: less free disk is a warning, and a tenth of it critical.
        broker_disk_share: the same of the brokers' disk, as a share of it.
        memory_bytes: memory that grows by so much...
        memory_within: ...in so long, steadily...
        memory_from: ...once the process is so old.
    """

    stalled: int = MINUTE_MS
    stalled_surely: int = 3 * MINUTE_MS
    silent: int = 20_000
    silent_surely: int = MINUTE_MS
    forgotten: int = 24 * HOUR_MS
    restarts: int = 3
    restarts_within: int = 10 * MINUTE_MS
    dead_share: float = 0.01
    dead_within: int = 10 * MINUTE_MS
    dead_least: int = 10
    away_surely: int = 30_000
    slow: float = 2_000.0
    lasting: int = MINUTE_MS
    disk_bytes: int = 2 << 30
    broker_disk_share: float = 0.1
    memory_bytes: int = 200 << 20
    memory_within: int = 30 * MINUTE_MS
    memory_from: int = 10 * MINUTE_MS


@dataclass(frozen=True)
class Observation:
    """What is seen at ``at_ms``.

    ``standings`` is empty and ``dead`` None where the brokers did not tell. ``dead`` is topic →
    how many dead letters there are of it; ``vitals`` are those that came since the last look.
    """

    at_ms: int
    broker: BrokerState
    standings: Standings = field(default_factory=dict)
    dead: Mapping[str, int] | None = None
    vitals: Sequence[Vitals] = ()


@dataclass(frozen=True)
class Condition:
    """Something that is wrong now.

    Args:
        metric: what is looked at, such as ``lag``.
        about: of what; ``health/<metric>/<about>`` is told once.
        since_ms: since when.
        confirm_ms: for how long it has to stand to be confirmed.
        value: the figure.
        threshold: what it should not pass.
        cause: what is wrong, with the numbers, and what to do.
        severity: how bad it is.
        n: how many records, partitions or restarts it is made of.
    """

    metric: str
    about: str
    since_ms: int
    confirm_ms: int
    value: float
    threshold: float
    cause: str
    severity: Severity = "warning"
    n: int = 1

    @property
    def name(self) -> str:
        """What it is about: the same as long as it lasts."""
        return f"health/{self.metric}/{self.about}"
