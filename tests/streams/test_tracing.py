"""Traces: spans for sampled records alone, with ids that are functions of the log."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import messaging_attributes as named
from opentelemetry.trace import SpanKind, StatusCode

from streams import tracing
from streams.errors import ConfigurationError
from streams.tracing import Parent, Tracer, is_asked_for, parent_of, traced_by
from tests.streams.otlp_receiver import attributes, receiving

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01".encode()
UNSAMPLED = f"00-{TRACE}-{SPAN}-00".encode()


def steps() -> Iterator[int]:
    """Yield times 5 ns apart."""
    yield from range(1_000, 10_000, 5)


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exported: InMemorySpanExporter) -> Tracer:
    clock = steps()
    return Tracer(SimpleSpanProcessor(exported), Resource({}), lambda: next(clock))


def ended(exported: InMemorySpanExporter) -> list[ReadableSpan]:
    return list(exported.get_finished_spans())


def test_a_header_that_is_sampled_names_the_parent() -> None:
    parent = Parent(int(TRACE, 16), int(SPAN, 16), 1)
    assert parent_of(SAMPLED) == parent
    assert parent_of(SAMPLED[:-2] + b"03") == Parent(parent.trace_id, parent.span_id, 3)
    assert parent_of(b"01" + SAMPLED[2:] + b"-more") == parent  # a later version may say more


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        UNSAMPLED,
        SAMPLED + b"-more",
        SAMPLED + b"\n",
        b"ff" + SAMPLED[2:],
        SAMPLED.upper(),
        SAMPLED.replace(TRACE.encode(), b"0" * 32),
        SAMPLED.replace(SPAN.encode(), b"0" * 16),
        b"\xff\x00",
    ],
)
def test_what_is_none_or_not_sampled_has_no_parent(header: bytes | None) -> None:
    assert parent_of(header) is None


def test_a_span_is_the_child_of_its_record_and_names_its_place(
    tracer: Tracer, exported: InMemorySpanExporter
) -> None:
    spans = tracer.begin("p.events.v1", 3, "p.features.v1", {7: SAMPLED, 8: UNSAMPLED, 9: b"x"})
    assert spans is not None
    assert spans.onward.keys() == {7, 8, 9}
    assert (spans.onward[8], spans.onward[9]) == (UNSAMPLED, b"x")
    onward = parent_of(spans.onward[7])
    assert onward is not None
    spans.end([7, 8, 9, 10])
    (span,) = ended(exported)
    assert span.name == "process p.events.v1"
    assert span.kind is SpanKind.CONSUMER
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.context.span_id) == (onward.trace_id, onward.span_id)
    assert span.context.trace_flags.sampled
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert span.parent.is_remote
    assert span.status.is_ok
    assert (span.start_time, span.end_time) == (1_000, 1_005)
    assert span.attributes == {
        named.MESSAGING_SYSTEM: "kafka",
        named.MESSAGING_OPERATION_NAME: "process",
        named.MESSAGING_OPERATION_TYPE: "process",
        named.MESSAGING_DESTINATION_NAME: "p.events.v1",
        named.MESSAGING_DESTINATION_PARTITION_ID: "3",
        named.MESSAGING_CONSUMER_GROUP_NAME: "p.features.v1",
        named.MESSAGING_KAFKA_OFFSET: 7,
    }


def test_only_what_is_done_is_told_and_a_failure_as_such(
    tracer: Tracer, exported: InMemorySpanExporter
) -> None:
    spans = tracer.begin("t", 0, "g", dict.fromkeys(range(5), SAMPLED))
    assert spans is not None
    spans.end([1, 99], {3: "DecodeError"})
    good, bad = ended(exported)
    assert (good.attributes or {})[named.MESSAGING_KAFKA_OFFSET] == 1
    assert (bad.attributes or {})["error.type"] == "DecodeError"
    assert bad.status.status_code is StatusCode.ERROR


def test_headers_are_a_function_of_the_record_the_place_and_the_hop(tracer: Tracer) -> None:
    def onward(topic: str = "t", partition: int = 0, group: str = "g", offset: int = 1) -> bytes:
        spans = tracer.begin(topic, partition, group, {offset: SAMPLED})
        assert spans is not None
        return spans.onward[offset]

    assert onward() == onward()
    others = [onward("u"), onward(partition=1), onward(group="h"), onward(offset=2)]
    assert len({onward(), *others, SAMPLED}) == 6


def test_nothing_is_begun_where_nobody_takes_spans_or_nothing_is_sampled(tracer: Tracer) -> None:
    assert tracing.begun("t", 0, "g", {1: SAMPLED}) is None
    assert not tracing.is_on()
    with traced_by(tracer):
        assert tracing.is_on()
        assert tracing.begun("t", 0, "g", {}) is None
        assert tracing.begun("t", 0, "g", {1: UNSAMPLED}) is None
        assert tracing.begun("t", 0, "g", {1: SAMPLED}) is not None
    assert tracing.begun("t", 0, "g", {1: SAMPLED}) is None


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, False),
        ({"OTEL_SDK_DISABLED": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
)
def test_spans_are_taken_where_the_variables_say_so(
    variables: dict[str, str], asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_asked_for() is asked


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_what_is_not_offered_is_said(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"=(zipkin|grpc): spans are"):
        is_asked_for()


def test_without_a_receiver_nothing_is_imported() -> None:
    script = (
        "import sys\n"
        "from streams.tracing import begun, tracing\n"
        "with tracing('s', 'i'):\n"
        f"    assert begun('t', 0, 'g', {{1: {SAMPLED!r}}}) is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_spans_are_sent_by_the_standard_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="extra tracing")
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.address)
        with tracing.tracing("p-features", "features-a"):
            spans = tracing.begun("p.events.v1", 0, "p.features.v1", {5: SAMPLED})
            assert spans is not None
            spans.end([5])
        monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
        with tracing.tracing("p-features", "features-a"):
            spans = tracing.begun("p.events.v1", 0, "p.features.v1", {5: SAMPLED})
            assert spans is not None
            spans.end([5])
    assert [service for service, _ in receiver.spans] == ["p-features", "theirs"]
    (_, first), (_, again) = receiver.spans
    assert first.trace_id.hex() == TRACE
    assert first.parent_span_id.hex() == SPAN
    assert first.span_id == again.span_id
    assert attributes(first)["messaging.kafka.offset"] == 5


def test_a_receiver_that_is_away_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="extra tracing")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    began_s = time.monotonic()
    with tracing.tracing("p-features", "features-a"):
        spans = tracing.begun("t", 0, "g", dict.fromkeys(range(5_000), SAMPLED))
        assert spans is not None
        spans.end(range(5_000))
    assert time.monotonic() - began_s < 20
    assert len(caplog.records) < 20
    # Threads that go on would take random numbers while other tests make up theirs.
    for thread in threading.enumerate():
        if "Otel" in thread.name or thread.name == "tracing-end":
            thread.join(60)
            assert not thread.is_alive()
