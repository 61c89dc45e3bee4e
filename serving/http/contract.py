"""What can be asked and what is answered: the types of a pipeline's requests.

They are made of the pipeline's definitions, decode the requests, and are what the OpenAPI document
is written from, so that the document says what the service does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from features.definition import Combination, Definition, kind_of
from features.engine.calendar import EARLIEST_MS, LATEST_MS
from serving.http.problems import Place, ProblemError
from streams.stream import EventStream, LabelStream
from streams.wire import Stage
from training.networks.tasks import Binary, MultiClass, Task

_LARGEST = sys.float_info.max
LONGEST_TEXT = 1_024

Finite = Annotated[
    float, Meta(ge=-_LARGEST, le=_LARGEST, description="JSON has no NaN: null is missing.")
]
Text = Annotated[str, Meta(max_length=LONGEST_TEXT)]
Name = Annotated[str, Meta(min_length=1, max_length=LONGEST_TEXT)]
Decimal = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,17})$")]
Milliseconds = Annotated[
    int, Meta(ge=EARLIEST_MS, lt=LATEST_MS, description="Milliseconds since the epoch, UTC.")
]


class StoredRow(msgspec.Struct, frozen=True):
    """The row of the online store behind an answer. ``event_time_ms`` is that of the entity's
    newest event in it, ``age_ms`` how long before ``at_ms`` that was. An expired row, older than
    its time to live (null: none), counts as missing."""

    view: str
    event_time_ms: int
    age_ms: int
    ttl_ms: int | None
    expired: bool


class PredictionAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to one row. ``score`` is the probability of label 1; of several classes that of
    the most probable one, with all in ``probabilities``; of a regression the mean, and ``spread``
    its standard deviation. ``features`` are those that the model saw."""

    request_id: str
    event_id: str
    entity: str
    score: float
    model_version: int
    stage: Stage
    definition: int
    origin: Literal["given", "store"]
    features: dict[str, float | str | None]
    stored: list[StoredRow]
    probabilities: dict[str, float] | UnsetType = UNSET
    spread: float | UnsetType = UNSET


class PredictAnswer(msgspec.Struct, frozen=True):
    """The answers, in the order of the rows."""

    request_id: str
    pipeline: str
    asked_ms: int
    answered_ms: int
    predictions: list[PredictionAnswer]


@dataclass(frozen=True, slots=True)
class AskedRow:
    """One row of a request: ``values`` are the features given, or None: from the store, with
    ``keys`` (the further ones; the entity apart), ``event`` and ``at_ms``."""

    entity: str
    event_id: str | None
    values: dict[str, Any] | None
    keys: Mapping[str, str]
    event: dict[str, Any] | None
    at_ms: int | None


