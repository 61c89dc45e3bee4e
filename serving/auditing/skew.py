"""The skew audit's process: compares what is served with the log, and tells what differs.

It is always behind and never in the way: it runs at a low priority and rests as long as it works.
Every ``tell_every_s`` seconds, in this order: (1) metrics and alerts, (2) the state, (3) the
positions, committed with a note of the totals, which is what `kappa audit` shows. After a crash a
stretch is audited again; its alerts have the same ids.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog
from confluent_kafka import KafkaError, Producer

from features.engine.engine import warm_up
from features.processing.stages import Stage, stages_of
from features.skew.audit import Difference, Tally
from features.skew.online import OnlineSample
from features.skew.stage import StageAudit
from features.store.columnar import open_store
from features.store.table import store_folder
from serving.definitions import definitions_to_run
from serving.pipeline import Pipeline
from streams.errors import BrokerError, StateError
from streams.group_offsets import Committed, GroupOffsets
from streams.kafka_client import producer
from streams.settings import Settings
from streams.watchdog import beat
from streams.wire import SKEW_METRICS, Alert, Metric, Window

IDLE_S = 0.5
NICENESS = 10
FLUSH_S = 30.0
ALERTS_AT_ONCE = 10

_LOG = structlog.get_logger(role="skew")


@dataclass(frozen=True)
class SkewOptions:
    """How the audit works.

    Args:
        every: every which partition is audited.
        online: whether the online store is compared too.
        patience_s: how long a difference of the online store must last.
        tell_every_s: how often figures are told and the state is saved.
    """

    every: int = 1
    online: bool = True
    patience_s: float = 60.0
    tell_every_s: float = 10.0


class SkewWorker:
    """Audits the stages that ``stages`` names, which may become more.

    Raises:
        BrokerError: the broker can't be reached, or refuses.
        StateError: the disk or the online store refuses.
    """

    def __init__(
        self,
        bootstrap: str,
        stages: Callable[[], Sequence[Stage]],
        home: Path,
        options: SkewOptions | None = None,
    ) -> None:
        self._bootstrap, self._stages, self._home = bootstrap, stages, home
        self._options = options or SkewOptions()
        self._audits: dict[str, StageAudit] = {}
        self._groups: dict[str, GroupOffsets] = {}
        self._producer: Producer = producer(bootstrap, linger_ms=5)
        self._failures: list[KafkaError] = []
        self._standing: dict[str, set[tuple[str, str]]] = {}
        self._told_s = 0.0
        self._look()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then tell, save and commit."""
        while not stop.is_set():
            beat()
            began_s = time.monotonic()
            events = self.turn()
            if time.monotonic() - self._told_s >= self._options.tell_every_s:
                self.tell()
                self._look()
            worked_s = time.monotonic() - began_s
            stop.wait(worked_s if events else max(worked_s, IDLE_S))
        self.tell()

    @property
    def audited(self) -> int:
        """How many records of the outputs were compared, by this process and those before."""
        return sum(n for audit in self._audits.values() for n, _ in audit.totals.values())

    def turn(self) -> int:
        """Audit what has been served since; return how many events that were."""
        return sum(audit.turn() for audit in self._audits.values())

    def tell(self) -> None:
        """Check the online store; write figures and alerts; save; commit."""
        for audit in self._audits.values():
            audit.check_online()
            self._publish(audit, SKEW_METRICS[0], audit.stage.output, audit.tally.taken())
            if audit.online is not None:
                view = audit.online.name
                self._publish(audit, SKEW_METRICS[1], view, audit.online_tally.taken())
        if self._producer.flush(FLUSH_S) or self._failures:
            raise BrokerError(f"the audit's records were not taken: {self._failures or 'time-out'}")
        for name, audit in self._audits.items():
            audit.save()
            totals = audit.totals
            self._groups[name].commit(
                {
                    partition: Committed(at, f"{totals[partition][0]} {totals[partition][1]}")
                    for partition, at in audit.positions.items()
                }
            )
        self._told_s = time.monotonic()

    def close(self) -> None:
        """Let go of all connections."""
        for audit in self._audits.values():
            audit.close()
        for group in self._groups.values():
            group.close()

    def _look(self) -> None:
        """Begin with the stages that are new."""
        for stage in self._stages():
            if stage.group not in self._audits:
                self._groups[stage.group] = GroupOffsets(
                    self._bootstrap, skew_group(stage), stage.input
                )
                self._audits[stage.group] = StageAudit(
                    self._bootstrap, stage, self._home, self._options.every, self._online(stage)
                )
                at = self._audits[stage.group].positions
                _LOG.info("audit begins", topic=stage.output, positions=at)

    def _online(self, stage: Stage) -> OnlineSample | None:
        if not (self._options.online and stage.has_view):
            return None
        store = open_store(store_folder(self._home), Settings())
        return OnlineSample(stage, store, self._options.patience_s)

    def _publish(self, audit: StageAudit, name: str, of: str, tally: Tally) -> None:
        if tally.compared == tally.different == 0:
            return
        topics = audit.stage.topics
        figure = metric_of(name, of, tally)
        self._send(
            topics.metrics, f"{name}/{of}", msgspec.json.encode(figure), figure.window.end_ms
        )
        first = {(d.kind, d.feature): d for d in reversed(tally.differences)}
        told = self._standing.get(of, set())  # an alert stands until an interval is without it
        self._standing[of] = set(first)
        for difference in [d for what, d in first.items() if what not in told][-ALERTS_AT_ONCE:]:
            alert = alert_of(figure, difference, audit)
            _LOG.warning("skew", cause=alert.cause)
            self._send(
                topics.alerts, alert.alert_id, msgspec.json.encode(alert), alert.window.end_ms
            )

    def _send(self, topic: str, key: str, value: bytes, time_ms: int) -> None:
        self._producer.produce(
            topic, value, key.encode(), 0, timestamp=max(1, time_ms),
            on_delivery=lambda error, _: self._failures.append(error) if error else None,
        )  # fmt: skip


