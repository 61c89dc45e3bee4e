"""Keys go where the clients of Kafka send them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from streams.byte_columns import ByteColumn
from streams.partitioning import partitions_of


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.binary(max_size=40)), st.integers(1, 50))
def test_as_the_java_client_chooses(keys: list[bytes], partitions: int) -> None:
    wanted = [(murmur2(key) & 0x7FFFFFFF) % partitions for key in keys]
    assert partitions_of(ByteColumn.of(keys), partitions).tolist() == wanted


def test_an_absent_key_counts_as_empty() -> None:
    assert np.array_equal(
        partitions_of(ByteColumn.of([None]), 7), partitions_of(ByteColumn.of([b""]), 7)
    )
