"""Whether a pipeline's types and definitions fit what its log was written with. Pure.

1. Every version of a type of which the log holds records must be readable by the type declared
   now, since a replay reads them all.
2. A definition that has computed features must give the same for old records now as it gave then.
   A field read with another default, or as another text, gives others; so does a dead letter that
   the type would take now. The definition then needs a new version, or an operator's word.
3. A definition that has computed features is not changed under its version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields

import msgspec

from features.aggregations import Remembering, Windowed
from features.definition import Category, Definition, Number
from serving.pipeline import Pipeline
from streams.record_schema import schema_of
from streams.schema_log import DefinitionRegistered, Registry, SchemaEvent, TypeRegistered
from streams.schemas import Change, compare_schemas
from streams.stream import EventStream, LabelStream

_OTHER_LOG = "declare it as it was, or give the pipeline another name, which begins a new log"
_ROLES = ("id", "entity", "event_time")

Readers = dict[str, list[tuple[str, bool]]]
"""Field as JSON names it → (feature, whether it reads the field as a text)."""


@dataclass(frozen=True)
class Difference:
    """What differs at a field of a topic's type, or of a definition; ``refused`` says why not.

    ``acceptable``: the log stays readable, and only features of old records would come out
    otherwise, so an operator may accept it.
    """

    where: str
    field: str
    was: str
    now: str
    kind: str
    refused: str = ""
    acceptable: bool = False

    def __str__(self) -> str:
        """Return the difference as one line."""
        line = f"{self.where} {self.field}: was {self.was}, is {self.now}"
        return f"{line}; {self.refused}" if self.refused else f"{line} ({self.kind})"


@dataclass(frozen=True)
class Verdict:
    """What differs from what the log was written with, and what is to be recorded about it."""

    differences: tuple[Difference, ...] = ()
    record: tuple[SchemaEvent, ...] = ()

    @property
    def refused(self) -> tuple[Difference, ...]:
        """What forbids to go on."""
        return tuple(d for d in self.differences if d.refused)


@dataclass(frozen=True)
class Log:
    """How the log stands: the ends of its source topics, the definitions whose features it holds.

    ``revived`` says how many dead letters of a topic its type as declared now would take.
    """

    ends: Mapping[str, Mapping[int, int]]
    computed: frozenset[int]
    revived: Callable[[str], int]


def judge(pipeline: Pipeline, registry: Registry, log: Log) -> Verdict:
    """Return how the declarations stand to the log."""
    differences: list[Difference] = []
    record: list[SchemaEvent] = []
    versions: dict[str, int] = {}
    streams: tuple[tuple[str, EventStream | LabelStream], ...] = (
        (pipeline.topics.events, pipeline.events),
        (pipeline.topics.labels, pipeline.labels),
    )
    for topic, stream in streams:
        found, registered = _judge_type(pipeline, topic, stream, registry, log)
        differences += found
        versions[topic] = len(registry.types.get(topic, ())) + (registered is not None)
        record += [registered] if registered else []
    for definition in pipeline.definitions:
        known = registry.definitions.get(definition.version)
        now = registered_definition(pipeline, definition, versions)
        if known is not None and known.hash == now.hash:
            continue
        if known is not None and definition.version in log.computed:
            differences += _definition_differences(known, now)
        record.append(now)
    return Verdict(tuple(differences), tuple(record))


def registered_definition(
    pipeline: Pipeline, definition: Definition, types: dict[str, int]
) -> DefinitionRegistered:
    """Return what the log of types says of a definition."""
    features = {name: in_words(feature) for name, feature in definition.features.items()}
    return DefinitionRegistered(
        definition.version,
        definition.hash(pipeline.events, pipeline.labels),
        {**features, **{f"group {group}": group for group in definition.groups}},
        types,
    )


def _judge_type(
    pipeline: Pipeline,
    topic: str,
    stream: EventStream | LabelStream,
    registry: Registry,
    log: Log,
) -> tuple[list[Difference], TypeRegistered | None]:
    schema, roles = schema_of(stream.type), _roles(stream)
    versions = registry.types.get(topic, ())
    ends = log.ends[topic]
    since = {str(partition): end for partition, end in sorted(ends.items())}
    if not versions:
        holds = sum(ends.values())
        words = [f"first seen with {holds:,} records in the log"] if holds else []
        return [], TypeRegistered(topic, 1, schema, roles, since, words)
    latest = versions[-1]
    if (latest.schema, latest.fields) == (schema, roles):
        return [], None
    written = registry.written(topic, ends)
    found: list[Difference] = []
    for version in written:
        changes = [*_role_changes(version.fields, roles), *compare_schemas(version.schema, schema)]
        where = f"{topic} (version {version.version})"
        broken = [
            c for c in changes if c.breaks == "old records" or (c.breaks and version is latest)
        ]
        known = [(d.field, d.was, d.now) for d in found]
        found += [
            _refused(where, c, c.remedy) for c in broken if (c.field, c.was, c.now) not in known
        ]
    if written and not found:
        changes = compare_schemas(latest.schema, schema)
        where = f"{topic} (version {latest.version})"
        found = [_guarded(where, change, pipeline, topic, log) for change in changes]
        found += _revived(where, pipeline, topic, log)
    words = list(map(str, found)) if written else ["nothing had been written before"]
    return found, TypeRegistered(topic, len(versions) + 1, schema, roles, since, words)


def _guarded(where: str, change: Change, pipeline: Pipeline, topic: str, log: Log) -> Difference:
    """Return the difference; refused where a definition would read old records otherwise."""
    for definition in _bound(pipeline, topic, log) if change.rereads else ():
        readers = readers_of(definition, pipeline, topic).get(change.top, [])
        names = [name for name, as_text in readers if as_text or change.rereads == "value"]
        if names:
            why = (
                f"{', '.join(names)} of definition v{definition.version} would get other values "
                f"for old records: leave it as it was, or declare the features as version "
                f"{definition.version + 1} and not as version {definition.version} any more"
            )
            return _refused(where, change, why, acceptable=True)
    return Difference(where, change.field or "record", change.was, change.now, change.kind)


def _revived(where: str, pipeline: Pipeline, topic: str, log: Log) -> Iterator[Difference]:
    bound = [f"v{definition.version}" for definition in _bound(pipeline, topic, log)]
    count = log.revived(topic) if bound else 0
    if count:
        yield Difference(
            where, f"{count:,} dead letters", "refused", "taken", "revived",
            f"definition {', '.join(bound)} would compute features of them in a replay, and others "
            "after them: declare the features as a new version, or keep refusing them",
            acceptable=True,
        )  # fmt: skip


def _bound(pipeline: Pipeline, topic: str, log: Log) -> list[Definition]:
    """Return the definitions that have computed features from a topic."""
    is_events = topic == pipeline.topics.events
    return [
        definition
        for definition in pipeline.definitions
        if definition.version in log.computed and (is_events or definition.reads_labels)
    ]


def readers_of(definition: Definition, pipeline: Pipeline, topic: str) -> Readers:
    """Return which features of a definition read which fields of a source topic's records."""
    on_labels = topic == pipeline.topics.labels
    stream: EventStream | LabelStream = pipeline.labels if on_labels else pipeline.events
    found: list[tuple[str, str, bool]] = []
    for name, feature in definition.features.items():
        if (isinstance(feature, Windowed) and feature.on == "labels") != on_labels:
            continue
        if isinstance(feature, Remembering):
            found += [
                (field, name, field == getattr(feature, "field", "")) for field in feature.fields
            ]
            found += [(feature.by, name, True)] if feature.by and not on_labels else []
        elif isinstance(feature, Number):
            found += [(field, name, False) for field in feature.of.fields]
        elif isinstance(feature, Category):
            found.append((feature.field, name, True))
    if not on_labels:
        found += [(group, f"the group {group}", True) for group in definition.groups]
    found += [(getattr(stream, role), f"the {role}", True) for role in _ROLES]
    encoded = _encoded_names(stream)
    readers: Readers = {}
    for field, name, as_text in found:
        readers.setdefault(encoded[field], []).append((name, as_text))
    return readers


