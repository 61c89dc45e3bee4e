"""What follows from a closed step: records for metrics, alerts, dead labels, and commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import structlog

from serving.alerting.records import alert_of
from serving.monitoring.command_queue import CommandQueue
from serving.monitoring.label_records import ORPHAN_LABEL, dead_letter
from serving.monitoring.orphans import Orphan
from serving.monitoring.outbox import Outbox
from serving.monitoring.state import Closing
from streams.control import ControlWriter
from streams.dead_letters import DeadLetter
from streams.replay import read_ranges
from streams.topics import Topics
from streams.wire import Positions, Retrain

_LOG = structlog.get_logger(role="monitor")


class Publisher:
    """Puts closings into the log. When :meth:`publish` returns, the broker has everything."""

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        outbox: Outbox,
        commands: CommandQueue,
        dashboard: str | None = None,
    ) -> None:
        self._bootstrap, self._topics = bootstrap, topics
        self._outbox, self._commands, self._dashboard = outbox, commands, dashboard
        self._writer = ControlWriter(bootstrap)

    def publish(self, closing: Closing, read: Mapping[str, Mapping[int, int]]) -> None:
        """Write what the closing came to; ``read`` is input → partition → next offset."""
        for finding in closing.findings:
            self._outbox.metric(finding.metric, closing.end_ms)
        offsets = {topic: _positions(positions) for topic, positions in read.items()}
        for told in closing.told:
            alert = alert_of(
                told, closing.decision.action, offsets, self._topics.labels, self._dashboard
            )
            if self._outbox.alert(alert, closing.end_ms):
                _LOG.warning("alert", state=alert.state, cause=alert.cause, action=alert.action)
        for letter in self._orphans(closing.orphans):
            self._outbox.dead_label(letter)
        self._outbox.flush()
        if closing.decision.reason is not None:
            self._ask_for_training(closing.decision.reason, closing.end_ms)

    def _ask_for_training(self, reason: str, cutoff_ms: int) -> None:
        command_id = f"retrain-{cutoff_ms}"
        # A monitor that lost its state lives through the past again, and must not train for it.
        asked_until_ms = self._commands.asked_until_ms
        past = asked_until_ms is not None and cutoff_ms <= asked_until_ms
        if command_id in self._commands.asked or past:
            return
        self._commands.asked.add(command_id)
        command = Retrain(command_id=command_id, reason=reason, cutoff_ms=cutoff_ms)
        self._writer.append_command(self._topics.commands, command)
        _LOG.info("retraining asked for", reason=reason, command=command_id)

    def _orphans(self, orphans: list[Orphan]) -> Iterator[DeadLetter]:
        """Yield the orphans' dead letters; their bytes are read from the log again."""
        places: dict[int, dict[int, str]] = {}
        for orphan in orphans:
            places.setdefault(orphan.partition, {})[orphan.offset] = orphan.event_id
        ranges = {p: (min(wanted), max(wanted) + 1) for p, wanted in places.items()}
        for batch in read_ranges(self._bootstrap, self._topics.labels, ranges):
            wanted = places[batch.partition]
            for row in np.flatnonzero(np.isin(batch.offsets, list(wanted))).tolist():
                event_id = wanted[int(batch.offsets[row])]
                reason = f"no event {event_id!r} was seen before the label, nor soon after it"
                yield dead_letter(batch, row, ORPHAN_LABEL, reason)


def _positions(positions: Mapping[int, int]) -> Positions:
    return {str(partition): at for partition, at in sorted(positions.items())}
