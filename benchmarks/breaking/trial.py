"""A trial: workers answer a stream while they and their broker are broken as the plan says.

Feature records are released in step with the faults that were done, so that no fault comes when
all is answered; each release begins with records that were emitted before. What died is started
again, as a supervisor does; what stalls is woken after ``stall_s``; a broker that was killed comes
up again on its data and port.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil

from benchmarks.breaking.faults import Fault, parse
from benchmarks.breaking.stream import PARTITIONS, FeatureLog, registered
from infra.broker import EmbeddedBroker
from infra.broker_guard import PID
from infra.ports import free_ports
from serving.auditing.deliveries import Deliveries, check, read
from streams.control import ControlWriter
from streams.errors import BrokerError
from streams.positions import PositionReader
from streams.topics import Topics, ensure_topics
from streams.wire import StageChanged

ROOT = Path(__file__).resolve().parents[2]
AGAIN = 50
"""Records of each partition that a release emits once more."""
ROLE = "inference"
_POLL_S = 0.05
_END_S = 90.0
_SAYS_S = 2.0
_WAITS_S = 5.0
"""So long nobody meets a fault, then there are too few records, and more are released."""


@dataclass(frozen=True)
class Plan:
    """What a trial does.

    Args:
        events: that are answered at least, over all partitions.
        faults: each worker's, in order.
        max_batch: records of a transaction at most.
        stall_s: how long a stalled worker sleeps; past the session time-out (10 s) another has its
            partitions by then, past that of transactions (15 s) its transaction is aborted too.
        transactional: False is the positive control.
        timeout_s: the trial is given up then.
    """

    events: int
    faults: list[list[Fault]]
    max_batch: int = 2_000
    stall_s: tuple[float, ...] = (12.0,)
    transactional: bool = True
    timeout_s: float = 1_800.0


@dataclass
class Told:
    """What was done, and what came of it; ``died`` counts workers that ended otherwise."""

    deliveries: Deliveries
    done: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    broker_starts: int = 0
    woken: int = 0
    died: int = 0
    lag: int = 0
    seconds: float = 0.0


class TrialError(Exception):
    """A trial did not come to its end; the text says why."""


@dataclass
class _Slot:
    """A worker's place: its process, and the faults that it still has to meet."""

    name: str
    faults: list[Fault]
    process: subprocess.Popen[bytes] | None = None
    stopped_s: float | None = None


