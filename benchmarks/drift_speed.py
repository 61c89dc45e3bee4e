"""How long the drift of one closed window takes: PSI and KS of 200 features x 10,000 rows.

    uv run python benchmarks/drift_speed.py [--rows N] [--reference N] [--features N] [--json]

Ours, from rows to figures (PSI, exact KS against the presorted reference, and their chances), and
as the monitor does it (rows counted in fine bins as they come, all figures at the close), beside a
loop over ``scipy.stats.ks_2samp`` and Evidently's two reports in an environment of its own, in one
run. The better of three runs counts; of Evidently the better of two. ``--no-peer`` leaves it out.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import evidently_peer  # noqa: E402
from benchmarks.peers.outcome import PeerSkippedError  # noqa: E402
from benchmarks.report import report  # noqa: E402
from serving.drift.comparing import compare_all  # noqa: E402
from serving.drift.ks import ks, ks_chance  # noqa: E402
from serving.drift.psi import contributions  # noqa: E402
from training.reference import Reference  # noqa: E402

GOAL_S = 0.2
WINDOW_MS = 7 * 86_400_000

Floats = NDArray[np.float64]


@dataclass
class Rows:
    """Numbers alone."""

    numeric: Floats
    categories: list[list[str]]


def best(work: Callable[[], object], runs: int = 3) -> float:
    """Return the seconds of the fastest run, after one that warms up."""
    work()
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def measure(rows: int, reference_rows: int, features: int, peer: bool, as_json: bool) -> None:
    """Measure and print."""
    rng = np.random.default_rng(7)
    known, window = rng.normal(size=(reference_rows, features)), rng.normal(size=(rows, features))
    reference = Reference.from_columns([Rows(known, [])], [f"f{i}" for i in range(features)], [])
    presorted = np.sort(known.T, axis=1)
    expected = np.stack([reference.expected[name] for name in reference.names])
    fine = reference.fine_counts(Rows(window, []))

    def psi() -> Floats:
        counts = reference.counts(Rows(window, []))
        stacked = np.stack([counts[name] for name in reference.names])
        found: Floats = contributions(expected, stacked).sum(axis=1)
        return found

    def exact_ks() -> Floats:
        columns = zip(presorted, window.T, strict=True)
        distances = np.array([ks(before, after) for before, after in columns])
        sizes = np.full((2, features), [[reference_rows], [rows]], np.float64)
        return ks_chance(distances, *sizes)

    def loop() -> object:
        columns = zip(known.T, window.T, strict=True)
        return [ks_2samp(before, after, method="asymp") for before, after in columns]

    figures = {"psi_s": best(psi), "ks_presorted_s": best(exact_ks)}
    total = figures["psi_s"] + figures["ks_presorted_s"]
    figures |= {
        "psi_and_ks_s": total,
        "times_within_the_goal": GOAL_S / total,
        "monitor_counting_s": best(lambda: reference.fine_counts(Rows(window, []))),
        "monitor_all_figures_s": best(lambda: compare_all(reference, fine, WINDOW_MS)),
        "scipy_ks_loop_s": best(loop),
    }
    skipped, versions = {}, {}
    if peer:
        try:
            with tempfile.TemporaryDirectory() as folder:
                told = evidently_peer.run("speed", Path(folder), known, window[None], 0)
            figures |= {f"evidently_{name}_s": told[name] for name in ("psi", "ks")}
            versions = {f"evidently's {name}": v for name, v in told["versions"].items()}
        except PeerSkippedError as error:
            skipped["evidently"] = str(error)
    report(
        f"drift of {features} features x {rows:,} rows against {reference_rows:,}; "
        f"goal: PSI and KS within {GOAL_S} s",
        figures,
        {"times_within_the_goal": 1.0},
        ("numpy", "scipy"),
        as_json,
        skipped,
        versions,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--reference", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=200)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measure(options.rows, options.reference, options.features, not options.no_peer, options.json)
