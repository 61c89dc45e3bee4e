"""What is not answered, and the reason that is given."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.records import FeatureRows
from serving.http.options import Limits, ServeOptions, read_token
from serving.http.service import Service
from serving.pipeline import Pipeline
from streams.errors import ConfigurationError, StateError
from streams.settings import Settings
from streams.wire import Registered
from tests.serving.http.shop import (
    NOWHERE,
    asking,
    given,
    live,
    new_pipeline,
    registered,
    service_of,
    stored,
)
from training.networks.declared import Transformer
from training.spec import Model

JSON = {"content-type": "application/json"}
TOKEN = "a-token-of-the-tests"  # noqa: S105
SMALL = Limits(body_bytes=2_000, batch_rows=3, concurrent=2, timeout_s=0.3)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def options(token: str | None = None, limits: Limits = SMALL) -> ServeOptions:
    return ServeOptions(token=token, limits=limits, logging="off", access_log=False)


def shop_service(home: Path, token: str | None = None, **more: Any) -> Service:
    pipeline = new_pipeline()
    service = service_of(pipeline, home, registered(3), live(3), options=options(token), **more)
    stored(service.store, pipeline, {"a": given()})
    return service


def row(**changed: Any) -> bytes:
    return json.dumps({"entity": "a", "features": given(**changed)}).encode()


REFUSED: list[tuple[str, bytes, int, str, str]] = [
    ("torn", b'{"entity": "a', 400, "malformed", "no JSON"),
    ("empty", b"", 400, "malformed", "no JSON"),
    ("no UTF-8", b'{"entity": "\xff"}', 400, "malformed", "no JSON"),
    ("NaN", row().replace(b"12.5", b"NaN"), 400, "malformed", "null is a missing value"),
    ("infinity", row().replace(b"12.5", b"-Infinity"), 400, "malformed", "null is a missing"),
    ("NaN as text", row(amount="NaN"), 422, "invalid", "$.features.amount"),
    ("too large a number", row().replace(b"12.5", b"1e999"), 422, "invalid", "$.features.amount"),
    ("text for number", row(amount="1"), 422, "invalid", "$.features.amount"),
    ("number for text", row(channel=1), 422, "invalid", "$.features.channel"),
    ("truth for number", row(amount=True), 422, "invalid", "$.features.amount"),
    ("unknown feature", row(amuont=1), 422, "invalid", "amuont"),
    ("lacking feature", b'{"entity":"a","features":{"hour":"1"}}', 422, "invalid", "channel"),
    ("unknown field", b'{"entity":"a","x":1}', 422, "invalid", "`x`"),
    ("no entity", b"{}", 422, "invalid", "entity"),
    ("empty entity", b'{"entity":""}', 422, "invalid", "$.entity"),
    ("no rows", b"[]", 422, "invalid", ">= 1"),
    ("too many rows", b"[" + b",".join([b'{"entity":"a"}'] * 4) + b"]", 422, "invalid", "<= 3"),
    ("the third row", b'[{"entity":"a"},{"entity":"a"},{"entity":1}]', 422, "invalid", "$[2]"),
    ("half a millisecond", b'{"entity":"a","at_ms":1.5}', 422, "invalid", "$.at_ms"),
    ("far time", b'{"entity":"a","at_ms":999999999999999}', 422, "invalid", "$.at_ms"),
    ("both", row().replace(b"{", b'{"at_ms":1,', 1), 422, "invalid", "leave one of them out"),
    ("half an event", b'{"entity":"a","event":{}}', 422, "invalid", "amount"),
    ("no such channel", b'{"entity":"a","event":{"amount":1,"channel":"x"}}', 422, "invalid",
     "$.event.channel"),
    ("negative", b'{"entity":"a","event":{"amount":-1}}', 422, "invalid", "$.event.amount"),
    ("unknown entity", b'[{"entity":"a"},{"entity":"zz"}]', 404, "unknown-entity", "$[1].entity"),
    ("too large", b" " * 2_001, 413, "too-large", "2,000 bytes"),
]  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "status", "kind", "why"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
async def test_it_says_what_where_and_why(
    tmp_path: Path, body: bytes, status: int, kind: str, why: str
) -> None:
    async with asking(shop_service(tmp_path)) as client:
        answer = await client.post("/v1/predict", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["type"] == f"urn:kappa:problem:{kind}"
    assert said["status"] == status
    assert said["request_id"] == answer.headers["x-request-id"]
    assert why in said["detail"]


@pytest.mark.anyio
async def test_a_body_without_a_length_is_measured(tmp_path: Path) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    async with asking(shop_service(tmp_path)) as client:
        answer = await client.post("/v1/predict", content=parts(), headers=JSON)
    assert answer.status_code == 413


@pytest.mark.anyio
async def test_a_form_of_a_foreign_page_is_refused(tmp_path: Path) -> None:
    async with asking(shop_service(tmp_path)) as client:
        answer = await client.post(
            "/v1/predict", content=row(), headers={"content-type": "text/plain"}
        )
        assert (answer.status_code, answer.json()["type"][-10:]) == (415, "media-type")
        for host, status in (("evil.example", 421), ("localhost:8080", 200), ("[::1]:1", 200)):
            answer = await client.get("/v1/models", headers={"host": host})
            assert answer.status_code == status, host


@pytest.mark.anyio
async def test_a_token_is_wanted_everywhere_but_by_probes(tmp_path: Path) -> None:
    async with asking(shop_service(tmp_path, TOKEN)) as client:
        for path in ("/v1/models", "/v1/features/a", "/metrics", "/openapi.json", "/nope"):
            for header in ("", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer"):
                answer = await client.get(path, headers={"authorization": header})
                assert answer.status_code == 401, (path, header)
                assert answer.headers["www-authenticate"] == "Bearer"
            answer = await client.get(path, headers={"authorization": f"bearer {TOKEN}"})
            assert answer.status_code in (200, 404), path
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).status_code == 200


@pytest.mark.anyio
async def test_too_slow_is_503_and_too_many_429(tmp_path: Path) -> None:
    go = threading.Event()

    def load(_: Registered) -> Any:
        def wait(rows: FeatureRows) -> Any:
            go.wait(30)
            return np.full(len(rows), 0.5)

        return wait

    service = shop_service(tmp_path, loader=load)
    async with asking(service) as client:
        try:
            asked = [client.post("/v1/predict", content=row(), headers=JSON) for _ in range(5)]
            answers = await asyncio.gather(*asked)
            # The process itself goes on answering meanwhile.
            assert (await client.get("/healthz")).status_code == 200
        finally:
            go.set()
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [429, 429, 429, 503, 503]
        for answer in answers:
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["type"].endswith(("too-many", "timeout"))
        answer = await client.post("/v1/predict", content=row(), headers=JSON)
        assert answer.status_code == 200


@pytest.mark.anyio
async def test_a_store_that_fails_is_503_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = shop_service(tmp_path)

    def fail(*_: object) -> None:
        raise StateError("the disk is gone")

    monkeypatch.setattr(service.store, "read", fail)
    monkeypatch.setattr(service.store, "newest_ms", fail)
    async with asking(service) as client:
        answer = await client.post("/v1/predict", json={"entity": "a"})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:kappa:problem:store")
        answer = await client.post("/v1/predict", content=row(), headers=JSON)
        assert answer.status_code == 200  # given features need no store
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["problems"] == ["the disk is gone"]


@pytest.mark.anyio
async def test_a_model_that_fails_is_500_and_the_next_request_is_answered(tmp_path: Path) -> None:
    def load(_: Registered) -> Any:
        return lambda rows: np.full(len(rows), 0.5 if rows.numeric[0, 0] < 100 else 7.0)

    async with asking(shop_service(tmp_path, loader=load)) as client:
        answer = await client.post("/v1/predict", content=row(amount=200), headers=JSON)
        assert (answer.status_code, answer.json()["type"]) == (500, "urn:kappa:problem:failed")
        answer = await client.post("/v1/predict", content=row(), headers=JSON)
        assert answer.status_code == 200


def test_off_this_machine_there_is_no_service_without_a_token() -> None:
    for host in ("0.0.0.0", "192.168.1.1", "::", "example.org"):  # noqa: S104
        with pytest.raises(ConfigurationError, match="KAPPA_SERVE_TOKEN_FILE"):
            ServeOptions(host)
        assert ServeOptions(host, token=TOKEN).token == TOKEN
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert ServeOptions(host).token is None
    assert TOKEN not in repr(ServeOptions("::", token=TOKEN))


def test_a_token_comes_from_a_file_or_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("A_TOKEN", TOKEN)
    monkeypatch.setenv("NO_TOKEN", "")
    assert read_token(file, None) == read_token(None, "A_TOKEN") == TOKEN
    assert read_token(None, None) is None
    with pytest.raises(ConfigurationError, match="name one"):
        read_token(file, "A_TOKEN")
    with pytest.raises(ConfigurationError, match="NO_TOKEN holds no token"):
        read_token(None, "NO_TOKEN")
    with pytest.raises(ConfigurationError, match="can't be read"):
        read_token(tmp_path / "nope", None)
    file.write_text("two words")
    with pytest.raises(ConfigurationError, match="holds no token"):
        read_token(file, None)
    with pytest.raises(ConfigurationError, match="16 at least"):
        ServeOptions(token="short")  # noqa: S106


def test_a_network_that_sees_histories_is_refused_at_start(tmp_path: Path) -> None:
    shop = new_pipeline()
    pipeline = Pipeline(
        name=shop.name, events=shop.events, labels=shop.labels, features=shop.definitions,
        model=Model(prior=0.1, network=Transformer(20)),
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="last 20 events"):
        Service(pipeline, NOWHERE, tmp_path, Settings(), options())
