"""Waiting for the processes of a run: what they tell meanwhile, ending them, why they failed."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from streams.errors import TrainingError
from training.loop.progress import ProgressReader

POLL_S = 0.05
STOP_TIMEOUT_S = 5.0
LOG_TAIL_BYTES = 3000

EpochReport = Callable[[dict[str, float]], None]
"""Is told of each finished epoch: its line in progress.jsonl."""

Check = Callable[[], None]
"""Is called all the time while the ranks run; raises what is to end them."""


class EpochTeller:
    """Reports the epochs that progress.jsonl has gained."""

    def __init__(self, folder: Path, on_epoch: EpochReport) -> None:
        self._reader, self._on_epoch = ProgressReader(folder), on_epoch

    def __call__(self) -> None:
        """Report what is new."""
        for line in self._reader.lines():
            if line.pop("kind") == "epoch":
                self._on_epoch(line)


def wait(process: subprocess.Popen[bytes], tell: EpochTeller, check: Check) -> int:
    """Return the exit status of a process; tell of epochs while it runs; raises as ``check``."""
    while True:
        check()
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(POLL_S)
        tell()
        if code is not None:
            return code


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a process group, and what it left in it."""
    if process.poll() is None:
        process.terminate()  # the elastic agent passes it on and waits for its ranks
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    if process.poll() != 0:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def failure(log_file: Path, ranks: int, why: str) -> TrainingError:
    """Return the error that shows why ranks failed, with the end of their log."""
    log = log_file.read_bytes() if log_file.exists() else b""
    tail = log[-LOG_TAIL_BYTES:].decode(errors="replace").strip() or "(empty)"
    return TrainingError(
        f"the {ranks} training ranks failed ({why}); the end of {log_file}:\n{tail}"
    )
