"""Names, creation and the check of topics, at a real broker."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from streams.errors import BrokerError, DefinitionError, TopicMismatchError
from streams.topics import (
    KEEP_FOREVER,
    Topics,
    TopicSpec,
    connect_admin,
    dead_letter_topic,
    ensure_topics,
    missing_topics,
)


def unique() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def partitions_of(bootstrap: str, names: list[str]) -> dict[str, int]:
    admin = connect_admin(bootstrap)
    try:
        return {d["name"]: len(d["partitions"]) for d in admin.describe_topics(names)}
    finally:
        admin.close()


def test_a_rekeyed_topic_is_a_keyed_topic_of_the_definition() -> None:
    topics = Topics("bikes", definition=3)
    assert topics.rekeyed("station") == "bikes.station.v3"
    (spec,) = [s for s in topics.specs(4, ["station"]) if s not in topics.specs(4)]
    assert spec == TopicSpec("bikes.station.v3", 4, KEEP_FOREVER)


@pytest.mark.parametrize("field", ["labels", "features", "straße", "a.b", ""])
def test_a_field_that_can_name_no_topic_is_refused(field: str) -> None:
    with pytest.raises(DefinitionError, match="give the field another name"):
        Topics("bikes").rekeyed(field)


def test_names_follow_the_pipeline_and_the_definition() -> None:
    topics = Topics("bikes", definition=3)
    assert topics.features == "bikes.features.v3"
    assert topics.group("features") == "bikes.features.v3"
    assert topics.group("inference") == "bikes.inference.v1", "a cut-over keeps its positions"
    assert dead_letter_topic(topics.events) == "bikes.events.v1.dlq"
    names = {spec.name for spec in topics.specs(4)}
    assert names == {
        *(f"bikes.{kind}.v1" for kind in ("events", "labels", "predictions", "shadow")),
        *(f"bikes.{kind}.v1" for kind in ("alerts", "metrics", "models", "commands")),
        *(f"bikes.{kind}.v1" for kind in ("outcomes", "requests", "health")),
        "bikes.features.v3", "bikes.events.v1.dlq", "bikes.labels.v1.dlq",
    }  # fmt: skip


def test_sources_keep_everything_and_the_control_log_is_compacted() -> None:
    topics = Topics("bikes")
    specs = {spec.name: spec for spec in topics.specs(4)}
    keyed = (topics.events, topics.labels, topics.features, topics.predictions, topics.shadow)
    for name in keyed:
        assert (specs[name].partitions, specs[name].config) == (4, KEEP_FOREVER)
    assert specs[topics.models].config == {"cleanup.policy": "compact"}
    # The order of commands and of model events is one order: one partition.
    assert {specs[t].partitions for t in (topics.models, topics.commands, topics.alerts)} == {1}


@pytest.mark.broker
def test_topics_are_made_as_declared_and_found_again(bootstrap: str) -> None:
    specs = Topics(unique()).specs(3)
    assert missing_topics(bootstrap, specs) == [spec.name for spec in specs]
    ensure_topics(bootstrap, specs)
    assert missing_topics(bootstrap, specs) == []
    ensure_topics(bootstrap, specs)
    made = partitions_of(bootstrap, [spec.name for spec in specs])
    assert made == {spec.name: spec.partitions for spec in specs}


@pytest.mark.broker
def test_processes_that_start_at_once_make_them_once(bootstrap: str) -> None:
    specs = Topics(unique()).specs(2)
    with ThreadPoolExecutor(4) as pool:
        for outcome in [pool.submit(ensure_topics, bootstrap, specs) for _ in range(4)]:
            outcome.result()
    assert missing_topics(bootstrap, specs) == []


@pytest.mark.broker
@pytest.mark.parametrize(
    ("made", "wanted", "message"),
    [
        ((2, {}), (4, {}), r"has 2 partitions, the pipeline declares 4: .*declare partitions=2"),
        (
            (1, {"retention.ms": "1000"}),
            (1, KEEP_FOREVER),
            r"has retention.ms=1000, the pipeline needs -1 .*kafka-configs --alter .*"
            r"--add-config retention.ms=-1",
        ),
        (
            (1, {}),
            (1, {"cleanup.policy": "compact"}),
            r"has cleanup.policy=delete, .* needs compact",
        ),
    ],
    ids=["partitions", "retention", "compaction"],
)
def test_a_topic_that_does_not_fit_is_an_error_with_the_fix(
    bootstrap: str,
    made: tuple[int, dict[str, str]],
    wanted: tuple[int, dict[str, str]],
    message: str,
) -> None:
    name = unique()
    ensure_topics(bootstrap, [TopicSpec(name, *made)])
    with pytest.raises(TopicMismatchError, match=rf"topic {name} {message}"):
        ensure_topics(bootstrap, [TopicSpec(name, *wanted), TopicSpec(f"{name}.other", 1)])
    with pytest.raises(TopicMismatchError):
        missing_topics(bootstrap, [TopicSpec(name, *wanted)])


@pytest.mark.broker
def test_what_the_broker_refuses_is_told(bootstrap: str) -> None:
    with pytest.raises(BrokerError, match="refused to prepare the topics"):
        ensure_topics(bootstrap, [TopicSpec("no spaces allowed", 1)])
    with pytest.raises(BrokerError, match="refused to prepare the topics"):
        ensure_topics(bootstrap, [TopicSpec(unique(), 1)], replication=3)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense:port"])
def test_a_broker_that_is_not_there_is_an_error_with_the_fix(address: str) -> None:
    with pytest.raises(BrokerError, match=rf"no Kafka answers at {address} .*unset it"):
        ensure_topics(address, [TopicSpec("any", 1)])
