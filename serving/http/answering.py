"""From rows that were asked for to answers: features, the version that answers, its score.

One thread answers, and takes all requests that wait at once: a forward pass costs nearly the same
for one row as for many, and the loop that speaks HTTP stays free whatever the store or a model
does.
"""

from __future__ import annotations

import threading
import time
import traceback
from asyncio import AbstractEventLoop, Future
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Literal

import msgspec
import structlog

from features.store.online_rows import Found, Stored
from serving.http.contract import AskedRow, PredictionAnswer, StoredRow
from serving.http.featuring import Rows, feature_rows, scored
from serving.http.live_models import Live
from serving.http.metrics import Metrics
from serving.http.problems import LISTED, RETRY, Place, ProblemError
from streams.assignment import versions_of
from streams.errors import StateError
from training.answers import Answers
from training.networks.tasks import MultiClass, Task

ROWS_TOGETHER = 1_024
"""Rows that are answered together at most, but for a request that holds more by itself."""

Done = Callable[[str | None], None]
Log = Callable[["Job", list[PredictionAnswer], Done | None], None]
"""Keeps the answers of a job; ``done`` is told once: None, or why they could not be kept."""

_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """The rows of one request; ``live`` is who answered when it came, ``is_array`` their form."""

    request_id: str
    rows: Sequence[AskedRow]
    is_array: bool
    asked_ms: int
    live: Live

    def id_of(self, row: int) -> str:
        """Return the id of one row, by which a label can find its answer."""
        return f"{self.request_id}/{row}" if self.is_array else self.request_id


