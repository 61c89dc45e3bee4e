"""Before a pipeline starts: do its types and definitions fit what its log was written with."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import structlog

from serving.auditing.dead_letter_log import read_dead_values
from serving.evolution import Difference, Log, Verdict, judge
from serving.pipeline import Pipeline
from streams.dead_letters import VALIDATION_ERROR
from streams.errors import DefinitionError
from streams.replay import offset_bounds
from streams.schema_log import SchemaLog

ATTEMPTS = 5
"""How often a start is judged again because another process recorded something meanwhile."""


def check_schemas(
    bootstrap: str, pipeline: Pipeline, replication: int = 1, accept: bool = False
) -> Verdict:
    """Compare the declarations with the log, record what is new there, return what was found.

    Args:
        bootstrap: the brokers; the pipeline's topics exist there.
        pipeline: what is declared.
        replication: of the topic ``P.schemas.v1``, where it has to be made.
        accept: take what leaves the log readable and only changes features of old records.

    Raises:
        DefinitionError: what is declared does not fit the log; says every difference.
        BrokerError: the broker can't be reached, or refuses.
    """
    log = _log_of(bootstrap, pipeline)
    schemas = SchemaLog(bootstrap, pipeline.name, replication)
    try:
        for _ in range(ATTEMPTS):
            verdict = judge(pipeline, schemas.read(), log)
            refused = [d for d in verdict.refused if not (accept and d.acceptable)]
            if refused:
                raise DefinitionError(_refusal(pipeline.name, refused))
            if not verdict.record:
                return verdict
            registry = schemas.append(list(verdict.record))
            if not judge(pipeline, registry, log).record:
                for difference in verdict.differences:
                    structlog.get_logger().info("declared otherwise", difference=str(difference))
                return verdict
    finally:
        schemas.close()
    raise DefinitionError(
        f"several processes of {pipeline.name} start with different declarations at once, and "
        f"{schemas.topic} can't follow: start them all from one pipeline file"
    )


def look_at_schemas(bootstrap: str, pipeline: Pipeline, replication: int = 1) -> Verdict:
    """Return how the declarations stand to the log; records and refuses nothing."""
    schemas = SchemaLog(bootstrap, pipeline.name, replication)
    try:
        return judge(pipeline, schemas.read(), _log_of(bootstrap, pipeline))
    finally:
        schemas.close()


def _log_of(bootstrap: str, pipeline: Pipeline) -> Log:
    topics, partitions = pipeline.topics, pipeline.events.partitions
    types = {topics.events: pipeline.events.type, topics.labels: pipeline.labels.type}

    def ends(topic: str) -> dict[int, int]:
        return {p: end for p, (_, end) in offset_bounds(bootstrap, topic, partitions).items()}

    def revived(topic: str) -> int:
        return _revived(bootstrap, topic, types[topic])

    computed = frozenset(
        definition.version
        for definition in pipeline.definitions
        if sum(ends(pipeline.topics_of(definition).features).values())
    )
    return Log({topic: ends(topic) for topic in types}, computed, revived)


def _revived(bootstrap: str, topic: str, type_: type[msgspec.Struct]) -> int:
    """Return how many dead letters that broke their type's rules the type would take now."""
    decode = msgspec.json.Decoder(type_).decode
    count = 0
    for error, value in read_dead_values(bootstrap, topic):
        if error == VALIDATION_ERROR and value is not None:
            try:
                decode(value)
            except (msgspec.MsgspecError, ValueError):
                continue
            count += 1
    return count


def _refusal(name: str, refused: Sequence[Difference]) -> str:
    lines = "\n".join(f"  {difference}" for difference in refused)
    hint = (
        "\nThe log stays readable: `kappa schema --accept` takes it as it is"
        if all(difference.acceptable for difference in refused)
        else ""
    )
    return f"the pipeline {name} does not fit what its log was written with:\n{lines}{hint}"
