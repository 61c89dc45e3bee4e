"""Checkpoints of a run: folders of pieces that its ranks write, while training goes on.

::

    checkpoints/step-000000120/rank-00000.bin    tensors, raw bytes, each at a multiple of 64
                               rank-00000.json   what lies where; the run's and the rank's numbers

1. Each rank copies what it is to write into the CPU's memory, and goes on with the next step.
2. A thread of it writes the bytes and then, whole, the index, into a hidden folder.
3. Rank 0's thread waits until each rank's index is there, renames the folder, and removes all but
   the last two. So what bears a checkpoint's name is whole, unless the disk damages it later: the
   index has SHA-256 of itself and of the bytes.

A checkpoint is read by any number of ranks: each takes of the stored pieces what overlaps its own.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streams.errors import TrainingError
from training.loop.checkpoint_files import DamagedError, Piece, Stored, file_of, write_pieces
from training.loop.run_folder import CHECKPOINTS
from training.parallel.place import Place

KEPT = 2
_POLL_S = 0.005
_TIMEOUT_S = 1800.0  # for the slowest rank to write its pieces
_LOG = logging.getLogger("kappa.training")


class Checkpoints:
    """The checkpoints of the run in ``folder``; those of another ``digest`` are not its own."""

    def __init__(self, folder: Path, digest: str, place: Place) -> None:
        self._folder, self._digest, self._place = folder / CHECKPOINTS, digest, place
        self._writing: threading.Thread | None = None
        self._failure: BaseException | None = None

    def save(
        self, steps: int, pieces: list[Piece], run: Mapping[str, Any], own: Mapping[str, Any]
    ) -> None:
        """Begin to write the state after ``steps`` steps; waits for the one before.

        Args:
            steps: since the run began; all ranks save at the same.
            pieces: what this rank writes; not changed any more.
            run: JSON values, the same on every rank.
            own: JSON values of this rank.

        Raises:
            TrainingError: the one before could not be written.
        """
        self.wait()
        about = {
            "digest": self._digest, "ranks": self._place.ranks, "run": dict(run), "own": dict(own)
        }  # fmt: skip
        self._writing = threading.Thread(
            target=self._guarded, args=(f"step-{steps:09d}", pieces, about), name="checkpoint"
        )
        self._writing.start()

    def wait(self) -> None:
        """Wait until this rank has nothing more to write; on rank 0, until all is in place.

        Raises:
            TrainingError: it could not be written.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._failure is not None:
            raise TrainingError(
                f"a checkpoint can't be written into {self._folder}: {self._failure!r}; make room "
                "and start the training again, it goes on from the one before"
            ) from self._failure

    def newest(self) -> Stored | None:
        """Return the last checkpoint that is whole, or None; all ranks call it.

        One that is damaged or of another job is removed, and the one before is tried.
        """
        for steps in self._agreed_steps():
            folder, found, why = self._folder / f"step-{steps:09d}", None, ""
            try:
                found = Stored(folder)
                found.verify(range(self._place.rank, found.ranks, self._place.ranks))
            except DamagedError as error:
                why = str(error)
            damaged, others = self._place.sum_over_ranks(
                float(bool(why)), float(found is not None and found.digest != self._digest)
            )
            if not damaged and not others:
                return found
            if why:
                _LOG.warning(
                    "the checkpoint %s is damaged (%s): going on from the one before it", folder,
                    why,
                )  # fmt: skip
            if self._place.rank == 0:
                shutil.rmtree(folder, ignore_errors=True)
        return None

    def _agreed_steps(self) -> list[int]:
        """Return the checkpoints that rank 0 sees, newest first; what was left half goes."""
        mine: list[int] = []
        if self._place.rank == 0:
            for left in self._folder.glob(".saving-*"):
                shutil.rmtree(left, ignore_errors=True)
            mine = sorted(map(_steps, self._folder.glob("step-*")), reverse=True)
        (count,) = self._place.sum_over_ranks(float(len(mine)))
        steps = mine or [0] * int(count)
        return [int(number) for number in self._place.sum_over_ranks(*map(float, steps))]

    def _guarded(self, name: str, pieces: list[Piece], about: dict[str, Any]) -> None:
        try:
            self._write(name, pieces, about)
        except BaseException as error:
            self._failure = error

    def _write(self, name: str, pieces: list[Piece], about: dict[str, Any]) -> None:
        hidden = self._folder / f".saving-{name}"
        hidden.mkdir(parents=True, exist_ok=True)
        write_pieces(hidden / file_of(self._place.rank), pieces, about)
        if self._place.rank:
            return
        deadline = time.monotonic() + _TIMEOUT_S
        indices = [hidden / f"{file_of(rank)}.json" for rank in range(self._place.ranks)]
        while not all(index.exists() for index in indices):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all ranks have written their pieces into {hidden}")
            time.sleep(_POLL_S)
        final = self._folder / name
        shutil.rmtree(final, ignore_errors=True)
        hidden.rename(final)
        _sync_folder(self._folder)
        for old in sorted(self._folder.glob("step-*"), key=_steps)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def _steps(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
