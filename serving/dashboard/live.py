"""The two threads of the dashboard: one follows the log, one asks the broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from serving.dashboard.documents.figures import DriftCell
from serving.dashboard.folding import Folds
from serving.dashboard.following import TopicsFollower
from serving.dashboard.kept import Key
from serving.dashboard.measuring import Measurer
from serving.online.lineage import trained_version
from streams.errors import BrokerError, KappaError
from streams.wire import Registered
from training.reference import Reference

LOOK_EVERY_S = 1.0
POLL_S = 0.2
AGAIN_S = 2.0
REFERENCES = 8

_LOG = structlog.get_logger(__name__)


class Live:
    """Keeps ``folds`` at the end of the log, until it is closed; a context manager.

    It goes on while the broker is away, and after whatever else fails: the page then says so.
    """

    def __init__(self, folds: Folds, bootstrap: str) -> None:
        self.folds, self._bootstrap = folds, bootstrap
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=(run,), name=name, daemon=True)
            for name, run in (("dashboard-log", self._follow), ("dashboard-broker", self._measure))
        ]

    def __enter__(self) -> Live:
        """Start."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; waits for what is being asked."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=15.0)

    def _keep(self, run: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                run()
            except BrokerError as error:
                self.folds.away(str(error))
            except Exception:  # a page that stands still would be worse than one that says so
                _LOG.exception("the dashboard's thread fails and begins again")
            self._stop.wait(AGAIN_S)

    def _follow(self) -> None:
        follower = TopicsFollower(self._bootstrap, self.folds.topics)
        try:
            while not self._stop.is_set():
                self.folds.take(follower.poll(POLL_S))
        finally:
            follower.close()

    def _measure(self) -> None:
        pipeline = self.folds.pipeline
        topics = {spec.name: spec.partitions for spec in pipeline.topic_specs}
        measurer = Measurer(self._bootstrap, topics, pipeline.topics.events)
        try:
            while not self._stop.is_set():
                # A monotonic clock of its own: rates must not jump with the one on the wall.
                groups = self.folds.picture.groups.values()
                self.folds.measured(measurer.look(time.monotonic_ns() // 1_000_000, groups))
                self._stop.wait(LOOK_EVERY_S)
        finally:
            measurer.close()


class References:
    """What the versions saw in training, read from their packages when it is asked for."""

    def __init__(self, folds: Folds) -> None:
        self._folds = folds
        self._read: dict[str, Reference] = {}
        self._lock = threading.Lock()

    def cell(self, feature: str, key: Key) -> DriftCell | None:
        """Return the two distributions of a cell of the heat map; None where there is none."""
        version = key[2]
        with self._folds.board.changing():
            registered = trained_version(self._folds.rollout.state, version)
        reference = None if registered is None else self._reference(registered)
        with self._folds.board.changing():
            return self._folds.drift.cell(feature, key, reference, f"model {version}")

    def _reference(self, registered: Registered) -> Reference | None:
        from training.package import load_reference

        with self._lock:
            held = self._read.get(registered.sha256)
            if held is None:
                try:
                    held = load_reference(registered.uri, registered.sha256)
                except KappaError as error:
                    _LOG.warning("a reference is not shown", why=str(error))
                    return None
                self._read[registered.sha256] = held
                if len(self._read) > REFERENCES:
                    del self._read[next(iter(self._read))]
            return held
