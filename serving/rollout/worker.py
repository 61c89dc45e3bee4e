"""The process that judges: it follows the outcomes and the control log, and writes what follows.

After every :data:`LOOK`-th outcome the versions on their way are judged. What is decided is added
to the control log as a numbered change, with its figures and the positions in the outcomes' topic
that they are of; whether it counted is read from the log, so of two who decide at once one does.

State is snapshot plus log. After a crash the outcomes behind the snapshot are read again; a change
that had been appended is found in the control log, and a version that stands in its next stage is
not judged in the one before. While an alert stands that a policy "hold rollout" is about, nothing
is promoted. With one partition the verdicts are a function of the two logs; with
several the outcomes' order among the partitions is that of reading, and the sums at the positions
told in the evidence are the same whatever it was.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec
import structlog

from serving.alerting.holding import Holds
from serving.monitoring.log_reader import LogReader
from serving.monitoring.snapshot import folder_lock
from serving.pipeline import Pipeline
from serving.rollout.deciding import decided
from serving.rollout.declared import RolloutPolicy
from serving.rollout.ladder import Ladder
from serving.rollout.policy import Judge
from serving.rollout.rows import decoder
from serving.rollout.saving import RolloutSnapshots
from serving.stopping import until_signal
from streams import hops
from streams.batch import LogBatch
from streams.changes import Changes
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.watchdog import beat
from streams.wire import Judged, Outcome, StageChanged

LOOK = 100
IDLE_POLL_S = 0.1
SAVE_EVERY_S = 2.0
COMMIT_EVERY_S = 1.0

_LOG = structlog.get_logger(role="rollout")


class RolloutWorker:
    """One worker. Only one may run per pipeline: it reads all partitions, by ``assign``.

    Raises:
        BrokerError: the broker can't be reached, or refuses.
        ConfigurationError: the pipeline declares no policy, or another one runs on the folder.
        DefinitionError: the policy's metric is none of the task.
    """

    def __init__(self, bootstrap: str, pipeline: Pipeline, home: Path, look: int = LOOK) -> None:
        policy, topics, task = _policy_of(pipeline), pipeline.topics, pipeline.model.task
        policy.check_task(task)
        fields = max((len(d.groups) for d in pipeline.definitions), default=0)
        self._policy, self._topics, self._look = policy, topics, look
        self._judge = Judge(policy, task)
        self._decode = decoder()
        self.ladder = Ladder(policy, task, fields)
        self._lock = folder_lock(home / "rollout")
        try:
            store = Settings().snapshots_of(pipeline.name, home)
            folder = store / "rollout" if isinstance(store, Path) else f"{store}/rollout"
            self._snapshots = RolloutSnapshots(folder, bootstrap, topics.outcomes, self.ladder)
            self._positions, self._read = self._snapshots.load(self.ladder)
            self._follower = ControlFollower(bootstrap, topics.models)
            self._writer = ControlWriter(bootstrap)
            self._changes = Changes(bootstrap, topics.models)
            self._holds = Holds(bootstrap, topics.alerts, pipeline.alerting.policies)
            self._follow()
            group, partitions = topics.group("rollout"), pipeline.events.partitions
            self._positions = {p: self._positions.get(p, 0) for p in range(partitions)}
            self._reader = LogReader(bootstrap, topics.outcomes, group, partitions, self._positions)
        except BaseException:
            self._lock.close()
            raise
        self._committed: dict[int, int] = {}
        self._saved_read = self._read
        self._saved_at_s = self._committed_at_s = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then save the state and commit."""
        while not stop.is_set():
            beat()
            self.turn()
        self.save()
        self._commit()

    def turn(self) -> None:
        """Read what has come, judge where it is due, save and commit where that is."""
        batches = self._reader.poll(IDLE_POLL_S)
        # Behind the outcomes: what these were answered by is in the control log by now.
        self._follow()
        for batch in batches:
            self._take(batch)
            hops.count(self._topics.outcomes, len(batch))
        now_s = time.monotonic()
        if self._read != self._saved_read and now_s - self._saved_at_s > SAVE_EVERY_S:
            self.save()
        is_at_end = len(self._reader.ended) == len(self._positions)
        if is_at_end or now_s - self._committed_at_s > COMMIT_EVERY_S:
            self._commit()

    def save(self) -> None:
        """Save the state."""
        self._snapshots.save(self.ladder, self._positions, self._read)
        self._saved_read, self._saved_at_s = self._read, time.monotonic()

    def close(self) -> None:
        """Let go of all connections, and of the folder."""
        self._reader.close()
        self._follower.close()
        self._changes.close()
        self._holds.close()
        self._lock.close()

    def _take(self, batch: LogBatch) -> None:
        """Count a batch up to each look, and judge there: however the log is cut."""
        outcomes = self._decoded(batch)
        begin = 0
        while begin < len(outcomes):
            end = min(len(outcomes), begin + self._look - self._read % self._look)
            self.ladder.fold([o for o in outcomes[begin:end] if o is not None])
            self._read += end - begin
            self._positions[batch.partition] = int(batch.offsets[end - 1]) + 1
            if self._read % self._look == 0:
                self._judge_all()
            begin = end
        self._positions[batch.partition] = batch.next_offset

    def _decoded(self, batch: LogBatch) -> list[Outcome | None]:
        outcomes: list[Outcome | None] = []
        for offset, value in zip(batch.offsets.tolist(), batch.values, strict=True):
            try:
                outcomes.append(self._decode(value or b""))
            except msgspec.MsgspecError as bad:
                _LOG.warning("a record that is no outcome", offset=offset, why=str(bad))
                outcomes.append(None)
        return outcomes

    def _judge_all(self) -> None:
        for version in sorted(self.ladder.trials):
            trial = self.ladder.trials.get(version)
            if trial is None:
                continue  # the change of another version has ended its way
            finding = self._judge.judge(trial, self.ladder.codes.names)
            positions = {str(p): at for p, at in sorted(self._positions.items())}
            owner = self.ladder.owners.get(version, "")
            held_by = self._holds.now() if finding.verdict == "promote" else None
            event = decided(
                finding, trial, self.ladder.rollout, self._policy, owner, positions, held_by
            )
            if event is not None:
                self._append(event)

    def _append(self, event: StageChanged | Judged) -> None:
        if isinstance(event, Judged):
            self._writer.append_model_event(self._topics.models, event)
            _LOG.info("judged", version=event.version, verdict=event.verdict, reason=event.reason)
        else:
            # Decided on this state alone: where it has changed, the next look decides.
            state = self.ladder.rollout.change
            counted = self._changes.decide(lambda now: event if now.change == state else None)
            _LOG.info(
                "decided", version=event.version, stage=event.stage, share=event.share,
                reason=event.reason, counted=counted is not None,
            )  # fmt: skip
        self._follow(with_open=True)

    def _follow(self, *, with_open: bool = False) -> None:
        """Read the control log to its end; ``with_open``: what stands behind open transactions."""
        values = self._follower.catch_up(with_open=with_open)
        self.ladder.follow(decode_model_events(values))

    def _commit(self) -> None:
        if self._committed != self._reader.positions:
            self._reader.commit({})
            self._committed = dict(self._reader.positions)
        self._committed_at_s = time.monotonic()


def run_rollout(bootstrap: str, pipeline: Pipeline, home: Path) -> None:
    """Run the worker until SIGTERM or SIGINT. Errors as :class:`RolloutWorker`."""
    worker = RolloutWorker(bootstrap, pipeline, home)
    try:
        with until_signal(threading.Event()) as stop:
            worker.run(stop)
    finally:
        worker.close()


def _policy_of(pipeline: Pipeline) -> RolloutPolicy:
    if pipeline.rollout is None:
        raise ConfigurationError(
            f"pipeline {pipeline.name} declares no rollout, so the role `rollout` has nothing to "
            "judge by: declare rollout=RolloutPolicy(...) in the pipeline file"
        )
    return pipeline.rollout
