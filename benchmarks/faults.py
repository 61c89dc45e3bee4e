"""Whether every event is answered exactly once, whatever is killed, stopped or restarted.

    uv run python benchmarks/faults.py [--events N] [--kills N] [--stalls N] [--breaks N] [--json]
    uv run python benchmarks/faults.py --no-transactions   # the positive control: it must fail

Two inference workers answer a million feature records while they are killed (kill -9) at four exact
points of a transaction, five times at each, stopped past the session time-out in the middle of one
and woken again, and while the broker is killed (kill -9) and started again on its data. What has
been emitted is emitted in part again all the time, as by a feature worker that was killed. Then a
read_committed reader counts by event: lost, answered twice, of a transaction that is seen in part.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.breaking.faults import POINTS, schedule  # noqa: E402
from benchmarks.breaking.trial import Plan, Told, Trial  # noqa: E402

WORKERS = 2
STALLS_S = (12.0, 26.0)
"""Past the session time-out (10 s), and past that of the transaction and its abortion too."""
MAX_BATCH = 2_000


def main() -> None:
    """Run the trial, print a table, and with --json one object; ends with 1 where it failed."""
    options = arguments()
    total = 4 * options.kills + options.stalls + options.breaks
    # A release has so many records for each worker; a fault must come before they are answered.
    batch = min(MAX_BATCH, max(1, options.events // (total + 1) // WORKERS // 8))
    faults = schedule(WORKERS, options.kills, options.stalls, options.breaks, 4, options.seed)
    plan = Plan(
        options.events, faults, batch, STALLS_S,
        transactional=not options.no_transactions, timeout_s=options.timeout,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        told = Trial(plan, Path(folder)).run()
    print_table(told)
    if options.json:
        done = {str(what): number for what, number in told.done.items()}
        print(json.dumps({**asdict(replace(told, done=Counter())), "done": done}))
    sys.exit(0 if told.deliveries.exactly_once else 1)


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=5, help="at each of the four points")
    parser.add_argument("--stalls", type=int, default=4)
    parser.add_argument("--breaks", type=int, default=3, help="of the broker")
    parser.add_argument("--no-transactions", action="store_true")
    parser.add_argument("--seed", type=int, default=7, help="of the order of the faults")
    parser.add_argument("--timeout", type=float, default=3_600.0, help="seconds")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def print_table(told: Told) -> None:
    """Print what was done and what came of it."""
    from rich.console import Console
    from rich.table import Table

    found = told.deliveries
    lines: list[tuple[str, float]] = [
        *((f"workers killed {point}", told.done[f"die {point}"]) for point in POINTS),
        *((f"workers stopped {p}", n) for p in POINTS if (n := told.done[f"stall {p}"])),
        ("... and woken after their session had ended", told.woken),
        *((f"broker killed {p}", n) for p in POINTS if (n := told.done[f"break {p}"])),
        ("... and started again", told.broker_starts),
        ("workers that ended by themselves, and were started again", told.died),
        ("events", found.events),
        ("predictions", found.predictions),
        ("transactions", found.transactions),
        ("lost", found.lost),
        ("twice", found.twice),
        ("torn", found.torn),
        ("ids of two predictions", found.repeated_ids),
        ("out of order", found.disordered),
        ("of no event", found.foreign),
        ("seconds", round(told.seconds)),
    ]
    table = Table(title="Exactly once under faults")
    table.add_column("what")
    table.add_column("number", justify="right")
    for name, number in lines:
        table.add_row(name, f"{number:,}")
    verdict = "exactly once" if found.exactly_once else "NOT exactly once"
    table.caption = verdict
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
