"""Reports of processes for a log that a dashboard shows."""

from __future__ import annotations

import numpy as np

from streams.wire import HOP_EDGES_MS, Hop, Vitals

ROLES = ("features", "inference", "shadow", "outcomes", "rollout", "monitor", "trainer", "health")
HOPS = {
    "features": ("features", 12.0),
    "inference": ("event_to_prediction", 140.0),
    "outcomes": ("prediction_to_outcome", 900.0),
}
"""Role → the hop that it tells of, and its median, milliseconds."""
REPORTS, EVERY_MS = 12, 5_000


def vitals(now_ms: int) -> list[Vitals]:
    """Return a minute of reports of each process, up to ``now_ms``."""
    draw = np.random.default_rng(9)
    return [
        Vitals(
            worker=f"{role}-0",
            role=role,
            at_ms=now_ms - (REPORTS - 1 - k) * EVERY_MS,
            began_ms=now_ms - 7_380_000,
            pid=4_000 + i,
            cpu=round(float(0.08 + 0.09 * ((i * 5) % 8) + 0.05 * draw.random()), 3),
            memory_bytes=(180 + 65 * ((i * 3) % 7)) * 1_000_000,
            host="one",
            disk_free_bytes=412_000_000_000,
            hops=(_hop(*HOPS[role], draw),) if role in HOPS else (),
            figures={"restarts": 0.0},
        )
        for k in range(REPORTS)
        for i, role in enumerate(ROLES)
    ]


def _hop(name: str, median_ms: float, draw: np.random.Generator) -> Hop:
    took = np.exp(draw.normal(np.log(median_ms), 0.8, 6_000))
    counts = np.bincount(np.searchsorted(HOP_EDGES_MS, took), minlength=len(HOP_EDGES_MS) + 1)
    return Hop(name, len(took), tuple(int(n) for n in counts))
