"""Watching a run while it trains: its progress lines and the machine, from a thread of its own.

The ranks write progress.jsonl whether anybody reads it or not; the watch reads it. So nothing that
happens here, MLflow hanging included, holds a training up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from training.loop.launch import Check, EpochReport, Launcher, go_on
from training.loop.progress import ProgressReader
from training.tracking.system import SystemSampler

LOOK_S = 1.0
SAMPLE_S = 5.0
PATIENCE_S = 5.0
_LOG = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Figure:
    """One value of a metric; ``time_ms`` (milliseconds since the epoch) is the wall's clock."""

    name: str
    value: float
    step: int
    time_ms: int


AGE_SHARE = 1 / 300
"""A run of a day has about 2,000 values of a metric, as many in its first hour as in the rest."""


class Pace:
    """Says when the next figure is due: every ``every_s`` seconds, more rarely as the run ages."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._began = self._due = time.monotonic()

    def is_due(self, now: float) -> bool:
        """Return whether one is due at ``now`` (monotonic seconds), and if so begin to wait."""
        if now < self._due:
            return False
        self._due = now + max(self._every_s, (now - self._began) * AGE_SHARE)
        return True


Sink = Callable[[list[Figure]], None]
"""Takes figures; must not block."""


class Watch:
    """Follows one run's folder until it is stopped.

    Args:
        folder: where the run's progress.jsonl lies.
        sink: is given the figures, in the watch's thread.
        system: makes what reads the machine's figures, in the watch's thread; None for nothing.
        look_s: seconds between two looks at the progress; of the steps' lines since the last look
            the newest counts.
        sample_s: seconds between two samples of the machine.

    Epochs are told all; steps and samples ever more rarely, see :class:`Pace`.
    """

    def __init__(
        self,
        folder: Path,
        sink: Sink,
        system: Callable[[], SystemSampler] | None = None,
        look_s: float = LOOK_S,
        sample_s: float = SAMPLE_S,
    ) -> None:
        self._reader, self._sink, self._make_system = ProgressReader(folder), sink, system
        self._system: SystemSampler | None = None
        self._look_s = look_s
        self._of_steps, self._of_samples = Pace(look_s), Pace(sample_s)
        self._stop = threading.Event()
        self._samples = 0
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Take what came last, and end; what hangs is left behind."""
        self._stop.set()
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        while not self._stop.wait(self._look_s):
            self._guarded()
        self._guarded(is_last=True)  # a run that was over at once has its figures too

    def _guarded(self, is_last: bool = False) -> None:
        try:
            figures = [*self._progress(is_last), *self._machine(is_last)]
            if figures:
                self._sink(figures)
        except Exception as error:  # a view must not end what it looks at
            _LOG.warning("a look at the training failed", why=repr(error))

    def _progress(self, is_last: bool) -> Iterator[Figure]:
        now_ms = time.time_ns() // 1_000_000
        step: dict[str, Any] | None = None
        for line in self._reader.lines():
            if line["kind"] == "epoch":
                yield from figures_of(line, now_ms)
            else:
                step = line
        if step is not None and (self._of_steps.is_due(time.monotonic()) or is_last):
            yield from figures_of(step, now_ms)

    def _machine(self, is_last: bool) -> Iterator[Figure]:
        is_due = self._of_samples.is_due(time.monotonic()) or is_last
        if self._make_system is None or not is_due:
            return
        if self._system is None:
            self._system = self._make_system()
        now_ms = time.time_ns() // 1_000_000
        for name, value in self._system.sample().items():
            yield Figure(name, float(value), self._samples, now_ms)
        self._samples += 1


def figures_of(line: dict[str, Any], time_ms: int) -> Iterator[Figure]:
    """Yield the figures of a progress line: an epoch's by its number, a step's by its own.

    >>> [(f.name, f.step) for f in figures_of({"kind": "epoch", "epoch": 2, "train_loss": 1.0}, 0)]
    [('train_loss', 2)]
    >>> [(f.name, f.step) for f in figures_of({"kind": "step", "steps": 7, "loss": 1.0}, 0)]
    [('step/loss', 7)]
    """
    is_epoch = line["kind"] == "epoch"
    step = int(line["epoch"] if is_epoch else line["steps"])
    for name, value in line.items():
        if name not in ("kind", "epoch") and isinstance(value, int | float):
            if is_epoch:
                yield Figure(name, float(value), step, time_ms)
            elif name != "steps":
                yield Figure(f"step/{name}", float(value), step, time_ms)


def watched(launch: Launcher, sink: Callable[[], Sink | None], home: Path) -> Launcher:
    """Return ``launch`` with a watch beside it; ``sink`` says who takes the figures of the run that
    begins then, None for nobody. ``home`` is a folder on the disk that the training writes to."""

    def watching(folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on) -> None:
        with _beside(folder, sink(), home):
            launch(folder, ranks, on_epoch, check)

    return watching


@contextmanager
def _beside(folder: Path, sink: Sink | None, home: Path) -> Iterator[None]:
    if sink is None:
        yield
        return
    watch = Watch(folder, sink, lambda: SystemSampler(home))
    watch.start()
    try:
        yield
    finally:
        watch.stop()
