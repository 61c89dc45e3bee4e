"""The process that learns from outcomes and publishes what it learned.

It follows the outcomes of all partitions and the feature records that they name, and goes round so:

1. read the control log; where another trained version is live, begin again from that one, at the
   first outcome which its training had not seen;
2. learn what is complete, mini-batch by mini-batch;
3. where a version is due: write its package, save the state with the version in it, register it,
   put it live (with a rollout policy: in shadow), remove old packages;
4. where the guard went back: save the state, then roll back what it had published since;
5. commit where reading stands.

The state is a function of the base version and the outcomes. A crash between any two of these
steps repeats what was not saved, and finds by its command what the log has already.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from features.records import FeatureCodec
from serving.monitoring.log_reader import LogReader
from serving.monitoring.snapshot import folder_lock
from serving.online.course import Course, Step
from serving.online.declared import Online, check_network
from serving.online.feed import FeatureFeed
from serving.online.guarded import Returned
from serving.online.packaging import from_json, to_json, write_version
from serving.online.publishing import Publishing
from serving.online.saved import OnlineSnapshots, Saved
from serving.pipeline import Pipeline
from serving.stopping import until_signal
from streams import hops
from streams.errors import ConfigurationError, ModelError, StateError
from streams.replay import offsets_at
from streams.watchdog import beat
from streams.wire import Registered
from training.networks.declared import Custom
from training.package import load_parts

IDLE_POLL_S = 0.05
TURN_S = 0.5
COMMIT_EVERY_S = 1.0
SAVE_OUTCOMES = 5_000
FULL_BATCHES = 1_000

_LOG = structlog.get_logger(__name__)


class OnlineWorker:
    """One learner. Only one may run per pipeline: it reads all partitions, by ``assign``.

    Raises:
        BrokerError: the broker can't be reached, or refuses.
        ConfigurationError: another one runs on the same folder.
        DefinitionError: the network can't learn online.
        ModelError: the base's package is missing or damaged.
    """

    def __init__(self, bootstrap: str, pipeline: Pipeline, home: Path) -> None:
        self._declared = pipeline.online or Online()
        check_network(pipeline.model.network)
        self._bootstrap, self._pipeline, self._home = bootstrap, pipeline, home
        self._models = (home / "models").resolve()
        self._topics = pipeline.topics
        self.course: Course | None = None
        self._reader: LogReader | None = None
        self._feed: FeatureFeed | None = None
        self._pending: dict[str, Any] | None = None
        self._returned: dict[str, Any] | None = None
        self._saved_at = 0
        self._committed: object = None
        self._committed_at_s = 0.0
        try:
            self._lock = folder_lock(home / "online")
        except ConfigurationError:
            raise ConfigurationError(
                f"another online learner of pipeline {pipeline.name} runs on {home / 'online'}: "
                "one reads all outcomes, so stop the other first"
            ) from None
        try:
            self._snapshots = OnlineSnapshots(bootstrap, pipeline.name, self._topics.outcomes, home)
            self._publishing = Publishing(bootstrap, pipeline, self._models, self._declared.keep)
        except BaseException:
            self._lock.close()
            raise

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then save the state."""
        while not stop.is_set():
            beat()
            self.turn()
        self.save()

    def turn(self) -> None:
        """Read what has come and learn what is complete."""
        base = self._publishing.base()
        if base is None:
            time.sleep(IDLE_POLL_S)  # the prior answers: there is nothing to go on from
            return
        if self.course is None or self.course.base.sha256 != base.sha256:
            self._begin(base)
        self._finish()
        self._learn()
        self._commit_when_due()

    def close(self) -> None:
        """Let go of all connections, and of the folder."""
        self._let_go()
        self._publishing.close()
        self._lock.close()

    # --- beginning -------------------------------------------------------------------------------

    def _begin(self, base: Registered) -> None:
        self._let_go()
        parts = load_parts(base.uri, base.sha256)
        if isinstance(parts.shape.network, Custom):
            raise ModelError(
                f"model {base.version} is {parts.shape.network.network}, which can't learn online: "
                "let the trainer make one of the network that is declared"
            )
        pipeline, topic = self._pipeline, self._topics.outcomes
        definition = pipeline.definition(base.definition)
        codec = FeatureCodec(definition, pipeline.events, pipeline.labels)
        course = Course(base, parts, codec, self._declared, dict.fromkeys(self._partitions, 0))
        saved = self._snapshots.load()
        self._pending = self._returned = None
        if saved is not None and saved.course.get("sha256") == base.sha256:
            try:
                course.restore(saved.arrays, saved.course)
                self._pending, self._returned = saved.pending, saved.returned
            except StateError as error:
                self._snapshots.discard(str(error))
                saved = None
        else:
            saved = None
        if saved is None:
            start = offsets_at(self._bootstrap, topic, len(self._partitions), course.after_ms + 1)
            course = Course(base, parts, codec, self._declared, start)
        self.course, self._parts = course, parts
        self._saved_at = course.learner.learned
        group = self._topics.group("online")
        self._reader = LogReader(
            self._bootstrap, topic, group, len(self._partitions), course.positions
        )
        self._feed = FeatureFeed(self._bootstrap, pipeline.topics_of(definition).features)
        _LOG.info(
            "learning online", base=base.version, since=course.positions,
            learned=course.learner.learned,
        )  # fmt: skip

    @property
    def _partitions(self) -> range:
        return range(self._pipeline.events.partitions)

    def _let_go(self) -> None:
        for part in (self._reader, self._feed):
            if part is not None:
                part.close()
        self._reader = self._feed = self.course = None

    # --- learning --------------------------------------------------------------------------------

    def _learn(self) -> None:
        course, reader, feed = self.course, self._reader, self._feed
        if course is None or reader is None or feed is None:
            return
        if not course.is_full(FULL_BATCHES):
            for batch in reader.poll(IDLE_POLL_S):
                course.take(batch)
                hops.count(self._topics.outcomes, len(batch))
        until_s = time.monotonic() + TURN_S
        while time.monotonic() < until_s:
            step = course.step()
            if step is not None:
                self._see_to(step, course)
            elif not course.wanted():
                break
            else:
                feed.serve(course, IDLE_POLL_S)
        if course.learner.learned - self._saved_at >= SAVE_OUTCOMES:
            self.save()

    def _see_to(self, step: Step, course: Course) -> None:
        if step.returned is not None:
            self._returned = asdict(step.returned)
            self.save()
            self._finish()
        if step.due:
            command_id, trained = write_version(
                self._models, self._pipeline.name, self._topics.outcomes, course, self._parts,
                self._declared,
            )  # fmt: skip
            self._pending = to_json(trained, command_id)
            self.save()
            self._finish()

    def _finish(self) -> None:
        """Do what a saved state says is still to be done."""
        course = self.course
        if course is None or (self._pending is None and self._returned is None):
            return
        if self._returned is not None:
            self._publishing.tell_return(course, Returned(**self._returned))
            self._returned = None
        if self._pending is not None:
            self._publishing.publish(course, *from_json(self._pending))
            self._pending = None

    # --- what lasts ------------------------------------------------------------------------------

    def save(self) -> None:
        """Save the state."""
        if self.course is None:
            return
        arrays, told = self.course.state()
        self._snapshots.save(Saved(arrays, told, self._pending, self._returned))
        self._saved_at = self.course.learner.learned

    def _commit_when_due(self) -> None:
        course, reader = self.course, self._reader
        if course is None or reader is None or course.wanted() or course.is_full(1):
            return  # what is read is not learned yet
        now = dict(reader.positions)
        at_end = len(reader.ended) == len(self._partitions)
        late = time.monotonic() - self._committed_at_s > COMMIT_EVERY_S
        if now != self._committed and (at_end or late):
            reader.commit({})
            self._committed, self._committed_at_s = now, time.monotonic()


def run_online(
    bootstrap: str, pipeline: Pipeline, home: Path, *, stop: threading.Event | None = None
) -> None:
    """Learn until SIGTERM or SIGINT (or ``stop``). Errors as :class:`OnlineWorker`."""
    worker = OnlineWorker(bootstrap, pipeline, home)
    try:
        with until_signal(stop or threading.Event()) as stopped:
            worker.run(stopped)
    finally:
        worker.close()
