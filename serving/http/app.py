"""The service as an ASGI application: FastAPI's routes behind the gate. Imports FastAPI."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from serving.http.document import document
from serving.http.gate import REQUEST_ID, Gate, read_body
from serving.http.problems import MEDIA_TYPE, Place, ProblemError
from serving.http.service import ANSWERS, FeaturesAnswer, Service

JSON = "application/json"

_encode = msgspec.json.Encoder().encode


def make_app(service: Service) -> Gate:
    """Return the application of a service, which starts and closes it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.close)

    app = FastAPI(docs_url=None, redoc_url=None, lifespan=lifespan, redirect_slashes=False)
    pipeline, options = service.pipeline, service.options
    written = document(
        pipeline.name,
        list(service.contracts.values()),
        pipeline.model.task,
        options.limits.batch_rows,
        ANSWERS,
        options.token is not None,
    )
    app.openapi = lambda: written  # type: ignore[method-assign]
    add_problems(app)
    _add_answers(app, service)
    _add_told(app, service)
    return Gate(app, options, service.metrics)


def _add_answers(app: FastAPI, service: Service) -> None:
    """Add what is asked for the pipeline's sake."""
    limit = service.options.limits.body_bytes

    @app.post("/v1/predict")
    async def predict(request: Request) -> Response:
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != JSON:
            raise ProblemError(
                415, "media-type", f"the body is sent as {media or 'nothing'!r}, not as {JSON}"
            )
        body = await read_body(request.receive, limit)
        return Response(await service.predict(body, request.scope[REQUEST_ID]), media_type=JSON)

    @app.get("/v1/features/{entity:path}")
    async def features(
        request: Request,
        entity: Annotated[str, Path(min_length=1, max_length=1024)],
        view: Annotated[str | None, Query()] = None,
        definition: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    ) -> Response:
        found = await asyncio.to_thread(service.stored, entity, view, definition)
        answer = FeaturesAnswer(request.scope[REQUEST_ID], service.pipeline.name, entity, found)
        return Response(_encode(answer), media_type=JSON)

    @app.get("/v1/models")
    async def models() -> Response:
        return Response(_encode(models_answer(service)), media_type=JSON)


def _add_told(app: FastAPI, service: Service) -> None:
    """Add what the service tells of itself."""

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response(b'{"status":"ok"}', media_type=JSON)

    @app.get("/readyz")
    async def readyz() -> Response:
        problems, degraded = await service.readiness()
        live = service.models.live
        status = "not ready" if problems else "degraded" if degraded else "ready"
        said = {
            "status": status,
            "problems": problems,
            "degraded": degraded,
            "definition": None if live is None else live.definition,
            "model_version": None if live is None else live.routing.live,
        }
        return Response(_encode(said), 503 if problems else 200, media_type=JSON)

    @app.get("/metrics")
    async def metrics() -> Response:
        live = service.models.live
        if live is not None:
            service.metrics.model_version.set(live.routing.live)
        text, media = service.metrics.text()
        return Response(text, media_type=media)


def add_problems(app: FastAPI, see: str = "/openapi.json") -> None:
    """Have whatever FastAPI refuses by itself be a problem too; ``see`` says what there is."""

    def told(request: Request, problem: ProblemError) -> Response:
        body = problem.body(request.scope[REQUEST_ID])
        return Response(body, problem.status, dict(problem.headers), MEDIA_TYPE)

    @app.exception_handler(ProblemError)
    async def refused(request: Request, problem: ProblemError) -> Response:
        return told(request, problem)

    @app.exception_handler(Exception)
    async def failed(request: Request, _: Exception) -> Response:  # the gate logs it
        return told(request, ProblemError(500, "failed", "the service's log says why"))

    @app.exception_handler(HTTPException)
    async def not_there(request: Request, error: HTTPException) -> Response:
        why = {404: "there is nothing at this path", 405: "this path does not take this method"}
        detail = f"{why.get(error.status_code, error.detail)}; {see} says what there is"
        kind = "not-found" if error.status_code == 404 else "refused"
        headers = error.headers or {}
        return told(request, ProblemError(error.status_code, kind, detail, (), headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        places = [
            Place(".".join(map(str, found["loc"])), str(found["msg"])) for found in error.errors()
        ]
        why = "; ".join(f"{place.where}: {place.why}" for place in places)
        return told(request, ProblemError(422, "invalid", f"the request is wrong: {why}", places))


def models_answer(service: Service) -> dict[str, Any]:
    """Return who answers whom, and what versions there are."""
    live = service.live
    rollout, routing = live.rollout, live.routing
    return {
        "pipeline": service.pipeline.name,
        "definition": live.definition,
        "live": routing.live,
        "salt": routing.salt,
        "arms": [msgspec.structs.asdict(arm) for arm in routing.arms],
        "pinned": rollout.pinned.get(live.definition),
        "change": rollout.change,
        "versions": [
            {
                "version": of.version,
                "definition": of.definition,
                "stage": rollout.stages.get(of.version),
                "sha256": of.sha256,
                "answers": of.version in live.models,
            }
            for of in rollout.versions.values()
        ],
        "set_aside": [
            {"version": version, "why": why}
            for version, why in sorted(service.models.set_aside.items())
        ],
    }
