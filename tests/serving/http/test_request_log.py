"""Answers are kept in the requests' topic; what the broker does not take is counted and told."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from serving.http.metrics import Metrics
from serving.http.options import Limits, Logging, ServeOptions
from serving.http.request_log import RequestLog
from serving.http.service import Service
from serving.inference.loading import Loaded
from streams.byte_columns import ByteColumn
from streams.clock import ManualClock
from streams.partitioning import partitions_of
from streams.replay import offset_bounds, read_ranges
from streams.settings import Settings
from streams.topics import ensure_topics
from streams.wire import Request
from tests.serving.http.shop import (
    NOW_MS,
    NOWHERE,
    asking,
    given,
    live,
    load,
    new_pipeline,
    registered,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "not within 60 s"
        time.sleep(0.02)


def answer(number: int, entity: str = "a") -> Request:
    return Request(
        f"r{number}", f"e{number}", entity, 0.5, 1, "live", 1, NOW_MS, NOW_MS + 1, "given", {}
    )


def service_at(bootstrap: str, home: Path, logging: Logging, **limits: float) -> Service:
    pipeline = new_pipeline()
    options = ServeOptions(limits=Limits(**limits), logging=logging, access_log=False)  # type: ignore[arg-type]
    service = Service(
        pipeline, bootstrap, home, Settings(), options, Loaded(load), ManualClock(NOW_MS)
    )
    service.models.follow([registered(3), live(3)])
    return service


@pytest.mark.anyio
@pytest.mark.broker
async def test_every_answer_is_kept_under_its_entity(bootstrap: str, tmp_path: Path) -> None:
    service = service_at(bootstrap, tmp_path, "required")
    pipeline, topic = service.pipeline, service.pipeline.topics.requests
    ensure_topics(bootstrap, pipeline.topic_specs)
    service.log.start()
    entities = [f"shop{i}" for i in range(20)]
    async with asking(service) as client:
        rows = [{"entity": e, "event_id": f"id-{e}", "features": given()} for e in entities]
        said = (await client.post("/v1/predict", json=rows)).json()
        alone = await client.post("/v1/predict", json={"entity": "x", "features": given()})
    service.log.close()
    found: list[tuple[int, Request]] = []
    bounds = offset_bounds(bootstrap, topic, pipeline.events.partitions)
    for batch in read_ranges(bootstrap, topic, bounds):
        found += [
            (batch.partition, msgspec.json.decode(value, type=Request))
            for value in batch.values
            if value is not None
        ]
    assert len(found) == 21
    for partition, kept in found:
        key = ByteColumn.of([kept.entity.encode()])
        assert partition == partitions_of(key, pipeline.events.partitions)[0]
    by_entity = {kept.entity: kept for _, kept in found}
    for given_answer in said["predictions"]:
        kept = by_entity[given_answer["entity"]]
        assert kept.event_id == f"id-{kept.entity}"
        assert kept.request_id == given_answer["request_id"]
        assert (kept.score, kept.features) == (given_answer["score"], given_answer["features"])
        assert (kept.model_version, kept.stage, kept.origin) == (3, "live", "given")
        assert (kept.asked_ms, kept.answered_ms) == (NOW_MS, NOW_MS)
    kept = by_entity["x"]
    assert kept.event_id == kept.request_id == alone.json()["request_id"]
    assert service.metrics.registry.get_sample_value(
        "kappa_http_log_records_total", {"result": "delivered"}
    ) == 21  # fmt: skip


@pytest.mark.anyio
async def test_without_a_broker_answers_go_on_and_it_is_told(tmp_path: Path) -> None:
    service = service_at(NOWHERE, tmp_path, "best-effort")
    service.log.start()
    row = {"entity": "x", "features": given()}
    async with asking(service) as client:
        assert (await client.post("/v1/predict", json=row)).status_code == 200
        wait_until(lambda: service.log.degraded is not None)
        assert (await client.post("/v1/predict", json=row)).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert "answers are not kept" in ready.json()["degraded"][0]
    service.log.close(flush_s=0)


@pytest.mark.anyio
async def test_where_the_log_is_required_nothing_is_answered_without_it(tmp_path: Path) -> None:
    service = service_at(NOWHERE, tmp_path, "required", timeout_s=20)
    service.log = RequestLog(
        NOWHERE, "t.requests.v1", "/t", "required", service.metrics, delivery_s=0.5
    )
    service.log.start()
    async with asking(service) as client:
        answer = await client.post("/v1/predict", json={"entity": "x", "features": given()})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:kappa:problem:not-logged")
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert "answers are not kept" in ready.json()["problems"][0]
    service.log.close(flush_s=0)


def test_a_full_queue_drops_and_counts() -> None:
    metrics = Metrics()
    log = RequestLog(NOWHERE, "t.requests.v1", "/t", "best-effort", metrics, queue_records=5)
    log.append([answer(number) for number in range(8)])
    dropped = {"result": "queue_full"}
    assert metrics.registry.get_sample_value("kappa_http_log_records_total", dropped) == 3
    assert log.lost == 3
    assert log.degraded is not None
    log.close(flush_s=0)


@pytest.mark.broker
def test_it_is_well_again_once_the_broker_takes_records(bootstrap: str) -> None:
    topic = new_pipeline().topics
    ensure_topics(bootstrap, topic.specs(2))
    log = RequestLog(bootstrap, topic.requests, "/t", "best-effort", Metrics(), queue_records=5)
    log.append([answer(number) for number in range(8)])
    assert log.degraded is not None
    log.start()
    wait_until(lambda: log.degraded is None)
    heard = threading.Event()
    whys: list[str | None] = []
    log.append([answer(9)], lambda why: (whys.append(why), heard.set())[1])  # type: ignore[func-returns-value]
    assert heard.wait(60)
    assert whys == [None]
    log.close()
