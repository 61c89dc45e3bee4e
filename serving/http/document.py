"""The OpenAPI document, written from the types that decode the requests and make the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from serving.http.contract import Contract, answer_schema
from serving.http.problems import MEDIA_TYPE, ProblemDetails
from training.networks.tasks import MultiClass, Task

JSON = "application/json"
_REFERENCE = "#/components/schemas/{name}"
_WHY = {
    400: "The body is no JSON.",
    401: "No token, or a wrong one.",
    404: "Nothing is there: an unknown entity, view, definition or path.",
    413: "The body is larger than the limit.",
    415: "The body is not sent as application/json.",
    421: "The host is not this machine's.",
    422: "The request is not what this document says.",
    429: "As many requests as are taken at once are under way.",
    500: "A fault of the service.",
    503: "Not ready, or too slow: the detail says which.",
}


def document(
    pipeline: str,
    contracts: Sequence[Contract],
    task: Task,
    batch_rows: int,
    answers: Sequence[Any],
    has_token: bool,
) -> dict[str, Any]:
    """Return the document of a pipeline's service, OpenAPI 3.1.

    Args:
        pipeline: its name.
        contracts: the types of the requests, per definition.
        task: what scores are.
        batch_rows: rows of a request at most.
        answers: the types of the answers.
        has_token: whether a token is wanted.
    """
    types = [kind for c in contracts for kind in (c.by_entity, c.given)]
    _, schemas = msgspec.json.schema_components(
        [*types, *answers, ProblemDetails], ref_template=_REFERENCE
    )
    for contract in contracts:
        _describe(schemas, contract)
    predicted = schemas["PredictionAnswer"]["properties"]
    predicted["score"] = answer_schema(task)
    predicted["features"] = _any_of([f"{c.features.__name__}" for c in contracts])
    if isinstance(task, MultiClass):
        names = list(map(str, task.classes))
        predicted["probabilities"] = {
            "type": "object",
            "properties": {name: {"type": "number", "minimum": 0, "maximum": 1} for name in names},
            "required": names,
            "additionalProperties": False,
        }
    one = _any_of([kind.__name__ for kind in types])
    schemas["Predict"] = {
        "description": "One row, or an array of rows. A row names an entity, whose features come "
        "from the online store, or gives the features.",
        "anyOf": [
            one,
            {"type": "array", "items": one, "minItems": 1, "maxItems": batch_rows},
        ],
    }
    made: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"kappa serve: {pipeline}",
            "version": _own_version(),
            "description": "Predictions and features on request. Errors are RFC 9457 problems.",
        },
        "paths": _paths(),
        "components": {"schemas": schemas},
    }
    if has_token:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
        for path in ("/healthz", "/readyz"):
            made["paths"][path]["get"]["security"] = []
    return made


def _paths() -> dict[str, Any]:
    json_of = {
        name: {JSON: {"schema": _named(name)}} for name in ("PredictAnswer", "FeaturesAnswer")
    }
    anything: dict[str, Any] = {JSON: {"schema": {"type": "object"}}}
    body = {"required": True, "content": {JSON: {"schema": _named("Predict")}}}
    entity = {
        "name": "entity", "in": "path", "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 1024},
    }  # fmt: skip
    view = {
        "name": "view", "in": "query", "description": "The view; by default the events' entity's.",
        "schema": {"type": "string"},
    }  # fmt: skip
    definition = {
        "name": "definition", "in": "query", "description": "By default the one that answers.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    }  # fmt: skip
    text = {"text/plain": {"schema": {"type": "string"}}}
    ready = {200: ("Ready.", anything), 503: ("Not ready, and why.", anything)}
    return {
        "/v1/predict": {
            "post": _operation(
                "predict", "Answer rows", {200: ("The answers.", json_of["PredictAnswer"])},
                (400, 401, 404, 413, 415, 421, 422, 429, 500, 503), requestBody=body,
            )
        },
        "/v1/features/{entity}": {
            "get": _operation(
                "features", "What the online store has of an entity",
                {200: ("Its features, by view.", json_of["FeaturesAnswer"])},
                (401, 404, 421, 422, 429, 500, 503), parameters=[entity, view, definition],
            )
        },
        "/v1/models": {
            "get": _operation(
                "models", "Who answers whom", {200: ("Versions and shares.", anything)},
                (401, 421, 429, 500, 503),
            )
        },
        "/healthz": {
            "get": _operation("healthz", "Whether the process runs", {200: ("It does.", anything)},
                              (421, 500))
        },
        "/readyz": {"get": _operation("readyz", "Whether it can answer", ready, (421, 500))},
        "/metrics": {
            "get": _operation("metrics", "Figures for Prometheus", {200: ("Text.", text)},
                              (401, 421, 500))
        },
    }  # fmt: skip


def _operation(
    name: str,
    summary: str,
    answers: Mapping[int, tuple[str, dict[str, Any]]],
    problems: Sequence[int],
    **more: Any,
) -> dict[str, Any]:
    responses = {
        str(status): {"description": text, "content": content}
        for status, (text, content) in answers.items()
    }
    for status in problems:
        responses[str(status)] = {
            "description": _WHY[status],
            "content": {MEDIA_TYPE: {"schema": _named("ProblemDetails")}},
        }
    return {"operationId": name, "summary": summary, "responses": responses, **more}


def _describe(schemas: dict[str, Any], contract: Contract) -> None:
    name = contract.by_entity.__name__
    schemas[name]["description"] = (
        "By entity: windows come from the online store, the fields of `event` and `at_ms` (now, "
        "by default) give the rest; without `event` the rest is that of the newest event."
    )
    if "keys" in schemas[name]["properties"]:
        schemas[name]["dependentRequired"] = {"event": ["keys"]}
    schemas[contract.given.__name__]["description"] = (
        "With given features: each is named, null is missing; combinations that are left out are "
        "made of the others."
    )


def _any_of(names: Sequence[str]) -> dict[str, Any]:
    if len(names) == 1:
        return _named(names[0])
    return {"anyOf": list(map(_named, names))}


def _named(name: str) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(name=name)}


def _own_version() -> str:
    try:
        return version("kappa-ml")
    except PackageNotFoundError:
        return "0"
