"""A control log for a dashboard: models, a canary with its confidence sequence, an experiment."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from streams.wire import (
    Arm,
    Command,
    ExperimentStarted,
    ExperimentStopped,
    Judged,
    ModelEvent,
    Registered,
    Retrain,
    StageChanged,
    TrainingRefused,
)
from training.reference import Reference

DAY_MS = 86_400_000
CUTOFFS = {1: 30, 2: 20, 3: 10, 4: 4, 5: 1}
"""Version → days before the end."""


def commands(end_ms: int) -> list[Command]:
    """Return the orders of trainings; nothing has come of the last one yet."""
    reasons = ("first model", "schedule: every 10d", "schedule: every 10d", "schedule: every 10d",
               "confirmed drift of distance_km")  # fmt: skip
    asked: list[Command] = [
        Retrain(f"retrain-{v}", reason, end_ms - CUTOFFS[v] * DAY_MS)
        for v, reason in zip(CUTOFFS, reasons, strict=True)
    ]
    asked.append(Retrain("retrain-x", "schedule: every 10d", end_ms - 14 * DAY_MS))
    return [*asked, Retrain("retrain-6", "confirmed drift of gap_min", end_ms)]


def model_events(folder: Path, reference: Reference, end_ms: int) -> list[ModelEvent]:
    """Return the control log; packages that hold the reference are written into ``folder``."""
    made = [_registered(v, folder, reference, end_ms) for v in CUTOFFS]
    arms = (Arm(2, "experiment", 0.5),)
    plan = {"metrics": ["log_loss"], "effect": 0.01, "power": 0.8, "alpha": 0.05,
            "control": 1_570, "treatment": 1_570, "treatments": 1, "baseline": 0.58, "sigma": 0.1,
            "days": 12.0, "method": "means", "sources": "stated"}  # fmt: skip
    ended = {
        "verdict": {"kind": "ship", "winner": 2, "reason": "model 2 is better by 0.018"},
        "effects": [
            {"metric": name, "version": 2, "plain": {
                "difference": difference, "sequential": [difference - half, difference + half],
                "fixed": [difference - half / 2, difference + half / 2], "p": p, "holm": p}}
            for name, difference, half, p in (
                ("log_loss", -0.018, 0.011, 0.0002), ("brier", -0.006, 0.007, 0.04))
        ],
    }  # fmt: skip
    events: list[ModelEvent] = [
        made[0],
        StageChanged(1, "live", "the first that passes", by="trainer", change=1),
        made[1],
        ExperimentStarted("wider-windows", 1, 1, arms, "salt", plan, "28 d beside 7 d", change=2),
        ExperimentStopped("wider-windows", "the planned size is reached", ended, change=3),
        StageChanged(2, "live", "experiment wider-windows: ship", by="operator", change=4),
        TrainingRefused("retrain-x", "log loss 0.581 is not below 0.566 of model 2"),
        made[2],
        StageChanged(3, "live", "better by 0.031", by="policy", change=5),
        made[3],
        StageChanged(4, "canary", "not worse in shadow", share=0.1, salt="c", by="trainer",
                     change=6),
        made[4],
        StageChanged(5, "shadow", "trained on the shift", since={"0": 120, "1": 120},
                     by="trainer", change=7),
    ]  # fmt: skip
    return [*events, *_judged()]


def _judged() -> list[ModelEvent]:
    found: list[ModelEvent] = []
    for k in range(1, 17):
        n, mean = 500 * k, -0.009 + 0.02 * float(np.exp(-k / 3))
        half = 0.05 / float(np.sqrt(k))
        sure = mean + half < 0.01
        evidence = {
            "against": 3,
            "rule": "margin",
            "arms": {"difference": {"mean": mean, "n": n}, "low": mean - half, "high": mean + half},
            "margin": 0.01,
            "share": 0.1,
            "guardrails": {
                "latency_p99_ms": {"value": 42.0, "limit": 100.0, "tripped": False},
                "psi_of_scores": {"value": 0.06, "limit": 0.25, "tripped": False},
            },
        }
        reason = "surely not worse by more than 0.01" if sure else "the interval still holds 0.01"
        found.append(Judged(4, "canary", "promote" if sure else "hold", reason, evidence))
    return found


def _registered(version: int, folder: Path, reference: Reference, end_ms: int) -> Registered:
    content = json.dumps(reference.to_json()).encode()
    package = folder / f"model-{version}"
    package.mkdir()
    (package / "reference.json").write_bytes(content)
    manifest = {"files": {"reference.json": hashlib.sha256(content).hexdigest()}}
    (package / "manifest.json").write_bytes(json.dumps(manifest).encode())
    loss = 0.63 - 0.035 * version
    return Registered(
        version=version,
        command_id=f"retrain-{version}",
        uri=str(package),
        sha256=hashlib.sha256((package / "manifest.json").read_bytes()).hexdigest(),
        manifest={
            "cutoff_ms": end_ms - CUTOFFS[version] * DAY_MS,
            "counts": {"examples": 42_000 + 3_100 * version},
        },
        metrics={"log_loss": round(loss, 4), "brier": round(loss / 3, 4), "accuracy": 0.71},
        run_id=None,
    )