def metric_of(name: str, of: str, tally: Tally) -> Metric:
    """Return the share of rows that differ; ``n`` are those compared."""
    first_ms, last_ms = tally.first_ms or 0, tally.last_ms or 0
    return Metric(
        metric=name,
        feature=of,
        value=tally.different / max(tally.compared, tally.different),
        threshold=0.0,
        n=tally.compared,
        window=Window(first_ms, last_ms + 1),
        model_version=0,
    )


def alert_of(figure: Metric, difference: Difference, audit: StageAudit) -> Alert:
    """Return the alert on a difference; its id is a function of what differs and where."""
    d = difference
    identity = f"skew|{d.topic}|{d.partition}|{d.offset}|{d.entity}|{d.kind}|{d.feature}|{d.served}"
    positions = {str(p): at for p, at in sorted(audit.positions.items())}
    return Alert(
        alert_id=hashlib.sha256(identity.encode()).hexdigest()[:32],
        kind="skew",
        metric=figure.metric,
        feature=d.feature or None,
        value=figure.value,
        threshold=0.0,
        n=figure.n,
        window=figure.window,
        model_version=0,
        cause=f"{d}; {figure.value:.4%} of {figure.n:,} rows differ",
        offsets={audit.stage.input: positions},
        action="none: see `kappa replay`",
        key=f"skew/{figure.metric}/{d.topic}",
        severity="critical",
    )


def skew_stages(bootstrap: str, pipeline: Pipeline) -> list[Stage]:
    """Return the stages to audit: those of all definitions that workers keep up with the log.

    Raises:
        BrokerError: the groups' offsets can't be read.
    """
    return [
        stage
        for definition in definitions_to_run(bootstrap, pipeline)
        for stage in stages_of(
            definition, pipeline.events, pipeline.labels, pipeline.topics_of(definition)
        )
    ]


def skew_group(stage: Stage) -> str:
    """Return the group under which the audit of a stage commits its positions."""
    name, version = stage.topics.name, stage.definition.version
    return f"{name}.skew-{stage.role}.v{version}"


@dataclass(frozen=True)
class SkewAccount:
    """What the audit of a stage has come to; ``upto`` is partition → next offset of its input.

    ``behind`` are the events that the stage has committed and the audit has not compared.
    """

    topic: str
    compared: int
    different: int
    upto: dict[int, int]
    behind: int

    def __str__(self) -> str:
        """Return it as a line for people."""
        if not self.upto:
            return f"{self.topic}: never compared with the log (the role skew has not run)"
        offsets = ", ".join(f"{p}: {at:,}" for p, at in sorted(self.upto.items()))
        verdict = f"{self.different:,} different" if self.different else "none different"
        behind = f"; {self.behind:,} events behind" if self.behind else ""
        return (
            f"{self.topic}: {self.compared:,} records compared with the log up to {offsets}; "
            f"{verdict}{behind}"
        )


def skew_account(bootstrap: str, stage: Stage) -> SkewAccount:
    """Return how the audit of a stage stands, by what it has committed.

    Raises:
        BrokerError: the broker does not tell.
    """
    partitions = stage.events.partitions
    groups = (skew_group(stage), stage.group)
    audited, served = (_committed(bootstrap, group, stage.input, partitions) for group in groups)
    compared = different = behind = 0
    for partition, at in audited.items():
        try:
            rows, wrong = map(int, at.note.split())
        except ValueError as error:
            raise StateError(
                f"group {groups[0]}, partition {partition}: the note {at.note!r} is not the "
                "audit's; another program committed it"
            ) from error
        compared, different = compared + rows, different + wrong
        behind += max(0, served[partition].offset - at.offset) if partition in served else 0
    upto = {partition: at.offset for partition, at in audited.items()}
    return SkewAccount(stage.output, compared, different, upto, behind)


def run_skew(
    bootstrap: str,
    stages: Callable[[], Sequence[Stage]],
    home: Path,
    options: SkewOptions | None = None,
) -> None:
    """Run the audit until SIGTERM or SIGINT. Errors as :class:`SkewWorker`."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    os.nice(NICENESS)
    warm_up()
    worker = SkewWorker(bootstrap, stages, home, options)
    try:
        worker.run(stop)
    finally:
        worker.close()


def _committed(bootstrap: str, group: str, topic: str, partitions: int) -> dict[int, Committed]:
    offsets = GroupOffsets(bootstrap, group, topic)
    try:
        return offsets.read(partitions)
    finally:
        offsets.close()
