"""One rank of a training run; needs torch and numpy alone. Started by torchrun::

    torchrun --standalone --nproc-per-node 2 -m training.loop.rank FOLDER/job.json

On several machines the folder is shared, and torchrun is given ``--nnodes`` and a rendezvous. Plain
``python -m training.loop.rank FOLDER/job.json`` is a run of one rank.

The parameters are a function of (data, job, number of ranks): every epoch shuffles by (seed,
epoch) and cuts the order into equal global batches, of which each rank takes every ``ranks``-th
example. The loss of a global batch is its weighted mean, so more ranks with smaller batches differ
from fewer with larger ones by rounding only.
"""

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.loop.checkpoint import load_checkpoint, save_checkpoint
from training.loop.run_folder import (
    RankJob,
    RankResult,
    Slice,
    array_path,
    read_job,
    write_atomically,
    write_result,
)
from training.loop.schedule import batches_of_epoch, dropout_seed, learning_rate, masked_codes
from training.networks.build import build
from training.parallel.place import Place

EVALUATION_ROWS = 8192


@dataclass(frozen=True)
class Arrays:
    """One slice of the data, memory-mapped; ``weights`` of the validation slice are all 1."""

    numeric: NDArray[np.float32]
    codes: NDArray[np.int64]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]

    @classmethod
    def open(cls, folder: Path, part: Slice) -> "Arrays":
        """Map the files of a slice."""
        numeric, codes, targets = (
            np.load(array_path(folder, part, name), mmap_mode="r", allow_pickle=False)
            for name in ("numeric", "codes", "targets")
        )
        weights = np.ones(len(targets), np.float32)
        if part == "train":
            weights = np.load(array_path(folder, part, "weights"), allow_pickle=False)
        return cls(numeric, codes, targets, weights)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.targets)


