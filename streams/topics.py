"""The topics of a pipeline: names, configuration, creation and the check at start."""

import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams.errors import BrokerError, DefinitionError, TopicMismatchError, UnreachableError

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

KEEP_FOREVER = {"retention.ms": "-1", "retention.bytes": "-1"}
KEEP_A_WEEK = {"retention.ms": "604800000"}
COMPACTED = {"cleanup.policy": "compact"}
CONNECT_TIMEOUT_S = 3.0
LASTING = ("inference", "shadow", "monitor", "trainer", "outcomes", "rollout", "online", "notify")
"""The roles that a cut-over takes from one definition to the next."""

_FIELD = re.compile(r"[A-Za-z0-9_]+")
_ROLES = {
    "events", "labels", "features", "predictions", "shadow", "alerts", "metrics", "models",
    "commands", "schemas", "outcomes", "requests", "health",
}  # fmt: skip


@dataclass(frozen=True)
class TopicSpec:
    """A topic as the pipeline needs it: name, number of partitions, configuration."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Topics:
    """The names of pipeline ``name``'s topics; ``definition`` is the features' version."""

    name: str
    definition: int = 1

    @property
    def events(self) -> str:
        """What is predicted on; keeps everything."""
        return f"{self.name}.events.v1"

    @property
    def labels(self) -> str:
        """What turned out; keeps everything."""
        return f"{self.name}.labels.v1"

    @property
    def features(self) -> str:
        """One feature record per valid event."""
        return f"{self.name}.features.v{self.definition}"

    def rekeyed(self, field: str) -> str:
        """Return the topic of the events keyed by ``field``, on their way to the features.

        Raises:
            DefinitionError: the topic can't have that name.
        """
        name = f"{self.name}.{field}.v{self.definition}"
        if _FIELD.fullmatch(field) is None or field in _ROLES:
            raise DefinitionError(
                f"by={field!r}: a topic {name} carries the events keyed by that field, and that is "
                "no free name of a topic; give the field another name (letters, digits and _), for "
                f"example {field}_id"
            )
        return name

    @property
    def predictions(self) -> str:
        """One answer per feature record, exactly once for read_committed readers."""
        return f"{self.name}.predictions.v1"

    @property
    def shadow(self) -> str:
        """Answers of versions in shadow."""
        return f"{self.name}.shadow.v1"

    @property
    def outcomes(self) -> str:
        """Predictions with their labels, each once, as they are matched."""
        return f"{self.name}.outcomes.v1"

    @property
    def requests(self) -> str:
        """What was asked over HTTP, and the answers."""
        return f"{self.name}.requests.v1"

    @property
    def alerts(self) -> str:
        """What the monitors found."""
        return f"{self.name}.alerts.v1"

    @property
    def metrics(self) -> str:
        """Figures of closed monitor windows."""
        return f"{self.name}.metrics.v1"

    @property
    def health(self) -> str:
        """How the processes are, every few seconds; kept for a week."""
        return f"{self.name}.health.v1"

    @property
    def models(self) -> str:
        """The control log: versions and their stages, compacted by key."""
        return f"{self.name}.models.v1"

    @property
    def commands(self) -> str:
        """Retrain, advance."""
        return f"{self.name}.commands.v1"

    def specs(self, partitions: int, by: Sequence[str] = ()) -> list[TopicSpec]:
        """Return what to create: keyed topics with ``partitions``, control topics with one.

        ``by`` are the fields by which the definition re-keys the events.
        """
        keyed = [
            self.events, self.labels, self.features, self.predictions, self.shadow, self.outcomes,
            self.requests,
        ]  # fmt: skip
        keyed += map(self.rekeyed, by)
        single = [self.alerts, self.metrics, self.commands]
        return [
            *(TopicSpec(topic, partitions, KEEP_FOREVER) for topic in keyed),
            *(TopicSpec(topic, 1, KEEP_FOREVER) for topic in single),
            TopicSpec(self.models, 1, COMPACTED),
            TopicSpec(self.health, 1, KEEP_A_WEEK),
            *(TopicSpec(dead_letter_topic(t), 1, KEEP_FOREVER) for t in (self.events, self.labels)),
        ]

    def group(self, role: str) -> str:
        """Return the consumer group of a role.

        ``<pipeline>.<role>.v<definition>`` where the role serves one definition; those that go on
        from one to the next by a cut-over keep one group, ``<pipeline>.<role>.v1``.
        """
        version = 1 if role in LASTING else self.definition
        return f"{self.name}.{role}.v{version}"


def dead_letter_topic(topic: str) -> str:
    """Return the name of the topic that takes the records of ``topic`` nobody can use."""
    return f"{topic}.dlq"


def ensure_topics(bootstrap: str, specs: Iterable[TopicSpec], replication: int = 1) -> None:
    """Create what is missing and check what exists.

    Raises:
        TopicMismatchError: an existing topic has another number of partitions or configuration.
        BrokerError: the broker can't be reached or refuses.
    """
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    wanted = {spec.name: spec for spec in specs}
    admin = connect_admin(bootstrap)
    try:
        existing = set(admin.list_topics())
        missing = {
            spec.name: {
                "num_partitions": spec.partitions,
                "replication_factor": replication,
                "configs": spec.config,
            }
            for spec in wanted.values()
            if spec.name not in existing
        }
        if missing:
            try:
                admin.create_topics(missing, wait_for_metadata=True)
            except TopicAlreadyExistsError:  # another process was quicker: check what it made
                existing = set(admin.list_topics())
        check = [spec for spec in wanted.values() if spec.name in existing]
        if check:
            _check_existing(admin, check)
    except KafkaError as error:
        raise BrokerError(f"Kafka at {bootstrap} refused to prepare the topics: {error}") from error
    finally:
        admin.close()


def missing_topics(bootstrap: str, specs: Iterable[TopicSpec]) -> list[str]:
    """Return the names of topics that are not there, and check those that are; changes nothing.

    Raises:
        TopicMismatchError: an existing topic has another number of partitions or configuration.
        BrokerError: the broker can't be reached or refuses.
    """
    from kafka.errors import KafkaError

    wanted = list(specs)
    admin = connect_admin(bootstrap)
    try:
        existing = set(admin.list_topics())
        check = [spec for spec in wanted if spec.name in existing]
        if check:
            _check_existing(admin, check)
    except KafkaError as error:
        raise BrokerError(f"the topics at {bootstrap} can't be described: {error}") from error
    finally:
        admin.close()
    return [spec.name for spec in wanted if spec.name not in existing]


def connect_admin(bootstrap: str) -> "KafkaAdminClient":
    """Return an administration client; raises UnreachableError where nobody answers."""
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    _check_reachable(bootstrap)
    try:
        return KafkaAdminClient(
            bootstrap_servers=bootstrap, request_timeout_ms=10_000, bootstrap_timeout_ms=10_000
        )
    except (KafkaError, ValueError) as error:
        raise UnreachableError(
            f"no Kafka answers at {bootstrap} ({error}): start one there, correct "
            "KAFKA_BOOTSTRAP_SERVERS, or unset it to use the embedded broker"
        ) from error


def _check_reachable(bootstrap: str) -> None:
    """Raise UnreachableError unless a server of the list accepts connections.

    Asked before the client is made, which would try for half a minute and leave sockets open.
    """
    problems = []
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
        except (OSError, ValueError) as error:
            problems.append(f"{server.strip()}: {error}")
        else:
            return
    raise UnreachableError(
        f"no Kafka answers at {bootstrap} ({'; '.join(problems)}): start one there, correct "
        "KAFKA_BOOTSTRAP_SERVERS (host:port, comma between several), or unset it to use the "
        "embedded broker"
    )


def _check_existing(admin: "KafkaAdminClient", specs: list[TopicSpec]) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    described = {d["name"]: d for d in admin.describe_topics([spec.name for spec in specs])}
    resources = [ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in specs]
    configs = admin.describe_configs(resources, config_filter="all")["topic"]
    for spec in specs:
        partitions = len(described[spec.name]["partitions"])
        if partitions != spec.partitions:
            raise TopicMismatchError(
                f"topic {spec.name} has {partitions} partitions, the pipeline declares "
                f"{spec.partitions}: keys would move between partitions, so declare "
                f"partitions={partitions}, or give the pipeline another name"
            )
        for key, value in spec.config.items():
            actual = configs[spec.name].get(key, {}).get("value")
            if actual != value:
                raise TopicMismatchError(
                    f"topic {spec.name} has {key}={actual}, the pipeline needs {value} "
                    f"(the log is the source of truth): kafka-configs --alter --entity-type topics "
                    f"--entity-name {spec.name} --add-config {key}={value}"
                )
