"""A search for better settings of a model: trials on one reading of the log, judged later in time.

The examples are read once and split by time: training slice, a slice that trials are judged by
(their early stopping, calibration and loss), and a last slice that no trial sees. What is declared
is the first trial. At the end the best trial and the declared model answer the last slice, and the
difference is told with its interval: the loss by which the best was chosen flatters it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from streams.errors import TrainingError
from training.dataset.prepared import Examples, PreparedData
from training.dataset.reading import TrainingData
from training.loop.launch import Check, EpochReport, Launcher, go_on
from training.networks.declared import Network
from training.retraining.comparison import MINIMUM, Comparison, compare
from training.retraining.contest import losses_of
from training.retraining.fit import discard, fit
from training.retraining.job import TrainingJob
from training.retraining.study import Asked, Study, Tried

POLL_S = 0.1


@dataclass(frozen=True)
class Found:
    """What a search came to.

    ``comparison`` is the best trial against the declared model on the slice that no trial saw,
    whose ``champion`` 0 stands for the declared model; of ``examples`` (training, judging, last).
    """

    trials: list[Tried]
    best: Tried
    comparison: Comparison
    examples: tuple[int, int, int]


class _GivenUpError(Exception):
    """Raised inside a trial that is given up."""


class _StoppedError(Exception):
    """Raised inside a trial whose search ends early."""


def search(
    job: TrainingJob,
    data: TrainingData,
    study: Study,
    launchers: Sequence[Launcher],
    most: int,
    tell: Callable[[Tried], None] = lambda _: None,
    more: Callable[[], bool] = lambda: True,
) -> Found:
    """Try settings until the study has ``most`` trials, and return what was found.

    Args:
        job: what would be trained; its model is the declared one.
        data: what it would learn from.
        study: the trials so far.
        launchers: one per trial at a time.
        most: how many trials the study shall have.
        tell: is told of each trial that ends.
        more: whether further trials may begin; those under way go on to their end.

    Raises:
        TrainingError: what is declared can't be trained, or there are too few later examples.
    """
    prepared, last = split_last(data.prepared)
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise _StoppedError

    free = list(launchers)
    with ThreadPoolExecutor(len(launchers), thread_name_prefix="trial") as threads:
        running = {}
        try:
            while True:
                while free and more() and (asked := study.ask(most)) is not None:
                    launch = free.pop()
                    trial = _Trial(job, data, prepared, study, asked, launch, check)
                    running[threads.submit(trial)] = launch
                if not running:
                    break
                for future in wait(running, POLL_S, FIRST_COMPLETED).done:
                    free.append(running.pop(future))
                    tell(future.result())
        finally:
            stop.set()
    return _found(study, job.model.network, prepared, last)


@dataclass(frozen=True)
class _Trial:
    """One trial, run by calling it; also the launcher that watches the epochs."""

    job: TrainingJob
    data: TrainingData
    prepared: PreparedData
    study: Study
    asked: Asked
    launch: Launcher
    check: Check

    def __call__(self) -> Tried:
        asked, study = self.asked, self.study
        folder = study.folder / f"running-{asked.place}"
        discard(folder)  # of a trial that died
        try:
            fitted = fit(
                self.prepared, asked.model, self.job.training, folder, self.job.ranks,
                check=self.check, launch=self._watched,
            )  # fmt: skip
        except _GivenUpError:
            return study.give_up(asked)
        except TrainingError as error:
            if asked.place == 0:
                raise  # what is declared can't be trained, so nothing will be better
            return study.give_up(asked, str(error))
        finally:
            discard(folder)
        package = study.folder / f"model-{asked.place}"
        fitted.save(package, self.data.manifest)
        return study.finish(asked, fitted.metrics["log_loss"], package)

    def _watched(
        self, folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on
    ) -> None:
        """Launch the ranks, and end them where the trial is to be given up."""

        def told(line: dict[str, float]) -> None:
            on_epoch(line)
            if self.study.report(self.asked, int(line["epoch"]), line["validation_loss"]):
                raise _GivenUpError

        self.launch(folder, ranks, told, check)


def split_last(prepared: PreparedData) -> tuple[PreparedData, Examples]:
    """Return the data with the earlier half of the validation slice, and the later half.

    Events of one time stay together. Raises TrainingError where a half is too small.
    """
    slice_ = prepared.validation
    times = slice_.event_times_ms
    at = int(times.searchsorted(times[len(times) // 2], "left"))
    if min(at, len(slice_) - at) < MINIMUM:
        raise TrainingError(
            f"{len(slice_):,} examples of the validation slice are too few to judge trials by one "
            f"half and the best by the other, {MINIMUM} each: search later, on a longer window, or "
            "raise Training.validation"
        )
    judging = replace(prepared, validation=slice_.some(slice(0, at)))
    return judging, slice_.some(slice(at, len(slice_)))


def _found(study: Study, network: Network, prepared: PreparedData, last: Examples) -> Found:
    trials = study.trials()
    done = [trial for trial in trials if trial.loss is not None and trial.package is not None]
    if not done:
        raise TrainingError("no trial ran to its end: allow the search more time")
    best = min(done, key=lambda trial: (trial.loss, trial.place))
    declared, chosen = (
        losses_of(str(tried.package), None, network, prepared, last) for tried in (done[0], best)
    )
    scores = {name: (declared[name], chosen[name]) for name in declared}
    comparison = compare(0, scores, last.event_times_ms)
    return Found(
        trials, best, comparison, (len(prepared.train), len(prepared.validation), len(last))
    )
