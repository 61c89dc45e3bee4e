"""The flow picture: which process reads and writes which topics, and where each is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from features.processing.stages import stages_of
from serving.dashboard.documents.overview import Edge, Node
from serving.dashboard.measuring import Measured
from serving.dashboard.rates import Rates
from serving.pipeline import Pipeline
from streams.topics import Topics, dead_letter_topic

State = Literal["running", "silent", "unknown", "present", "missing"]
TopicKind = Literal["source", "features", "answers", "control", "figures", "dead_letters", "other"]


@dataclass(frozen=True)
class Drawn:
    """A process of the picture. ``reads`` are topics whose lag it has, by its ``group``."""

    role: str
    column: int
    reads: Mapping[str, int]
    writes: tuple[str, ...]
    group: str | None = None


@dataclass(frozen=True)
class Picture:
    """What is drawn: processes, and topics with their column, kind and number of partitions."""

    processes: list[Drawn]
    columns: Mapping[str, int]
    kinds: Mapping[str, TopicKind] = field(default_factory=dict)
    partitions: Mapping[str, int] = field(default_factory=dict)

    @property
    def groups(self) -> dict[str, str]:
        """Role → consumer group, of those that have one."""
        return {each.role: each.group for each in self.processes if each.group is not None}


def picture_of(pipeline: Pipeline, version: int | None = None) -> Picture:
    """Return the picture of a pipeline; ``version`` is the definition that answers, the first by
    default."""
    definition = pipeline.features if version is None else pipeline.definition(version)
    topics, n = pipeline.topics_of(definition), pipeline.events.partitions
    stages = stages_of(definition, pipeline.events, pipeline.labels, topics)
    dead = dead_letter_topic(topics.events)
    columns = {topics.events: 0, topics.labels: 0}
    processes = []
    for number, stage in enumerate(stages):
        writes = (stage.output,) if number else (stage.output, dead)
        processes.append(Drawn(stage.role, 2 * number + 1, {stage.input: n}, writes, stage.group))
        columns[stage.output] = 2 * number + 2
    columns[dead] = 2
    at = 2 * len(stages)
    of_all = {topics.predictions: n, topics.shadow: n, topics.requests: n, topics.labels: n}
    judged = {topics.features: n, topics.predictions: n, topics.labels: n, topics.commands: 1}
    features = {topics.features: n}
    figures = (topics.metrics, topics.alerts, topics.commands)

    def lasting(role: str, column: int, reads: Mapping[str, int], writes: tuple[str, ...]) -> None:
        processes.append(Drawn(role, at + column, reads, writes, topics.group(role)))

    lasting("inference", 1, features, (topics.predictions,))
    lasting("shadow", 1, features, (topics.shadow,))
    processes.append(Drawn("serve", at + 1, {}, (topics.requests,)))
    lasting("outcomes", 3, of_all, (topics.outcomes,))
    lasting("monitor", 3, judged, figures)
    if pipeline.rollout is not None:
        lasting("rollout", 5, {topics.outcomes: n}, (topics.models,))
    if pipeline.online is not None:
        lasting("online", 5, {topics.outcomes: n}, (topics.models,))
    lasting("trainer", 5, {topics.commands: 1}, (topics.models,))
    answers = (topics.predictions, topics.shadow, topics.requests)
    columns |= dict.fromkeys(answers, at + 2)
    columns |= dict.fromkeys((topics.outcomes, *figures), at + 4)
    columns[topics.models] = at + 6
    specs = {spec.name: spec.partitions for spec in pipeline.topic_specs}
    ordered = {name: columns[name] for name in sorted(columns, key=lambda t: columns[t])}
    return Picture(processes, ordered, {t: kind_of(t, topics) for t in specs}, specs)


def kind_of(topic: str, topics: Topics) -> TopicKind:
    """Return what a topic of the pipeline holds."""
    if topic.endswith(".dlq"):
        return "dead_letters"
    by_name: dict[str, TopicKind] = {
        topics.events: "source", topics.labels: "source",
        topics.predictions: "answers", topics.shadow: "answers", topics.requests: "answers",
        topics.outcomes: "answers", topics.models: "control", topics.commands: "control",
        topics.metrics: "figures", topics.alerts: "figures", topics.health: "figures",
    }  # fmt: skip
    if topic in by_name:
        return by_name[topic]
    return "features" if topic.startswith(f"{topics.name}.") else "other"


def nodes_of(
    picture: Picture, measured: Measured | None, rates: Rates, heard: Mapping[str, bool]
) -> list[Node]:
    """Return the boxes; ``heard`` says of roles that told of themselves whether they still do."""
    rows: dict[int, int] = {}
    nodes = []
    for topic, column in picture.columns.items():
        present = measured is not None and topic in measured.ends
        state: State = "present" if present or measured is None else "missing"
        records = None if measured is None or not present else measured.records(topic)
        nodes.append(
            Node(f"topic:{topic}", "topic", label_of(topic), column, _next(rows, column), state,
                 records, rates.of(topic))
        )  # fmt: skip
    for each in picture.processes:
        lags = [] if measured is None else [_lag(measured, each, t) for t in each.reads]
        known = [lag for lag in lags if lag is not None]
        rate = rates.of(("group", each.group)) if each.group is not None else None
        nodes.append(
            Node(f"role:{each.role}", "process", each.role, each.column,
                 _next(rows, each.column), _state(each.role, heard, rate), None, rate,
                 sum(known) if known else None)
        )  # fmt: skip
    return nodes


def edges_of(picture: Picture, measured: Measured | None, rates: Rates) -> list[Edge]:
    """Return the arrows: topic to process with its lag, process to topic."""
    edges = []
    for each in picture.processes:
        for topic in each.reads:
            lag = None if measured is None else _lag(measured, each, topic)
            rate = rates.of(("read", each.group, topic))
            edges.append(Edge(f"topic:{topic}", f"role:{each.role}", rate, lag))
        edges += [Edge(f"role:{each.role}", f"topic:{t}", rates.of(t)) for t in each.writes]
    return edges


def counted(picture: Picture, measured: Measured) -> dict[object, int]:
    """Return what rates are made of: ends of topics, and how far groups have come."""
    counts: dict[object, int] = {t: sum(ends.values()) for t, ends in measured.ends.items()}
    for each in picture.processes:
        if each.group is None:
            continue
        positions = measured.committed.get(each.group, {})
        for topic in each.reads:
            counts["read", each.group, topic] = sum(positions.get(topic, {}).values())
        counts["group", each.group] = sum(counts["read", each.group, topic] for topic in each.reads)
    return counts


def label_of(topic: str) -> str:
    """Return a topic's short name.

    >>> label_of("shop.events.v1.dlq"), label_of("shop.features.v2")
    ('events dead letters', 'features v2')
    """
    name = topic.partition(".")[2]
    dead = name.endswith(".dlq")
    name = name.removesuffix(".dlq").removesuffix(".v1").replace(".v", " v")
    return f"{name} dead letters" if dead else name


def _lag(measured: Measured, of: Drawn, topic: str) -> int | None:
    if of.group is None or topic not in measured.ends:
        return None
    return sum(standing.lag for standing in measured.standing(of.group, topic).values())


def _state(role: str, heard: Mapping[str, bool], rate: float | None) -> State:
    if heard.get(role) or rate:
        return "running"
    return "silent" if role in heard else "unknown"


def _next(rows: dict[int, int], column: int) -> int:
    rows[column] = rows.get(column, -1) + 1
    return rows[column]
