"""A run as one rank sees it: epochs of steps, checkpoints between them, the result at the end.

The parameters are a function of (data, job, number of ranks): every epoch has an order by (seed,
epoch), cut into equal global batches of which each share takes every ``shares``-th example, and
the loss of a global batch is its weighted mean. So more ranks with smaller batches differ from
fewer with larger ones by rounding only, and a run that resumes does the same steps again.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from training.dataset.examples import SliceArrays
from training.loop.averaging import averaged
from training.loop.checkpoint import Checkpoints
from training.loop.checkpoint_files import Stored
from training.loop.digests import write_digest
from training.loop.feeding import Feed, Plan
from training.loop.judging import Judge, leads_its_share
from training.loop.metering import Meter
from training.loop.pace import Pace
from training.loop.precision import seed_generators
from training.loop.progress import ProgressWriter
from training.loop.run_folder import INITIAL, RankJob, RankResult, load_arrays, write_result
from training.loop.schedule import dropout_seed, rate, step_seed
from training.loop.state import State, Writers
from training.loop.stepping import Stepper
from training.loop.stopping import Stopping
from training.networks.build import build
from training.networks.losses import loss_of, shifted
from training.parallel.parallelize import parallelize
from training.parallel.place import Place


@dataclass
class Position:
    """Where a run stands: ``epoch`` and ``step`` of it are the *next* to do, ``steps`` those done.

    ``loss_sum`` (this share's, on the device) and ``weight_sum`` are of the epoch so far.
    """

    loss_sum: Tensor
    weight_sum: float = 0.0
    epoch: int = 0
    step: int = 0
    steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


class Run:
    """A run of ``job`` in ``folder``, from where its last checkpoint left it."""

    def __init__(self, job: RankJob, folder: Path, place: Place) -> None:
        self.job, self.folder, self.place = job, folder, place
        torch.manual_seed(job.seed)  # the same parameters on every rank to begin with
        self.strategy = parallelize(
            build(job.shape), job.shape, place, job.parallel,
            recompute=job.recompute, compile=job.compile,
        )  # fmt: skip
        self.stepper = Stepper(job, self.strategy, place)
        self.stopping = Stopping(job.patience)
        self.at = Position(torch.zeros((), dtype=torch.float64, device=place.device))
        self.state = State(self.strategy.module, self.stepper.optimizer, self.stepper.average, {})
        self.leads = leads_its_share(self.strategy, place)
        self.global_rows = job.global_batch or job.batch * job.accumulate * self.strategy.shares
        self.writers = Writers(self.strategy.module, place)
        self.checkpoints = Checkpoints(folder, job.digest, place)
        self._begin()
        self.train = SliceArrays.open(folder, "train")
        self.plan = Plan(
            len(self.train), self.global_rows, self.strategy.share, self.strategy.shares,
            job.batch, job.seed, job.epochs,
        )  # fmt: skip
        self.judge = Judge(
            self.strategy, SliceArrays.open(folder, "validation"),
            shifted(loss_of(job.task), job.shifts), place, self.leads,
        )  # fmt: skip

    def to_the_end(self) -> None:
        """Do the epochs that are left; rank 0 writes progress and the result."""
        at, plan = self.at, self.plan
        progress = ProgressWriter(self.folder, at.steps) if self.place.rank == 0 else None
        meter = Meter(progress, at.steps)
        pace = Pace(self.job, self.place, at.steps)
        with Feed(self.train, plan, at.epoch, at.step, self.place.device) as feed:
            while at.epoch < self.job.epochs and not self.stopping.stops(at.epoch):
                began, waited = time.perf_counter(), feed.waited_s
                self._train_epoch(feed, meter, pace)
                line = self._end_epoch()
                if progress is not None:
                    seconds = {"waited_s": feed.waited_s - waited}
                    seconds["seconds"] = time.perf_counter() - began
                    progress.write("epoch", {**line, **seconds})
                self._save()
        self.checkpoints.wait()
        self._write_result()

    def _train_epoch(self, feed: Feed, meter: Meter, pace: Pace) -> None:
        job, at, plan = self.job, self.at, self.plan
        seed, total = dropout_seed(job.seed, at.epoch, self.strategy.share), job.epochs * plan.steps
        while at.step < plan.steps:
            fed = feed.take()
            seed_generators(step_seed(seed, at.step), self.place.device)
            share = rate(job.schedule, at.steps, total)
            taken = self.stepper.take(fed, share)
            at.loss_sum += taken.loss
            at.weight_sum += fed.weight
            at.step += 1
            at.steps += 1
            meter.after(at.steps, fed, taken, share * job.learning_rate, feed.waited_s,
                        self.stepper.scaler)  # fmt: skip
            if job.digests:
                self._write_digest()
            if at.step < plan.steps and pace.due(at.steps):
                self._save()

    def _end_epoch(self) -> dict[str, float]:
        """Judge the network, remember it if it is the best, and go on to the next epoch."""
        at = self.at
        own = float(at.loss_sum) if self.leads else 0.0
        train_loss = self.place.sum_over_ranks(own)[0] / max(at.weight_sum, 1e-12)
        with averaged(self.stepper.average):
            validation_loss = self.judge.mean_loss()
            if self.stopping.better(at.epoch, validation_loss):
                self.state.remember_best()
        line: dict[str, float] = {
            "epoch": at.epoch,
            "steps": at.steps,
            "train_loss": train_loss,
            "validation_loss": validation_loss,
        }
        at.history.append(line)
        at.epoch, at.step, at.weight_sum = at.epoch + 1, 0, 0.0
        at.loss_sum.zero_()
        return line

    def _save(self) -> None:
        at, average = self.at, self.stepper.average
        run = {
            "epoch": at.epoch,
            "step": at.step,
            "steps": at.steps,
            "weight_sum": at.weight_sum,
            "history": at.history,
            "best_epoch": self.stopping.best_epoch,
            "best_loss": self.stopping.best_loss,
            "averaged_steps": 0 if average is None else average.steps,
            "scaler": self.stepper.scaler.state_dict(),
            "global_rows": self.global_rows,
            "shares": self.strategy.shares,
        }
        own = {"loss_sum": float(at.loss_sum) if self.leads else 0.0}
        self.checkpoints.save(at.steps, self.writers.pieces(self.state), run, own)

    def _begin(self) -> None:
        """Go to where the last checkpoint was written, or to the start."""
        stored = self.checkpoints.newest()
        if stored is not None:
            self.state.restore(stored)
            self._restore_numbers(stored)
        elif (self.folder / INITIAL).exists():
            initial = load_arrays(self.folder / INITIAL)
            self.strategy.load_whole_state({k: torch.from_numpy(v) for k, v in initial.items()})

    def _restore_numbers(self, stored: Stored) -> None:
        at, run = self.at, stored.run
        at.epoch, at.step, at.steps = run["epoch"], run["step"], run["steps"]
        at.weight_sum, at.history = run["weight_sum"], run["history"]
        self.stopping.best_epoch, self.stopping.best_loss = run["best_epoch"], run["best_loss"]
        self.global_rows = run["global_rows"]
        if self.stepper.average is not None:
            self.stepper.average.steps = run["averaged_steps"]
        if run["scaler"]:
            self.stepper.scaler.load_state_dict(run["scaler"])
        if (stored.ranks, run["shares"]) == (self.place.ranks, self.strategy.shares):
            at.loss_sum.fill_(stored.own(self.place.rank)["loss_sum"])
        elif self.place.rank == 0:
            at.loss_sum.fill_(sum(stored.own(rank)["loss_sum"] for rank in range(stored.ranks)))

    def _write_digest(self) -> None:
        at = self.at
        numbers = {
            "steps": at.steps,
            "epoch": at.epoch,
            "step": at.step,
            "loss_sum": float(at.loss_sum),
            "scale": self.stepper.scaler.get_scale(),
        }
        write_digest(self.folder, self.place.rank, self.state, self.place.device, numbers)

    def _write_result(self) -> None:
        if not self.state.best:  # every validation loss was not a number
            with averaged(self.stepper.average):
                self.state.remember_best()
        self.state.put_best()
        outputs, whole = self.judge.outputs(), self.strategy.whole_state()
        if self.place.rank:
            return
        result = RankResult(
            {name: tensor.float().numpy() for name, tensor in whole.items()},
            outputs,
            self.at.history,
            self.stopping.best_epoch,
            self.place.ranks,
            self.place.device.type,
            str(self.place.dtype).removeprefix("torch."),
        )
        write_result(self.folder, result)
