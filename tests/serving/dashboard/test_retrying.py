"""Dead letters sent back: which, how often, and what stands in the log of it."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import msgspec
import pytest

from serving.dashboard.records import Wanted, browse, shown
from serving.dashboard.retrying import RETRY_OF, Letter, planned, retry, times_sent
from streams.dead_letters import DECODE_ERROR, DUPLICATE_EVENT, VALIDATION_ERROR, DeadLetter
from streams.errors import ConfigurationError
from streams.kafka_client import producer
from streams.topics import Topics, dead_letter_topic, ensure_topics
from streams.wire import Advance, Command, Retried

DLQ = "shop.events.v1.dlq"


def letter(offset: int, error: str = VALIDATION_ERROR) -> Letter:
    return Letter(offset, "shop.events.v1", 0, error, b"k", b"v", 5)


def command(offsets: tuple[int, ...], again: bool = False, topic: str = DLQ) -> bytes:
    value: Command = Retried(uuid4().hex, topic, offsets, "why", again)
    return msgspec.json.encode(value)


def test_all_that_were_not_sent_yet_and_may_help_are_sent() -> None:
    letters = [letter(0), letter(1, DUPLICATE_EVENT), letter(2), letter(5, DECODE_ERROR)]
    plan = planned(letters, None, Counter({2: 1}), again=False)
    assert (plan.sent, plan.before, plan.hopeless) == ((0, 5), (2,), (1,))


def test_named_ones_are_sent_once_unless_asked_again() -> None:
    letters, known = [letter(0), letter(1, DUPLICATE_EVENT)], Counter({0: 1})
    plan = planned(letters, [1, 0, 7, 0], known, again=False)
    assert (plan.sent, plan.before, plan.absent) == ((1,), (0,), (7,))
    assert planned(letters, [0], known, again=True).sent == (0,)


def test_the_log_says_how_often() -> None:
    log = [
        command((0, 1)),
        command((1, 2)),  # 1 was the first one's
        b"no command",
        msgspec.json.encode(Advance("a", 5)),
        command((9,), topic="shop.labels.v1.dlq"),
        command((0,), again=True),
    ]
    assert times_sent(DLQ, log) == {0: 2, 1: 1, 2: 1}


def test_values_are_shown_as_what_they_are() -> None:
    assert shown(b"\xff\xfe\x00") == ("binary", "//4A", False)
    form, text, is_cut = shown(b'"' + b"x" * 20_000 + b'"')
    assert (form, is_cut, len(text)) == ("text", True, 16_384)


def filled(bootstrap: str) -> tuple[Topics, str]:
    """Return a pipeline's topics with three dead letters of its events."""
    topics = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.specs(2))
    dead, client = dead_letter_topic(topics.events), producer(bootstrap)
    for i, value in enumerate((b'{"id": 1', b"\x00\xff", b'{"id": "x"}')):
        made = DeadLetter(DECODE_ERROR, "no JSON", topics.events, 1, 40 + i, b"anna", value, 9_000)
        content, key, headers = made.to_record()
        client.produce(dead, content, key, 0, timestamp=9_000 + i, headers=dict(headers))
    client.produce(dead, b"foreign", None, 0)
    assert client.flush(30) == 0
    return topics, dead


@pytest.mark.broker
def test_the_original_bytes_come_back_with_a_header_each_once(bootstrap: str) -> None:
    topics, dead = filled(bootstrap)
    first = retry(bootstrap, topics, dead, "the type takes it now", [1])
    assert first.sent == (1,)
    second = retry(bootstrap, topics, dead, "the rest")
    assert (second.sent, second.before) == ((0, 2), (1,))
    assert retry(bootstrap, topics, dead, "once more").sent == ()
    assert retry(bootstrap, topics, dead, "once more", [1], again=True).sent == (1,)
    found = browse(bootstrap, Wanted(topics.events, partition=1), 2)
    assert [record.headers[RETRY_OF] for record in found.records] == [
        f"{dead}/0/{offset}" for offset in (1, 0, 2, 1)
    ]
    assert [(r.key, r.value, r.timestamp_ms) for r in found.records[:2]] == [
        ("anna", "AP8=", 9_001),
        ("anna", '{"id": 1', 9_000),
    ]
    log = browse(bootstrap, Wanted(topics.commands), 1).records
    assert [(r.value["reason"], r.value["offsets"]) for r in log] == [
        ("the type takes it now", [1]), ("the rest", [0, 2]), ("once more", [1]),
    ]  # fmt: skip
    letters = browse(bootstrap, Wanted(dead), 1, {0: 1, 1: 2}).records
    assert [r.retried for r in letters] == [1, 2, 0, 0]


@pytest.mark.broker
def test_of_two_who_ask_at_once_each_letter_is_sent_by_one(bootstrap: str) -> None:
    topics, dead = filled(bootstrap)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda i: retry(bootstrap, topics, dead, f"{i}"), range(4)))
    sent = sorted(offset for each in done for offset in each.sent)
    assert sent == [0, 1, 2]
    assert len(browse(bootstrap, Wanted(topics.events), 2).records) == 3


@pytest.mark.broker
def test_letters_of_another_pipeline_are_not_sent(bootstrap: str) -> None:
    topics, _ = filled(bootstrap)
    with pytest.raises(ConfigurationError, match="no dead-letter topic"):
        retry(bootstrap, topics, DLQ, "why")


@pytest.mark.broker
def test_the_browser_seeks_by_offset_time_and_end_and_filters(bootstrap: str) -> None:
    topics = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.specs(2))
    client = producer(bootstrap)
    for i in range(100):
        client.produce(topics.events, b'{"n": %d}' % i, b"Key%d" % i, i % 2, timestamp=1_000 + i)
    assert client.flush(30) == 0

    def numbers(**wanted: object) -> list[int]:
        found = browse(bootstrap, Wanted(topics.events, **wanted), 2)  # type: ignore[arg-type]
        return [record.value["n"] for record in found.records]

    assert numbers(partition=1, offset=10, limit=3) == [21, 23, 25]
    assert numbers(time_ms=1_050, limit=4) == [50, 51, 52, 53]
    assert numbers(newest=True, limit=3) == [99, 98, 97]
    assert numbers(text="kEY9", limit=50) == [9, *range(90, 100)]
    assert numbers(time_ms=9_999) == []
    first = browse(bootstrap, Wanted(topics.events, limit=10), 2)
    assert [r.value["n"] for r in first.records] == list(range(10))
    assert first.next == {"0": 5, "1": 5}
    with pytest.raises(ConfigurationError, match="0 to 1"):
        numbers(partition=2)
    with pytest.raises(ConfigurationError, match="name the partition"):
        numbers(offset=3)
