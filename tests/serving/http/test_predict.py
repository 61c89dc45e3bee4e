"""What is answered: by entity and with given features, one row and many, by whom."""

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from features.store.reader import OnlineReader
from serving.http.service import Service
from streams.assignment import versions_of
from streams.wire import Arm, Registered, Routing, StageChanged
from tests.serving.http.shop import (
    DEFINITION,
    HOUR_MS,
    NOW_MS,
    V2,
    asking,
    given,
    live,
    new_pipeline,
    package,
    registered,
    service_of,
    stored,
)
from training.package import load_package

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ask(client: httpx.AsyncClient, body: Any, status: int = 200) -> dict[str, Any]:
    answer = await client.post("/v1/predict", json=body)
    assert answer.status_code == status, answer.text
    said: dict[str, Any] = answer.json()
    return said


def shop_service(home: Path, *events: Any) -> Service:
    pipeline = new_pipeline()
    service = service_of(pipeline, home, *(events or (registered(3), live(3))))
    stored(service.store, pipeline, {"a": given(above=1.25), "b": given(amount_1d=5.0)})
    return service


async def test_an_answer_says_what_it_stands_on(tmp_path: Path) -> None:
    async with asking(shop_service(tmp_path)) as client:
        said = await ask(client, {"entity": "a", "event_id": "e1"})
    (answer,) = said["predictions"]
    assert answer["score"] == pytest.approx(0.03 + 12.5e-6)
    assert (answer["model_version"], answer["stage"], answer["definition"]) == (3, "live", 1)
    assert (answer["entity"], answer["event_id"], answer["origin"]) == ("a", "e1", "store")
    assert answer["request_id"] == said["request_id"]
    assert said["asked_ms"] == said["answered_ms"] == NOW_MS
    (row,) = answer["stored"]
    assert row["event_time_ms"] == NOW_MS - HOUR_MS
    assert row["age_ms"] == HOUR_MS
    assert not row["expired"]
    assert list(answer["features"]) == list(DEFINITION.features)


async def test_what_the_request_tells_is_computed_from_it(tmp_path: Path) -> None:
    service = shop_service(tmp_path)
    reader = OnlineReader(
        tmp_path, DEFINITION, service.pipeline.events, project=service.pipeline.name
    )
    event = {"amount": 7.5, "channel": "web"}
    async with asking(service) as client:
        row = {"entity": "b", "event": event, "at_ms": NOW_MS + 5 * HOUR_MS}
        (answer,) = (await ask(client, row))["predictions"]
        expected = reader.read(["b"], event, NOW_MS + 5 * HOUR_MS)
        assert answer["features"] == expected
        assert answer["features"]["hour"] == "15"
        assert answer["features"]["above"] == 1.5
        # Without an event the hour is that of now, and the rest that of the newest event.
        (answer,) = (await ask(client, {"entity": "b"}))["predictions"]
        assert answer["features"]["hour"] == "10"
        assert answer["features"]["channel"] == "web"
    reader.close()


async def test_what_has_expired_is_missing(tmp_path: Path) -> None:
    async with asking(shop_service(tmp_path)) as client:
        late = NOW_MS + 48 * HOUR_MS
        (answer,) = (await ask(client, {"entity": "a", "at_ms": late}))["predictions"]
    assert answer["stored"][0]["expired"]
    assert answer["features"]["sales_1d"] is None
    assert answer["features"]["above"] is None
    assert answer["features"]["hour"] == "10"