class Run:
    """A run as one rank sees it."""

    def __init__(self, job: RankJob, folder: Path, place: Place) -> None:
        self.job, self.folder, self.place = job, folder, place
        self.train = Arrays.open(folder, "train")
        self.validation = Arrays.open(folder, "validation")
        torch.manual_seed(job.seed)  # the same parameters on every rank to begin with
        self.network = build(job.shape).to(place.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=job.learning_rate, weight_decay=job.weight_decay
        )
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=place.dtype == torch.float16)
        self.progress = load_checkpoint(
            folder, job.digest, self.network, self.optimizer, self.scaler
        )
        on_gpu = [place.device] if place.device.type == "cuda" else None
        self.parallel: nn.Module = (
            DistributedDataParallel(self.network, device_ids=on_gpu)
            if place.ranks > 1
            else self.network
        )

    def to_the_end(self) -> None:
        """Do the epochs that are left; rank 0 writes checkpoints, progress and the result."""
        job, progress = self.job, self.progress
        while progress.epoch < job.epochs and not self._stopped():
            train_loss = self._train_epoch()
            validation_loss = self._validation_loss()
            if validation_loss < progress.best_loss:
                progress.best_loss, progress.best_epoch = validation_loss, progress.epoch
                progress.best = {k: v.clone() for k, v in self.network.state_dict().items()}
            progress.history.append(
                {
                    "epoch": progress.epoch,
                    "steps": progress.steps,
                    "train_loss": train_loss,
                    "validation_loss": validation_loss,
                }
            )
            progress.epoch += 1
            if self.place.rank == 0:
                self._write_progress()
        if self.place.rank == 0:
            self._write_result()

    def _stopped(self) -> bool:
        progress = self.progress
        return progress.epoch > 0 and progress.epoch - 1 - progress.best_epoch >= self.job.patience

    def _train_epoch(self) -> float:
        """Train on every example once and return the weighted mean loss."""
        job, place, epoch = self.job, self.place, self.progress.epoch
        torch.manual_seed(dropout_seed(job.seed, epoch, place.rank))
        self.parallel.train()
        global_rows = place.ranks * job.batch * job.accumulate
        batches = batches_of_epoch(len(self.train), global_rows, job.seed, epoch)
        codes = masked_codes(self.train.codes, job.seed, epoch)
        loss_sum = weight_sum = 0.0
        for batch in batches:
            rate = learning_rate(self.progress.steps, job.epochs * len(batches))
            for group in self.optimizer.param_groups:
                group["lr"] = rate * job.learning_rate
            weight = float(self.train.weights[batch].sum())
            loss_sum += self._step(batch[place.rank :: place.ranks], codes, weight)
            weight_sum += weight
            self.progress.steps += 1
        return place.sum_over_ranks(loss_sum)[0] / max(weight_sum, 1e-12)

    def _step(self, rows: NDArray[np.int64], codes: NDArray[np.int64], weight: float) -> float:
        """Take one optimiser step on this rank's ``rows`` of a global batch of total ``weight``.

        Returns the weighted sum of this rank's losses.
        """
        self.optimizer.zero_grad()
        loss_sum = 0.0
        pieces = np.array_split(rows, self.job.accumulate)
        for number, piece in enumerate(pieces, start=1):
            last = number == len(pieces)
            with self._gradients_meet(last):
                logits = self._logits(self.train.numeric[piece], codes[piece], self.parallel)
                losses = nn.functional.binary_cross_entropy_with_logits(
                    logits, self._tensor(self.train.targets[piece]), reduction="none"
                )
                loss = (losses * self._tensor(self.train.weights[piece])).sum()
                # DDP takes the mean over ranks; what is wanted is the sum over all examples.
                scaled = loss * (self.place.ranks / max(weight, 1e-12))
                self.scaler.scale(scaled).backward()  # type: ignore[no-untyped-call]
            loss_sum += float(loss.detach())
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.job.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss_sum

    def _gradients_meet(self, last: bool) -> contextlib.AbstractContextManager[None]:
        if last or not isinstance(self.parallel, DistributedDataParallel):
            return contextlib.nullcontext()
        meet: contextlib.AbstractContextManager[None] = self.parallel.no_sync()
        return meet

    def _validation_loss(self) -> float:
        place = self.place
        rows = np.array_split(np.arange(len(self.validation)), place.ranks)[place.rank]
        logits = self._evaluate(rows)
        targets = torch.from_numpy(self.validation.targets[rows]).double()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        total, count = place.sum_over_ranks(float(loss), float(len(rows)))
        return total / count

    @torch.no_grad()
    def _evaluate(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the logits of validation rows, float64 on the CPU."""
        self.network.eval()
        blocks = [
            self._logits(self.validation.numeric[piece], self.validation.codes[piece], self.network)
            for piece in np.array_split(rows, max(1, math.ceil(len(rows) / EVALUATION_ROWS)))
        ]
        return torch.cat(blocks).cpu().double()

    def _logits(
        self, numeric: NDArray[np.float32], codes: NDArray[np.int64], network: nn.Module
    ) -> Tensor:
        place = self.place
        with torch.autocast(place.device.type, place.dtype, enabled=place.dtype != torch.float32):
            logits: Tensor = network(self._tensor(numeric), self._tensor(codes))
        return logits.float()[:, 0]

    def _tensor(self, array: NDArray[np.float32] | NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self.place.device, non_blocking=True)

    def _write_progress(self) -> None:
        save_checkpoint(
            self.folder, self.job.digest, self.progress, self.network, self.optimizer, self.scaler
        )
        lines = "".join(json.dumps(line) + "\n" for line in self.progress.history)
        write_atomically(self.folder / "progress.jsonl", lines.encode())

    def _write_result(self) -> None:
        if self.progress.best:  # none where every validation loss was not a number
            self.network.load_state_dict(self.progress.best)
        weights = {k: v.float().cpu().numpy() for k, v in self.network.state_dict().items()}
        logits = self._evaluate(np.arange(len(self.validation)))
        result = RankResult(
            weights,
            logits.numpy(),
            self.progress.history,
            self.progress.best_epoch,
            self.place.ranks,
            self.place.device.type,
            str(self.place.dtype).removeprefix("torch."),
        )
        write_result(self.folder, result)


@contextlib.contextmanager
def joined(precision: str) -> Iterator[Place]:
    """Join the other ranks that torchrun's environment names: NCCL on GPUs, Gloo on CPUs."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # cuBLAS is deterministic only with a workspace of its own; read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums in the same order on every machine
    on_gpu = torch.cuda.is_available() and torch.cuda.device_count() >= local_ranks
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    place = Place(rank, ranks, device, compute_dtype(precision, device))
    if ranks == 1:
        yield place
        return
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield place
    finally:
        dist.destroy_process_group()


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of the forward pass; see :class:`training.loop.run_folder.RankJob`."""
    if precision != "auto":
        named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        return named[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def main(job_file: Path) -> None:
    """Run this rank to the end of the job."""
    job = read_job(job_file)
    with joined(job.precision) as place:
        Run(job, job_file.parent, place).to_the_end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