class Answering:
    """Answers jobs; its thread calls back into the loop with the answers or the problem.

    Args:
        rows: definition → what makes its features.
        task: what the models answer.
        metrics: where figures go.
        log: keeps what was answered.
        log_first: whether a request is answered only when its answers are kept.
    """

    def __init__(
        self,
        rows: Mapping[int, Rows],
        task: Task,
        metrics: Metrics,
        log: Log,
        log_first: bool = False,
    ) -> None:
        self._rows, self._task, self._metrics = rows, task, metrics
        self._log, self._log_first = log, log_first
        self._queue: SimpleQueue[tuple[Job, Future[Any], AbstractEventLoop] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="answering", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer what waits, and stop."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, job: Job, loop: AbstractEventLoop) -> Future[list[PredictionAnswer]]:
        """Return the future answers; it holds a :class:`ProblemError` where there are none."""
        future: Future[list[PredictionAnswer]] = loop.create_future()
        self._queue.put((job, future, loop))
        return future

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            taken, rows = [first], len(first[0].rows)
            ends = False
            while rows < ROWS_TOGETHER:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    ends = True
                    break
                taken.append(more)
                rows += len(more[0].rows)
            wanted = [entry for entry in taken if not entry[1].done()]
            if wanted:
                self._answer(wanted)
            if ends:
                return

    def _answer(self, taken: list[tuple[Job, Future[Any], AbstractEventLoop]]) -> None:
        try:
            outcomes = self.answer([job for job, _, _ in taken])
        except Exception as error:  # a fault of ours ends the requests at hand, not the service
            _LOG.error("answering failed", trace=traceback.format_exc())
            outcomes = [
                ProblemError(500, "failed", f"answering failed: {type(error).__name__}")
            ] * len(taken)
        settled, to_log = [], []
        for (job, future, loop), outcome in zip(taken, outcomes, strict=True):
            if not isinstance(outcome, ProblemError):
                to_log.append((job, outcome, _settler(loop, future, outcome)))
                if self._log_first:
                    continue
            settled.append((future, outcome))
        if settled:  # all of them in one call: each wakes the loop up
            _call(taken[0][2], _settle, settled)
        for job, answers, done in to_log:
            self._log(job, answers, done if self._log_first else None)

    def answer(self, jobs: Sequence[Job]) -> list[list[PredictionAnswer] | ProblemError]:
        """Return what each job comes to; those of one state of the log are answered together."""
        self._metrics.together.observe(sum(len(job.rows) for job in jobs))
        outcomes: list[list[PredictionAnswer] | ProblemError | None] = [None] * len(jobs)
        states: dict[int, list[int]] = {}
        for i, job in enumerate(jobs):
            states.setdefault(id(job.live), []).append(i)
        for places in states.values():
            made = self._answer_in([jobs[i] for i in places])
            for i, outcome in zip(places, made, strict=True):
                outcomes[i] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def _answer_in(self, jobs: Sequence[Job]) -> list[list[PredictionAnswer] | ProblemError]:
        """Answer jobs of one state of the log."""
        live = jobs[0].live
        made: list[_Made | ProblemError] = []
        try:
            made = self._features(jobs, self._rows[live.definition])
        except StateError as error:
            _LOG.error("online store not read", error=str(error))
            problem = ProblemError(
                503, "store", "the online store can't be read now; the service's log says why",
                (), RETRY,
            )  # fmt: skip
            return [problem] * len(jobs)
        ready = [entry for entry in made if not isinstance(entry, ProblemError)]
        found = self._predict(live, ready) if ready else []
        answers = iter(found)
        return [entry if isinstance(entry, ProblemError) else next(answers) for entry in made]

    def _features(self, jobs: Sequence[Job], rows: Rows) -> list[_Made | ProblemError]:
        asked = [(job, row) for job in jobs for row in job.rows if row.values is None]
        found: Iterator[Found] = iter(())
        if asked:
            at_ms = [job.asked_ms if row.at_ms is None else row.at_ms for job, row in asked]
            begun = time.perf_counter()
            found = iter(rows.of_store([row for _, row in asked], at_ms))
            self._metrics.store_seconds.observe(time.perf_counter() - begun)
        made: list[_Made | ProblemError] = []
        for job in jobs:
            values: list[dict[str, Any]] = []
            stored: list[list[StoredRow]] = []
            refused: list[Place] = []
            unknown: list[Place] = []
            for i, row in enumerate(job.rows):
                where = f"$[{i}]" if job.is_array else "$"
                if row.values is not None:
                    values.append(rows.of_given(row))
                    stored.append([])
                    continue
                one = next(found)
                values.append(one.values)
                at = job.asked_ms if row.at_ms is None else row.at_ms
                stored.append([_stored_row(s, at) for s in one.stored])
                if one.refused:
                    refused.append(Place(f"{where}.event", one.refused))
                elif not one.stored:
                    unknown.append(Place(f"{where}.entity", "the store has no row of it"))
            if refused:
                made.append(_refused(refused))
            elif unknown:
                made.append(_unknown(unknown))
            else:
                made.append(_Made(job, values, stored))
        return made

    def _predict(self, live: Live, made: Sequence[_Made]) -> list[list[PredictionAnswer]]:
        columns = self._rows[live.definition].columns
        values = [row for entry in made for row in entry.values]
        entities = [row.entity for entry in made for row in entry.job.rows]
        asked = feature_rows(columns, entities, values)
        versions = versions_of(live.routing, entities)
        begun = time.perf_counter()
        answers = scored(live.models, asked, versions, self._task)
        self._metrics.model_seconds.observe(time.perf_counter() - begun)
        probabilities = self._probabilities(answers)
        scores = answers.score.tolist()
        spreads = None if answers.spread is None else answers.spread.tolist()
        stages = {version: live.stage_of(version) for version in live.models}
        counted: Counter[tuple[int, str]] = Counter()
        outcomes, n = [], 0
        for entry in made:
            given: list[PredictionAnswer] = []
            for i, row in enumerate(entry.job.rows):
                version, name = int(versions[n]), entry.job.id_of(i)
                origin: Literal["given", "store"] = "store" if row.values is None else "given"
                answer = PredictionAnswer(
                    name,
                    row.event_id or name,
                    row.entity,
                    scores[n],
                    version,
                    stages[version],
                    live.definition,
                    origin,
                    entry.values[i],
                    entry.stored[i],
                    msgspec.UNSET if probabilities is None else probabilities[n],
                    msgspec.UNSET if spreads is None else spreads[n],
                )
                counted[version, origin] += 1
                given.append(answer)
                n += 1
            outcomes.append(given)
        for (version, origin_of), count in counted.items():
            self._metrics.predictions.labels(version, stages[version], origin_of).inc(count)
        return outcomes

    def _probabilities(self, answers: Answers) -> list[dict[str, float]] | None:
        if answers.probabilities is None or not isinstance(self._task, MultiClass):
            return None
        names = list(map(str, self._task.classes))
        return [dict(zip(names, row, strict=True)) for row in answers.probabilities.tolist()]


@dataclass(frozen=True, slots=True)
class _Made:
    """A job with its rows' features."""

    job: Job
    values: list[dict[str, Any]]
    stored: list[list[StoredRow]]


def _stored_row(stored: Stored, at_ms: int) -> StoredRow:
    return StoredRow(
        stored.view, stored.event_time_ms, at_ms - stored.event_time_ms, stored.ttl_ms,
        stored.expired,
    )  # fmt: skip


def _refused(places: list[Place]) -> ProblemError:
    first = places[0]
    return ProblemError(
        422, "invalid", f"{first.where} can't be used: {first.why}", places[:LISTED]
    )


def _unknown(places: list[Place]) -> ProblemError:
    named = ", ".join(place.where for place in places[:LISTED])
    return ProblemError(
        404,
        "unknown-entity",
        f"{len(places)} of the entities are not in the online store ({named}): no event of theirs "
        "has passed the feature workers; give their features by `features`, or leave them out",
        places[:LISTED],
    )


def _settler(
    loop: AbstractEventLoop, future: Future[Any], outcome: list[PredictionAnswer]
) -> Callable[[str | None], None]:
    def done(why: str | None) -> None:
        result = outcome if why is None else _not_logged(why)
        _call(loop, _settle, [(future, result)])

    return done


def _not_logged(why: str) -> ProblemError:
    return ProblemError(
        503, "not-logged", f"the answer could not be kept in the log, as is required: {why}",
        (), RETRY,
    )  # fmt: skip


def _settle(settled: Sequence[tuple[Future[Any], Any]]) -> None:
    """Give futures what they wait for; in the loop."""
    for future, outcome in settled:
        if future.done():
            continue
        if isinstance(outcome, ProblemError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _call(loop: AbstractEventLoop, function: Callable[..., None], argument: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, argument)
    except RuntimeError:  # the loop has been closed: nobody waits any more
        _LOG.debug("an answer came after the end")
