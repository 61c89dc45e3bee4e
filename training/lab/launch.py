"""Runs a module of the lab on a number of ranks of this machine, and brings its result. No torch.

The module is given the settings to read and the result to write, both JSON files, and the number of
ranks, which it forks itself (:mod:`training.lab.ranks`).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streams.errors import TrainingError
from training.loop.launch import rank_environment

TIMEOUT_S = 3600.0
LOG_TAIL_BYTES = 3000


def run(
    module: str, settings: Mapping[str, Any], ranks: int, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """Return what rank 0 of ``module`` wrote, given ``settings``.

    Raises:
        TrainingError: the ranks failed or took longer than ``timeout_s``; the end of their log.
    """
    with tempfile.TemporaryDirectory(prefix="kappa-lab-") as name:
        folder = Path(name)
        given, result, log_file = (folder / n for n in ("settings.json", "result.json", "log"))
        given.write_text(json.dumps(settings))
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(given), str(result), str(ranks)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=rank_environment(),
                start_new_session=True,
            )
            try:
                code: int | str = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                code = f"no end after {timeout_s:.0f} s"
            finally:
                with contextlib.suppress(ProcessLookupError):  # and with it what is left of ranks
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code or not result.exists():
            tail = log_file.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
            raise TrainingError(
                f"the {ranks} ranks of {module} failed (exit status {code}); the end of their "
                f"log:\n{tail or '(empty)'}"
            )
        found: dict[str, Any] = json.loads(result.read_bytes())
        return found
