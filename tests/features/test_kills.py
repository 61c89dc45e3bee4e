"""Workers killed at random moments leave the features that they would have made undisturbed.

Three kills each by default; ``KAPPA_TEST_KILLS=20`` for the long proof.
"""

import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from features.processing.stages import Stage
from streams.positions import PositionReader
from tests.features import shops
from tests.features.shops import (
    copy,
    features_by_event,
    payments,
    prepared,
    replayed,
    send,
    stage_worker,
    verdicts,
    wait_drained,
)

KILLS = int(os.environ.get("KAPPA_TEST_KILLS", "3"))
STEP = 30
EVERY_S = 0.1
LONGEST_S = 0.5
SNAPSHOTS = ("--snapshot-every", "100")

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.timeout(300 + 60 * KILLS),
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Workers:
    """The processes of all stages of a pipeline, one each."""

    def __init__(self, bootstrap: str, stages: list[Stage], pipeline: str, home: Path) -> None:
        self._bootstrap, self._stages, self._pipeline = bootstrap, stages, pipeline
        self._home, self._stack = home, ExitStack()
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Workers":
        for stage in self._stages:
            self.start(stage)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, stage: Stage) -> None:
        worker = stage_worker(self._bootstrap, stage, self._pipeline, self._home, *SNAPSHOTS)
        self.running[stage.number] = self._stack.enter_context(worker)

    def kill(self, stage: Stage) -> None:
        """Kill a worker, once it has got on, at a random moment; and start the next."""
        before = self.committed(stage)
        deadline = time.monotonic() + 120
        while self.committed(stage) <= before:
            assert self.running[stage.number].poll() is None
            assert time.monotonic() < deadline, f"{stage.role} does not get on"
            time.sleep(0.02)
        time.sleep(random.random() * LONGEST_S)
        self.running[stage.number].kill()
        self.running[stage.number].wait(10)
        self.start(stage)

    def committed(self, stage: Stage) -> int:
        reader = PositionReader(self._bootstrap)
        try:
            return sum(reader.committed(stage.group).get(stage.input, {}).values())
        finally:
            reader.close()

    def drain(self) -> None:
        wait_drained(self._bootstrap, self._stages, list(self.running.values()))


@contextmanager
def trickling(bootstrap: str, stage: Stage, behind: int) -> Iterator[None]:
    """Send payments, and before them the verdicts known by then, until the block ends.

    With ``behind``, verdicts come so many payments later than they should; what is computed then
    depends on when they are read, and a worker after a crash must not decide that anew.
    """
    ended = threading.Event()

    def trickle() -> None:
        number = 0
        while not ended.wait(EVERY_S):
            known = number - shops.KNOWN_AFTER_MS // 1000 - behind
            send(bootstrap, stage.topics.labels, verdicts(known, STEP) if known >= 0 else [])
            send(bootstrap, stage.topics.events, payments(number, STEP))
            number += STEP

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def killed_and_undisturbed(
    bootstrap: str, declared: SimpleNamespace, pipeline: str, home: Path, behind: int = 0
) -> tuple[list[Stage], list[Stage]]:
    """Run a pipeline with kills, and another over a copy of its logs without any."""
    killed = prepared(bootstrap, f"t{uuid4().hex[:8]}", declared)
    with Workers(bootstrap, killed, pipeline, home / "killed") as workers:
        with trickling(bootstrap, killed[0], behind):
            for _ in range(KILLS):
                workers.kill(random.choice(killed))
        workers.drain()
    undisturbed = prepared(bootstrap, f"t{uuid4().hex[:8]}", declared)
    partitions = killed[0].events.partitions
    for log in ("labels", "events"):
        copy(
            bootstrap,
            getattr(killed[0].topics, log),
            getattr(undisturbed[0].topics, log),
            partitions,
        )
    with Workers(bootstrap, undisturbed, pipeline, home / "undisturbed") as workers:
        workers.drain()
    return killed, undisturbed


@pytest.mark.parametrize("pipeline", ["one_key", "one_partition"])
def test_killed_workers_leave_what_undisturbed_ones_do(
    bootstrap: str, tmp_path: Path, pipeline: str
) -> None:
    declared = getattr(shops, pipeline)
    killed, undisturbed = killed_and_undisturbed(bootstrap, declared, pipeline, tmp_path)
    wanted = features_by_event(bootstrap, undisturbed[-1])
    assert len(wanted) > STEP
    assert features_by_event(bootstrap, killed[-1]) == wanted


def test_killed_workers_of_several_partitions_leave_what_their_logs_give(
    bootstrap: str, tmp_path: Path
) -> None:
    declared = shops.with_verdicts
    killed, undisturbed = killed_and_undisturbed(
        bootstrap, declared, "with_verdicts", tmp_path, behind=4 * STEP
    )
    for stage in killed:
        report = replayed(bootstrap, stage)
        assert report.identical, (stage.role, report.mismatches)
        assert report.pending == 0
    wanted = features_by_event(bootstrap, undisturbed[-1])
    assert features_by_event(bootstrap, killed[-1]).keys() == wanted.keys()
