"""What the dashboard's actions do: the same changes of the log as the command line's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec

from serving.dashboard.documents.actions import (
    PinOrder,
    PromoteOrder,
    ReplayOrder,
    RetrainOrder,
    RetryOrder,
    RollBackOrder,
)
from serving.dashboard.retrying import retry
from serving.pipeline import Pipeline
from serving.rollout.operating import known, pinned, promoted, rolled_back, unpinned
from streams.changes import Changes
from streams.clock import Clock, SystemClock
from streams.durations import seconds
from streams.positions import PositionReader
from streams.rollout import Change, Rollout
from streams.wire import Retrain

Order = RetrainOrder | PromoteOrder | RollBackOrder | PinOrder | ReplayOrder | RetryOrder
Told = tuple[str, dict[str, Any]]
"""What was done: a line for people, and plain JSON for programs."""


@dataclass(frozen=True)
class Doing:
    """The actions of one pipeline; each is called in a thread of its own.

    All raise ConfigurationError where what is asked makes no sense, and BrokerError.
    """

    pipeline: Pipeline
    bootstrap: str
    clock: Clock = field(default_factory=SystemClock)

    def retrain(self, order: RetrainOrder) -> Told:
        """Ask the trainer for a training."""
        from training.dataset.ranges import newest_time_ms
        from training.retraining.asking import Request
        from training.retraining.commanded import WHOLE_LOG

        if order.window is not None and order.window != WHOLE_LOG:
            seconds(order.window)
        topics = self.pipeline.topics
        with _changing(self) as changes:
            definition = changes.follow().cutovers.definition or topics.definition
        features = replace(topics, definition=definition)
        newest_ms = newest_time_ms(self.bootstrap, features, self.pipeline.events.partitions)
        command = Retrain(
            command_id=f"operator-{uuid4().hex[:12]}",
            reason=order.reason,
            cutoff_ms=min(newest_ms + 1, self.clock.now_ms()),  # none in the future
            start=order.start,
            window=order.window,
        )
        Request(self.bootstrap, topics, command).close()
        return f"asked for: {command.command_id}", msgspec.to_builtins(command)

    def promote(self, order: PromoteOrder) -> Told:
        """Put a version into shadow, canary or live."""
        with _changing(self) as changes:
            definition = known(changes.follow(), order.version).definition
            since = self._ends(definition) if order.to == "shadow" else None
            event = changes.decide(
                lambda state: promoted(
                    state, order.version, order.to, order.share, order.reason, since
                )
            )
        where = "is live" if order.to == "live" else f"is in {order.to}"
        return f"model {order.version} {where}", _plain(event)

    def rollback(self, order: RollBackOrder) -> Told:
        """Take a version back: the live one, or one beside it."""
        with _changing(self) as changes:
            event = changes.decide(
                lambda state: rolled_back(state, order.version, order.to, order.reason)
            )
            taken = getattr(event, "version", order.version) or 0
            live = changes.rollout.routing(known(changes.rollout, taken).definition).live
        now = f"model {live}" if live else "the prior"
        return f"model {taken} is rolled back; {now} is live", _plain(event)

    def pin(self, order: PinOrder) -> Told:
        """Pin a version live, or let go of what is pinned."""
        number = order.version

        def decision(state: Rollout) -> Change:
            if number is not None:
                return pinned(state, number, order.reason)
            first = self.pipeline.topics.definition
            answering = state.cutovers.definition or first
            return unpinned(state, order.definition or answering, order.reason)

        with _changing(self) as changes:
            event = changes.decide(decision)
        definition = getattr(event, "definition", 0)
        if number is None:
            return f"nothing is pinned on definition v{definition} any more", _plain(event)
        return f"definition v{definition} is pinned to model {number}", _plain(event)

    def replay(self, order: ReplayOrder) -> Told:
        """Compute the features again from the log, and compare them byte for byte."""
        from features.processing.stages import stages_of
        from features.reprocessing.verify import Replay
        from streams.replay import offset_bounds, offsets_at

        declared, topics = self.pipeline, self.pipeline.topics
        n, events = declared.events.partitions, declared.events
        bounds = offset_bounds(self.bootstrap, topics.events, n)
        begins = {p: begin for p, (begin, _) in bounds.items()}
        ends = {p: end for p, (_, end) in bounds.items()}
        if order.since_ms is not None:
            begins = offsets_at(self.bootstrap, topics.events, n, order.since_ms)
        if order.until_ms is not None:
            ends = offsets_at(self.bootstrap, topics.events, n, order.until_ms)
        ranges = {p: (begins[p], max(begins[p], ends[p])) for p in range(n)}
        found: dict[str, Any] = {}
        is_same, compared = True, 0
        for stage in stages_of(declared.features, events, declared.labels, topics):
            # Of a later stage the whole topic: the range is one of the events.
            replay = Replay(
                self.bootstrap, topics, declared.features, events, None, declared.labels,
                stage.number,
            )  # fmt: skip
            report = replay.run(None if stage.number else ranges)
            is_same, compared = is_same and report.identical, compared + report.rows
            found[stage.role] = {**asdict(report), "identical": report.identical}
        said = "identical, byte for byte" if is_same else "NOT identical"
        return f"{compared:,} feature records from {_span(order)}: {said}", found

    def retry(self, order: RetryOrder) -> Told:
        """Send dead letters back to their source."""
        done = retry(
            self.bootstrap, self.pipeline.topics, order.topic, order.reason, order.offsets,
            order.again,
        )  # fmt: skip
        parts = [f"{len(done.sent):,} sent back"]
        for offsets, why in (
            (done.before, "were sent before"),
            (done.hopeless, "would fail again as they are"),
            (done.absent, "hold no dead letter"),
        ):
            parts += [f"{len(offsets):,} {why}"] if offsets else []
        return ", ".join(parts) + ("; there are more" if done.left else ""), asdict(done)

    def all(self) -> dict[str, tuple[type[Order], Callable[[Any], Told]]]:
        """Return the action's name → what it is told, and what does it."""
        return {
            "retrain": (RetrainOrder, self.retrain),
            "promote": (PromoteOrder, self.promote),
            "rollback": (RollBackOrder, self.rollback),
            "pin": (PinOrder, self.pin),
            "replay": (ReplayOrder, self.replay),
            "retry": (RetryOrder, self.retry),
        }

    def _ends(self, definition: int) -> dict[str, int]:
        features = replace(self.pipeline.topics, definition=definition).features
        reader = PositionReader(self.bootstrap)
        try:
            ends = reader.ends({features: self.pipeline.events.partitions})[features]
        finally:
            reader.close()
        return {str(partition): end for partition, end in sorted(ends.items())}


class _changing:  # noqa: N801
    """The pipeline's changes, closed at the end."""

    def __init__(self, doing: Doing) -> None:
        self._changes = Changes(doing.bootstrap, doing.pipeline.topics.models)

    def __enter__(self) -> Changes:
        return self._changes

    def __exit__(self, *_: object) -> None:
        self._changes.close()


def _plain(event: Change | None) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(event)
    return plain


def _span(order: ReplayOrder) -> str:
    ends = [
        "the log's end" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat()
        for ms in (order.since_ms, order.until_ms)
    ]
    begin = "the log's beginning" if order.since_ms is None else ends[0]
    return f"{begin} to {ends[1]}"
