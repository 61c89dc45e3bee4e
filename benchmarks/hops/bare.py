"""The least that an exactly-once hop can be: consume, produce, send the offsets, commit.

python -m benchmarks.hops.bare BOOTSTRAP FROM TO GROUP
"""

import sys

from confluent_kafka import KafkaError, TopicPartition

from streams.kafka_client import consumer, producer

MAX_BATCH = 1_000
WAIT_S = 0.001
"""What has come by then goes into one transaction; at 1,000 events/s more waiting gains nothing."""


def main(bootstrap: str, source: str, to: str, group: str) -> None:
    """Copy values until the process is ended."""
    reading = consumer(bootstrap, group_id=group)
    reading.subscribe([source])
    writing = producer(bootstrap, transactional_id=group, retry_backoff_ms=5)
    writing.init_transactions(30)
    while True:
        messages = reading.consume(1, 1.0)
        if messages:
            messages += reading.consume(MAX_BATCH, WAIT_S)
        good = []
        for message in messages:
            error = message.error()
            if error is None:
                good.append(message)
            elif error.code() != KafkaError._PARTITION_EOF:
                raise SystemExit(f"reading {source}: {error}")
        if not good:
            continue
        ends = {m.partition() or 0: (m.offset() or 0) + 1 for m in good}
        writing.begin_transaction()
        for message in good:
            writing.produce(to, message.value(), message.key(), message.partition() or 0)
        writing.send_offsets_to_transaction(
            [TopicPartition(source, partition, end) for partition, end in ends.items()],
            reading.consumer_group_metadata(),
            30,
        )
        writing.commit_transaction(30)


if __name__ == "__main__":
    main(*sys.argv[1:])
