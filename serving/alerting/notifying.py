"""The process that passes alerts on: role ``notify``.

It reads the alerts topic from its beginning, so that it knows what stands, and gives each target
what comes behind the position which that target's own group has committed. A target that is new is
told what stands, and then what comes. The policy "roll back" is carried out here too, under the
position of the group ``P.notify.v1``.
"""

from __future__ import annotations

import threading
import time

import structlog
from msgspec.structs import replace

from serving.alerting.acting import RollBacks
from serving.alerting.alertmanager import AlertmanagerTarget
from serving.alerting.declared import Alertmanager, Webhook
from serving.alerting.delivery import (
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    NOWHERE,
    Delivery,
    Target,
    group_of,
)
from serving.alerting.records import link_to
from serving.alerting.standing import Alerts, alert_in
from serving.alerting.webhook import WebhookTarget
from serving.monitoring.log_reader import LogReader
from serving.pipeline import Pipeline
from serving.stopping import until_signal
from streams.batch import LogBatch
from streams.errors import BrokerError
from streams.group_offsets import GroupOffsets
from streams.wire import Alert

POLL_S = 0.1
START_WITHIN_S = 60.0
ROLE = "notify"

_LOG = structlog.get_logger(role=ROLE)


class NotifyWorker:
    """One worker; one runs per pipeline.

    Args:
        bootstrap: the broker.
        pipeline: whose alerts are passed on.
        waits_s: the first and the longest wait before a record is sent to a target again.

    Raises:
        BrokerError: the broker can't be reached, or refuses.
        ConfigurationError: a target's address or token can't be used.
    """

    def __init__(
        self,
        bootstrap: str,
        pipeline: Pipeline,
        waits_s: tuple[float, float] = (FIRST_WAIT_S, LONGEST_WAIT_S),
    ) -> None:
        topics, alerting = pipeline.topics, pipeline.alerting
        self.alerts, self._dashboard = Alerts(), alerting.dashboard
        self.deliveries: list[Delivery] = []
        own = GroupOffsets(bootstrap, topics.group(ROLE), topics.alerts)
        try:
            committed = own.read(1).get(0)
            self._acted = -1 if committed is None else committed.offset
        finally:
            own.close()
        self._roll_backs = RollBacks(bootstrap, topics.models, alerting.policies)
        self._reader = LogReader(bootstrap, topics.alerts, topics.group(ROLE), 1, {})
        try:
            for declared in alerting.notify:
                group = group_of(pipeline.name, type(declared).__name__, declared.url)
                offsets = GroupOffsets(bootstrap, group, topics.alerts)
                target = _target(declared, pipeline.name)
                self.deliveries.append(Delivery(target, offsets, *waits_s))
            self._begin()
        except BaseException:
            self.close()
            raise

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set."""
        while not stop.is_set():
            self.turn()

    def turn(self) -> None:
        """Pass on what has come, and act on it."""
        for delivery in self.deliveries:
            delivery.check()
        batches = self._reader.poll(POLL_S)
        for batch in batches:
            for offset, alert in self._records(batch):
                is_news = alert is not None and self.alerts.take(alert, offset)
                for delivery in self.deliveries:
                    delivery.put(offset, alert if is_news else None)
                if is_news and alert is not None and alert.key in self.alerts.standing:
                    self._roll_backs.act(self.alerts.standing[alert.key])
        if batches:
            self._reader.commit({})

    def figures(self) -> dict[str, float]:
        """Return the targets' health, by name."""
        found: dict[str, float] = {}
        for delivery in self.deliveries:
            found |= delivery.figures()
        return found

    def close(self) -> None:
        """Stop sending, and let go of all connections."""
        for delivery in self.deliveries:
            delivery.close()
        self._roll_backs.close()
        self._reader.close()

    def _begin(self) -> None:
        """Read what is there, and queue what each target has not been told yet."""
        missed: list[list[tuple[int, Alert | None]]] = [[] for _ in self.deliveries]
        for offset, alert in self._past():
            is_news = alert is not None and self.alerts.take(alert, offset)
            for delivery, queue in zip(self.deliveries, missed, strict=True):
                if delivery.position is None:
                    continue
                if offset >= delivery.position:
                    queue.append((offset, alert if is_news else None))
                elif alert is not None and is_news:
                    delivery.was_told(alert)
        stands = list(self.alerts.standing.values())
        end = self._reader.positions[0]
        for delivery, queue in zip(self.deliveries, missed, strict=True):
            if delivery.position is None:
                _LOG.info("a new target", target=delivery.target.name, told=len(stands))
                # Nothing is committed before the last: a crash in between tells all once more.
                queue = [*((NOWHERE, s.alert) for s in stands), (end - 1, None)]
            for offset, alert in queue:
                delivery.put(offset, alert)
            delivery.start()
        for standing in stands:
            if standing.since_offset >= self._acted:
                self._roll_backs.act(standing)
        self._reader.commit({})

    def _past(self) -> list[tuple[int, Alert | None]]:
        found: list[tuple[int, Alert | None]] = []
        deadline_s = time.monotonic() + START_WITHIN_S
        while not self._reader.ended:
            came = self._reader.poll(POLL_S)
            found += [record for batch in came for record in self._records(batch)]
            if came:
                deadline_s = time.monotonic() + START_WITHIN_S
            elif time.monotonic() > deadline_s:
                raise BrokerError(
                    f"{self._reader.topic} gives nothing, nor its end, for {START_WITHIN_S:g} s"
                )
        return found

    def _records(self, batch: LogBatch) -> list[tuple[int, Alert | None]]:
        """Return offset and alert of each record; None for what is no alert."""
        records = zip(batch.offsets.tolist(), batch.values, strict=True)
        return [(offset, self._linked(alert_in(value))) for offset, value in records]

    def _linked(self, alert: Alert | None) -> Alert | None:
        """Return the alert with a link: those of the role `health` are written without."""
        if alert is None or alert.link is not None or not alert.key:
            return alert
        return replace(alert, link=link_to(self._dashboard, alert.key))


def run_notify(bootstrap: str, pipeline: Pipeline) -> None:
    """Run the worker until SIGTERM or SIGINT. Errors as :class:`NotifyWorker`."""
    worker = NotifyWorker(bootstrap, pipeline)
    try:
        with until_signal(threading.Event()) as stop:
            worker.run(stop)
    finally:
        worker.close()


def _target(declared: Webhook | Alertmanager, pipeline: str) -> Target:
    if isinstance(declared, Webhook):
        return WebhookTarget(declared, pipeline)
    return AlertmanagerTarget(declared, pipeline)
