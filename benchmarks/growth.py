"""Whether throughput stays as entities and days grow, and what a second worker brings.

    uv run python benchmarks/growth.py [--end-to-end] [--events N] [--json]

The engine alone: batches of JSON payments in memory, decoded, their ids remembered for a day, and
windows of 5 minutes, a day and a week kept; CPU time of :meth:`FeatureEngine.process` alone.

- Entities: from 1,000 to 1,000,000, each seen before the measuring begins; the median over pieces.
- Days: 10,000 entities, each seen before; days 1, 2 to 10, 11 to 20 and 21 to 30 of one log; the
  median over the days.

``flat`` is the slowest divided by the quickest. With ``--end-to-end`` also from Kafka to the
features topic: in replay, and live (where nearly every event of 1,000,000 entities is also a row of
the online store, while those of 1,000 are coalesced); 1,000 and 1,000,000 entities, one day and
thirty, per core. And a log of two partitions worked on by one process and by two, by the clock:
live, and in replay with its comparison. The broker runs on the same machine and writes for the live
worker, so on two cores the second live worker has to share one with it.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import ours, payments, replays
from benchmarks.peers.outcome import Rates
from benchmarks.place import place
from benchmarks.report import report
from features.engine.engine import FeatureEngine, warm_up
from kappa import Count, Definition, Sum, Value
from streams.batch import LogBatch
from streams.topics import ensure_topics

DEFINITION = Definition(
    1,
    {
        "sum_5m": Sum(Value("amount"), "5m", "1m"),
        "count_5m": Count("5m", "1m"),
        "sum_24h": Sum(Value("amount"), "24h", "1h"),
        "count_7d": Count("7d", "6h"),
    },
)
ENTITIES = (1_000, 10_000, 100_000, 1_000_000)
BATCH = 5_000
PIECES = 10
DAYS = 30
DAY_MS = 86_400_000
STRETCHES = {"day_1": (0, 1), "days_2_to_10": (1, 10), "days_11_to_20": (10, 20),
             "days_21_to_30": (20, 30)}  # fmt: skip
WIDTH = 7
GOAL_FLAT = 0.8
GOAL_TWO = 1.7
PACKAGES = ("confluent-kafka", "msgspec", "numba", "numpy")


class Feed:
    """Payments for an engine, one after the other, and the CPU seconds it takes for them."""

    def __init__(self) -> None:
        self._engine = FeatureEngine(DEFINITION, payments.EVENTS)
        self._next = 0
        self._time_ms = 0

    def take(self, cards: NDArray[np.int64], step_ms: int) -> float:
        """Give one payment per card; return the CPU seconds of the engine."""
        spent_s = 0.0
        for first in range(0, len(cards), BATCH):
            batch = self._batch(cards[first : first + BATCH], step_ms)
            began_s = time.process_time()
            self._engine.process(batch)
            spent_s += time.process_time() - began_s
        return spent_s

    def _batch(self, cards: NDArray[np.int64], step_ms: int) -> LogBatch:
        first, n = self._next, len(cards)
        begins_ms = payments.START_MS + self._time_ms
        keys, values, times = payments.values(first, cards, step_ms, WIDTH, begins_ms)
        self._next += n
        self._time_ms = times[-1] - payments.START_MS
        return LogBatch(
            topic="bench.events.v1",
            partition=0,
            offsets=np.arange(first, first + n),
            timestamps_ms=np.array(times, dtype=np.int64),
            keys=list(keys),
            values=list(values),
            next_offset=first + n,
        )


def over_entities(events: int, numbers: Sequence[int]) -> dict[str, float]:
    """Return events per CPU second of the engine for each number of entities."""
    figures: dict[str, float] = {}
    for entities in numbers:
        feed = Feed()
        feed.take(np.arange(entities), 2)
        piece = max(BATCH, events // PIECES)
        rates = [
            piece / feed.take(payments.cards_of(piece, entities, seed), payments.STEP_MS)
            for seed in range(PIECES)
        ]
        figures[f"engine_{entities}_entities"] = round(median(rates))
    return figures


def over_days(events_a_day: int) -> dict[str, float]:
    """Return events per CPU second of the engine for each stretch of days."""
    feed, entities = Feed(), 10_000
    feed.take(np.arange(entities), 2)
    step_ms = 2 * DAY_MS // events_a_day
    rates = [
        events_a_day / feed.take(payments.cards_of(events_a_day, entities, day), step_ms)
        for day in range(DAYS)
    ]
    return {
        f"engine_{name}": round(median(rates[first:end]))
        for name, (first, end) in STRETCHES.items()
    }


def end_to_end(bootstrap: str, folder: Path, events: int) -> dict[str, float]:
    """Return events per second of one core, live and in replay, for growing logs."""
    few, many = ENTITIES[0], ENTITIES[-1]
    figures: dict[str, float] = {}
    for name, entities, days in (
        (f"{few}_entities", few, 1),
        (f"{many}_entities", many, 1),
        (f"{few}_entities_{DAYS}_days", few, DAYS),
    ):
        known = np.arange(many if entities == many else max(few, events // 3))
        warm_up_events = len(known)
        cards = np.concatenate([known % entities, payments.cards_of(events, entities, 1)])
        log = filled(bootstrap, "same", cards, 2 * days * DAY_MS // len(cards))
        figures[f"live_{name}"] = round(
            live(bootstrap, log, folder / name, warm_up_events).per_core
        )
        again = replays.rebuilt_steadily(bootstrap, log, folder / name, warm_up_events)
        figures[f"replay_{name}"] = round(again.per_core)
    return figures


def two_workers(bootstrap: str, folder: Path, events: int) -> dict[str, float]:
    """Return events per second of one worker and of two, by the clock and of a core."""
    cards = payments.cards_of(events, payments.CARDS, 2)
    one, two = (filled(bootstrap, "two", cards, payments.STEP_MS) for _ in range(2))
    alone = together(bootstrap, one, folder / "one", 1)
    both = together(bootstrap, two, folder / "two", 2)
    finish(bootstrap, two, folder / "two")
    one_replay = replays.recomputed_side_by_side(bootstrap, two, folder, 1)
    two_replays = replays.recomputed_side_by_side(bootstrap, two, folder, 2)
    return {
        "replay_one_process_per_s": round(one_replay.per_s),
        "replay_two_processes_per_s": round(two_replays.per_s),
        "two_replays_times_one": round(two_replays.per_s / one_replay.per_s, 2),
        "live_one_worker_per_s": round(alone.per_s),
        "live_two_workers_per_s": round(both.per_s),
        "two_workers_times_one": round(both.per_s / alone.per_s, 2),
        "live_one_worker_per_core": round(alone.per_core),
        "live_two_workers_per_core": round(both.per_core),
    }


def filled(bootstrap: str, attribute: str, cards: NDArray[np.int64], step_ms: int) -> ours.Log:
    """Return a new log with these payments, of a pipeline of :mod:`benchmarks.payments`."""
    log = ours.Log(f"benchmarks.payments:{attribute}", f"grow{uuid4().hex[:8]}", len(cards))
    ensure_topics(bootstrap, log.pipeline().topic_specs)
    payments.fill(bootstrap, log.pipeline().topics.events, cards, step_ms, WIDTH)
    return log


def live(bootstrap: str, log: ours.Log, home: Path, warm_up_events: int) -> Rates:
    """Return the rates of one worker after the warm-up."""
    progress = ours.Progress(bootstrap, log.pipeline())
    try:
        with ours.worker(log.spec, bootstrap, log.name, home) as process:
            return ours.watch([process], progress, log.events, home, warm_up_events)
    finally:
        progress.close()


def together(bootstrap: str, log: ours.Log, home: Path, workers: int) -> Rates:
    """Return the rates of some workers together, while all of them have something to do.

    The clock runs from when every partition moves and every worker has one, until the first
    partition is at its end.
    """
    progress = ours.Progress(bootstrap, log.pipeline())
    ends = progress.ends()
    shared: dict[int, int] | None = None  # where the partitions stood when every worker had one
    began: tuple[int, float, float] | None = None
    deadline = time.monotonic() + ours.TIMEOUT_S
    with ExitStack() as stack:
        stack.callback(progress.close)
        processes = [
            stack.enter_context(ours.worker(log.spec, bootstrap, log.name, home))
            for _ in range(workers)
        ]
        last = (0, 0.0, 0.0)  # events, CPU seconds, the clock
        while time.monotonic() < deadline:
            time.sleep(0.1)
            if any(process.poll() is not None for process in processes):
                raise ours.MeasuringError(ours.last_words(home))
            at = progress.by_partition()
            if any(at.get(p, 0) >= end for p, end in ends.items()):
                break
            last = (sum(at.values()), ours.cpu_s(processes), time.perf_counter())
            if shared is None and progress.members() == workers:
                shared = at
            if shared is None or began is not None:
                continue
            if all(at.get(p, 0) > shared.get(p, 0) for p in ends):
                began = last
        if began is None or last[2] - began[2] < 1:
            raise ours.MeasuringError(
                f"{workers} workers did not work together for a second: take more --events"
            )
        events, cpu_s, clock_s = (b - a for a, b in zip(began, last, strict=True))
        return Rates(events / cpu_s, events / clock_s)


def finish(bootstrap: str, log: ours.Log, home: Path) -> None:
    """Work on what is left of a log to its end."""
    progress = ours.Progress(bootstrap, log.pipeline())
    try:
        with ours.worker(log.spec, bootstrap, log.name, home) as process:
            deadline = time.monotonic() + ours.TIMEOUT_S
            while progress.done() < log.events:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ours.MeasuringError(ours.last_words(home))
                time.sleep(0.1)
    finally:
        progress.close()


def flatness(figures: dict[str, float], names: list[str]) -> float:
    """Return the slowest divided by the quickest of some figures."""
    rates = [figures[name] for name in names]
    return round(min(rates) / max(rates), 3)


def main() -> None:
    """Measure, print a table, and with --json one object on the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=500_000, help="per number of entities")
    parser.add_argument("--entities", type=int, nargs="+", default=ENTITIES)
    parser.add_argument("--events-a-day", type=int, default=100_000)
    parser.add_argument("--end-to-end", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began_s = time.monotonic()
    skipped: dict[str, str] = {}
    warm_up()
    figures = over_entities(options.events, options.entities)
    figures["entities_flat"] = flatness(figures, list(figures))
    days = over_days(options.events_a_day)
    figures |= days
    figures["days_flat"] = flatness(days, list(days))
    goals = {"entities_flat": GOAL_FLAT, "days_flat": GOAL_FLAT}
    if options.end_to_end:
        goals |= {"replay_flat": GOAL_FLAT, "two_replays_times_one": GOAL_TWO}
        with_broker(options.events, figures, skipped)
    figures["benchmark_s"] = round(time.monotonic() - began_s)
    title = "Growth: events per second as entities and days grow"
    report(title, figures, goals, PACKAGES, options.json, skipped)


def with_broker(events: int, figures: dict[str, float], skipped: dict[str, str]) -> None:
    """Add the figures of what needs a broker, or why there are none."""
    with place() as (bootstrap, folder):
        try:
            grown = end_to_end(bootstrap, folder, events)
            figures |= grown
            for kind in ("live", "replay"):
                names = [name for name in grown if name.startswith(kind)]
                figures[f"{kind}_flat"] = flatness(grown, names)
        except ours.MeasuringError as error:
            skipped["live_flat"] = skipped["replay_flat"] = str(error)
        try:
            figures |= two_workers(bootstrap, folder, 4 * events)
        except ours.MeasuringError as error:
            skipped["two_replays_times_one"] = str(error)


if __name__ == "__main__":
    main()
