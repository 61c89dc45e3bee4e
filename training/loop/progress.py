"""progress.jsonl: how a run goes, a line per epoch and now and then one for a step.

::

    {"kind": "epoch", "epoch", "steps", "train_loss", "validation_loss"}
    {"kind": "step", "epoch", "steps", "loss", "learning_rate", "gradient_norm", "scale",
     "examples_per_s", "waited_share"}

``steps`` counts from the begin of the run. A step line's ``loss`` is rank 0's share's mean since
the line before, ``scale`` that of the loss (float16), ``waited_share`` the share of the time in
which steps waited for their examples. A run that resumes takes back the lines of steps that it
does again. No torch here.
"""

import json
from pathlib import Path
from typing import Any

from training.loop.run_folder import PROGRESS, write_atomically


class ProgressWriter:
    """Writes the lines; ``steps`` says how many steps of what stands there are still true."""

    def __init__(self, folder: Path, steps: int) -> None:
        self._path = folder / PROGRESS
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        told = [line for line in lines if _steps(line) <= steps]
        write_atomically(self._path, b"".join(line + b"\n" for line in told))

    def write(self, kind: str, line: dict[str, Any]) -> None:
        """Add a line."""
        with self._path.open("ab") as file:
            file.write(json.dumps({"kind": kind, **line}).encode() + b"\n")


class ProgressReader:
    """Follows the lines of a run, across its restarts: each epoch and each step is told once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS
        self._file, self._read = 0, 0
        self._told = {"epoch": -1, "step": -1}

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines that came since the last call."""
        try:
            with self._path.open("rb") as file:
                number = self._path.stat().st_ino
                if number != self._file:  # written anew: a run that resumed
                    self._file, self._read = number, 0
                file.seek(self._read)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        return [line for line in map(json.loads, whole.splitlines()) if self._new(line)]

    def _new(self, line: dict[str, Any]) -> bool:
        kind = str(line["kind"])
        number = int(line["epoch"] if kind == "epoch" else line["steps"])
        if number <= self._told.get(kind, -1):
            return False
        self._told[kind] = number
        return True


def _steps(line: bytes) -> int:
    try:
        return int(json.loads(line)["steps"])
    except (ValueError, KeyError, TypeError):
        return 1 << 62  # torn: not true any more