def _role_changes(was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Change]:
    for role in _ROLES:
        if was[role] != now[role]:
            why = {
                "id": "events that count once are told apart by it",
                "entity": "the log's records are keyed by it",
                "event_time": "the log's records are dated by it",
            }[role]
            fix = f"{why}: {_OTHER_LOG}"
            yield Change(
                f"the {role}", "narrowed", was[role], now[role], "old records", "value", fix
            )


def _roles(stream: EventStream | LabelStream) -> dict[str, str]:
    encoded = _encoded_names(stream)
    return {role: encoded[getattr(stream, role)] for role in _ROLES}


def _encoded_names(stream: EventStream | LabelStream) -> dict[str, str]:
    return {field.name: field.encode_name for field in msgspec.structs.fields(stream.type)}


def _definition_differences(
    was: DefinitionRegistered, now: DefinitionRegistered
) -> Iterator[Difference]:
    where = f"definition v{now.version}"
    fix = f"features are computed by it: declare the changed ones as version {now.version + 1}"
    names = [*was.features, *(name for name in now.features if name not in was.features)]
    changed = [name for name in names if was.features.get(name) != now.features.get(name)]
    for name in changed:
        before, after = (d.features.get(name, "absent") for d in (was, now))
        yield Difference(where, name, before, after, "changed", fix)
    if not changed:  # the lateness, the time an id is remembered, forget, the order of features
        what = "its order of features, lateness, dedupe, forget or delays"
        yield Difference(where, what, was.hash[:12], now.hash[:12], "changed", fix)


def _refused(where: str, change: Change, why: str, acceptable: bool = False) -> Difference:
    field = change.field or "record"
    return Difference(where, field, change.was, change.now, change.kind, why, acceptable)


def in_words(declared: object) -> str:
    """Return a feature's declaration as a pipeline file would say it, without unused options."""
    given = []
    for option in fields(declared):  # type: ignore[arg-type]
        value = getattr(declared, option.name)
        if value != option.default:
            given.append(f"{option.name}={value!r}")
    return f"{type(declared).__name__}({', '.join(given)})"
