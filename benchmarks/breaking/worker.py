"""An inference worker that breaks itself, or its broker, at the points it is told to.

    python -m benchmarks.breaking.worker BOOTSTRAP PIPELINE WORKER MAX_BATCH TRANSACTIONAL
        FAULTS JOURNAL BROKER_PID

``FAULTS`` as :func:`benchmarks.breaking.faults.parse` reads them. What is done is written to the
file ``JOURNAL`` just before it is done. ``BROKER_PID`` is the file that holds the broker's id.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

from confluent_kafka import TopicPartition

from benchmarks.breaking.faults import Fault, Point, parse
from benchmarks.breaking.stream import DEFINITION, EVENTS, PRIOR, load
from serving.auditing.deliveries import tag
from serving.inference.stretches import Outgoing, Place, Position
from serving.inference.transaction import TransactionalHop
from serving.inference.worker import run_inference
from streams.topics import Topics
from training.spec import Model

_FLUSH_S = 20.0


class Breaking:
    """The faults still to come, and doing them."""

    def __init__(self, faults: list[Fault], journal: Path, worker: str, broker_pid: Path) -> None:
        self._left, self._journal, self._worker = faults, journal, worker
        self._broker_pid, self._batches = broker_pid, 0

    def begins(self) -> None:
        """Count a batch."""
        self._batches += 1

    def due(self, point: Point) -> bool:
        """Whether the next fault is one of this batch at ``point``."""
        if not self._left:
            return False
        return self._left[0].point == point and self._batches >= self._left[0].batches

    def at(self, point: Point) -> None:
        """Do what is due at ``point``."""
        if not self.due(point):
            return
        fault = self._left.pop(0)
        self._batches = 0
        with self._journal.open("a") as file:
            file.write(f"{self._worker} {fault}\n")
        match fault.action:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stall":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "break":
                os.kill(int(self._broker_pid.read_text()), signal.SIGKILL)


class BreakingHop(TransactionalHop):
    """Passes the points of a commit by name, and tells each answer's transaction in a header."""

    breaking: Breaking
    _numbered = 0

    def commit(self, outgoing: Iterable[Outgoing], reached: Mapping[Place, Position]) -> bool:
        """Publish as the hop does, each record with the transaction that it belongs to."""
        records = list(outgoing)
        answers = sum(len(out.values) for out in records if out.topic == self._topic)
        if answers:
            self.breaking.begins()
        BreakingHop._numbered += 1
        header = tag(f"{self.worker}-{os.getpid()}-{self._numbered}", answers)
        tagged = [
            replace(out, headers=[[*pairs, header] for pairs in out.headers])
            if out.topic == self._topic
            else out
            for out in records
        ]
        done = super().commit(tagged, reached)
        if done:
            self.breaking.at("after-commit")
        return done

    def _produce(self, outgoing: Iterable[Outgoing]) -> None:
        records = list(outgoing)
        if not self.breaking.due("mid-batch"):
            super()._produce(records)
            return
        half = sum(len(out.values) for out in records) // 2
        first = list(_first(records, half))
        super()._produce(first)
        self._producer.flush(_FLUSH_S)  # they stand in the log
        self.breaking.at("mid-batch")
        super()._produce(_rest(records, half))

    def _send_offsets(self, offsets: list[TopicPartition]) -> None:
        if self.breaking.due("before-offsets"):
            self._producer.flush(_FLUSH_S)
        self.breaking.at("before-offsets")
        super()._send_offsets(offsets)

    def _end_transaction(self) -> None:
        self.breaking.at("before-commit")
        super()._end_transaction()

    def _commit_apart(self, outgoing: Iterable[Outgoing], offsets: list[TopicPartition]) -> None:
        self._produce(outgoing)
        self._producer.flush(_FLUSH_S)
        self.breaking.at("before-offsets")
        self.breaking.at("before-commit")
        self._consumer.commit(offsets=offsets, asynchronous=False)


def _first(outgoing: list[Outgoing], n: int) -> Iterable[Outgoing]:
    for out in outgoing:
        some = min(n, len(out.values))
        n -= some
        yield _between(out, 0, some)


def _rest(outgoing: list[Outgoing], n: int) -> Iterable[Outgoing]:
    for out in outgoing:
        some = min(n, len(out.values))
        n -= some
        yield _between(out, some, len(out.values))


def _between(out: Outgoing, first: int, end: int) -> Outgoing:
    columns: dict[str, Any] = {
        name: list(islice(getattr(out, name), first, end))
        for name in ("keys", "values", "timestamps_ms", "headers")
    }
    return replace(out, **columns)


def main(arguments: list[str]) -> None:
    """Answer until SIGTERM, or a fault."""
    faulthandler.register(signal.SIGUSR1)  # says where it stands
    bootstrap, pipeline, worker, max_batch, transactional, faults, journal, broker_pid = arguments
    BreakingHop.breaking = Breaking(parse(faults), Path(journal), worker, Path(broker_pid))
    with mock.patch("serving.inference.worker.TransactionalHop", BreakingHop):
        run_inference(
            bootstrap, Topics(pipeline), [DEFINITION], EVENTS, Model(prior=PRIOR), Path(),
            "inference", worker, int(max_batch), load=load, transactional=transactional == "yes",
        )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
