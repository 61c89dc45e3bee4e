"""Our training step beside a bare DDP loop, and both beside one process.

    uv run python benchmarks/training.py [--rounds N] [--batch N] [--json]

Two ranks on this machine (Gloo, one thread each), MLP 64-256-256-1, 4,096 examples per rank. Each
round times a few steps of every variant, one after another, so that what else the machine does
hits all alike; figures are made of each variant's lower quartile over the rounds. The bare loop
computes on one batch that lies in memory; our step reads its examples from the run folder, clips,
and is what a training does. "x one process" counts examples per second; accumulating is four
micro-batches per step.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.perceptron import WIDTH
from benchmarks.report import report
from training.loop.launch import rank_environment
from training.loop.run_folder import RankJob, job_parameters, write_job
from training.networks.declared import Custom
from training.networks.shape import Shape

RANKS = 2
EXAMPLES = 1 << 17
TIMEOUT_S = 1800.0
GOALS = {
    "bare step / our step": 1 / 1.03,
    "ours, accumulating, x one process": 1.8,
    "share of our step not spent waiting for input": 0.95,
}


def write(folder: Path, batch: int) -> None:
    """Write the data and a job that has enough epochs for any number of rounds."""
    rng = np.random.default_rng(3)
    numeric = rng.standard_normal((EXAMPLES, WIDTH), np.float32)
    targets = (numeric[:, 0] + rng.standard_normal(EXAMPLES) > 0).astype(np.float32)
    arrays: dict[str, Any] = {"train_weights": np.ones(EXAMPLES, np.float32)}
    for part, rows in (("train", EXAMPLES), ("validation", 256)):
        arrays[f"{part}_numeric"] = numeric[:rows]
        arrays[f"{part}_codes"] = np.zeros((rows, 0), np.int32)
        arrays[f"{part}_targets"] = targets[:rows]
    job = RankJob(
        digest="", shape=Shape(WIDTH, (), Custom("benchmarks.perceptron:Perceptron")),
        epochs=10_000, patience=10_000, batch=batch, accumulate=1, learning_rate=1e-4,
        weight_decay=1e-2, seed=3,
    )  # fmt: skip
    write_job(folder, arrays, job_parameters(replace(job, precision="float32")))


def run(folder: Path, rounds: int) -> dict[str, Any]:
    """Run the ranks, and return what they timed."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
        "--nproc-per-node", str(RANKS), "-m", "benchmarks.training_ranks", str(folder), str(rounds),
    ]  # fmt: skip
    subprocess.run(command, check=True, env=rank_environment(), timeout=TIMEOUT_S)
    found: dict[str, Any] = json.loads((folder / "blocks.json").read_bytes())
    return found


def figures(found: dict[str, Any]) -> dict[str, float]:
    """Return ratios of each variant's lower quartile over the rounds."""
    rounds = found["rounds"]
    step_s = {name: float(np.quantile([r[name] for r in rounds], 0.25)) for name in rounds[0]}
    several = {name: step_s[f"{name} adamw accumulate"] for name in ("single", "bare", "ours")}
    one, bare, ours = (step_s[f"{name} adamw"] for name in ("single", "bare", "ours"))
    return {
        "one process, step, ms": 1e3 * one,
        "bare DDP, SGD, x one process": RANKS * step_s["single sgd"] / step_s["bare sgd"],
        "bare DDP, AdamW, x one process": RANKS * one / bare,
        "bare DDP, AdamW, accumulating, x one process": RANKS * several["single"] / several["bare"],
        "ours, x one process": RANKS * one / ours,
        "ours, accumulating, x one process": RANKS * several["single"] / several["ours"],
        "our step, ms": 1e3 * ours,
        "bare step / our step": bare / ours,
        "bare step / our step, accumulating": several["bare"] / several["ours"],
        "share of our step not spent waiting for input": 1 - found["waited_share"],
        "making a step's input, ms, in the background": 1e3 * found["making_s"],
        "making a step's input, share of a step": found["making_s"] / ours,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), arguments.batch)
        found = run(Path(name), arguments.rounds)
    report(
        f"Training: {RANKS} ranks, {arguments.batch:,} examples each",
        figures(found),
        GOALS,
        ("torch", "numpy"),
        arguments.json,
    )


if __name__ == "__main__":
    main()
