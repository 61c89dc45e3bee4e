"""The parts of the service: models, features, answers and their log, of one pipeline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from features.store.columnar import open_store
from features.store.rows import entity_keys
from features.store.table import store_folder
from features.store.views import View, stored_name
from serving.http.answering import Answering, Done, Job
from serving.http.contract import Contract, PredictAnswer, PredictionAnswer, StoredRow
from serving.http.featuring import Rows
from serving.http.live_models import Live, LiveModels
from serving.http.metrics import Metrics
from serving.http.options import ServeOptions
from serving.http.problems import ProblemError, not_ready
from serving.http.request_log import RequestLog
from serving.inference.loading import LoadedBeside, Models
from serving.inference.packaged import packaged_models
from serving.pipeline import Pipeline
from streams.clock import Clock, SystemClock
from streams.errors import ConfigurationError, StateError
from streams.settings import Settings
from streams.wire import Request
from training.networks.declared import events_seen, own_networks

STORE_WAIT_S = 2.0
STORE_AGAIN_S = 1.0


class StoredFeatures(msgspec.Struct, frozen=True):
    """What the store has of an entity in one view. ``age_ms`` is counted up to now; an expired row
    counts as missing for a model."""

    view: str
    definition: int
    key: str
    event_time_ms: int
    age_ms: int
    ttl_ms: int | None
    expired: bool
    features: dict[str, float | str | None]


class FeaturesAnswer(msgspec.Struct, frozen=True):
    """The features of an entity."""

    request_id: str
    pipeline: str
    entity: str
    views: list[StoredFeatures]


class Service:
    """Answers requests for one pipeline.

    Args:
        pipeline: what is declared.
        bootstrap: the brokers.
        home: the folder of the pipeline's state.
        settings: which online store.
        options: see :class:`ServeOptions`.
        models: gives the models; packages by default.
        clock: for the times in answers.

    Raises:
        ConfigurationError: the pipeline's network sees histories, which a request does not hold.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        bootstrap: str,
        home: Path,
        settings: Settings,
        options: ServeOptions,
        models: Models | None = None,
        clock: Clock | None = None,
    ) -> None:
        last = events_seen(pipeline.model.network)
        if last:
            raise ConfigurationError(
                f"pipeline {pipeline.name}: its network sees the last {last} events of an entity, "
                "and a request over HTTP holds one: read the answers from "
                f"{pipeline.topics.predictions}, or declare a network that sees one event"
            )
        model = pipeline.model
        loaded = models or LoadedBeside(
            packaged_models(own_networks(model.network), model.task, settings.answer_with)
        )
        self.pipeline, self.options, self.clock = pipeline, options, clock or SystemClock()
        self.metrics = Metrics()
        self.store = open_store(store_folder(home), settings)
        labels, events = pipeline.labels, pipeline.events
        self.contracts = {
            d.version: Contract(d, events, labels, options.limits.batch_rows)
            for d in pipeline.definitions
        }
        self._rows = {
            d.version: Rows(self.store, d, events, labels, pipeline.name)
            for d in pipeline.definitions
        }
        self.models = LiveModels(
            bootstrap, pipeline.topics.models, loaded, list(self.contracts), model.prior, model.task
        )
        self.log = RequestLog(
            bootstrap,
            pipeline.topics.requests,
            f"/{pipeline.name}/serve",
            options.logging,
            self.metrics,
        )
        self.answering = Answering(
            self._rows, model.task, self.metrics, self._keep, options.logging == "required"
        )
        self._store_seen: tuple[float, str | None] = (0.0, None)
        self._encode = msgspec.json.Encoder().encode

    def start(self) -> None:
        """Start the threads."""
        self.models.start()
        self.log.start()
        self.answering.start()

    def close(self) -> None:
        """Answer what was asked, send what the log still lacks, stop."""
        self.answering.close()
        self.models.close()
        self.log.close()
        self.store.close()

    @property
    def live(self) -> Live:
        """Who answers now; raises ProblemError where nobody can."""
        live = self.models.live
        if live is None:
            raise not_ready(self.models.problem or "no model is loaded")
        return live

    async def predict(self, body: bytes, request_id: str) -> bytes:
        """Return the answer to a request's body.

        Raises:
            ProblemError: why there is none.
        """
        asked_ms = self.clock.now_ms()
        live = self.live
        rows, is_array = self.contracts[live.definition].rows(body)
        self.metrics.rows.observe(len(rows))
        job = Job(request_id, rows, is_array, asked_ms, live)
        answers = await self.answering.submit(job, asyncio.get_running_loop())
        return self._encode(
            PredictAnswer(request_id, self.pipeline.name, asked_ms, self.clock.now_ms(), answers)
        )

    def stored(self, entity: str, view: str | None, definition: int | None) -> list[StoredFeatures]:
        """Return what the store has of an entity.

        Raises:
            ProblemError: there is no such view or definition, or nothing of the entity.
        """
        version = self.live.definition if definition is None else definition
        if version not in self._rows:
            declared = ", ".join(map(str, self._rows))
            raise ProblemError(
                404, "unknown-definition", f"definition {version}: the pipeline declares {declared}"
            )
        views = self._rows[version].online.views
        wanted = [v for v in views if v.name == view] if view is not None else views[:1]
        if not wanted:
            names = ", ".join(v.name for v in views)
            raise ProblemError(
                404, "unknown-view",
                f"view {view!r}: definition {version} has {names}",
            )  # fmt: skip
        found = [row for v in wanted if (row := self._stored_in(v, entity, version)) is not None]
        if not found:
            raise ProblemError(
                404,
                "unknown-entity",
                f"the online store has nothing of {entity!r} in {wanted[0].name}: no event of it "
                "has passed the feature worker",
            )
        return found

    def _stored_in(self, view: View, entity: str, version: int) -> StoredFeatures | None:
        name = stored_name(self.pipeline.name, view.name)
        try:
            (found,) = self.store.read(name, entity_keys(view.entity, [entity]))
        except StateError as error:
            raise not_ready(f"the online store can't be read ({type(error).__name__})") from error
        values = None if found is None else view.layout.decode(found[1])
        if found is None or values is None:
            return None
        age_ms = self.clock.now_ms() - found[0]
        expired = view.ttl_ms is not None and age_ms > view.ttl_ms
        ordered = {feature: values[feature] for feature in view.names}
        return StoredFeatures(
            view.name, version, view.entity, found[0], age_ms, view.ttl_ms, expired, ordered
        )

    async def readiness(self) -> tuple[list[str], list[str]]:
        """Return what keeps the service from answering, and what it answers without."""
        problems = [self.models.problem] if self.models.problem else []
        store = await self._store_problem()
        problems += [store] if store else []
        degraded = [f"model {v} set aside: {why}" for v, why in self.models.set_aside.items()]
        if self.log.degraded is not None:
            lost = f"answers are not kept ({self.log.lost:,} lost so far): {self.log.degraded}"
            (problems if self.log.logging == "required" else degraded).append(lost)
        return problems, degraded

    async def _store_problem(self) -> str | None:
        """Return why the store can't be read; asked at most once a second."""
        seen_s, problem = self._store_seen
        if time.monotonic() - seen_s < STORE_AGAIN_S:
            return problem
        live = self.models.live
        version = live.definition if live is not None else next(iter(self._rows))
        name = stored_name(self.pipeline.name, self._rows[version].online.views[0].name)
        try:
            async with asyncio.timeout(STORE_WAIT_S):
                await asyncio.to_thread(self.store.newest_ms, name)
            problem = None
        except TimeoutError:
            problem = f"the online store does not answer within {STORE_WAIT_S:g} s"
        except StateError as error:
            problem = str(error)
        self._store_seen = (time.monotonic(), problem)
        return problem

    def _keep(self, job: Job, answers: Sequence[PredictionAnswer], done: Done | None) -> None:
        """Append the answers to the log."""
        now_ms = self.clock.now_ms()
        records = [_record(answer, job.asked_ms, now_ms) for answer in answers]
        self.log.append(records, done)


def _record(answer: PredictionAnswer, asked_ms: int, answered_ms: int) -> Request:
    return Request(
        answer.request_id,
        answer.event_id,
        answer.entity,
        answer.score,
        answer.model_version,
        answer.stage,
        answer.definition,
        asked_ms,
        answered_ms,
        answer.origin,
        answer.features,
        None if answer.probabilities is msgspec.UNSET else answer.probabilities,
        None if answer.spread is msgspec.UNSET else answer.spread,
    )


ANSWERS: tuple[Any, ...] = (PredictAnswer, PredictionAnswer, StoredRow, FeaturesAnswer)
"""The types of the answers, for the document."""
