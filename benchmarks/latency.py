"""From producing an event to reading its committed prediction, beside the bare transactional loop.

    uv run python benchmarks/latency.py [--rate N] [--seconds N] [--rounds N] [--json]

An open loop at 1,000 events/s. *Ours* is two processes, the feature worker (online store and
snapshots as always) and the inference worker with version 0, each with its own topic; *bare* is one
process that copies each event in a transaction (consume, produce, send the offsets, commit) and
does nothing else. Both run on the same broker in the same run, in turns, so that what disturbs the
machine disturbs both. Readers are read_committed; a latency is counted from when the event should
have left.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import ours, payments  # noqa: E402
from benchmarks.hops.timing import Arrivals, Sender, percentiles  # noqa: E402
from benchmarks.place import place  # noqa: E402
from streams.topics import KEEP_FOREVER, TopicSpec, ensure_topics  # noqa: E402

SPEC = "benchmarks.payments:same"
GOALS = {"p50": 2.5, "p99": 1.5}
"""Ours is at most so many times the bare loop's."""
WARM_UP = 3_000
START_TIMEOUT_S = 120.0


def main() -> None:
    """Measure, print a table, and with --json one object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, default=1_000.0, help="events per second")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with place() as (bootstrap, folder):
        figures = measure(bootstrap, folder, options.rate, options.seconds, options.rounds)
    print_table(figures)
    if options.json:
        print(json.dumps(figures))


def measure(
    bootstrap: str, home: Path, rate: float, seconds: float, rounds: int
) -> dict[str, dict[str, float]]:
    """Return loop → percentiles in milliseconds, and under "times" ours divided by bare."""
    name, partitions = f"lat{uuid4().hex[:8]}", payments.PARTITIONS
    pipeline = ours.load(SPEC, name)
    ensure_topics(bootstrap, pipeline.topic_specs)
    copied_from, copied_to = f"{name}.bare.in", f"{name}.bare.out"
    ensure_topics(
        bootstrap, [TopicSpec(t, partitions, KEEP_FOREVER) for t in (copied_from, copied_to)]
    )
    each = int(rate * seconds)
    total = WARM_UP + rounds * each
    topics = {
        "bare": (copied_from, copied_to),
        "ours": (pipeline.topics.events, pipeline.topics.predictions),
    }
    found: dict[str, list[np.ndarray]] = {loop: [] for loop in topics}
    with ExitStack() as stack:
        stack.enter_context(ours.worker(SPEC, bootstrap, name, home))
        for module, *rest in (
            ("benchmarks.hops.answering", SPEC, bootstrap, name, str(home)),
            ("benchmarks.hops.bare", bootstrap, copied_from, copied_to, f"{name}.bare"),
        ):
            stack.enter_context(process(home, module, *rest))
        senders = {loop: Sender(bootstrap, source, total) for loop, (source, _) in topics.items()}
        arrivals = {
            loop: Arrivals(bootstrap, to, partitions, total) for loop, (_, to) in topics.items()
        }
        for loop in topics:
            stack.callback(arrivals[loop].close)
            senders[loop].send(0, WARM_UP, rate)
            if not arrivals[loop].wait(0, WARM_UP, START_TIMEOUT_S):
                raise SystemExit(f"{loop}: no answers\n{(home / 'worker.log').read_text()[-2000:]}")
        for number in range(rounds):
            first = WARM_UP + number * each
            for loop in topics:
                due_s = senders[loop].send(first, first + each, rate)
                if not arrivals[loop].wait(first, first + each):
                    raise SystemExit(f"{loop}: not all events were answered")
                found[loop].append(arrivals[loop].at_s[first : first + each] - due_s)
    figures = {loop: percentiles(np.concatenate(parts)) for loop, parts in found.items()}
    figures["times"] = {
        name: round(figures["ours"][name] / figures["bare"][name], 2) for name in figures["ours"]
    }
    return figures


@contextmanager
def process(home: Path, module: str, *arguments: str) -> Iterator[None]:
    """Run a module; its log is ``home / "worker.log"``."""
    with (home / "worker.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT, env=ours.environment(), stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        started.kill()
        started.wait()


def print_table(figures: dict[str, dict[str, float]]) -> None:
    """Print the percentiles of both, and how they compare."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Produce to read_committed prediction, milliseconds")
    for column in ("percentile", "ours, both hops", "bare, one hop", "times", "goal"):
        table.add_column(column, justify="right")
    for name, times in figures["times"].items():
        goal = GOALS.get(name)
        met = "" if goal is None else f"≤ {goal} {'met' if times <= goal else 'MISSED'}"
        table.add_row(
            name, f"{figures['ours'][name]:,.1f}", f"{figures['bare'][name]:,.1f}", f"{times}", met
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
