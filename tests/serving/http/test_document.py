"""The OpenAPI document says what the service does: schemathesis asks and finds nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from serving.http.options import ServeOptions
from tests.serving.http.shop import (
    V2,
    asking,
    given,
    listening,
    live,
    new_pipeline,
    registered,
    service_of,
    stored,
)

EXAMPLES = int(os.environ.get("KAPPA_TEST_SCHEMATHESIS", "10"))
"""Made-up requests per operation; 500 is the long run."""

ANSWERED = 'route="/v1/predict",status="200"'
TOKEN = "a-token-of-the-tests"  # noqa: S105


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    pipeline = new_pipeline()
    options = ServeOptions(token=TOKEN, logging="off", access_log=False)
    service = service_of(pipeline, tmp_path, registered(3), live(3), options=options)
    # Names that are made up easily, so that some entities are known.
    stored(service.store, pipeline, {"0": given(), "00": given(hour=None)})
    with listening(service) as address:
        for seed in ("6", "7", "8"):  # what it makes up depends on what was answered in time
            done = subprocess.run(
                [
                    str(Path(sys.executable).with_name("schemathesis")), "run",
                    f"{address}/openapi.json", "--max-examples", str(EXAMPLES), "--no-color",
                    "--seed", seed, "--header", f"Authorization: Bearer {TOKEN}",
                    "--generation-database", "none",
                ],
                cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            figures = httpx.get(f"{address}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
            if ANSWERED in figures.text:
                break
    # It has not asked in vain: rows were answered from the store, and given.
    assert ANSWERED in figures.text
    assert 'status="422"' in figures.text
    # On a busy machine a request may be too late, which is said (503); nothing else goes wrong.
    assert set(re.findall(r'status="(5..)"', figures.text)) <= {"503"}


@pytest.mark.anyio
async def test_each_feature_is_named_with_its_type(tmp_path: Path) -> None:
    service = service_of(new_pipeline(V2), tmp_path)
    async with asking(service) as client:
        said = (await client.get("/openapi.json")).json()
    features = said["components"]["schemas"]["FeaturesV1"]
    assert features["required"] == ["hour", "channel", "amount", "sales_1d", "amount_1d"]
    number = features["properties"]["sales_1d"]["anyOf"]
    assert {kind["type"] for kind in number} == {"number", "null"}
    assert features["additionalProperties"] is False
    assert "sales_2d" in said["components"]["schemas"]["FeaturesV2"]["properties"]
    event = said["components"]["schemas"]["EventV1"]
    assert event["required"] == ["amount"]
    assert event["properties"]["channel"]["enum"] == ["till", "web"]
    assert "security" not in said


@pytest.mark.anyio
async def test_no_page_loads_from_elsewhere(tmp_path: Path) -> None:
    async with asking(service_of(new_pipeline(), tmp_path)) as client:
        for path in ("/docs", "/redoc"):
            assert (await client.get(path)).status_code == 404
        policy = (await client.get("/openapi.json")).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