async def test_a_batch_is_answered_in_its_order(tmp_path: Path) -> None:
    rows = [
        {"entity": "b"}, {"entity": "x", "features": given(amount=1.0)}, {"entity": "a"},
        {"entity": "x", "features": given(amount=2.0, above=9.0)},
    ]  # fmt: skip
    async with asking(shop_service(tmp_path)) as client:
        said = await ask(client, rows)
        alone = [(await ask(client, row))["predictions"][0] for row in rows]
    answers = said["predictions"]
    assert [answer["entity"] for answer in answers] == ["b", "x", "a", "x"]
    assert [a["score"] for a in answers] == [a["score"] for a in alone]
    assert [a["origin"] for a in answers] == ["store", "given", "store", "given"]
    # A combination that is left out is made of the others; one that is given is what is given.
    assert [a["features"]["above"] for a in answers[1::2]] == [0.1, 9.0]
    ids = [answer["request_id"] for answer in answers]
    assert ids == [f"{said['request_id']}/{i}" for i in range(4)]


async def test_a_packaged_model_answers_the_same_in_any_company(tmp_path: Path) -> None:
    digest = package(tmp_path / "m")
    loaded = load_package(str(tmp_path / "m"), digest)

    def load(_: Registered) -> Any:
        return loaded.answers

    pipeline = new_pipeline()
    service = service_of(pipeline, tmp_path, registered(1), live(1), loader=load)
    random = np.random.default_rng(1)
    rows = [
        {"entity": f"e{i}", "features": given(amount=float(random.gamma(2, 10)), amount_1d=None)}
        for i in range(300)
    ]
    async with asking(service) as client:
        together = (await ask(client, rows))["predictions"]
        for i in (0, 17, 299):
            (alone,) = (await ask(client, rows[i]))["predictions"]
            assert alone["score"] == together[i]["score"]
    assert len({answer["score"] for answer in together}) > 250


async def test_arms_take_the_entities_that_the_log_gives_them(tmp_path: Path) -> None:
    canary = StageChanged(4, "canary", "a test", share=0.3, salt="s4")
    service = shop_service(tmp_path, registered(3), live(3), registered(4), canary)
    entities = [f"e{i}" for i in range(400)]
    rows = [{"entity": entity, "features": given()} for entity in entities]
    async with asking(service) as client:
        answers = (await ask(client, rows))["predictions"]
        said = (await client.get("/v1/models")).json()
    routing = Routing(3, "s4", (Arm(4, "canary", 0.3),))
    expected = versions_of(routing, entities).tolist()
    assert [answer["model_version"] for answer in answers] == expected
    assert Counter(expected)[4] > 80
    assert {(a["model_version"], a["stage"]) for a in answers} == {(3, "live"), (4, "canary")}
    for answer in answers:
        assert answer["score"] == pytest.approx(answer["model_version"] / 100 + 12.5e-6)
    assert said["arms"] == [{"version": 4, "stage": "canary", "share": 0.3}]
    assert said["salt"] == "s4"


async def test_without_a_model_the_prior_answers(tmp_path: Path) -> None:
    async with asking(service_of(new_pipeline(), tmp_path)) as client:
        (answer,) = (await ask(client, {"entity": "x", "features": given()}))["predictions"]
    assert (answer["model_version"], answer["score"]) == (0, 0.25)


async def test_features_of_an_entity(tmp_path: Path) -> None:
    service = service_of(new_pipeline(V2), tmp_path)
    stored(service.store, service.pipeline, {"a/b c": given(above=1.25)})
    stored(service.store, service.pipeline, {"a/b c": {"amount": 1.0, "sales_2d": 2.0}},
           definition=V2)  # fmt: skip
    async with asking(service) as client:
        answer = await client.get("/v1/features/a%2Fb%20c")
        (view,) = answer.json()["views"]
        assert view["features"] == given(above=1.25)
        assert (view["key"], view["age_ms"], view["expired"]) == ("shop", HOUR_MS, False)
        answer = await client.get("/v1/features/a%2Fb%20c?view=features_v2&definition=2")
        (view,) = answer.json()["views"]
        assert view["features"] == {"amount": 1.0, "sales_2d": 2.0}
        for query, kind in (("view=nope", "view"), ("definition=9", "definition")):
            answer = await client.get(f"/v1/features/a%2Fb%20c?{query}")
            assert answer.status_code == 404
            assert answer.json()["type"] == f"urn:kappa:problem:unknown-{kind}"
