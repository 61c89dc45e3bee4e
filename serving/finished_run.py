"""Reading a finished run back from the log, for its summary."""

import msgspec
import numpy as np

from serving.monitoring.told import Told, rows_of
from serving.summary import Answers, Labels
from streams.control import ControlFollower, decode_model_events
from streams.replay import offset_bounds, read_ranges
from streams.rollout import Rollout
from streams.stream import LabelStream
from streams.topics import Topics
from streams.wire import Alert
from training.networks.tasks import Binary, Task
from training.targets import Targets

_BINARY = Binary()


def read_answers(bootstrap: str, topic: str, partitions: int, task: Task = _BINARY) -> Answers:
    """Return all committed predictions of a topic."""
    decode = msgspec.json.Decoder(Told).decode
    found: list[Told] = []
    for batch in read_ranges(bootstrap, topic, offset_bounds(bootstrap, topic, partitions)):
        found += [decode(value) for value in batch.values if value is not None]
    return Answers(
        [a.event_id for a in found],
        rows_of(task, found),
        np.array([a.model_version for a in found], dtype=np.int64),
        np.array([a.event_time_ms for a in found], dtype=np.int64),
    )


def read_labels(
    bootstrap: str, topic: str, partitions: int, labels: LabelStream, task: Task = _BINARY
) -> Labels:
    """Return all valid labels in order of arrival (event time, then partition and offset)."""
    decode = msgspec.json.Decoder(labels.type).decode
    found: list[msgspec.Struct] = []
    for batch in read_ranges(bootstrap, topic, offset_bounds(bootstrap, topic, partitions)):
        for value in batch.values:
            try:
                found.append(decode(value or b""))
            except msgspec.MsgspecError:
                continue  # the monitor has put it among the dead letters
    known = np.array([getattr(r, labels.event_time) for r in found], dtype=np.int64)
    order = np.argsort(known, kind="stable").tolist()
    return Labels(
        [str(getattr(found[i], labels.id)) for i in order],
        Targets(task, labels.target).of([found[i] for i in order]),
        known[order],
    )


def read_confirmed(bootstrap: str, topics: Topics) -> list[Alert]:
    """Return the alerts that were confirmed, in order of window end, metric and feature.

    Each as it was first told; those of the processes' health, which are of the clock on the wall,
    are left out.
    """
    decode = msgspec.json.Decoder(Alert).decode
    first: dict[str, Alert] = {}
    for alert in map(decode, _everything(bootstrap, topics.alerts)):
        if alert.state == "confirmed" and not alert.key.startswith("health/"):
            first.setdefault(alert.key or alert.alert_id, alert)
    return sorted(first.values(), key=lambda a: (a.window.end_ms, a.metric, a.feature or ""))


def read_rollout(bootstrap: str, topics: Topics) -> Rollout:
    """Return what the control log says at its end."""
    return Rollout().apply_all(decode_model_events(_everything(bootstrap, topics.models)))


def _everything(bootstrap: str, topic: str) -> list[bytes]:
    follower = ControlFollower(bootstrap, topic)
    try:
        return follower.catch_up()
    finally:
        follower.close()
