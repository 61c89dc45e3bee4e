"""Looking at a pipeline: brokers, groups, dead letters, the processes' reports."""

from __future__ import annotations

from collections.abc import Mapping

from features.processing.stages import Stage
from serving.health.broker import BrokerProbe
from serving.health.lag import LagReader
from serving.health.observation import Observation, Standings
from serving.health.reading import VitalsFollower
from streams.clock import Clock
from streams.errors import BrokerError
from streams.positions import PositionReader
from streams.topics import Topics, dead_letter_topic
from streams.wire import Vitals

REMEMBERED_MS = 24 * 3_600_000
"""Reports so old are read at the start: who should run is known by them."""


class Observer:
    """Looks; keeps its connections, and makes new ones after an error. It never raises.

    Args:
        bootstrap: the brokers; they need not answer.
        topics: the pipeline's.
        partitions: of the events.
        stages: role → what makes features.
        clock: the clock on the wall.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        partitions: int,
        stages: Mapping[str, Stage],
        clock: Clock,
    ) -> None:
        self._bootstrap, self._topics, self._clock = bootstrap, topics, clock
        self._brokers = BrokerProbe(bootstrap)
        self._lags = LagReader(bootstrap, topics, partitions, stages=stages)
        self._ends: PositionReader | None = None
        self._vitals: VitalsFollower | None = None

    def look(self) -> Observation:
        """Return what is seen now; waits some seconds where the brokers do not answer."""
        broker = self._brokers.look()
        if not broker.answers:
            return Observation(self._clock.now_ms(), broker)
        standings: Standings = self._lags.by_partition()
        dead, vitals = self._dead(), self._reports()
        return Observation(self._clock.now_ms(), broker, standings, dead, vitals)

    def close(self) -> None:
        """Let go of all connections."""
        self._brokers.close()
        self._lags.close()
        self._drop()

    def _dead(self) -> dict[str, int] | None:
        """Return source topic → how many dead letters there are of it."""
        sources = (self._topics.events, self._topics.labels)
        try:
            if self._ends is None:
                self._ends = PositionReader(self._bootstrap)
            ends = self._ends.ends({dead_letter_topic(topic): 1 for topic in sources})
        except BrokerError:
            self._drop()
            return None
        return {topic: ends[dead_letter_topic(topic)].get(0, 0) for topic in sources}

    def _reports(self) -> list[Vitals]:
        try:
            if self._vitals is None:
                since_ms = self._clock.now_ms() - REMEMBERED_MS
                self._vitals = VitalsFollower(self._bootstrap, self._topics.health, since_ms)
                return self._vitals.catch_up()
            return self._vitals.poll()
        except BrokerError:
            self._drop()
            return []

    def _drop(self) -> None:
        if self._ends is not None:
            self._ends.close()
        if self._vitals is not None:
            self._vitals.close()
        self._ends = self._vitals = None