class Trial:
    """One run of a plan in ``folder``."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._topics = Topics(f"trial{uuid4().hex[:8]}")
        self._journal = folder / "journal"
        self._journal.touch()
        self._broker = EmbeddedBroker(folder, free_ports(1)[0])
        self._slots = [_Slot(f"w{n}", list(faults)) for n, faults in enumerate(plan.faults)]
        self._total = sum(map(len, plan.faults))
        self._restarts = self._broker_starts = self._woken = self._died = 0

    def run(self) -> Told:
        """Run it to the end and count.

        Raises:
            TrialError: it takes too long.
            BrokerError: the broker does not come up.
        """
        begun = time.monotonic()
        try:
            self._bootstrap = self._broker.start()
            ensure_topics(self._bootstrap, self._topics.specs(PARTITIONS))
            writer = ControlWriter(self._bootstrap)
            for event in (registered(1), StageChanged(1, "live", "the trial's")):
                writer.append_model_event(self._topics.models, event)
            log = FeatureLog(self._bootstrap, self._topics)
            self._break(log, begun + self._plan.timeout_s)
            lag = self._drain(begun + self._plan.timeout_s)
            self._end()
            seen = read(self._bootstrap, self._topics.predictions, PARTITIONS)
            found = check(seen, {p: (0, end) for p, end in log.ends.items()})
        finally:
            for slot in self._slots:
                if slot.process is not None:
                    slot.process.kill()
                    slot.process.wait()
            self._broker.stop()
        return Told(
            found,
            Counter(f"{fault.action} {fault.point}" for _, fault in self._done()),
            self._restarts, self._broker_starts, self._woken, self._died, lag,
            time.monotonic() - begun,
        )  # fmt: skip

    def _break(self, log: FeatureLog, deadline_s: float) -> None:
        """Release, and keep all going, until every fault is done."""
        extra, before, since_s = 0, -1, time.monotonic()
        while True:
            done = len(self._done())
            asleep = self._stalls() > self._woken
            if done != before or asleep:
                before, since_s = done, time.monotonic()
            elif time.monotonic() - since_s > _WAITS_S:  # others answered what it waits for
                extra, since_s = extra + 2 * self._plan.max_batch, time.monotonic()
            log.release({p: end + extra for p, end in self._share(done).items()}, AGAIN)
            self._look_after()
            if not log.on_its_way() and done == self._total and not asleep:
                return
            if time.monotonic() > deadline_s:
                raise TrialError(f"{done} of {self._total} faults are done: {self._told()}")
            time.sleep(_POLL_S)

    def _drain(self, deadline_s: float) -> int:
        """Wait until all is answered; return the lag that is left, which is 0."""
        reader: PositionReader | None = None
        try:
            while True:
                self._look_after()
                try:
                    reader = reader or PositionReader(self._bootstrap)
                    lag = sum(
                        reader.lag(
                            self._topics.group(ROLE), {self._topics.features: PARTITIONS}
                        ).values()
                    )
                except BrokerError:  # it comes up again
                    reader, lag = None, -1
                if lag == 0:
                    return lag
                if time.monotonic() > deadline_s:
                    raise TrialError(f"{lag} records are not answered: {self._told()}")
                time.sleep(_POLL_S)
        finally:
            if reader is not None:
                reader.close()

    def _share(self, done: int) -> dict[int, int]:
        """Return the ends up to which records are released once ``done`` faults are done."""
        each, left = divmod(self._plan.events, PARTITIONS)
        part = (done + 1) / (self._total + 1)
        return {p: int((each + (p < left)) * part + 1e-6) for p in range(PARTITIONS)}

    def _done(self) -> list[tuple[str, Fault]]:
        lines = [line.split() for line in self._journal.read_text().splitlines()]
        return [(worker, parse(text)[0]) for worker, text in lines]

    def _stalls(self) -> int:
        return sum(fault.action == "stall" for _, fault in self._done())

    def _look_after(self) -> None:
        if self._broker.running() is None:
            self._broker.start()
            self._broker_starts += 1
        for number, slot in enumerate(self._slots):
            self._look_at(slot, self._plan.stall_s[number % len(self._plan.stall_s)])

    def _look_at(self, slot: _Slot, stall_s: float) -> None:
        process, now = slot.process, time.monotonic()
        status = None if process is None else process.poll()
        if process is None or status is not None:
            self._restarts += process is not None
            self._died += status is not None and status != -signal.SIGKILL
            done = sum(worker == slot.name for worker, _ in self._done())
            slot.process, slot.stopped_s = self._started(slot, slot.faults[done:]), None
        elif slot.stopped_s is not None and now - slot.stopped_s > stall_s:
            process.send_signal(signal.SIGCONT)
            slot.stopped_s = None
            self._woken += 1
        elif slot.stopped_s is None and _is_stopped(process.pid):
            slot.stopped_s = now

    def _started(self, slot: _Slot, faults: list[Fault]) -> subprocess.Popen[bytes]:
        plan, broker_pid = self._plan, self._broker.folder / PID
        command = [
            sys.executable, "-m", "benchmarks.breaking.worker", self._bootstrap,
            self._topics.name, slot.name, str(plan.max_batch),
            "yes" if plan.transactional else "no", ",".join(map(str, faults)),
            str(self._journal), str(broker_pid),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self._folder / f"{slot.name}.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self._folder, env=environment, stdout=log, stderr=log
            )

    def _end(self) -> None:
        """End the workers in order; raises TrialError where one does not."""
        for slot in self._slots:
            if slot.process is None:
                continue
            slot.process.terminate()
            try:
                status = slot.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                slot.process.send_signal(signal.SIGUSR1)  # it says where its threads stand
                time.sleep(_SAYS_S)
                raise TrialError(f"{slot.name} does not end: {self._told()}") from None
            if status:
                raise TrialError(f"{slot.name} ended with status {status}: {self._told()}")

    def _told(self) -> str:
        """Return the ends of the workers' logs."""
        ends = [(self._folder / f"{slot.name}.log") for slot in self._slots]
        return "\n".join(path.read_text()[-6_000:] for path in ends if path.exists())


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False