class Contract:
    """The types of the requests that one definition answers, and their decoder."""

    def __init__(
        self,
        definition: Definition,
        events: EventStream,
        labels: LabelStream | None,
        batch_rows: int,
    ) -> None:
        self.definition = definition
        version = f"V{definition.version}"
        further = definition.keys(events, labels)[1:]
        entity = _key_type(events, events.entity)
        self.features = _features_type(f"Features{version}", definition)
        self.event = _event_type(f"Event{version}", events, further)
        common: list[Any] = [("entity", entity), ("event_id", Name | UnsetType, UNSET)]
        of_store: list[Any] = [("at_ms", Milliseconds | UnsetType, UNSET)]
        if self.event is not None:
            of_store.append(("event", self.event | UnsetType, UNSET))
        if further:
            keys = [(f"f{i}", _key_type(events, key)) for i, key in enumerate(further)]
            self.keys = _struct(f"Keys{version}", keys, _renamed(further))
            of_store.append(("keys", self.keys | UnsetType, UNSET))
        self.by_entity = _struct(f"ByEntity{version}", common + of_store)
        self.given = _struct(f"Given{version}", [*common, ("features", self.features)])
        optional = ("features", self.features | UnsetType, UNSET)
        self._row = _struct(f"Row{version}", [*common, *of_store, optional])
        many = Annotated[list[self._row], Meta(min_length=1, max_length=batch_rows)]  # type: ignore[name-defined]
        self._decoder = msgspec.json.Decoder(self._row | many)
        self._declared = tuple(definition.features)

    def rows(self, body: bytes) -> tuple[list[AskedRow], bool]:
        """Return the rows of a request, and whether they came as an array.

        Raises:
            ProblemError: 400 where the body is no JSON, 422 where it is not what is wanted.
        """
        try:
            decoded = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            decoded = self._with_whole_numbers(body, error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(body, error) from None
        if isinstance(decoded, list):
            return [self._asked(row, f"$[{i}]") for i, row in enumerate(decoded)], True
        return [self._asked(decoded, "$")], False

    def _with_whole_numbers(self, body: bytes, error: msgspec.ValidationError) -> Any:
        """Return what is decoded where 3.0 counts as the integer that it is in JSON Schema."""
        if "got `float`" not in str(error):
            raise invalid(str(error)) from None
        try:
            return msgspec.convert(_whole(msgspec.json.decode(body)), self._decoder.type)
        except msgspec.ValidationError as again:
            raise invalid(str(again)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise invalid(str(error)) from None

    def _asked(self, row: Any, where: str) -> AskedRow:
        event_id = None if row.event_id is UNSET else row.event_id
        if row.features is UNSET:
            event = getattr(row, "event", UNSET)
            keys = getattr(row, "keys", UNSET)
            return AskedRow(
                row.entity,
                event_id,
                None,
                {} if keys is UNSET else _by_name(keys),
                None if event is UNSET else _by_name(event),
                None if row.at_ms is UNSET else row.at_ms,
            )
        for name in ("at_ms", "event", "keys"):
            if getattr(row, name, UNSET) is not UNSET:
                raise invalid(
                    f"`{name}` and `features` - at `{where}`: it says what to read from the store, "
                    "and the features are given; leave one of them out"
                )
        return AskedRow(row.entity, event_id, _by_name(row.features), {}, None, None)


def answer_schema(task: Task) -> dict[str, Any]:
    """Return what is known of the scores of a task, as JSON schema."""
    if isinstance(task, Binary | MultiClass):
        return {"type": "number", "minimum": 0, "maximum": 1}
    return {"type": "number"}


def invalid(said: str) -> ProblemError:
    """Return the problem of a body of a wrong type; ``said`` is the decoder's message."""
    why, _, at = said.partition(" - at `")
    where, _, rest = at.partition("`")
    return ProblemError(
        422,
        "invalid",
        f"the body can't be answered: {why} at {where or '$'}{rest}; "
        "/openapi.json says what is wanted",
        [Place(where or "$", why)],
    )


def _malformed(body: bytes, error: Exception) -> ProblemError:
    why = str(error) or "it is nested too deeply"
    if re.search(rb"[:\[,]\s*(NaN|[+-]?Infinity)\b", body):
        why += "; NaN and Infinity are no JSON: null is a missing value"
    return ProblemError(400, "malformed", f"the body is no JSON: {why}", [Place("$", why)])


def _whole(value: Any) -> Any:
    """Return a JSON value with integers in place of floats that are whole."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return value


def _features_type(name: str, definition: Definition) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for i, feature in enumerate(definition.features.values()):
        if isinstance(feature, Combination):
            fields.append((f"f{i}", Finite | None | UnsetType, UNSET))
        else:
            numeric = kind_of(feature) == "numeric"
            fields.append((f"f{i}", Finite | None if numeric else Text | None))
    return _struct(name, fields, _renamed(definition.features))


def _event_type(
    name: str, events: EventStream, further: tuple[str, ...]
) -> type[msgspec.Struct] | None:
    """Return the type of what is known of an event besides its id, time and keys, if anything."""
    apart = {events.id, events.event_time, events.entity, *further}
    fields = [f for f in msgspec.structs.fields(events.type) if f.name not in apart]
    if not fields:
        return None
    typed: list[Any] = [
        (f"f{i}", f.type) if f.required else (f"f{i}", f.type | UnsetType, UNSET)
        for i, f in enumerate(fields)
    ]
    return _struct(name, typed, _renamed([f.name for f in fields]))


def _key_type(events: EventStream, name: str) -> Any:
    (kind,) = (f.type for f in msgspec.structs.fields(events.type) if f.name == name)
    return Decimal if getattr(kind, "__origin__", kind) is int else Name


def _struct(
    name: str, fields: list[Any], rename: Mapping[str, str] | None = None
) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        name,
        fields,
        rename=dict(rename) if rename else None,
        frozen=True,
        gc=False,
        kw_only=True,
        forbid_unknown_fields=True,
    )


def _renamed(names: Iterable[str]) -> dict[str, str]:
    """Return attribute → JSON name: a name may be one that Python reserves."""
    return {f"f{i}": name for i, name in enumerate(names)}


def _by_name(struct: msgspec.Struct) -> dict[str, Any]:
    """Return JSON name → value, without what was left out."""
    kind = type(struct)
    values = msgspec.structs.astuple(struct)
    pairs = zip(kind.__struct_encode_fields__, values, strict=True)
    return {name: value for name, value in pairs if value is not UNSET}
