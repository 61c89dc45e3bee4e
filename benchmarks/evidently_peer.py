"""Runs Evidently in an environment of its own on arrays, and returns what it told."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environments
from benchmarks.peers.outcome import PeerSkippedError

EVIDENTLY = environments.Peer("evidently_drift", ("evidently==0.7.23", "pandas<3"))
CACHE = environments.ROOT / ".kappa" / "benchmark-peers"


def run(what: str, folder: Path, reference: Any, windows: Any, categories: int) -> dict[str, Any]:
    """Return what :mod:`benchmarks.peers.evidently_drift` says of the arrays.

    Raises:
        PeerSkippedError: it can't be installed, or does not run here or in time.
    """
    python = environments.interpreter(EVIDENTLY, CACHE, lambda line: print(line, file=sys.stderr))
    file = folder / f"{what}.npz"
    np.savez(file, reference=reference, windows=windows, categories=categories)
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONHOME")}
    try:
        ended = subprocess.run(
            [python, "-m", "benchmarks.peers.evidently_drift", what, str(file)],
            cwd=environments.ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=environments.RUN_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise PeerSkippedError(f"did not end in {environments.RUN_TIMEOUT_S:.0f} s") from None
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if ended.returncode or not lines:
        last = (ended.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise PeerSkippedError(f"ended with {ended.returncode}: {last[:300]}")
    told: dict[str, Any] = json.loads(lines[-1])
    return told
